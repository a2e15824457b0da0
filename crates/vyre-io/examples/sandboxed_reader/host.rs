//! The host's part: files, memory, queues, and the connection to another process.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vyre_io::{
    Buffer, BufferHandle, BufferTable, FileHandle, FileTable, QueueLayout, Rights, shared_queue,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Range of the secret file that the reader may read.
pub(crate) const RANGE: Range<u64> = 4096..8192;
/// Bytes of the secret file.
const FILE_LEN: u64 = 3 * 4096;
/// Size in bytes of the memory that host and reader share.
const BUFFER_LEN: usize = 1 << 16;

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
        let layout = QueueLayout::with_slots(16);
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

    /// Starts a reader. Its standard input is a socket, through which it gets the two descriptors
    /// and the numbers that it needs; it inherits nothing else from this process.
    pub(crate) fn start(
        &self,
        reader: &Path,
        mode: &[&str],
        secret: &Path,
        output: Stdio,
    ) -> Result<Child> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(reader)
            .args(mode)
            .env("SECRET", secret)
            .stdin(OwnedFd::from(theirs))
            .stdout(output)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", reader.display()))?;
        let endless = self.endless.map_or(0, FileHandle::raw);
        let (file, buffer) = (self.file.raw(), self.buffer.raw());
        let text = format!(
            "{} {BUFFER_LEN} {file} {buffer} {endless}\n",
            self.queue_len
        );
        send(&ours, &[self.queue.as_fd(), self.memory.as_fd()], &text)?;
        Ok(child)
    }
}

/// Sends descriptors with a text (SCM_RIGHTS).
fn send(socket: &UnixStream, descriptors: &[BorrowedFd<'_>], text: &str) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(
        control.push(SendAncillaryMessage::ScmRights(descriptors)),
        "there is room for two"
    );
    let text = [IoSlice::new(text.as_bytes())];
    sendmsg(socket, &text, &mut control, SendFlags::empty())?;
    Ok(())
}
