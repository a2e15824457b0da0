//! Closes files that the loop lets go of.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::Builder;

use crate::signals::block_signals;
use crate::tables::FileEntry;

/// Files of removed entries that are to be closed by another thread when this is dropped.
///
/// Closing can wait as long as the other end likes: a file system in another process or on another
/// machine is asked to flush, a socket can linger, a terminal drains, and a drive is written back.
#[derive(Debug, Default)]
pub(super) struct Closing(Vec<OwnedFd>);

impl Closing {
    /// Closes the file of a removed entry, unless somebody else has it as well: at once, or by the
    /// other thread if that can wait. The transport must have let go of it before, so that this close is
    /// the last.
    pub(super) fn add(&mut self, entry: FileEntry) {
        if entry.may_linger() {
            self.0.extend(Arc::into_inner(entry.file));
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.0);
        if files.is_empty() {
            return;
        }
        // Where there is no thread for them, they are closed here.
        let _ = Builder::new().name("vyre-io-close".into()).spawn(move || {
            let _ = block_signals();
            drop(files);
        });
    }
}
