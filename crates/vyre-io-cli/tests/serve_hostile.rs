//! Peers that keep to no rule, and a witness that is served all the same.

mod common;

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use common::serve::{
    Peer, PeerBuffer, PeerQueue, SOON, Server, connected, handle, received, region, usage, within,
};
use common::{contents, file, place, program};
use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
use vyre_io::ioq::test_utils::Adversary;
use vyre_io::{Features, QueueLayout, Request};
use vyre_io_client::protocol::{
    self, Code, FileIs, Hello, List, Reply, ReplyError, Request as Message, sizes,
};

const LEN: usize = 64 << 10;

/// A peer that keeps to the rules, and must be served whatever others do.
struct Witness {
    _peer: Peer,
    queue: PeerQueue,
    buffer: PeerBuffer,
    weights: FileIs,
    turns: u64,
}

impl Witness {
    fn new(server: &Server) -> Self {
        let mut peer = server.peer();
        let queue = peer.queue(8);
        let buffer = peer.buffer(&queue, 4096);
        let weights = peer.open(&queue, "weights", 0);
        Self {
            _peer: peer,
            queue,
            buffer,
            weights,
            turns: 0,
        }
    }

    fn is_served(&mut self) {
        self.turns += 1;
        let at = self.turns * 31 % 4000;
        self.buffer.memory.write_at(0, &[0xee; 96]).expect("inside");
        let read = Request::read(handle(&self.weights), at, 96);
        let outcome = self.queue.perform(read.into_buffer(self.buffer.handle, 0));
        assert_eq!(outcome.bytes(), Ok(96));
        let mut bytes = [0; 96];
        self.buffer.memory.read_at(0, &mut bytes).expect("inside");
        assert_eq!(bytes, contents(LEN)[at as usize..][..96]);
    }
}

fn served(dir: &tempfile::TempDir, more: &[&str]) -> Server {
    let path = file(dir.path(), "weights", LEN);
    let scratch = file(dir.path(), "scratch", LEN);
    let weights = format!("weights={}", path.display());
    let scratch = format!("scratch={}:rws:0-{LEN}", scratch.display());
    let files = ["--file", &weights, "--file", &scratch];
    Server::start(dir.path(), &[&files, more].concat())
}

