//! The error of views.

use std::ops::Range;

use vyre_uring::vyre_mapped::{Errno, MapError};

use crate::error::CudaError;

/// The reason why kernels cannot read the pages of a file by themselves. Read the file through the queue
/// instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The file cannot be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The GPU or its driver does not pin pages that the host may only read.
    #[error(
        "{0} pins no read-only pages (hostRegisterReadOnlySupported is 0): read the file through the queue"
    )]
    Unsupported(String),
    /// Pinned memory has another address for kernels than for the host.
    #[error(
        "{0} gives pinned pages addresses of its own (canUseHostPointerForRegisteredMem is 0), and windows need \
         those of the host: use a view, or read the file through the queue"
    )]
    OtherAddresses(String),
    /// The windows have a size that is not supported.
    #[error("windows of {0} bytes are not supported: give a power of two from 64 KiB to 1 GiB")]
    WindowBytes(u64),
    /// The range begins or ends inside a page.
    #[error(
        "the range does not consist of whole pages: begin it at a page, and end it at one or with the file"
    )]
    NotPages,
    /// The range begins at the end of the file or later.
    #[error(
        "the range begins past the end of the file, which has {size} bytes: give an earlier one"
    )]
    PastEnd {
        /// The size of the file in bytes.
        size: u64,
    },
    /// The part is not inside the view.
    #[error("bytes {} to {} are not inside the view of {} to {}", .part.start, .part.end, .range.start, .range.end)]
    OutOfRange {
        /// The part of the file.
        part: Range<u64>,
        /// The range of the view.
        range: Range<u64>,
    },
    /// Memory is too short for what should be there.
    #[error("the memory has {len} bytes, and {wanted} are needed: give longer memory")]
    TooShort {
        /// The number of bytes of the memory.
        len: u64,
        /// The number of bytes that are needed.
        wanted: u64,
    },
    /// No row is inside the view.
    #[error(
        "no row is inside the view: give rows of at least one byte, the first of which is in the view"
    )]
    NoRows,
    /// The pages were not read in, because that was cancelled.
    #[error("the view was cancelled while its pages were read in")]
    Cancelled,
    /// The kernel could not read a page in.
    #[error(
        "a page could not be read in ({0}): look at dmesg for errors of the drive; before Linux 5.14, use View::new"
    )]
    Populate(Errno),
    /// No thread could be started.
    #[error("no thread could be started ({0}): raise the limit of threads (ulimit -u)")]
    NoThread(String),
    /// The file could not be read.
    #[error("the file could not be read at offset {offset}: {reason}")]
    Read {
        /// The offset in bytes.
        offset: u64,
        /// The error of the operating system.
        reason: String,
    },
    /// More bytes would be pinned than the limit allows.
    #[error(
        "{bytes} bytes cannot be pinned: {pinned} are, and the limit is {limit}; drop other views, or \
         raise the limit by set_pin_limit"
    )]
    PinLimit {
        /// The number of bytes that were to be pinned.
        bytes: u64,
        /// The number of bytes that were pinned.
        pinned: u64,
        /// The limit.
        limit: u64,
    },
    /// The driver refused to pin the pages.
    #[error(
        "{bytes} bytes of the file cannot be pinned for the GPU ({error}): look whether the file has become \
         shorter, or whether a page cannot be read (dmesg); else read it through the queue"
    )]
    Pin {
        /// The number of bytes.
        bytes: u64,
        /// The driver's name for the error.
        error: String,
    },
    /// The driver refused another call.
    #[error(transparent)]
    Cuda(#[from] CudaError),
}
