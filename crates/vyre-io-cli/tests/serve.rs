//! `vyre-io serve` and its peers.

mod common;

use std::time::{Duration, Instant};

use common::process::Nobody;
use common::serve::{Peer, PeerQueue, SOON, Server, handle, within};
use common::{contents, file, place, run, stderr};
use vyre_io::{Errno, Features, LoopState, Request};
use vyre_io_client::Client;
use vyre_io_client::protocol::{
    self, CloseBuffer, CloseFile, CloseQueue, Code, Goodbye, List, Name, Open, Queue, Reply,
    Welcome, rights,
};

const LEN: usize = 64 << 10;

#[test]
fn a_peer_reads_what_the_server_gives_it() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}:r:4k-8k", path.display());
    let server = Server::start(dir.path(), &["--file", &spec]);
    let mut peer = server.peer();
    assert_eq!(peer.welcome.files, 1);
    let queue = peer.queue(16);
    let buffer = peer.buffer(&queue, 8192);
    let weights = peer.open(&queue, "weights", 0);
    assert_eq!(
        (weights.start, weights.end, weights.length),
        (4096, 8192, 4096)
    );
    assert_eq!(weights.rights, rights::READ);
    let read = Request::read(handle(&weights), 100, 200).into_buffer(buffer.handle, 64);
    assert_eq!(queue.perform(read).bytes(), Ok(200));
    let mut bytes = [0; 200];
    buffer.memory.read_at(64, &mut bytes).expect("inside");
    assert_eq!(bytes, contents(LEN)[4196..4396]);
    // Neither past the range nor without the right.
    let past = Request::read(handle(&weights), 4090, 10).into_buffer(buffer.handle, 0);
    assert_eq!(queue.perform(past).bytes(), Err(Errno::ERANGE));
    let write = Request::write(handle(&weights), 0, 1).from_buffer(buffer.handle, 0);
    assert_eq!(queue.perform(write).bytes(), Err(Errno::EACCES));
    peer.ask(Goodbye {}).expect("done");
    let (status, log) = server.end();
    assert!(status.success(), "{status}: {log}");
    for part in ["joined", "said goodbye", "bytes_read=200", "SIGTERM"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!dir.path().join("socket").exists(), "the socket stays");
}

/// The client of Rust, by which most peers are written.
#[test]
fn the_rust_client_reads_and_writes() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}:rws:4k+4k", path.display());
    let server = Server::start(dir.path(), &["--file", &spec]);
    let mut client = Client::connect_as(&server.socket, "rust").expect("a welcome");
    let files = client.files().expect("a list");
    assert_eq!((files.len(), files[0].name.as_str()), (1, "weights"));
    let queue = client.queue(16, Features::WAKE).expect("a queue");
    let buffer = client.buffer(&queue, 8192).expect("a buffer");
    let weights = client.open(&queue, "weights", 0).expect("a file");
    let perform = |request| {
        let ticket = queue.device().submit(request).expect("a free slot");
        queue.wait(ticket, SOON).expect("an outcome").bytes()
    };
    let read = Request::read(weights.handle(), 5, 100).into_buffer(buffer.handle(), 0);
    assert_eq!(perform(read), Ok(100));
    let mut bytes = [0; 100];
    buffer.memory().read_at(0, &mut bytes).expect("inside");
    assert_eq!(bytes, contents(LEN)[4101..4201]);
    buffer.memory().write_at(0, b"written").expect("inside");
    let write = Request::write(weights.handle(), 9, 7).from_buffer(buffer.handle(), 0);
    assert_eq!(perform(write), Ok(7));
    assert_eq!(perform(Request::sync(weights.handle())), Ok(0));
    let now = std::fs::read(&path).expect("the file");
    assert_eq!(&now[4105..4112], b"written");
    client.close_buffer(&buffer).expect("done");
    assert_eq!(perform(read), Err(Errno::EBADF));
    client.goodbye().expect("done");
    server.end();
}