/// Receives until the server has hung up. Returns the code of the last refusal.
fn cut_off(socket: &OwnedFd) -> Option<Code> {
    let mut last = None;
    loop {
        match received(socket) {
            Ok((packet, _)) if packet.is_empty() => return last,
            Ok((packet, _)) => {
                let (_, reply) = Reply::decode(&packet).expect("a message");
                last = match reply {
                    Reply::Refused(refused) => Some(refused.cause()),
                    _ => last,
                };
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        major: 1,
        ..Hello::default()
    };
    Message::from(hello).encode(1).bytes().to_vec()
}

/// A peer that sends anything else than the handshake is cut off with a message.
///
/// Rules: SEC-22.
#[test]
fn who_breaks_a_rule_of_the_socket_is_cut_off_and_told_why() {
    let dir = place();
    let server = served(&dir, &[]);
    let mut witness = Witness::new(&server);
    let before = usage(server.child.id()).0;
    let list = Message::from(List { cursor: 0 }).encode(1).bytes().to_vec();
    let version = Message::from(Hello {
        major: 9,
        ..Hello::default()
    });
    let version = version.encode(1).bytes().to_vec();
    let mut flipped = hello();
    flipped[0] ^= 1;
    let random = contents(777);
    for (packets, code) in [
        (vec![b"GET / HTTP/1.1".to_vec()], Code::Malformed),
        (vec![random.clone()], Code::Malformed),
        (vec![flipped], Code::Malformed),
        (
            vec![vec![0; sizes::MESSAGE_BYTES as usize + 1]],
            Code::Malformed,
        ),
        (vec![list], Code::OutOfOrder),
        (vec![version], Code::Version),
        (vec![hello(), hello()], Code::OutOfOrder),
        (vec![hello(), random], Code::Malformed),
    ] {
        let socket = connected(&server.socket).expect("a server");
        for packet in &packets {
            // The server may have hung up after the one before.
            let _ = send(&socket, packet, SendFlags::NOSIGNAL);
        }
        assert_eq!(cut_off(&socket), Some(code), "{packets:?}");
        witness.is_served();
    }
    // An empty packet is a hang-up.
    let socket = connected(&server.socket).expect("a server");
    send(&socket, &[], SendFlags::NOSIGNAL).expect("sent");
    assert_eq!(cut_off(&socket), None);
    witness.is_served();
    within(SOON, "descriptors", || usage(server.child.id()).0 <= before);
    let (_, log) = server.end();
    assert!(
        log.contains("cut off") && log.contains("MALFORMED"),
        "{log}"
    );
}

/// Descriptors that a peer sends are closed, and it is cut off.
///
/// Rules: SEC-22.
#[test]
fn descriptors_of_a_peer_do_not_stay() {
    let dir = place();
    let server = served(&dir, &[]);
    let mut witness = Witness::new(&server);
    let before = usage(server.child.id()).0;
    let memfd = rustix::fs::memfd_create("theirs", MemfdFlags::CLOEXEC).expect("memory");
    for packet in [hello(), b"garbage".to_vec()] {
        let socket = connected(&server.socket).expect("a server");
        let fds = [memfd.as_fd(); 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [std::io::IoSlice::new(&packet)];
        sendmsg(&socket, &bytes, &mut control, SendFlags::NOSIGNAL).expect("sent");
        assert_eq!(cut_off(&socket), Some(Code::Malformed));
        witness.is_served();
    }
    within(SOON, "descriptors", || usage(server.child.id()).0 <= before);
    server.end();
}

/// Whoever does not take its answers, or says nothing, is cut off after a time, and costs no memory meanwhile.
///
/// Rules: SEC-22, SEC-23, HS-4.8.
#[test]
fn a_peer_that_waits_is_cut_off_and_delays_nobody() {
    let dir = place();
    let server = served(&dir, &["--peers", "4"]);
    let mut witness = Witness::new(&server);
    let silent = connected(&server.socket).expect("a server");
    let deaf = server.peer().socket;
    rustix::io::ioctl_fionbio(&deaf, true).expect("a socket");
    let begun = Instant::now();
    let list = Message::from(List { cursor: 0 }).encode(1).bytes().to_vec();
    let mut sent = 0_u64;
    let is_over = |socket: &OwnedFd| {
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        !matches!(
            rustix::net::recv(socket, &mut [0; 4], flags),
            Err(rustix::io::Errno::AGAIN)
        )
    };
    while !is_over(&silent) || send(&deaf, &list, SendFlags::NOSIGNAL).is_ok() || {
        sent += 1;
        !is_cut(&deaf)
    } {
        witness.is_served();
        assert!(begun.elapsed() < SOON, "not cut off");
    }
    eprintln!(
        "cut off after {:?}, {} turns of the witness, {sent}",
        begun.elapsed(),
        witness.turns
    );
    assert_eq!(cut_off(&silent), Some(Code::TooSlow));
    let (_, log) = server.end();
    assert!(log.matches("TOO_SLOW").count() >= 2, "{log}");
}

/// Returns whether the other side has hung up.
fn is_cut(socket: &OwnedFd) -> bool {
    let nothing = send(socket, b"x", SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    matches!(
        nothing,
        Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET)
    )
}

#[test]
fn further_peers_are_told_that_there_are_too_many() {
    let dir = place();
    let server = served(&dir, &["--peers", "3", "--peers-per-user", "2"]);
    let mut witness = Witness::new(&server);
    let second = server.peer();
    let per_user = connected(&server.socket).expect("a server");
    send(&per_user, &hello(), SendFlags::NOSIGNAL).expect("sent");
    assert_eq!(cut_off(&per_user), Some(Code::TooManyClients));
    let _waits = connected(&server.socket).expect("a server");
    within(SOON, "a full server", || {
        let third = connected(&server.socket).expect("a server");
        let _ = send(&third, &hello(), SendFlags::NOSIGNAL);
        cut_off(&third) == Some(Code::TooManyClients)
    });
    witness.is_served();
    drop(second);
    within(SOON, "a place", || {
        Peer::connect(&server.socket, "third").is_ok()
    });
    server.end();
}

/// A server without free descriptors refuses what needs one, serves those that it has, does not spin, and goes on once
/// there are some.
///
/// Rules: SEC-22.
#[test]
fn a_server_without_descriptors_refuses_and_goes_on() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    command.args(program()).arg("serve");
    let args = ["--file", &spec, "--buffers", "100", "--log", "warn"];
    let server = Server::spawn(command, dir.path(), &args);
    let pid = server.child.id();
    let mut witness = Witness::new(&server);
    let mut greedy = server.peer();
    let queue = greedy.queue(1);
    let before = usage(pid).0;
    let buffer = protocol::Buffer {
        bytes: 4096,
        queue: queue.number,
    };
    let refused = (0..100).find_map(|_| greedy.ask(buffer).err());
    let Some(ReplyError::Refused(refused)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.cause(), Code::NoResources);
    witness.is_served();
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let socket = connected(&server.socket).expect("room in the backlog");
            send(&socket, &hello(), SendFlags::NOSIGNAL).expect("sent");
            socket
        })
        .collect();
    let (spent, begun) = (processor_time(pid), Instant::now());
    while begun.elapsed() < Duration::from_secs(1) {
        witness.is_served();
        std::thread::sleep(Duration::from_millis(10));
    }
    let spent = processor_time(pid) - spent;
    assert!(spent < 25, "{spent} ticks of the processor in a second");
    assert!(usage(pid).0 >= 63, "some are left");
    drop((queue, greedy));
    for socket in &waiting {
        let (packet, _) = received(socket).expect("an answer");
        let (_, reply) = Reply::decode(&packet).expect("a message");
        assert!(matches!(reply, Reply::Welcome(_)), "{reply:?}");
    }
    witness.is_served();
    drop(waiting);
    within(SOON, "descriptors", || usage(pid).0 < before);
    let (status, log) = server.end();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("not enough descriptors"), "{log}");
    let attempts = log.matches("cannot be accepted now").count();
    assert!((1..500).contains(&attempts), "{attempts} attempts");
}

