//! A view whose pages are being read in.

use std::sync::Arc;

use vyre_uring::vyre_mapped::{Errno, Mapping, Populated, Populating};

use super::{View, ViewError};
use crate::gpu::Gpu;

/// A mapped range of a file that a thread reads into the page cache, so that pinning it takes little time. It
/// needs no GPU.
///
/// A drop cancels the thread without waiting.
#[derive(Debug)]
pub struct Preparing {
    mapping: Arc<Mapping>,
    populating: Populating,
}

impl Preparing {
    pub(super) fn start(mapping: Arc<Mapping>) -> Result<Self, ViewError> {
        let populating = Populating::spawn(Arc::clone(&mapping), mapping.range());
        let populating = populating.map_err(|error| ViewError::NoThread(error.to_string()))?;
        Ok(Self {
            mapping,
            populating,
        })
    }

    /// Returns the number of bytes of the range.
    pub fn len(&self) -> u64 {
        let range = self.mapping.range();
        range.end - range.start
    }

    /// Returns `false`: a range has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes of the range are in memory.
    pub fn done(&self) -> u64 {
        self.populating.done()
    }

    /// Returns whether [`pin`](Self::pin) does not have to wait for the thread.
    pub fn is_ready(&self) -> bool {
        self.populating.has_ended()
    }

    /// Has the thread end after the 16 MiB that it reads now. [`pin`](Self::pin) then refuses.
    pub fn cancel(&self) {
        self.populating.cancel();
    }

    /// Waits for the thread, and pins the range.
    ///
    /// # Errors
    /// - [`ViewError::Cancelled`] after [`cancel`](Self::cancel).
    /// - [`ViewError::Populate`] if the kernel could not read a page. A kernel before Linux 5.14 reads none in
    ///   this way: use [`View::new`].
    /// - The same as for [`View::new`].
    pub fn pin(self, gpu: &Gpu) -> Result<View, ViewError> {
        match self.populating.wait() {
            Ok(Populated::All) => View::pin(gpu, self.mapping),
            Ok(_) => Err(ViewError::Cancelled),
            // The file has become shorter: pinning says so.
            Err(Errno::FAULT) => View::pin(gpu, self.mapping),
            Err(errno) => Err(ViewError::Populate(errno)),
        }
    }
}
