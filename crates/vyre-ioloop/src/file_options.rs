//! Options of the insertion of a file.

use crate::queue_id::QueueId;
use crate::rights::Rights;

/// The rights of a new handle, the queue that may name it, and how its reads are served. [`Rights`] convert
/// into it.
///
/// ```no_run
/// use std::fs::File;
/// use vyre_ioloop::{FileOptions, FileTable, Rights};
///
/// let mut files = FileTable::new();
/// let options = FileOptions::new(Rights::READ).page_cache_reads(true);
/// let weights = files.insert(File::open("weights.bin")?, options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "give it to an insertion"]
pub struct FileOptions {
    pub(crate) rights: Rights,
    pub(crate) page_cache_reads: bool,
    pub(crate) queue: Option<QueueId>,
}

impl FileOptions {
    /// Creates options with these rights, for every queue, without page-cache reads.
    pub const fn new(rights: Rights) -> Self {
        Self {
            rights,
            page_cache_reads: false,
            queue: None,
        }
    }

    /// Binds the handle to one queue: requests of every other queue that name it get EBADF, as if the
    /// handle did not exist.
    ///
    /// Use it where the devices of a loop or a group do not trust one another, since a handle is a number
    /// that can be guessed. The queue may be added later than the file: the number of a queue in
    /// [`IoLoop`](crate::IoLoop) and [`LoopGroup`](crate::LoopGroup) is known beforehand for those that are
    /// given to the builder, which are numbered from 0. The handle outlives the queue. Nothing can name it then,
    /// since no other queue gets the number; revoke it to close the file.
    pub const fn only_for(mut self, queue: QueueId) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Sets whether reads of bytes that are in memory are copied out of a mapping of the file, without
    /// a system call. The default is no.
    ///
    /// Such a read costs about half of one by io_uring, and gives a result that pread(2) could have
    /// given. All other reads are performed as without the option: of pages that are not in memory, of
    /// more than [`MAX_COPY_BYTES`](vyre_uring::MAX_COPY_BYTES), and past the size that the file had at the
    /// insertion. A pass of the loop copies about
    /// [`SUBMIT_COPY_BYTES`](vyre_uring::SUBMIT_COPY_BYTES) at most.
    ///
    /// It needs a regular file on ext4 or tmpfs, or a memfd, open without `O_DIRECT`. Otherwise the
    /// insertion fails with [`TableError::PageCache`], which says why: insert the file without the option
    /// then. The option has no effect without the right READ. The process installs a handler of SIGBUS, as
    /// [`Recovery`](vyre_mapped::Recovery) explains, and one thread that finds out which pages are in memory.
    /// If another user owns the file, these are only the pages that the process has mapped: see
    /// [`FileTable::residency`].
    ///
    /// [`TableError::PageCache`]: crate::TableError::PageCache
    /// [`FileTable::residency`]: crate::FileTable::residency
    pub const fn page_cache_reads(mut self, allowed: bool) -> Self {
        self.page_cache_reads = allowed;
        self
    }
}

impl From<Rights> for FileOptions {
    fn from(rights: Rights) -> Self {
        Self::new(rights)
    }
}
