//! A file whose cached bytes may be copied out of a mapping.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::fstat;
use vyre_mapped::{MapError, Mapping, Residency, SizeProbe};

/// A mapping of a file, the map of its pages in memory, and a descriptor that tells its size. Give it to
/// a transport by [`set_page_cache`](crate::Transport::set_page_cache).
///
/// The map says that no page is in memory until someone scans: let a
/// [`Watcher`](vyre_mapped::Watcher) keep the [`residency`](Self::residency) up to date.
#[derive(Debug)]
pub struct CachedFile {
    residency: Arc<Residency>,
    size: SizeProbe,
}

impl CachedFile {
    /// Maps a range of a file, or as much of it as the file has today. Bytes that are appended later
    /// are read by the transport. Examines the file first, which blocks while its file system does not
    /// answer.
    ///
    /// # Errors
    /// A [`MapError`] that says why reads of the file cannot be copied.
    pub fn new(file: impl AsFd, range: Range<u64>) -> Result<Self, MapError> {
        let size = fstat(&file).map_err(MapError::Query)?.st_size as u64;
        // An empty file has a mapping, too, which is of no use but no error.
        let end = range.end.min(size.max(range.start.saturating_add(1)));
        let mapping = Mapping::new(&file, range.start..end)?;
        Self::of(Arc::new(Residency::new(Arc::new(mapping))))
    }

    /// Returns another one with the same mapping and its own descriptor, for another thread: the kernel
    /// locks a descriptor while it tells the size.
    ///
    /// # Errors
    /// [`MapError::Query`] if the process has no descriptor left.
    pub fn for_another_thread(&self) -> Result<Self, MapError> {
        Self::of(self.residency.clone())
    }

    fn of(residency: Arc<Residency>) -> Result<Self, MapError> {
        let size = SizeProbe::new(residency.mapping()).map_err(MapError::Query)?;
        Ok(Self { residency, size })
    }

    /// Returns the present size of the file, or `None` if the kernel does not tell.
    #[inline]
    pub(crate) fn size(&self) -> Option<u64> {
        self.size.size().ok()
    }

    /// Returns the map of the pages in memory.
    pub const fn residency(&self) -> &Arc<Residency> {
        &self.residency
    }
}
