//! The host's part: files, memory, queues, and the connection to another process.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair,
};
use vyre_io::{
    Buffer, BufferHandle, BufferTable, FileHandle, FileTable, QueueLayout, Rights, shared_queue,
};
use vyre_io_client::protocol::{
    BufferIs, Call, Code, Done, Event, FileIs, Limits, Packet, Page, QueueIs, Refused, Reply,
    Session, rights, sizes,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Range of the secret file that the reader may read.
pub(crate) const RANGE: Range<u64> = 4096..8192;
/// Bytes of the secret file.
const FILE_LEN: u64 = 3 * 4096;
/// Size in bytes of the memory that host and reader share.
const BUFFER_LEN: usize = 1 << 16;
/// Number of slots of the queue.
const SLOTS: u32 = 16;

/// Returns the bytes of the secret file, each computed from its position.
pub(crate) fn secret() -> Vec<u8> {
    (0..FILE_LEN).map(|at| (at / 7 + at % 251) as u8).collect()
}

/// Creates a file that nobody except root can open by its name any more, not even the host, which
/// keeps only the descriptor.
pub(crate) fn secret_file(directory: &Path) -> Result<(PathBuf, File)> {
    let path = directory.join("secret");
    File::create(&path)?.write_all(&secret())?;
    let file = File::open(&path)?;
    file.set_permissions(PermissionsExt::from_mode(0o000))?;
    Ok((path, file))
}

/// Resources of one reader process: a queue and memory of its own, and handles.
pub(crate) struct Client {
    queue: OwnedFd,
    memory: OwnedFd,
    queue_len: usize,
    file: FileHandle,
    buffer: BufferHandle,
    /// File whose reads never end, for readers that test a request that stays open.
    endless: Option<FileHandle>,
}

impl Client {
    /// Makes the queue and the memory, and inserts what the reader may access into the tables.
    pub(crate) fn new(
        secret: File,
        endless: Option<FileHandle>,
        files: &mut FileTable,
        buffers: &mut BufferTable,
    ) -> Result<(Self, vyre_io::HostQueue)> {
        let layout = QueueLayout::with_slots(SLOTS);
        let (host, queue) = shared_queue(layout)?;
        let (buffer, memory) = Buffer::memfd(BUFFER_LEN)?;
        let client = Self {
            queue,
            memory,
            queue_len: layout.bytes(),
            file: files.insert_range(secret, RANGE, Rights::READ)?,
            buffer: buffers.insert(buffer)?,
            endless,
        };
        Ok((client, host))
    }

    /// Starts a reader. Its standard input is a socket, by which it gets what is here; it inherits nothing else from this
    /// process. A thread serves the handshake until the reader has gone.
    pub(crate) fn start(
        &self,
        reader: &Path,
        mode: &[&str],
        secret: &Path,
        output: Stdio,
    ) -> Result<Child> {
        let (unix, packets) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (ours, theirs) = socketpair(unix, packets, SocketFlags::CLOEXEC, None)?;
        let child = Command::new(reader)
            .args(mode)
            .env("SECRET", secret)
            .stdin(theirs)
            .stdout(output)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", reader.display()))?;
        let offer = Offer {
            queue: self.queue.try_clone()?,
            memory: self.memory.try_clone()?,
            queue_len: self.queue_len,
            file: self.file,
            buffer: self.buffer,
            endless: self.endless,
        };
        std::thread::spawn(move || offer.converse(&ours));
        Ok(child)
    }
}

/// The host's part of a handshake that has one of each thing to give.
struct Offer {
    queue: OwnedFd,
    memory: OwnedFd,
    queue_len: usize,
    file: FileHandle,
    buffer: BufferHandle,
    endless: Option<FileHandle>,
}

impl Offer {
    /// Answers a reader until it has gone. [`Session`] judges what it sends.
    fn converse(&self, socket: &OwnedFd) {
        let mut session = Session::new(Limits {
            queues: 1,
            buffers: 1,
            ..Limits::default()
        });
        // Longer by a byte than a message, so that a longer packet is one that the session refuses.
        let mut packet = [0; sizes::MESSAGE_BYTES as usize + 1];
        while let Ok((count @ 1.., _)) = recv(socket, &mut packet, RecvFlags::empty()) {
            let (answer, descriptor) = match session.receive(&packet[..count], false) {
                Event::Call(call) => self.answer(&mut session, call),
                Event::Answer(answer, _) | Event::Cut(answer, _) => (answer, None),
            };
            if send(socket, descriptor, &answer).is_err() || session.is_ended() {
                break;
            }
        }
    }

    fn answer(&self, session: &mut Session, call: Call) -> (Packet, Option<BorrowedFd<'_>>) {
        let mut descriptor = None;
        let reply = match call {
            Call::Hello(_) => return (session.welcome(1, 2, 0), None),
            Call::Queue { queue, slots, .. } if slots == SLOTS => {
                descriptor = Some(self.queue.as_fd());
                let bytes = self.queue_len as u64;
                let (features, abi_major, abi_minor) = (0, 1, 0);
                QueueIs {
                    queue,
                    slots,
                    bytes,
                    features,
                    abi_major,
                    abi_minor,
                }
                .into()
            }
            Call::Buffer { bytes, .. } if bytes == BUFFER_LEN as u64 => {
                descriptor = Some(self.memory.as_fd());
                let handle = self.buffer.raw();
                BufferIs { bytes, handle }.into()
            }
            Call::Queue { .. } => Refused::because(Code::BadSlots).into(),
            Call::Buffer { .. } => Refused::because(Code::BadBytes).into(),
            Call::Open { name, .. } => match (name.as_str(), self.endless) {
                ("secret", _) => opened(self.file, RANGE),
                ("endless", Some(endless)) => opened(endless, 0..u64::MAX),
                _ => Refused::because(Code::NoSuchFile).into(),
            },
            Call::List { .. } => Page::new(Vec::new(), 0)
                .map_or_else(|_| Refused::because(Code::Internal).into(), Reply::Files),
            Call::Status { .. } => Refused::because(Code::NotPermitted).into(),
            // What the reader has lives as long as this program.
            Call::CloseFile { .. } | Call::CloseBuffer { .. } | Call::CloseQueue { .. } => {
                Refused::because(Code::StillInUse).into()
            }
            Call::Goodbye => Done {}.into(),
        };
        (session.answer(&reply), descriptor)
    }
}

fn opened(handle: FileHandle, range: Range<u64>) -> Reply {
    let regular = range.end != u64::MAX;
    FileIs {
        handle: handle.raw(),
        rights: rights::READ,
        start: range.start,
        end: range.end,
        length: if regular { range.end - range.start } else { 0 },
        alignment: 1,
    }
    .into()
}

/// Sends a message, with a descriptor if it has one (SCM_RIGHTS).
fn send(socket: &OwnedFd, descriptor: Option<BorrowedFd<'_>>, packet: &Packet) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err("there is room for one descriptor".into());
    }
    let packet = [IoSlice::new(packet.bytes())];
    sendmsg(socket, &packet, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