/// Each cause of a refusal has a code that the peer sees, and a line that the administrator sees.
#[test]
fn every_refusal_is_named_on_both_sides() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    let limits = "--queues 1 --slots 16 --buffers 2 --buffer-bytes 12k --files 1 --log debug";
    let mut args = vec!["--file", &spec];
    args.extend(limits.split(' '));
    let server = Server::start(dir.path(), &args);
    let mut peer = server.peer();
    let features = 0;
    let buffer = |queue, bytes| protocol::Buffer { bytes, queue };
    let open = |queue, name, rights| Open {
        queue,
        rights,
        name: Name::shortened(name),
    };
    let queue = |slots| Queue { slots, features };
    assert_eq!(peer.refused(buffer(1, 1)), Code::NoSuchQueue);
    assert_eq!(peer.refused(queue(0)), Code::BadSlots);
    assert_eq!(peer.refused(queue(17)), Code::BadSlots);
    let first = peer.queue(16);
    let number = first.number;
    assert_eq!(peer.refused(queue(16)), Code::TooManyQueues);
    assert_eq!(peer.refused(buffer(number, 0)), Code::BadBytes);
    assert_eq!(
        peer.refused(buffer(number, 12289)),
        Code::TooManyBufferBytes
    );
    assert_eq!(
        peer.refused(buffer(number, u64::MAX)),
        Code::TooManyBufferBytes
    );
    let held = peer.buffer(&first, 1);
    let _second = peer.buffer(&first, 4096);
    assert_eq!(peer.refused(buffer(number, 1)), Code::TooManyBuffers);
    assert_eq!(peer.refused(open(number, "wages", 0)), Code::NoSuchFile);
    let write = open(number, "weights", rights::WRITE);
    assert_eq!(peer.refused(write), Code::NotPermitted);
    assert_eq!(
        peer.refused(open(number, "weights", 64)),
        Code::NotPermitted
    );
    assert_eq!(
        peer.refused(open(number + 1, "weights", 0)),
        Code::NoSuchQueue
    );
    let weights = peer.open(&first, "weights", rights::READ);
    assert_eq!(peer.refused(open(number, "weights", 0)), Code::TooManyFiles);
    let close = CloseFile {
        queue: number,
        handle: weights.handle ^ 1,
    };
    assert_eq!(peer.refused(close), Code::NoSuchHandle);
    // What is given back counts no more.
    let close = CloseFile {
        queue: number,
        handle: weights.handle,
    };
    peer.ask(close).expect("done");
    let again = peer.open(&first, "weights", 0);
    assert_ne!(again.handle, weights.handle, "a handle is not used twice");
    let close = CloseBuffer {
        queue: number,
        handle: held.handle.raw(),
    };
    peer.ask(close).expect("done");
    peer.buffer(&first, 8192);
    peer.ask(CloseQueue { queue: number }).expect("done");
    assert_eq!(first.device.host_state(), Some(LoopState::Stopped));
    let next = peer.queue(1);
    assert_ne!(next.number, number, "a number is not used twice");
    let (status, log) = server.end();
    assert!(status.success(), "{status}");
    for code in [
        Code::NoSuchQueue,
        Code::BadSlots,
        Code::TooManyQueues,
        Code::BadBytes,
        Code::TooManyBufferBytes,
        Code::TooManyBuffers,
        Code::NoSuchFile,
        Code::NotPermitted,
        Code::TooManyFiles,
        Code::NoSuchHandle,
    ] {
        assert!(log.contains(code.name()), "{code}: {log}");
    }
}

/// Handles are bound to the queue of the peer that they were given to.
///
/// Rules: SEC-19.
#[test]
fn the_handles_of_a_peer_are_nobody_else_s() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}:rw", path.display());
    for loops in ["1", "2"] {
        let server = Server::start(dir.path(), &["--file", &spec, "--loops", loops]);
        let (mut one, mut other) = (server.peer(), server.peer());
        let (ours, theirs) = (one.queue(8), other.queue(8));
        let buffer = one.buffer(&ours, 4096);
        let weights = one.open(&ours, "weights", 0);
        let own = other.buffer(&theirs, 4096);
        let own_file = other.open(&theirs, "weights", 0);
        for (weights, buffer) in [
            (handle(&weights), own.handle),
            (handle(&own_file), buffer.handle),
        ] {
            let read = Request::read(weights, 0, 64).into_buffer(buffer, 0);
            assert_eq!(theirs.perform(read).bytes(), Err(Errno::EBADF));
            assert_eq!(ours.perform(read).bytes(), Err(Errno::EBADF));
        }
        let read = Request::read(handle(&weights), 0, 64).into_buffer(buffer.handle, 0);
        assert_eq!(ours.perform(read).bytes(), Ok(64));
        server.end();
    }
}

