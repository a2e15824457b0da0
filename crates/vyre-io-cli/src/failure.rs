//! The reasons for which a command fails, with messages for its user.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno as Os;
use vyre_io::{
    AttachError, BufferError, Errno, GroupSpawnError, GroupStopError, QueueFull, SpawnError,
    StopError, TableError, WaitError,
};

use vyre_io_cli::measure::cores::CoresError;
use vyre_io_cli::measure::plot::PlotError;

use crate::name::Shown;
use crate::serve::error::ServeError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The arguments contradict each other or the files. Exit status 2, as for clap's own.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Cores(#[from] CoresError),
    #[error("cannot {what} {}: {source}{}", Shown(.path), advice(.source))]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} exists and does not begin with a benchmark's stamp: choose another name, or measure it \
         with --file; if an interrupted benchmark left it, delete the file",
        Shown(.0)
    )]
    NotOurs(PathBuf),
    #[error(
        "{} is neither a regular file nor a block device; name one: requests need offsets, which pipes, \
         sockets and character devices do not have",
        Shown(.0)
    )]
    NotAFile(PathBuf),
    #[error("{} is a directory; name a file", Shown(.0))]
    Directory(PathBuf),
    #[error(
        "{} cannot be measured: its file system reports no size; name another file",
        Shown(.0)
    )]
    NoSize(PathBuf),
    #[error("cannot copy to {}: it is not a regular file; name a file or a directory", Shown(.0))]
    NotReplaceable(PathBuf),
    #[error("{} and {} are the same file; name another DST", Shown(.0), Shown(.1))]
    SameFile(PathBuf, PathBuf),
    #[error(
        "the directory {} is not writable, but the copy is always a new file in it; make it writable, \
         or use `cp` to write into an existing file",
        Shown(.0)
    )]
    NotWritable(PathBuf),
    /// The copy would fail at the end, so it is refused at the beginning.
    #[error("cannot copy to {}: {why}", Shown(.path))]
    Refused { path: PathBuf, why: String },
    #[error("{} changed while it was copied: at byte {offset} it has {found} bytes instead of \
         {expected}; copy it again when no process writes to it",
        Shown(.path)
    )]
    SourceChanged {
        path: PathBuf,
        offset: u64,
        expected: u32,
        found: u32,
    },
    #[error(
        "{} reports a size of {size} bytes but ends earlier: its file system reports wrong \
         sizes; use `cat`, which reads to the end",
        Shown(.path)
    )]
    LessThanStated { path: PathBuf, size: u64 },
    #[error(
        "{} reports a size of {size} bytes but has more: its file system reports wrong sizes; use \
         `cat`, which reads to the end",
        Shown(.path)
    )]
    MoreThanStated { path: PathBuf, size: u64 },
    #[error(
        "the copy of {} differs from its source in the block at byte {offset}, and was discarded: the \
         source may have been written to, or a drive is failing; copy it again when no process \
         writes to it",
        Shown(.path)
    )]
    Mismatch { path: PathBuf, offset: u64 },
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
    #[error("the GPU cannot stamp, verify or land blocks of {0} bytes: give a multiple of 512")]
    GpuBlockSize(u32),
    #[error("the copy by the GPU failed: {0}")]
    GpuCopy(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "{0} lanes on the GPU gave up: the loop ended, an outcome was late, or a queue had no free \
         slot"
    )]
    LanesGaveUp(u32),
    #[error("the baseline failed: {0}")]
    Baseline(#[source] io::Error),
    #[error(transparent)]
    Plot(#[from] PlotError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The problem has already been printed.
    #[error("there are problems, listed above")]
    Reported,
}

impl Failure {
    /// Returns the failure for a file of a kind that has no offsets.
    pub(crate) fn unfit(path: &Path, kind: FileType) -> Self {
        if kind.is_dir() {
            Self::Directory(path.into())
        } else {
            Self::NotAFile(path.into())
        }
    }

    /// Returns the failure of an operation on a file.
    pub(crate) fn file(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::File {
            what,
            path: path.into(),
            source: source.into(),
        }
    }

    /// Returns the failure of a request on a file, as [`file`](Self::file) does for other
    /// operations.
    pub(crate) fn request(what: &'static str, path: &Path, errno: Errno) -> Self {
        Self::file(what, path, errno)
    }

    /// Returns the exit status of the process.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Cores(_) => 2,
            Self::Serve(error) if error.is_usage() => 2,
            _ => 1,
        }
    }
}

/// Returns advice on an errno, to append to the system's message.
fn advice(error: &io::Error) -> &'static str {
    let Some(errno) = Os::from_io_error(error) else {
        return "";
    };
    match errno {
        Os::NOENT => "; check the path",
        Os::ACCESS => "; check the permissions of the file and of its directories",
        Os::PERM => "; only its owner or root may do that, or a security policy denies it",
        Os::NOSPC => "; make room, or choose another file system",
        Os::DQUOT => "; make room, or have the quota raised",
        Os::FBIG => "; raise the limit (`ulimit -f`), or choose a file system for larger files",
        Os::IO => "; a drive or a server failed: the kernel's log says more (`dmesg`)",
        Os::ROFS => "; choose another file system, or mount this one for writing",
        Os::NAMETOOLONG => "; choose a shorter name",
        Os::NOTDIR => "; a part of the path is a file, not a directory",
        Os::LOOP => "; its symbolic links lead in a circle, or are too many",
        Os::MFILE | Os::NFILE => "; raise the limit on open files (`ulimit -n`)",
        Os::STALE => "; the server no longer knows the file: copy it again",
        Os::AGAIN => "; another process holds a lease or a lock on it",
        _ => "",
    }
}
