//! The ends of a server and of its peers, and its beginnings.

mod common;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::process::send as signal;
use common::serve::{Peer, SOON, Server, handle, received, usage, within};
use common::{file, place, program, run, stderr};
use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use vyre_io::{Errno, Features, LoopState, Request, WaitError};
use vyre_io_client::protocol::{Code, Goodbye, Reply};
use vyre_io_client::{Client, ClientError};

const LEN: usize = 64 << 10;

/// Requests that were claimed get their outcome, others ECANCELED; then the queue says that the host has gone, and
/// the connection why.
///
/// Rules: HS-4.7, HS-7.4.
#[test]
fn sigterm_drains() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    for (drain, succeeded) in [("30", true), ("0", false)] {
        // At that rate, all but the first wait in the host.
        let rate = [
            "--operations-per-second",
            if succeeded { "50" } else { "1" },
        ];
        let args = [&["--file", &spec, "--drain", drain], &rate[..]].concat();
        let server = Server::start(dir.path(), &args);
        let mut peer = server.peer();
        let queue = peer.queue(16);
        let buffer = peer.buffer(&queue, 4096);
        let weights = peer.open(&queue, "weights", 0);
        let read = Request::read(handle(&weights), 0, 64).into_buffer(buffer.handle, 0);
        let submit = |_| queue.device.submit(read).expect("a free slot");
        let tickets: Vec<_> = (0..10).map(submit).collect();
        let socket = server.socket.display().to_string();
        within(SOON, "claims", || {
            let args = ["serve", "--status", "--socket", &socket, "--format", "json"];
            let report: serde_json::Value =
                serde_json::from_slice(&run(&args).stdout).expect("an object");
            report["peers"][0]["claimed"] == 10
        });
        let (status, log) = server.end();
        assert!(status.success(), "{status}: {log}");
        let outcomes = tickets.into_iter().map(|ticket| {
            let outcome = queue.device.wait_for(ticket, SOON);
            outcome.expect("an outcome").bytes()
        });
        let outcomes: Vec<_> = outcomes.collect();
        let last = outcomes.last().expect("ten");
        let expected = if succeeded {
            Ok(64)
        } else {
            Err(Errno::ECANCELED)
        };
        assert_eq!(*last, expected, "{outcomes:?}");
        assert_eq!(queue.device.host_state(), Some(LoopState::Stopped));
        let (packet, _) = received(&peer.socket).expect("a note");
        let (id, reply) = Reply::decode(&packet).expect("a note");
        let Reply::Refused(refused) = reply else {
            panic!("{reply:?}")
        };
        assert_eq!((id, refused.cause()), (0, Code::ShuttingDown));
        let (packet, _) = received(&peer.socket).expect("the end");
        assert!(packet.is_empty());
    }
}

/// Nobody waits for a server that was killed, and the next one starts at the same socket.
#[test]
fn a_killed_server_is_noticed_and_replaced() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    // Requests that never end: the limits allow one in a second.
    let server = Server::start(
        dir.path(),
        &["--file", &spec, "--operations-per-second", "1"],
    );
    let mut peer = server.peer();
    let queue = peer.queue(16);
    let buffer = peer.buffer(&queue, 4096);
    let weights = peer.open(&queue, "weights", 0);
    let read = Request::read(handle(&weights), 0, 64).into_buffer(buffer.handle, 0);
    for _ in 0..8 {
        let _ = queue.device.submit(read).expect("a free slot");
    }
    let second = run(&[
        "serve",
        "--socket",
        &server.socket.display().to_string(),
        "--file",
        &spec,
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("another server listens"),
        "{second:?}"
    );
    let mut client = Client::connect_as(&server.socket, "waits").expect("a welcome");
    let theirs = client.queue(4, Features::WAKE).expect("a queue");
    let pool = client.buffer(&theirs, 4096).expect("a buffer");
    let file = client.open(&theirs, "weights", 0).expect("a file");
    let waits = thread::spawn(move || {
        let read = Request::read(file.handle(), 0, 64).into_buffer(pool.handle(), 0);
        let submit = |_| theirs.device().submit(read).expect("a free slot");
        let tickets: Vec<_> = (0..3).map(submit).collect();
        let ends = tickets.into_iter().map(|ticket| theirs.wait(ticket, SOON));
        ends.last().expect("three").expect_err("nobody serves it")
    });
    // Long enough for the wait to sleep.
    thread::sleep(Duration::from_millis(200));
    let killed = Instant::now();
    server.kill();
    let end = waits.join().expect("no panic");
    assert!(matches!(end, WaitError::HostGone(_)), "{end}");
    eprintln!("the wait ended {:?} after the kill", killed.elapsed());
    assert!(matches!(client.files(), Err(ClientError::HostGone)));
    let (packet, _) = received(&peer.socket).expect("a hang-up");
    assert!(packet.is_empty());
    assert!(
        dir.path().join("socket").exists(),
        "a killed server leaves its socket"
    );
    let server = Server::start(dir.path(), &["--file", &spec]);
    let mut peer = server.peer();
    let queue = peer.queue(1);
    assert!(queue.perform(Request::fence()).bytes().is_ok());
    server.end();
}

