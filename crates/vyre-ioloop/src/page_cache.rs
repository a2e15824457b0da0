//! The files whose cached bytes are copied out of a mapping, and the thread that watches their pages.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::sys::signal::SigSet;
use vyre_mapped::Watcher;
use vyre_uring::CachedFile;

use crate::error::TableError;
use crate::signals::block_signals;

/// The share of a processor that the watcher uses at most, in percent.
const WATCHER_PERCENT: u32 = 2;

/// The watcher of all tables of the process, while any of them has such a file.
static WATCHER: Mutex<Weak<Watcher>> = Mutex::new(Weak::new());

/// A file whose pages are watched.
#[derive(Clone, Debug)]
pub(crate) struct WatchedFile {
    pub(crate) cached: Arc<CachedFile>,
    watcher: Arc<Watcher>,
}

impl WatchedFile {
    /// Maps a range of a file, and has its pages watched.
    pub(crate) fn new(file: &OwnedFd, range: Range<u64>) -> Result<Self, TableError> {
        let cached = CachedFile::new(file, range).map_err(TableError::PageCache)?;
        let watcher = watcher()?;
        watcher.watch(cached.residency().clone());
        Ok(Self {
            cached: Arc::new(cached),
            watcher,
        })
    }

    /// Returns the same file for another loop, which shares the mapping.
    pub(crate) fn for_another_loop(&self) -> Self {
        let own = self.cached.for_another_thread();
        Self {
            // Without a descriptor of its own, the loop shares one.
            cached: own.map_or_else(|_| self.cached.clone(), Arc::new),
            watcher: self.watcher.clone(),
        }
    }
}

/// Returns the watcher of the process, and starts it if there is none.
fn watcher() -> Result<Arc<Watcher>, TableError> {
    let mut shared = WATCHER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(watcher) = shared.upgrade() {
        return Ok(watcher);
    }
    // The thread inherits the mask, and signals of the process are for other threads.
    let mask = SigSet::thread_get_mask().map_err(std::io::Error::from)?;
    block_signals()?;
    let watcher = Watcher::spawn(WATCHER_PERCENT);
    mask.thread_set_mask().map_err(std::io::Error::from)?;
    let watcher = Arc::new(watcher?);
    *shared = Arc::downgrade(&watcher);
    Ok(watcher)
}
