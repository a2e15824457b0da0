//! Peers that come, go, are killed and keep to no rule, for a long time, and a witness that is served all the same.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::serve::{Peer, PeerQueue, SOON, Server, connected, handle, region, usage, within};
use common::{contents, file, place};
use rustix::net::{SendFlags, send};
use vyre_io::ioq::test_utils::Adversary;
use vyre_io::{Features, QueueLayout, Request};
use vyre_io_client::protocol::{
    self, CloseBuffer, CloseQueue, Goodbye, Hello, List, Name, Open, Queue, Reply,
    Request as Message, Status,
};

/// Environment variables: the seconds of the run, and for a process that is a peer, its socket and its seed.
const SECONDS: &str = "VYRE_IO_SOAK_SECONDS";
const SOCKET: &str = "VYRE_IO_SOAK_SOCKET";
const SEED: &str = "VYRE_IO_SOAK_SEED";

const LEN: usize = 1 << 20;
const PEERS: usize = 16;

/// Priority of the hostile processes, so that what the witness loses, it loses to the server and not to them.
const NICE: i32 = 19;

/// Real-time priorities for the same reason, where the test may set them: 16 processes that fork, end and spin leave
/// no processor for a thread that has just been woken. The loop has the higher one, since the witness spins for it.
const WITNESS_PRIORITY: u32 = 10;
const LOOP_PRIORITY: u32 = 20;

/// Threads of a server without peers: itself, its log, its loop, and workers of the kernel and of the server that may
/// stay for a time.
const THREADS: usize = 8;

/// Growth of the server's memory that is no leak: allocators and caches of the kernel settle late.
const MEMORY: u64 = 24 << 20;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A peer, from its connection to its end.
type Life = fn(&Path, Random);

const KINDS: &[Life] = &[
    reads,
    adversary,
    garbage,
    greedy,
    deaf,
    takes_nothing,
    holds_on,
    comes_and_goes,
];

fn join(socket: &Path, name: &str) -> Option<Peer> {
    Peer::connect(socket, name).ok()
}

/// Keeps to the rules until it is killed.
fn reads(socket: &Path, mut random: Random) {
    let Some(mut peer) = join(socket, "reads") else {
        return;
    };
    let queue = peer.queue(32);
    let buffer = peer.buffer(&queue, 32 << 12);
    let weights = peer.open(&queue, "weights", 0);
    loop {
        let read = Request::read(handle(&weights), random.below(LEN as u64 - 4096), 4096);
        let reads = (0..32).map(|slot| read.into_buffer(buffer.handle, slot << 12));
        let tickets: Vec<_> = reads
            .map_while(|read| queue.device.submit(read).ok())
            .collect();
        for ticket in tickets {
            let _ = queue.device.wait_for(ticket, SOON);
        }
    }
}

/// Stores anything in its queue.
fn adversary(socket: &Path, mut random: Random) {
    let Some(mut peer) = join(socket, "adversary") else {
        return;
    };
    let queue = peer.queue(64);
    let buffer = peer.buffer(&queue, 1 << 20);
    let weights = peer.open(&queue, "weights", 0);
    let layout = QueueLayout::with_slots(64).with_features(Features::DOORBELL | Features::WAKE);
    let made = Adversary::new(region(&queue.memory), &layout, random.next()).expect("a queue");
    let mut made = made.handles([weights.handle, buffer.handle.raw(), 0, 1, 2]);
    loop {
        made.step();
    }
}

