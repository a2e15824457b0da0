//! A server for tests: one client at a time, one loop.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};
use vyre_io_client::ioq::abi::{ABI_MAJOR, ABI_MINOR};
use vyre_io_client::ioq::{BufferHandle, Features, FileHandle, QueueLayout};
use vyre_io_client::protocol::{
    BufferIs, Call, Code, Done, Event, FileEntry, FileIs, Limits, Name, Packet, Page, PeerStatus,
    QueueIs, Refused, Reply, Session, feature, rights,
};
use vyre_ioloop::{BufferOptions, FileOptions, IoLoop, QueueId, Rights, shared_queue};
use vyre_uring::Buffer;

/// The name of the file that the server offers, and its bytes.
pub(crate) const FILE: &str = "numbers";

pub(crate) fn contents() -> Vec<u8> {
    (0..20_000u32).map(|at| (at / 7 + at % 251) as u8).collect()
}

/// Both ends of a connection.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    let (unix, packets) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socketpair(unix, packets, SocketFlags::CLOEXEC, None).expect("a pair of sockets")
}

pub(crate) fn send(socket: impl AsFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let slices = [IoSlice::new(packet)];
    // The client may have gone.
    let _ = sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL);
}

/// Receives a packet; nothing if the client has gone.
pub(crate) fn receive(socket: impl AsFd) -> Option<Vec<u8>> {
    let mut bytes = [0; 5000];
    let (count, _) = recv(socket, &mut bytes, RecvFlags::empty()).ok()?;
    (count > 0).then(|| bytes[..count].to_vec())
}

/// A running server.
pub(crate) struct Server {
    thread: Option<JoinHandle<Session>>,
    io: Arc<IoLoop>,
}

/// Starts a server that offers one file. Returns it, and the client's end of the connection.
pub(crate) fn serve(limits: Limits) -> (Server, OwnedFd) {
    let (ours, theirs) = pair();
    let io = Arc::new(IoLoop::builder().spawn().expect("a loop"));
    let served = Arc::clone(&io);
    let thread = std::thread::spawn(move || Connection::new(served, ours, limits).serve());
    let thread = Some(thread);
    (Server { thread, io }, theirs)
}

impl Server {
    /// Waits for the end of the conversation, and returns its record.
    pub(crate) fn join(mut self) -> Session {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("the server")
    }
}

struct Connection {
    io: Arc<IoLoop>,
    socket: OwnedFd,
    session: Session,
    queues: BTreeMap<u32, QueueId>,
    file: File,
}

impl Connection {
    fn new(io: Arc<IoLoop>, socket: OwnedFd, limits: Limits) -> Self {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&contents()).expect("room");
        Self {
            io,
            socket,
            session: Session::new(limits),
            queues: BTreeMap::new(),
            file,
        }
    }

    fn serve(mut self) -> Session {
        while let Some(packet) = receive(&self.socket) {
            let (answer, descriptor) = match self.session.receive(&packet, false) {
                Event::Call(call) => self.call(call),
                Event::Answer(answer, _) | Event::Cut(answer, _) => (answer, None),
            };
            let descriptor: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            send(&self.socket, answer.bytes(), &descriptor);
            if self.session.is_ended() {
                break;
            }
        }
        for queue in self.queues.values() {
            self.io.remove_queue(*queue).expect("it is there");
        }
        self.session
    }

    fn call(&mut self, call: Call) -> (Packet, Option<OwnedFd>) {
        if let Call::Hello(_) = call {
            return (self.session.welcome(7, 1, feature::STATUS), None);
        }
        let (reply, descriptor) = self.carry_out(call);
        (self.session.answer(&reply), descriptor)
    }

    fn carry_out(&mut self, call: Call) -> (Reply, Option<OwnedFd>) {
        let done = (Reply::from(Done {}), None);
        match call {
            Call::Queue {
                queue,
                slots,
                features,
            } => {
                let features = Features::from_bits_truncate(features) | Features::DOORBELL;
                let layout = QueueLayout::with_slots(slots).with_features(features);
                let (host, memfd) = shared_queue(layout).expect("memory");
                let id = self.io.add_queue(host).expect("room");
                self.queues.insert(queue, id);
                let answer = QueueIs {
                    queue,
                    slots,
                    bytes: layout.bytes() as u64,
                    features: features.bits(),
                    abi_major: ABI_MAJOR as u16,
                    abi_minor: ABI_MINOR as u16,
                };
                (answer.into(), Some(memfd))
            }
            Call::Buffer { queue, bytes } => {
                let (buffer, memfd) = Buffer::memfd(bytes as usize).expect("memory");
                let rights = Rights::READ | Rights::WRITE;
                let options = BufferOptions::new(rights).only_for(self.queues[&queue]);
                let handle = self
                    .io
                    .insert_buffer(buffer, .., options)
                    .expect("room")
                    .raw();
                (BufferIs { bytes, handle }.into(), Some(memfd))
            }
            Call::Open {
                queue,
                name,
                rights: wished,
            } => (self.open(queue, name, wished), None),
            Call::CloseFile { handle, .. } => {
                let handle = FileHandle::from_raw(handle);
                self.io.revoke_file(handle).expect("it is there");
                done
            }
            Call::CloseBuffer { handle, .. } => {
                let handle = BufferHandle::from_raw(handle);
                self.io.revoke_buffer(handle).expect("it is there");
                done
            }
            Call::CloseQueue { queue } => {
                let id = self.queues.remove(&queue).expect("it is there");
                self.io.remove_queue(id).expect("it is there");
                done
            }
            // Two pages, of which the first is empty.
            Call::List { cursor: 0 } => {
                let page = Page::new(Vec::new(), 5).expect("empty");
                (Reply::Files(page), None)
            }
            Call::List { .. } => {
                let entry = FileEntry {
                    start: 0,
                    end: 16_384,
                    rights: rights::READ,
                    alignment: 1,
                    name: Name::new(FILE).expect("short"),
                };
                (Reply::Files(Page::new(vec![entry], 0).expect("one")), None)
            }
            Call::Status { .. } => {
                let peer = PeerStatus {
                    peer: 7,
                    queues: self.queues.len() as u32,
                    ..PeerStatus::default()
                };
                (
                    Reply::StatusIs(Page::new(vec![peer], 0).expect("one")),
                    None,
                )
            }
            Call::Hello(_) | Call::Goodbye => done,
        }
    }

    fn open(&self, queue: u32, name: Name, wished: u32) -> Reply {
        if name.as_str() != FILE {
            return Refused::because(Code::NoSuchFile).into();
        }
        if wished & !rights::READ != 0 {
            return Refused::because(Code::NotPermitted).into();
        }
        let options = FileOptions::new(Rights::READ).only_for(self.queues[&queue]);
        let file = self.file.try_clone().expect("a descriptor");
        let handle = self.io.insert_file(file, 0..16_384, options).expect("room");
        FileIs {
            handle: handle.raw(),
            rights: rights::READ,
            start: 0,
            end: 16_384,
            length: 16_384,
            alignment: 1,
        }
        .into()
    }
}
