//! Checks that reads of a file can be copied out of the page cache.

use std::os::fd::OwnedFd;

use vyre_io::mapped::{Recovery, Source};
use vyre_io::uring::CachedFile;

use super::units::words;

/// Text of the report if page-cache reads are possible.
pub(super) const POSSIBLE: &str = "possible";

/// Result of the check of a file.
pub(super) struct Verdict {
    /// [`POSSIBLE`], or the reason why not.
    pub(super) text: String,
    /// Set if a scan finds only the pages that the process has mapped.
    pub(super) mapped_pages_alone: bool,
}

/// Maps the file as a loop would, and asks which pages are in memory.
pub(super) fn examine(file: &OwnedFd) -> Verdict {
    try_on(file).unwrap_or_else(|text| Verdict {
        text,
        mapped_pages_alone: false,
    })
}

fn try_on(file: &OwnedFd) -> Result<Verdict, String> {
    let cached = CachedFile::new(file, 0..u64::MAX).map_err(|error| error.to_string())?;
    Recovery::new().map_err(|error| error.to_string())?;
    // One byte, which every mapping has: a scan of a large file takes long.
    let source = cached.residency().scan(0..1);
    let source = source
        .map_err(|errno| format!("which pages are in memory is unknown ({})", words(errno)))?;
    Ok(Verdict {
        text: POSSIBLE.to_owned(),
        mapped_pages_alone: source == Source::PageTables,
    })
}
