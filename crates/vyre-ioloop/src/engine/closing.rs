//! Closes files that the loop lets go of.

use std::sync::Arc;
use std::thread::Builder;

use crate::tables::FileEntry;

/// Closes the file of a removed entry, unless somebody else has it as well.
///
/// Closing can wait as long as the other end likes: a file system in another process or on another
/// machine is asked to flush, a socket can linger, a terminal drains, and a drive is written back.
/// Such a file is closed by a thread of its own. The transport must have let go of it before, so that
/// this close is the last.
pub(super) fn close(entry: FileEntry) {
    if !entry.may_linger() {
        return;
    }
    let Some(file) = Arc::into_inner(entry.file) else {
        return;
    };
    // Without a thread it is closed here.
    let _ = Builder::new()
        .name("vyre-io-close".into())
        .spawn(move || drop(file));
}