/// Another user is refused before anything is made for it, and is told so. It may not see the others either.
#[test]
fn another_user_may_connect_only_if_listed() {
    let Some(nobody) = Nobody::new() else { return };
    let path = file(nobody.dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    let options = ["--file", &spec, "--mode", "666"];
    let server = Server::start(nobody.dir.path(), &options);
    let status = |server: &Server| {
        let socket = server.socket.as_os_str().to_owned();
        nobody.output(&[
            "serve".as_ref(),
            "--status".as_ref(),
            "--socket".as_ref(),
            &socket,
        ])
    };
    let output = status(&server);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.contains("NOT_PERMITTED") && text.contains("policy"),
        "{text}"
    );
    let (_, log) = server.end();
    assert!(
        log.contains("NOT_PERMITTED") && log.contains("uid=65534"),
        "{log}"
    );
    // Listed, it gets files, but not the status.
    for allow in ["--allow-user", "--allow-group"] {
        let allowed = [&options[..], &[allow, "65534"]].concat();
        let server = Server::start(nobody.dir.path(), &allowed);
        assert!(stderr(&status(&server)).contains("NOT_PERMITTED"));
        let (_, log) = server.end();
        assert!(log.contains("joined") && log.contains("uid=65534"), "{log}");
    }
}

#[test]
fn a_policy_file_says_who_gets_what() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let policy = dir.path().join("policy.toml");
    let uid = rustix::process::geteuid().as_raw();
    let text = format!(
        r#"
        [limits]
        queues = 3

        [[allow]]
        user = {uid}
        limits.buffers = 5

        [[file]]
        name = "ours"
        path = "{path}"
        range = "16+32"
        users = [{uid}]

        [[file]]
        name = "theirs"
        path = "{path}"
        users = [4000000]
        "#,
        path = path.display()
    );
    std::fs::write(&policy, text).expect("room");
    let name = policy.display().to_string();
    let server = Server::start(dir.path(), &["--policy", &name, "--slots", "7"]);
    let mut peer = server.peer();
    let Welcome {
        queues,
        buffers,
        slots,
        files,
        ..
    } = peer.welcome;
    assert_eq!((queues, buffers, slots, files), (3, 5, 7, 1));
    let (reply, _) = peer.ask(List { cursor: 0 }).expect("files");
    let Reply::Files(page) = reply else {
        panic!("{reply:?}")
    };
    let listed = &page.entries()[0];
    assert_eq!(
        (listed.name.as_str(), listed.start, listed.end),
        ("ours", 16, 48)
    );
    let queue = peer.queue(1);
    let open = Open {
        queue: queue.number,
        rights: 0,
        name: Name::shortened("theirs"),
    };
    assert_eq!(peer.refused(open), Code::NoSuchFile);
    server.end();
    std::fs::write(&policy, "peers = 1\nfiles = 2\n").expect("room");
    let output = run(&["serve", "--socket", "/nowhere", "--policy", &name]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("line 2") && text.contains("files"), "{text}");
}

#[test]
fn what_cannot_be_served_is_said_at_the_start() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN).display().to_string();
    let here = dir.path().display().to_string();
    let socket = dir.path().join("socket").display().to_string();
    for (args, code, words) in [
        (vec![], 2, "there is no file to serve"),
        (vec!["--file", "a"], 2, "expected NAME=PATH"),
        (
            vec!["--file", "a=/nowhere/at/all"],
            1,
            "cannot open /nowhere",
        ),
        (vec!["--file", &format!("a={here}")], 1, "is a directory"),
        (vec!["--file", "a=/dev/null"], 1, "neither a regular file"),
        (
            vec![
                "--file",
                &format!("a={path}"),
                "--file",
                &format!("a={path}"),
            ],
            2,
            "two files",
        ),
        (
            vec![
                "--file",
                &format!("a={path}"),
                "--allow-user",
                "no-such-user-here",
            ],
            1,
            "getent passwd",
        ),
        (
            vec!["--file", &format!("a={path}"), "--mode", "8"],
            2,
            "octal",
        ),
    ] {
        let mut command = vec!["serve", "--socket", &socket];
        command.extend(&args);
        let output = run(&command);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
        assert!(!dir.path().join("socket").exists(), "{args:?}");
    }
    let output = run(&["serve", "--file", &format!("a={path}")]);
    assert!(stderr(&output).contains("there is no socket"), "{output:?}");
}

