//! The reasons for which a comparison fails.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use vyre_io::{AttachError, BufferError, Errno, QueueFull, SpawnError, StopError, TableError};
use vyre_io_cli::measure::cores::CoresError;
use vyre_io_cli::measure::plot::PlotError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error(transparent)]
    Cores(#[from] CoresError),
    #[error("{0}; with --quick, nothing need be bound")]
    NoCores(String),
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} has no stamps, by which reads are verified: make a file by `vyre-io bench --create`, or omit --file",
        .0.display()
    )]
    NotStamped(PathBuf),
    #[error("{} has {len} bytes, but at least {needed} are needed: name a larger file", path.display())]
    Short {
        path: PathBuf,
        len: u64,
        needed: u64,
    },
    #[error("no memory for a buffer: {0}")]
    Buffer(#[from] BufferError),
    #[error("the queue cannot be made: {0}")]
    Queue(#[from] AttachError),
    #[error("the queue is full: {0}")]
    Full(#[from] QueueFull),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("the loop did not start: {0}; `vyre-io doctor` says what this machine allows")]
    Spawn(#[from] SpawnError),
    #[error("the loop did not end well: {0}")]
    Stop(#[from] StopError),
    #[error("the pages of the file cannot be looked for: {0}")]
    Residency(#[source] io::Error),
    #[error(
        "{resident} of {pages} pages of a file remain in memory after POSIX_FADV_DONTNEED: another program maps \
         them, or the file system keeps them"
    )]
    NotEvicted { resident: usize, pages: u64 },
    #[error("the raw ring failed: {0}")]
    RawRing(#[source] io::Error),
    #[error("the bare server failed: {0}")]
    Bare(#[source] io::Error),
    #[error("the pread pool failed: {0}")]
    Pread(#[source] io::Error),
    #[error("fio cannot be started: {0}")]
    FioStart(#[source] io::Error),
    #[error("fio failed ({status}): {message}")]
    Fio { status: ExitStatus, message: String },
    #[error("fio's report is not understood: {0}")]
    FioReport(#[from] serde_json::Error),
    #[error("the program of the original loop failed: {0}")]
    Original(#[source] io::Error),
    #[error("a request failed: {0}")]
    Request(Errno),
    #[error("a request ended with {found} of {expected} bytes")]
    Count { found: u32, expected: u32 },
    #[error("no request was completed for {0} seconds: the server is gone or hangs")]
    Stalled(u64),
    #[error("{who} read wrong bytes at byte {offset} of the file")]
    WrongBytes { who: &'static str, offset: u64 },
    #[error("{who} verified no block: measure for longer, by --seconds")]
    NothingVerified { who: &'static str },
    #[error("the state of the machine cannot be read: {0}")]
    Machine(#[source] io::Error),
    #[error(transparent)]
    Plot(#[from] PlotError),
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
}

impl CompareError {
    /// Returns a function that makes the error of an operation on a file.
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