/// Sends anything but the handshake.
fn garbage(socket: &Path, mut random: Random) {
    let hello = Message::from(Hello {
        major: 1,
        ..Hello::default()
    });
    loop {
        let Ok(connection) = connected(socket) else {
            return;
        };
        if random.below(2) == 0 {
            let _ = send(&connection, hello.encode(1).bytes(), SendFlags::NOSIGNAL);
        }
        for _ in 0..random.below(64) {
            // A header that is right as often as not, so that the body is looked at.
            let kind = random.below(12) as u16;
            let mut packet: Vec<u8> = (0..16 + random.below(200))
                .map(|_| random.next() as u8)
                .collect();
            if random.below(2) == 0 {
                let length = packet.len() as u32;
                packet[..4].copy_from_slice(&protocol::sizes::MAGIC.to_le_bytes());
                packet[4..6].copy_from_slice(&kind.to_le_bytes());
                packet[6..8].copy_from_slice(&[0; 2]);
                packet[8..12].copy_from_slice(&length.to_le_bytes());
            }
            if send(
                &connection,
                &packet,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            )
            .is_err()
            {
                break;
            }
        }
        thread::sleep(Duration::from_millis(random.below(20)));
    }
}

/// Asks for more than it may have, and for what it has again and again.
fn greedy(socket: &Path, mut random: Random) {
    let Some(mut peer) = join(socket, "greedy") else {
        return;
    };
    let mut queues = Vec::new();
    let mut buffers = Vec::new();
    loop {
        let queue = queues.last().copied().unwrap_or(1);
        let asked = match random.below(6) {
            0 => peer.ask(Queue {
                slots: random.below(80) as u32,
                features: 0,
            }),
            1 => peer.ask(protocol::Buffer {
                bytes: 1 << random.below(26),
                queue,
            }),
            2 => peer.ask(Open {
                queue,
                rights: random.below(8) as u32,
                name: Name::shortened("weights"),
            }),
            3 => peer.ask(CloseQueue {
                queue: queues.pop().unwrap_or(7),
            }),
            4 => peer.ask(CloseBuffer {
                queue,
                handle: buffers.pop().unwrap_or(7),
            }),
            _ => peer.ask(Status { cursor: 0 }),
        };
        match asked {
            Ok((Reply::QueueIs(queue), _)) => queues.push(queue.queue),
            Ok((Reply::BufferIs(buffer), _)) => buffers.push(buffer.handle),
            _ => {}
        }
    }
}

/// Sends, and takes no answer.
fn deaf(socket: &Path, _random: Random) {
    let Some(peer) = join(socket, "deaf") else {
        return;
    };
    let list = Message::from(List { cursor: 0 });
    while send(&peer.socket, list.encode(1).bytes(), SendFlags::NOSIGNAL).is_ok() {}
    thread::sleep(SOON);
}

/// Fills its queue, and takes no outcome.
fn takes_nothing(socket: &Path, mut random: Random) {
    let Some(mut peer) = join(socket, "takes nothing") else {
        return;
    };
    let queue = peer.queue(64);
    let buffer = peer.buffer(&queue, 1 << 20);
    let weights = peer.open(&queue, "weights", 0);
    let count = 1 + random.below(1 << 20) as u32;
    let read = Request::read(handle(&weights), 0, count).into_buffer(buffer.handle, 0);
    while let Ok(ticket) = queue.device.submit(read) {
        let _ = ticket;
    }
    thread::sleep(SOON);
}

/// Leaves, and keeps the descriptors and the memory.
fn holds_on(socket: &Path, mut random: Random) {
    let mut held = Vec::new();
    while let Some(mut peer) = join(socket, "holds on") {
        let queue = peer.queue(64);
        let buffer = peer.buffer(&queue, 1 << 20);
        let _ = peer.ask(Goodbye {});
        let _ = buffer.memory.write_at(0, &[1; 64]);
        held.push((queue, buffer));
        if held.len() > 200 {
            break;
        }
        thread::sleep(Duration::from_millis(random.below(10)));
    }
    thread::sleep(SOON);
}

/// Joins and leaves as fast as it can.
fn comes_and_goes(socket: &Path, mut random: Random) {
    while let Some(mut peer) = join(socket, "comes and goes") {
        for _ in 0..random.below(3) {
            peer.queue(8);
        }
        if random.below(2) == 0 {
            let _ = peer.ask(Goodbye {});
        }
    }
}