#[test]
fn the_status_names_each_peer_and_its_counters() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    let server = Server::start(dir.path(), &["--file", &spec]);
    let mut peer = Peer::connect(&server.socket, "the first").expect("a welcome");
    let queue = peer.queue(8);
    let buffer = peer.buffer(&queue, 5000);
    let weights = peer.open(&queue, "weights", 0);
    let read = Request::read(handle(&weights), 0, 1000).into_buffer(buffer.handle, 0);
    assert_eq!(queue.perform(read).bytes(), Ok(1000));
    let socket = server.socket.display().to_string();
    let ask = |more: &[&str]| {
        let output = run(&[&["serve", "--status", "--socket", &socket], more].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let json = || -> serde_json::Value {
        serde_json::from_str(&ask(&["--format", "json"])).expect("an object")
    };
    // Counters lag the outcome by a pass.
    within(SOON, "counters", || {
        json()["peers"][0]["bytes_read"] == 1000
    });
    let report = json();
    assert_eq!(report["pid"], server.child.id());
    let first = &report["peers"][0];
    for (field, value) in [
        ("pid", u64::from(std::process::id())),
        ("queues", 1),
        ("buffers", 1),
        ("buffer_bytes", 8192),
        ("open_files", 1),
        ("claimed", 1),
        ("succeeded", 1),
        ("failed", 0),
    ] {
        assert_eq!(first[field], value, "{field}: {report}");
    }
    assert_eq!(first["name"], "the first");
    let text = ask(&[]);
    assert!(
        text.contains("the first") && text.contains("with 2 peers"),
        "{text}"
    );
    drop(peer);
    within(SOON, "the end of the peer", || {
        json()["gone"]["bytes_read"] == 1000
    });
    server.end();
    let output = run(&["serve", "--status", "--socket", &socket]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no server can be reached at"),
        "{output:?}"
    );
}

/// The limits of a peer hold for all its queues together.
///
/// Rules: SEC-20.
#[test]
fn a_peer_gets_what_its_limits_allow() {
    let dir = place();
    let path = file(dir.path(), "weights", 1 << 20);
    let spec = format!("weights={}", path.display());
    let seconds = 5.0;
    for (limit, count, most) in [
        (["--operations-per-second", "1000"], 512, 1_000.0),
        (
            ["--bytes-per-second", "10000000"],
            16_384,
            10_000_000.0 / 16_384.0,
        ),
    ] {
        for queues in [1, 2] {
            let server = Server::start(dir.path(), &["--file", &spec, limit[0], limit[1]]);
            let mut peer = server.peer();
            let queues: Vec<_> = (0..queues).map(|_| peer.queue(32)).collect();
            let lanes = queues.iter().map(|queue| {
                let buffer = peer.buffer(queue, 16_384);
                let weights = peer.open(queue, "weights", 0);
                (
                    queue,
                    Request::read(handle(&weights), 0, count).into_buffer(buffer.handle, 0),
                )
            });
            let lanes: Vec<_> = lanes.collect();
            let done = flood(&lanes, Duration::from_secs_f64(seconds));
            let part = done as f64 / seconds / most;
            eprintln!("{limit:?}, {} queues: {part:.3} of the limit", lanes.len());
            // Those of up to 5 ms may start at once, in each queue.
            assert!(part <= 1.0 + 0.005 * lanes.len() as f64, "{part}");
            if std::env::var_os("VYRE_IO_MEASURE").is_some() {
                assert!(part >= 0.9, "{part}");
            }
            server.end();
        }
    }
}

/// Keeps all slots of queues busy for a time. Returns the number of outcomes.
fn flood(lanes: &[(&PeerQueue, Request)], time: Duration) -> u64 {
    let submit = |&(queue, request): &(&PeerQueue, Request)| queue.device.submit(request);
    let mut tickets: Vec<Vec<_>> = lanes
        .iter()
        .map(|lane| std::iter::from_fn(|| submit(lane).ok()).collect())
        .collect();
    let (begun, mut done) = (Instant::now(), 0);
    while begun.elapsed() < time {
        for (lane, tickets) in lanes.iter().zip(&mut tickets) {
            for ticket in std::mem::take(tickets) {
                match lane.0.device.take(ticket) {
                    Ok(outcome) => {
                        outcome.bytes().expect("a read");
                        done += 1;
                        tickets.push(submit(lane).expect("the slot is free"));
                    }
                    Err(ticket) => tickets.push(ticket),
                }
            }
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    done
}
