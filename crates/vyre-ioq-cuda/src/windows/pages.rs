//! The pages of one file, and the tables of its windows.

use std::ops::Range;
use std::sync::Arc;

use vyre_uring::vyre_mapped::Mapping;
use vyre_uring::{Buffer, Errno};

use super::mapper::Pages;
use crate::driver::PagePin;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::memory::{GpuMemory, MappedMemory};
use crate::view::ViewError;

/// The word of a mapped window in the kernels' table.
const MAPPED: u32 = 1;

/// The pinned windows of a file. A drop waits for everything that runs on the GPU, and gives them back.
#[derive(Debug)]
pub(super) struct FilePages {
    pins: Vec<PagePin>,
    gpu: Gpu,
    mapping: Arc<Mapping>,
    /// The logarithm of the bytes of a window.
    shift: u32,
    /// The largest number of bytes to pin, and how many are.
    limit: u64,
    pinned: u64,
    /// A word for each window, in memory of the host that kernels load from.
    table: Buffer,
    _states: GpuMemory,
}

/// The addresses of the tables for kernels.
pub(super) struct Tables {
    pub(super) mapped: u64,
    pub(super) states: u64,
}

impl FilePages {
    /// Allocates the tables of this many windows.
    pub(super) fn new(
        gpu: &Gpu,
        mapping: Arc<Mapping>,
        (shift, count): (u32, u32),
        limit: u64,
    ) -> Result<(Self, Tables), CudaError> {
        let bytes = count as usize * size_of::<u32>();
        let mapped = MappedMemory::anonymous(gpu, bytes)?;
        let states = GpuMemory::zeroed(gpu, bytes)?;
        let tables = Tables {
            mapped: mapped.device_ptr(),
            states: states.device_ptr(),
        };
        let pages = Self {
            pins: Vec::new(),
            gpu: gpu.clone(),
            mapping,
            shift,
            limit,
            pinned: 0,
            table: mapped.into_buffer()?,
            _states: states,
        };
        Ok((pages, tables))
    }

    /// Returns the pages of windows, as a range of the file.
    fn pages_of(&self, windows: &Range<u32>) -> Range<u64> {
        let end = u64::from(windows.end) << self.shift;
        u64::from(windows.start) << self.shift..end.min(self.mapping.page_range().end)
    }

    /// Returns the bytes of windows, up to the end of the file.
    fn bytes_of(&self, windows: &Range<u32>) -> Range<u64> {
        let pages = self.pages_of(windows);
        pages.start..pages.end.min(self.mapping.range().end)
    }
}

impl Drop for FilePages {
    fn drop(&mut self) {
        // The tables, too, are those of running kernels, also where nothing is pinned. Whether a kernel failed does not
        // matter here: it has ended.
        let _ = self.gpu.context().wait();
    }
}

impl Pages for FilePages {
    fn seems_cached(&self, window: u32) -> bool {
        self.mapping
            .seems_cached(self.bytes_of(&(window..window + 1)))
    }

    fn read_ahead(&self, windows: &Range<u32>) {
        // Advice: what is not read ahead is read in later.
        let _ = self.mapping.read_ahead(self.bytes_of(windows));
    }

    fn fill(&self, windows: &Range<u32>) -> Result<(), Errno> {
        match self.mapping.populate(self.bytes_of(windows)) {
            // Before Linux 5.14 the driver reads them in. Past a new end of the file, it says so.
            Err(Errno::INVAL | Errno::FAULT) => Ok(()),
            filled => filled,
        }
    }

    fn pin(&mut self, windows: &Range<u32>) -> Result<(), Errno> {
        let pages = self.pages_of(windows);
        let bytes = pages.end - pages.start;
        if self.pinned.saturating_add(bytes) > self.limit {
            return Err(Errno::NOBUFS);
        }
        let at = self.mapping.as_ptr() as u64 + pages.start;
        let pin = PagePin::new(&self.gpu, Arc::clone(&self.mapping), pages);
        let pin = pin.map_err(|error| match error {
            ViewError::PinLimit { .. } => Errno::NOBUFS,
            _ => Errno::IO,
        })?;
        let address = pin.device_ptr(&self.gpu);
        // Kept in any case: a drop would wait for kernels.
        self.pins.push(pin);
        self.pinned += bytes;
        // Kernels take it that a byte has one address whatever window it is in.
        if address != Ok(at) {
            return Err(Errno::IO);
        }
        let words = vec![MAPPED; windows.len()];
        let offset = windows.start as usize * size_of::<u32>();
        // Relaxed stores: the outcome of the request is released after them, and so is what the loops look at.
        let stored = self.table.write_at(offset, bytemuck::cast_slice(&words));
        stored.map_err(|_| Errno::IO)
    }
}