/// Returns the time of a process on processors, in ticks of 10 ms.
fn processor_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Memory that a peer has cannot be taken from under the server, nor can the queue be used against others.
///
/// Rules: SEC-16, SEC-23.
#[test]
fn an_adversary_on_the_queue_harms_nobody() {
    let dir = place();
    let server = served(&dir, &["--bytes-per-second", "100M"]);
    let mut witness = Witness::new(&server);
    let mut peer = server.peer();
    let queue = peer.queue(64);
    let memory = &queue.memory;
    for len in [0, 4096, 1 << 20] {
        assert!(rustix::fs::ftruncate(memory, len).is_err(), "sealed");
    }
    // It may lose the bytes of its own queue, and nothing else.
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(memory, hole, 0, 4096).expect("its own memory");
    witness.is_served();
    let layout = QueueLayout::with_slots(64).with_features(Features::DOORBELL | Features::WAKE);
    let buffer = peer.buffer(&queue, 1 << 20);
    let scratch = peer.open(&queue, "scratch", 0);
    for seed in 0..4 {
        let adversary = Adversary::new(region(memory), &layout, seed).expect("a queue");
        let handles = [scratch.handle, buffer.handle.raw(), 0, 1];
        let hostile = adversary.handles(handles).spawn().expect("a thread");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            witness.is_served();
        }
        let adversary = hostile.stop();
        assert!(adversary.steps() > 0);
    }
    drop(peer);
    witness.is_served();
    let (status, log) = server.end();
    assert!(status.success(), "{log}");
}
