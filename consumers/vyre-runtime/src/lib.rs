//! The three entry points of `vyre_runtime::uring::ResidentIoLoop`, served by vyre-io: copy this
//! file into a program that moves from vyre-runtime 0.7. `docs/from-vyre-runtime.md` says what
//! changes besides.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use vyre_io::{
    AttachError, Buffer, BufferHandle, BufferTable, FileHandle, FileTable, HostQueue, IoLoop,
    Region, Rights, SpawnError, StopError, TableError,
};

/// Files and buffers of a loop, in place of the original's `AsyncUringStream`.
#[derive(Debug, Default)]
pub struct Stream {
    files: Vec<OwnedFd>,
    buffers: Vec<Buffer>,
}

impl Stream {
    /// Returns a stream without files and buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the device name a file by its descriptor number. The original took any number that the
    /// device wrote; here a file that was not added gives ERROR.
    pub fn file(mut self, file: impl Into<OwnedFd>) -> Self {
        self.files.push(file.into());
        self
    }

    /// Adds a buffer. The first has index 0, as in the original's `register_buffers`.
    pub fn buffer(mut self, buffer: Buffer) -> Self {
        self.buffers.push(buffer);
        self
    }
}

/// Destination of the READs that name a given handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisteredIoDestination {
    /// Destination handle that the device writes.
    pub handle: u32,
    /// Index of the buffer, in the order in which the stream got them.
    pub buf_index: u16,
    /// Offset of the destination in that buffer. The destination extends to the end of the buffer.
    pub target_offset: u64,
}

/// Reason why the loop did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The queue's memory is misaligned, or its length is not 1 to 64 slots of 32 bytes.
    #[error(transparent)]
    Queue(#[from] AttachError),
    /// A file or a destination cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A destination names a buffer that the stream does not have.
    #[error(
        "destination {handle} is in buffer {index}, and there are {count}: add it to the stream"
    )]
    NoBuffer {
        /// Handle of the destination.
        handle: u32,
        /// Index of the buffer that the destination names.
        index: u16,
        /// Number of buffers of the stream.
        count: usize,
    },
    /// The loop's thread did not start.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// Replacement for the original's loop: a thread that serves one queue without a header.
#[derive(Debug)]
pub struct ResidentIoLoop {
    io: Option<IoLoop>,
}

impl ResidentIoLoop {
    /// Serves a queue that has no destinations, so that only FENCE can succeed.
    ///
    /// # Errors
    /// [`StartError`], where the original's thread ended by itself later.
    pub fn spawn(stream: Stream, io_queue: Region) -> Result<Self, StartError> {
        Self::spawn_with_registered_destinations(stream, io_queue, &[])
    }

    /// Serves a queue whose READs go to registered destinations.
    ///
    /// # Errors
    /// [`StartError`], where the original's thread ended by itself later.
    pub fn spawn_with_registered_destinations(
        stream: Stream,
        io_queue: Region,
        destinations: &[RegisteredIoDestination],
    ) -> Result<Self, StartError> {
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        for file in stream.files {
            // A descriptor is never negative.
            let handle = FileHandle::from_raw(file.as_raw_fd().unsigned_abs());
            files.insert_at(handle, file, .., Rights::READ)?;
        }
        for &RegisteredIoDestination {
            handle,
            buf_index: index,
            target_offset,
        } in destinations
        {
            let count = stream.buffers.len();
            let buffer = stream.buffers.get(usize::from(index));
            let buffer = buffer.ok_or(StartError::NoBuffer {
                handle,
                index,
                count,
            })?;
            let handle = BufferHandle::from_raw(handle);
            buffers.insert_at(handle, buffer.clone(), target_offset.., Rights::WRITE)?;
        }
        let io = IoLoop::builder()
            .files(files)
            .buffers(buffers)
            .queue(HostQueue::attach_bare(io_queue)?)
            .spawn()?;
        Ok(Self { io: Some(io) })
    }

    /// Stops the loop, which first finishes the slots that it has claimed. A second call does
    /// nothing.
    ///
    /// # Errors
    /// [`StopError`].
    pub fn stop(&mut self) -> Result<(), StopError> {
        self.io.take().map_or(Ok(()), IoLoop::stop)
    }
}