/// Starts a peer in a process of its own.
fn start(socket: &Path, seed: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command
        .args(["--exact", "hostile_peers_harm_nobody", "--nocapture"])
        .env(SOCKET, socket)
        .env(SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("a process")
}

/// Has a thread run before all others. Returns whether that was allowed. Its children do not inherit it.
fn favor(thread: u32, priority: u32) -> bool {
    let mut command = Command::new("chrt");
    command.args(["--reset-on-fork", "--fifo", "--pid"]);
    command.args([priority.to_string(), thread.to_string()]);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

/// Has the loops of a server and the calling thread run before all others. Returns whether that was allowed.
fn favor_witness(server: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{server}/task")).expect("a process");
    let mut favored = 0;
    for task in tasks {
        let task = task.expect("a thread");
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let id = task.file_name().to_string_lossy().parse();
        if name.starts_with("vyre-io-serve") {
            favored += u32::from(favor(id.expect("a number"), LOOP_PRIORITY));
        }
    }
    let own = rustix::thread::gettid().as_raw_nonzero().get();
    favored > 0 && favor(own as u32, WITNESS_PRIORITY)
}

/// A peer whose reads are timed.
struct Witness {
    _peer: Peer,
    queue: PeerQueue,
    buffer: common::serve::PeerBuffer,
    weights: protocol::FileIs,
    expected: Vec<u8>,
    random: Random,
}

impl Witness {
    fn new(server: &Server) -> Self {
        let mut peer = Peer::connect(&server.socket, "witness").expect("a welcome");
        let queue = peer.queue(8);
        let buffer = peer.buffer(&queue, 4096);
        let weights = peer.open(&queue, "weights", 0);
        Self {
            _peer: peer,
            queue,
            buffer,
            weights,
            expected: contents(LEN),
            random: Random(99),
        }
    }

    /// Reads one block and checks it. Returns its time.
    fn read(&mut self) -> Duration {
        let at = self.random.below(LEN as u64 - 4096);
        let read =
            Request::read(handle(&self.weights), at, 4096).into_buffer(self.buffer.handle, 0);
        let begun = Instant::now();
        let outcome = self.queue.perform(read);
        let took = begun.elapsed();
        assert_eq!(outcome.bytes(), Ok(4096));
        let mut bytes = vec![0; 4096];
        self.buffer.memory.read_at(0, &mut bytes).expect("inside");
        assert!(bytes == self.expected[at as usize..][..4096], "wrong bytes");
        took
    }
}

/// Returns the median and the 99th percentile.
fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    (at(0.5), at(0.99))
}

/// The witness and one at a server of its own, whose times tell what the machine does to both.
struct Witnesses {
    beside: Witness,
    elsewhere: Witness,
}

impl Witnesses {
    /// Has both read for a time. Returns the medians and the 99th percentiles of each.
    fn timed(&mut self, time: Duration, mut each: impl FnMut()) -> [(Duration, Duration); 2] {
        let (begun, mut times) = (Instant::now(), [Vec::new(), Vec::new()]);
        while begun.elapsed() < time {
            each();
            times[0].push(self.beside.read());
            times[1].push(self.elsewhere.read());
            // Within the limits, which hold for the witnesses, too.
            thread::sleep(Duration::from_millis(2));
        }
        times.map(quantiles)
    }
}

/// Peers that are replaced as soon as they end, and killed at random moments.
struct Crowd<'a> {
    socket: &'a Path,
    random: Random,
    /// Each with the time of its death.
    peers: Vec<(Child, Instant)>,
    started: u64,
    killed: u64,
}

impl Crowd<'_> {
    fn tend(&mut self) {
        let now = Instant::now();
        for (peer, until) in &mut self.peers {
            if *until <= now && peer.try_wait().expect("a child").is_none() {
                peer.kill().expect("a child");
                peer.wait().expect("a child");
                self.killed += 1;
            }
        }
        self.peers
            .retain_mut(|(peer, _)| peer.try_wait().expect("a child").is_none());
        while self.peers.len() < PEERS {
            let life = Duration::from_millis(20 + self.random.below(3000));
            let seed = self.random.next() / KINDS.len() as u64 * KINDS.len() as u64;
            let kind = self.started % KINDS.len() as u64;
            self.peers
                .push((start(self.socket, seed + kind), now + life));
            self.started += 1;
        }
    }

    fn end(&mut self) {
        for (peer, _) in &mut self.peers {
            let _ = peer.kill();
            peer.wait().expect("a child");
        }
        self.peers.clear();
    }
}

