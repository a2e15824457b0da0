//! A server, and its peers.
#![expect(
    unsafe_code,
    reason = "memory that a server shares becomes a queue's region"
)]

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr::NonNull;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with,
};
use rustix::process::Signal;
use vyre_io::{Buffer, BufferHandle, DeviceQueue, FileHandle, Outcome, Region, Request as Io};
use vyre_io_client::protocol::{
    self, BufferIs, Conversation, FileIs, Name, Open, Queue, Reply, ReplyError, Request, Welcome,
    sizes,
};

use super::process::{send as signal, wait_for};
use super::vyre_io;

/// A limit for what takes no time.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A server in a process of its own.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    log: Option<JoinHandle<String>>,
}

impl Server {
    /// Starts a server at a socket of this directory, and waits until it listens.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = vyre_io();
        command.arg("serve");
        Self::spawn(command, dir, args)
    }

    pub(crate) fn spawn(mut command: Command, dir: &Path, args: &[&str]) -> Self {
        let socket = dir.join("socket");
        command.arg("--socket").arg(&socket).args(args);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary");
        let mut errors = child.stderr.take().expect("piped");
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut server = Self {
            child,
            socket,
            log: Some(log),
        };
        wait_for("server", || {
            if let Some(status) = server.child.try_wait().expect("a child") {
                panic!("the server ended: {status}: {}", server.text());
            }
            Self::is_there(&server.socket).then_some(())
        });
        server
    }

    /// Returns whether somebody listens.
    fn is_there(path: &Path) -> bool {
        connected(path).is_ok()
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(&self.socket, "test").expect("a welcome")
    }

    /// Ends the server by SIGTERM. Returns its status and its log.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        signal(&self.child, Signal::TERM);
        let status = self.child.wait().expect("a child");
        (status, self.text())
    }

    /// Kills the server, and returns its log.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
        self.text()
    }

    fn text(&mut self) -> String {
        let log = self.log.take().expect("once");
        log.join().expect("no panic")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn connected(path: &Path) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let (unix, packets) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = socket_with(unix, packets, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// A peer with a connection and nothing else.
pub(crate) struct Peer {
    pub(crate) socket: OwnedFd,
    conversation: Conversation,
    pub(crate) welcome: Welcome,
}

/// Receives a packet and what comes with it. An empty one says that the server has hung up.
pub(crate) fn received(socket: &OwnedFd) -> rustix::io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = [0; sizes::MESSAGE_BYTES as usize];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut buffer)];
    let got = recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    Ok((buffer[..got.bytes].to_vec(), fds))
}

impl Peer {
    pub(crate) fn connect(path: &Path, name: &str) -> Result<Self, ReplyError> {
        let mut peer = Self {
            socket: connected(path).expect("a server"),
            conversation: Conversation::new(),
            welcome: Welcome::default(),
        };
        let hello = peer.conversation.hello(Name::shortened(name));
        let (reply, _) = peer.exchange(hello.bytes())?;
        let Reply::Welcome(welcome) = reply else {
            panic!("{reply:?}");
        };
        peer.welcome = welcome;
        Ok(peer)
    }

    fn exchange(&mut self, packet: &[u8]) -> Result<(Reply, Vec<OwnedFd>), ReplyError> {
        // A server that cuts the peer off has said why.
        let _ = send(&self.socket, packet, SendFlags::NOSIGNAL);
        let (bytes, fds) = received(&self.socket).expect("an answer");
        let reply = self.conversation.receive(&bytes, fds.len())?;
        Ok((reply, fds))
    }

    pub(crate) fn ask(
        &mut self,
        request: impl Into<Request>,
    ) -> Result<(Reply, Vec<OwnedFd>), ReplyError> {
        let packet = self.conversation.ask(request.into());
        self.exchange(packet.bytes())
    }

    /// Asks for what must be refused. Returns the code.
    pub(crate) fn refused(&mut self, request: impl Into<Request>) -> protocol::Code {
        match self.ask(request) {
            Err(ReplyError::Refused(refused) | ReplyError::CutOff(refused)) => refused.cause(),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn queue(&mut self, slots: u32) -> PeerQueue {
        let features = u32::MAX;
        let (reply, mut fds) = self.ask(Queue { slots, features }).expect("a queue");
        let Reply::QueueIs(queue) = reply else {
            panic!("{reply:?}");
        };
        PeerQueue {
            number: queue.queue,
            device: DeviceQueue::attach(region(&fds[0])).expect("a queue"),
            memory: fds.remove(0),
        }
    }

    pub(crate) fn buffer(&mut self, queue: &PeerQueue, bytes: u64) -> PeerBuffer {
        let queue = queue.number;
        let (reply, mut fds) = self
            .ask(protocol::Buffer { bytes, queue })
            .expect("a buffer");
        let Reply::BufferIs(BufferIs { handle, .. }) = reply else {
            panic!("{reply:?}");
        };
        let fd = fds.remove(0);
        PeerBuffer {
            handle: BufferHandle::from_raw(handle),
            memory: Buffer::from_memfd(&fd).expect("sealed"),
            fd,
        }
    }

    pub(crate) fn open(&mut self, queue: &PeerQueue, name: &str, rights: u32) -> FileIs {
        let open = Open {
            queue: queue.number,
            rights,
            name: Name::shortened(name),
        };
        let (reply, _) = self.ask(open).expect("a file");
        let Reply::FileIs(file) = reply else {
            panic!("{reply:?}");
        };
        file
    }
}

/// Returns the memory of a queue, as a peer maps it.
pub(crate) fn region(memory: &OwnedFd) -> Region {
    let buffer = Buffer::from_memfd(memory).expect("sealed");
    let (base, len) = (buffer.as_ptr(), buffer.len());
    let base = NonNull::new(base).expect("mapped");
    // SAFETY: the bytes are mapped until `buffer` is dropped, which the region keeps; nothing else in this process
    // accesses them.
    unsafe { Region::from_owner(base, len, buffer) }.expect("a region")
}

/// A queue of a peer.
pub(crate) struct PeerQueue {
    pub(crate) number: u32,
    pub(crate) device: DeviceQueue,
    pub(crate) memory: OwnedFd,
}

impl PeerQueue {
    pub(crate) fn perform(&self, request: Io) -> Outcome {
        let ticket = self.device.submit(request).expect("a free slot");
        self.device.wait_for(ticket, SOON).expect("an outcome")
    }
}

/// A buffer of a peer.
pub(crate) struct PeerBuffer {
    pub(crate) handle: BufferHandle,
    pub(crate) memory: Buffer,
    pub(crate) fd: OwnedFd,
}

pub(crate) fn handle(file: &FileIs) -> FileHandle {
    FileHandle::from_raw(file.handle)
}

/// Returns the descriptors, threads and resident bytes of a process.
pub(crate) fn usage(pid: u32) -> (usize, usize, u64) {
    let count = |what: &str| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/{what}")).expect("a process");
        entries.count()
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    (count("fd"), count("task"), kib.expect("a number") << 10)
}

/// Waits for a condition for a time.
pub(crate) fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
