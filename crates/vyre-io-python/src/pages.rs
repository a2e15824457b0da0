//! Pages of a file that are in memory, which are copied without a system call.

use std::fs::File;
use std::sync::{Arc, Mutex};

use vyre_io::mapped::{MapError, Mapping, Recovery, Residency, Watcher};

use crate::fork;

/// The share of a processor that looks for pages, as for a loop with page-cache reads.
const WATCHER_PERCENT: u32 = 2;

/// Knowledge of the pages of a file.
#[derive(Debug, Default)]
pub(crate) enum Pages {
    #[default]
    Unknown,
    /// Copies are not known to be right.
    Refused,
    Known(Arc<Residency>),
}

/// The means of the calling thread to copy pages of a file.
#[derive(Debug)]
pub(crate) struct Copier {
    pub(crate) residency: Arc<Residency>,
    pub(crate) recovery: Recovery,
    /// The size of the file, which was asked for before the copies.
    pub(crate) size: u64,
}

impl Pages {
    /// Returns the means to copy, if there are any. Pages are known some time after the first call.
    pub(crate) fn copier(&mut self, file: &File) -> Option<Copier> {
        if let Self::Unknown = self {
            self.map(file, file.metadata().ok()?.len());
        }
        let Self::Known(residency) = self else {
            return None;
        };
        // A thread that blocks SIGBUS, or whose handler was replaced, reads by system calls.
        let recovery = Recovery::new().ok()?;
        let size = residency.mapping().file_size().ok()?;
        let mapped = residency.mapping().range().end;
        // Not at each byte by which a file grows: what is not mapped is read by system calls.
        if size - size / 8 > mapped {
            self.map(file, size);
            return None;
        }
        Some(Copier {
            residency: Arc::clone(residency),
            recovery,
            size,
        })
    }

    fn map(&mut self, file: &File, size: u64) {
        let mapping = Mapping::new(file, 0..size);
        *self = match mapping {
            Ok(mapping) => Self::watched(Residency::new(Arc::new(mapping))),
            // It may get bytes, and the process memory.
            Err(MapError::EmptyRange | MapError::Map(_) | MapError::Query(_)) => Self::Unknown,
            Err(_) => Self::Refused,
        };
    }

    fn watched(residency: Residency) -> Self {
        let residency = Arc::new(residency);
        match watch(&residency) {
            true => Self::Known(residency),
            false => Self::Unknown,
        }
    }
}

/// The thread that looks for pages, and its process by the number of forks.
static WATCHER: Mutex<Option<(u32, Watcher)>> = Mutex::new(None);

/// Has the thread of the process look for pages. Returns whether it will.
fn watch(residency: &Arc<Residency>) -> bool {
    // Without waiting: in a fork, a thread that does not exist may have locked it. Later calls try again.
    let Ok(mut shared) = WATCHER.try_lock() else {
        return false;
    };
    let generation = fork::generation();
    if shared.as_ref().is_none_or(|(born, _)| *born != generation) {
        let Ok(watcher) = Watcher::spawn(WATCHER_PERCENT) else {
            return false;
        };
        // That of the parent of a fork is left to it.
        std::mem::forget(shared.replace((generation, watcher)));
    }
    if let Some((_, watcher)) = &*shared {
        watcher.watch(Arc::clone(residency));
    }
    true
}