/// All that a peer had is taken back, whichever way it goes, and its memory too, even if it holds the descriptor.
///
/// Rules: HS-7.2, HS-7.3.
#[test]
fn nothing_of_a_peer_stays() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}:rw", path.display());
    let server = Server::start(dir.path(), &["--file", &spec]);
    let pid = server.child.id();
    let visit = |says_goodbye: bool| {
        let mut peer = server.peer();
        let queues = [peer.queue(64), peer.queue(64)];
        let buffer = peer.buffer(&queues[0], 1 << 20);
        let weights = peer.open(&queues[0], "weights", 0);
        let read = Request::read(handle(&weights), 0, 64).into_buffer(buffer.handle, 0);
        for _ in 0..64 {
            let _ = queues[0].device.submit(read).expect("a free slot");
        }
        if says_goodbye {
            peer.ask(Goodbye {}).expect("done");
        }
        let (device, number) = (&queues[0].device, queues[0].number);
        assert_eq!(number, 1);
        drop(peer.socket);
        within(SOON, "the end of the queue", || {
            device.host_state() == Some(LoopState::Stopped)
        });
        buffer
    };
    visit(true);
    visit(false);
    let settle = || {
        // Descriptors of threads' files are closed when these have ended their work.
        let mut last = usage(pid);
        within(SOON, "rest", || {
            std::thread::sleep(Duration::from_millis(50));
            let now = usage(pid);
            let is_same = now.0 == last.0;
            last = now;
            is_same
        });
        last
    };
    let before = settle();
    let held: Vec<_> = (0..20).map(|turn| visit(turn % 2 == 0)).collect();
    let after = settle();
    assert!(after.0 <= before.0, "descriptors: {before:?}, {after:?}");
    let blocks = || -> u64 {
        let stat = |fd| rustix::fs::fstat(fd).expect("a memfd").st_blocks as u64;
        held.iter().map(|buffer| stat(&buffer.fd)).sum()
    };
    within(SOON, "memory", || blocks() == 0);
    server.end();
}

/// The service manager makes the socket, hands it over, and is told when the server is ready and when it ends.
#[test]
fn a_service_manager_hands_the_socket_over() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}", path.display());
    let socket = dir.path().join("activated");
    let unix = AddressFamily::UNIX;
    let listen = |kind| {
        let fd = rustix::net::socket_with(unix, kind, SocketFlags::CLOEXEC, None).expect("one");
        rustix::net::bind(&fd, &SocketAddrUnix::new(&socket).expect("short")).expect("free");
        rustix::net::listen(&fd, 8).expect("bound");
        fd
    };
    let notified = UnixDatagram::bind(dir.path().join("notify")).expect("free");
    let start = |fd: &std::os::fd::OwnedFd| {
        // The manager's own number of the descriptor is another one.
        rustix::io::fcntl_setfd(fd.as_fd(), FdFlags::empty()).expect("open");
        let script = format!(
            "exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"",
            fd.as_raw_fd()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(program());
        command
            .args(["serve", "--file", &spec])
            .stdin(Stdio::null());
        command.env("NOTIFY_SOCKET", dir.path().join("notify"));
        let child = command.stderr(Stdio::piped()).spawn().expect("sh");
        rustix::io::fcntl_setfd(fd.as_fd(), FdFlags::CLOEXEC).expect("open");
        child
    };
    let fd = listen(SocketType::SEQPACKET);
    let child = start(&fd);
    drop(fd);
    let mut text = [0; 256];
    let len = notified.recv(&mut text).expect("a notification");
    assert_eq!(&text[..len], b"READY=1\n");
    let mut peer = Peer::connect(&socket, "activated").expect("a welcome");
    assert!(peer.queue(1).perform(Request::fence()).bytes().is_ok());
    signal(&child, Signal::TERM);
    let output = child.wait_with_output().expect("a child");
    assert!(output.status.success(), "{output:?}");
    let len = notified.recv(&mut text).expect("a notification");
    assert_eq!(&text[..len], b"STOPPING=1\n");
    assert!(socket.exists(), "the socket is the manager's");
    fs::remove_file(&socket).expect("ours");
    // One of another kind is refused.
    let fd = listen(SocketType::STREAM);
    let output = start(&fd).wait_with_output().expect("a child");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("ListenSequentialPacket"),
        "{output:?}"
    );
}