/// Sixteen peers come, go and are killed at any moment, store what they like in their queues, send what they like,
/// exceed their limits, fill their sockets, take no outcomes and keep descriptors. The server goes on, keeps nothing of
/// them, and serves the witness, whose times are printed.
///
/// Rules: SEC-22, SEC-23.
#[test]
fn hostile_peers_harm_nobody() {
    if let Some(socket) = std::env::var_os(SOCKET) {
        let seed = std::env::var(SEED)
            .expect("a seed")
            .parse::<u64>()
            .expect("a number");
        let _ = rustix::process::setpriority_process(None, NICE);
        let be = KINDS[(seed % KINDS.len() as u64) as usize];
        return be(Path::new(&socket), Random(seed | 1));
    }
    let seconds = std::env::var(SECONDS)
        .ok()
        .and_then(|text| text.parse().ok());
    let whole = Duration::from_secs(seconds.unwrap_or(30));
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    let limits = "--peers 40 --queues 4 --slots 64 --buffers 8 --buffer-bytes 16M --files 8 \
                  --operations-per-second 1000 --bytes-per-second 10M --in-flight 8";
    let mut args = vec!["--file", &spec, "--log", "warn"];
    args.extend(limits.split_whitespace());
    let server = Server::start(dir.path(), &args);
    let elsewhere = place();
    let other = Server::start(elsewhere.path(), &args);
    let pid = server.child.id();
    let mut witnesses = Witnesses {
        beside: Witness::new(&server),
        elsewhere: Witness::new(&other),
    };
    let is_favored = favor_witness(pid) && favor_witness(other.child.id());
    if !is_favored {
        eprintln!(
            "without real-time priority (CAP_SYS_NICE), the scheduler has a part in the times"
        );
    }
    let alone = witnesses.timed(whole / 10, || {});
    let mut crowd = Crowd {
        socket: &server.socket,
        random: Random(0x9e37_79b9_7f4a_7c15),
        peers: Vec::new(),
        started: 0,
        killed: 0,
    };
    // What a server comes to have once and keeps: threads, tables, pages of its allocator.
    witnesses.timed(whole / 10, || crowd.tend());
    let gone = |witnesses: &mut Witnesses, crowd: &mut Crowd<'_>| {
        crowd.end();
        within(SOON, "idle threads end", || {
            witnesses.beside.read();
            usage(pid).1 <= THREADS
        });
        usage(pid)
    };
    let before = gone(&mut witnesses, &mut crowd);
    let beside = witnesses.timed(whole / 10 * 8, || crowd.tend());
    within(SOON, "the descriptors are back", || {
        gone(&mut witnesses, &mut crowd).0 <= before.0
    });
    let after = usage(pid);
    let times = |part: Duration, whole: Duration| part.as_secs_f64() / whole.as_secs_f64();
    // What the crowd does to a witness through the server, and what it does to the machine.
    let ratio = times(
        beside[0].1,
        if is_favored { alone[0].1 } else { beside[1].1 },
    );
    eprintln!(
        "{} s, {} peers started, {} killed; (descriptors, threads, bytes) {before:?}, then {after:?}; \
         median and p99 of the witness alone and of one at another server {alone:?}, the same beside {PEERS} peers of the \
         first server {beside:?}: p99 {:.2} times that alone, and {:.2} times that at the other server",
        whole.as_secs(),
        crowd.started,
        crowd.killed,
        times(beside[0].1, alone[0].1),
        times(beside[0].1, beside[1].1),
    );
    assert!(after.2 <= before.2 + MEMORY, "memory");
    if seconds.is_some() {
        assert!(ratio <= 2.0, "p99 {ratio:.2} times");
    }
    other.end();
    let (status, log) = server.end();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("panicked"), "{log}");
}
