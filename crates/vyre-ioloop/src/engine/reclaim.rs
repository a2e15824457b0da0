//! Reclaim: closes files and drops buffers that the loop no longer uses.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::Builder;

use vyre_uring::Buffer;

use crate::file_table::FileEntry;
use crate::signals::block_signals;

/// The revoked entries whose last request has completed since.
#[derive(Debug, Default)]
pub(super) struct Reclaimable {
    pub(super) files: Vec<u32>,
    pub(super) buffers: Vec<u32>,
}

impl Reclaimable {
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.buffers.is_empty()
    }
}

/// The files and buffers of removed entries. When this is dropped, another thread closes and drops
/// them. The transport must have released a file before, so that this is its last close.
///
/// A close can take as long as the other end takes: a file system in another process or on another
/// machine flushes, a socket lingers, a terminal drains, a drive is written back. Unmapping
/// gigabytes takes most of a second.
#[derive(Debug, Default)]
pub(super) struct Closing {
    files: Vec<Arc<OwnedFd>>,
    buffers: Vec<Buffer>,
}

/// The size in bytes from which a buffer is left to the other thread.
const LARGE: usize = 16 << 20;

impl Closing {
    /// Closes the file of a removed entry unless another owner has it: at once, or on the other thread
    /// if the close can take long.
    pub(super) fn add_file(&mut self, entry: FileEntry) {
        if entry.may_linger() {
            self.files.push(entry.file);
        }
    }

    /// Drops a buffer that no entry names and that the transport has released.
    pub(super) fn add_buffer(&mut self, buffer: Buffer) {
        if buffer.len() >= LARGE {
            self.buffers.push(buffer);
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        let files: Vec<OwnedFd> = files.into_iter().filter_map(Arc::into_inner).collect();
        if files.is_empty() && self.buffers.is_empty() {
            return;
        }
        let all = (files, std::mem::take(&mut self.buffers));
        // Where there is no thread for them, they go here.
        let _ = Builder::new().name("vyre-io-close".into()).spawn(move || {
            let _ = block_signals();
            drop(all);
        });
    }
}
