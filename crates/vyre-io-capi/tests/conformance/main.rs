//! The Rust host does what cases.txt says, on io_uring and on threads. README.md describes the lines.

mod bytes;
mod host;
mod names;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use host::{Host, Kind};
use vyre_io::ioq::Flags;
use vyre_io::{Outcome, Request, TransportChoice};

const CASES: &str = include_str!("cases.txt");
const EXPECTED: &str = include_str!("expected.txt");

/// Longer than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The words of a line, of which some may be left.
type Words<'a> = std::str::SplitWhitespace<'a>;

fn word<'a>(words: &mut Words<'a>) -> &'a str {
    words.next().expect("another word")
}

fn number(words: &mut Words<'_>) -> u64 {
    let word = word(words);
    word.parse()
        .unwrap_or_else(|_| panic!("{word} is no number"))
}

fn small(words: &mut Words<'_>) -> u32 {
    number(words).try_into().expect("a small number")
}

/// The end of a range; `-` is none.
fn end(words: &mut Words<'_>) -> u64 {
    let word = word(words);
    if word == "-" {
        u64::MAX
    } else {
        word.parse().expect("a number")
    }
}

fn request(host: &Host, words: &mut Words<'_>) -> Request {
    let op = word(words);
    match op {
        "fence" => return Request::fence(),
        "sync" => return Request::sync(host.file_handle(word(words))),
        _ => {}
    }
    let file = host.file_handle(word(words));
    let (offset, count) = (number(words), small(words));
    if op == "prefetch" {
        return Request::prefetch(file, offset, count);
    }
    let (buffer, place) = (host.buffer_handle(word(words)), number(words));
    let mut request = match op {
        "read" => Request::read(file, offset, count).into_buffer(buffer, place),
        "write" => Request::write(file, offset, count).from_buffer(buffer, place),
        op => panic!("{op} is no operation"),
    };
    while let Some(option) = words.next() {
        request = match option {
            "exact" => request.exact(),
            "durable" => request.durable(),
            "deadline" => request.with_deadline(small(words)),
            "flag8" => request.with_flags(Flags::from_bits_retain(1 << 8)),
            option => panic!("{option} is no option"),
        };
    }
    request
}

fn outcome(tag: u32, outcome: Option<Outcome>) -> String {
    match outcome.map(|outcome| (outcome.tag, outcome.result)) {
        None => format!("{tag} gone"),
        Some((_, Ok(count))) => format!("{tag} ok {count}"),
        Some((_, Err(errno))) => format!("{tag} errno {}", errno.raw()),
    }
}

/// Does what a line says. Returns what is to be printed.
fn line(host: &mut Host, line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let words = &mut words;
    let command = word(words);
    match command {
        "file" => host.file(word(words), number(words)),
        "memfd" => host.memfd(word(words), number(words)),
        "open" => host.open(word(words), word(words), word(words)),
        "dir" => host.directory(word(words)),
        "pipe" => host.pipe(word(words)),
        "feed" => host.feed(word(words), number(words)),
        "buffer" => host.buffer(word(words), number(words)),
        "use" => host.current = number(words) as usize,
        "fill" => host.fill(word(words), number(words), number(words), number(words)),
        "until" => {
            let claimed = number(words);
            host.wait_for(LIMIT, |counters| counters.claimed >= claimed);
        }
        "insert" => {
            let (name, file) = (word(words), word(words));
            let (rights, start) = (word(words), number(words));
            let result = host.insert(name, file, rights, start, end(words));
            return Some(format!("insert {name} {result}"));
        }
        "window" => {
            let (name, buffer, start) = (word(words), word(words), number(words));
            let end = end(words);
            let result = host.window(name, buffer, start, end, word(words));
            return Some(format!("window {name} {result}"));
        }
        "populate" => {
            let name = word(words);
            return Some(format!("populate {name} {}", host.populate(name)));
        }
        "queue" | "add" => {
            let kind = Kind::of(word(words));
            let made = host.queue(kind, small(words));
            let added = if command == "add" && made == "OK" {
                host.add()
            } else {
                made
            };
            return Some(format!("{command} {added}"));
        }
        "remove" => {
            let (queue, within) = (number(words), Duration::from_millis(number(words)));
            return Some(format!("remove {queue} {}", host.remove(queue, within)));
        }
        "loopof" => {
            let queue = number(words);
            return Some(format!("loopof {queue} {}", host.loop_of(queue)));
        }
        "start" => {
            while let Some(option) = words.next() {
                match option {
                    "loops" => host.loops = number(words) as usize,
                    "doorbell" => host.doorbell(),
                    "drain" => {
                        let timeout = Duration::from_millis(number(words));
                        host.options = host.options.drain_timeout(timeout);
                    }
                    "entries" => host.options = host.options.ring_entries(small(words)),
                    option => panic!("{option} is no option"),
                }
            }
            return Some(format!("start {}", host.start()));
        }
        "submit" => {
            let tag = small(words);
            let request = request(host, words).with_tag(tag);
            let full = !host.submit(tag, request);
            return full.then(|| format!("submit {tag} full"));
        }
        "await" => {
            let tag = small(words);
            return Some(outcome(tag, host.wait(tag, LIMIT)));
        }
        "sum" => {
            let bytes = host.bytes(word(words), number(words), number(words));
            return Some(format!("sum {:08x}", bytes::checksum(&bytes)));
        }
        "filesum" => {
            let bytes = host.file_bytes(word(words));
            return Some(format!(
                "filesum {} {:08x}",
                bytes.len(),
                bytes::checksum(&bytes)
            ));
        }
        "revoke" | "revokebuffer" => {
            let (name, within) = (word(words), Duration::from_millis(number(words)));
            let revoked = host.revoke(name, command == "revoke", within);
            return Some(format!("{command} {name} {revoked}"));
        }
        "counters" => return Some(format!("counters {}", host.counters(LIMIT))),
        "stop" | "abort" => return Some(format!("{command} {}", host.end(command == "stop"))),
        "state" => {
            let queue = words.next().map(|word| word.parse().expect("a number"));
            return Some(format!("state {}", host.state(queue)));
        }
        command => panic!("{command} is no command"),
    }
    None
}

fn transcript(transport: TransportChoice) -> String {
    let mut text = String::new();
    let mut host = Host::new(transport);
    let lines = CASES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for each in lines {
        let said = if each.starts_with("case ") {
            host = Host::new(transport);
            Some(each.to_owned())
        } else {
            line(&mut host, each)
        };
        if let Some(said) = said {
            writeln!(text, "{said}").expect("a string takes it");
        }
    }
    text
}

fn compare(name: &str, transport: TransportChoice) {
    let begun = Instant::now();
    let found = transcript(transport);
    if found != EXPECTED {
        let path = format!("{}/{name}.txt", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&path, &found).expect("room");
        let both = found.lines().zip(EXPECTED.lines());
        let same = both
            .take_while(|(found, expected)| found == expected)
            .count();
        let [found, expected] =
            [&found, EXPECTED].map(|text| text.lines().nth(same).unwrap_or("nothing"));
        panic!(
            "line {}: `{found}` instead of `{expected}`; {path} has the whole transcript",
            same + 1
        );
    }
    println!("{} lines in {:?}", found.lines().count(), begun.elapsed());
}

#[test]
fn a_rust_host_conforms() {
    compare("auto", TransportChoice::Auto);
}

#[test]
fn a_rust_host_on_threads_conforms() {
    compare("threads", TransportChoice::ThreadPool);
}
