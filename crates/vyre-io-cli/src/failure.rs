//! Why a command failed, in words for whoever typed it.

use std::io;
use std::path::{Path, PathBuf};

use vyre_io::{
    AttachError, BufferError, Errno, GroupSpawnError, GroupStopError, QueueFull, SpawnError,
    StopError, TableError, WaitError,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments contradict each other or the files. Exit status 2, as for clap's own.
    #[error("{0}")]
    Usage(String),
    #[error("cannot {what} {}: {source}", .path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is not a regular file or a block device", .0.display())]
    NotAFile(PathBuf),
    #[error(
        "{} exists, and no benchmark made it: choose another name, or measure it with --file",
        .0.display()
    )]
    NotOurs(PathBuf),
    #[error("{} and {} are the same file", .0.display(), .1.display())]
    SameFile(PathBuf, PathBuf),
    #[error(
        "{} changed while it was copied: at byte {offset} it has {found} bytes instead of \
         {expected}; copy it again when nobody writes to it",
        .path.display()
    )]
    SourceChanged {
        path: PathBuf,
        offset: u64,
        expected: u32,
        found: u32,
    },
    #[error(
        "the copy differs from its source in the block at byte {offset}; the source may have been \
         written to, or a drive is failing"
    )]
    Mismatch { offset: u64 },
    #[error("{failed} blocks failed verification, the first at byte {offset}")]
    BadStamps { failed: u64, offset: u64 },
    #[error("{failed} requests failed, the first with {first}")]
    Requests { failed: u64, first: io::Error },
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error("no memory for the buffer: {0}")]
    Buffer(#[from] BufferError),
    #[error("the queue cannot be made: {0}")]
    Queue(#[from] AttachError),
    #[error("the queue is full: {0}")]
    Full(#[from] QueueFull),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("the loop did not start: {0}; `vyre-io doctor` says what this machine allows")]
    Spawn(#[from] SpawnError),
    #[error("{0}; `vyre-io doctor` says what this machine allows")]
    SpawnGroup(#[from] GroupSpawnError),
    #[error("the loop did not end well: {0}")]
    Stop(#[from] StopError),
    #[error(transparent)]
    StopGroup(#[from] GroupStopError),
    #[error("{0}")]
    Wait(#[from] WaitError),
    #[error("{0}")]
    Cuda(#[from] vyre_ioq_cuda::CudaError),
    #[error("the copy by the GPU failed: {0}")]
    GpuCopy(#[source] vyre_ioq_cuda::copy::CopyError),
    #[error(
        "{0} lanes on the GPU gave up: the loop ended, or an outcome did not come in time, or a queue \
         had no slot"
    )]
    LanesGaveUp(u32),
    #[error("the raw io_uring loop failed: {0}")]
    Baseline(#[source] io::Error),
    /// What was wrong is printed already.
    #[error("there are problems, listed above")]
    Reported,
}

impl Failure {
    /// What could not be done to which file.
    pub(crate) fn file(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File {
            what,
            path: path.into(),
            source: source.into(),
        }
    }

    /// As [`file`](Self::file), for an errno that a request came back with.
    pub(crate) fn request(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::file(what, path, errno)
    }

    /// Exit status of the process.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
