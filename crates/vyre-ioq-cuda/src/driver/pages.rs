//! Pages of a file, pinned for kernels.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys;
use vyre_uring::vyre_mapped::Mapping;

use super::context::Context;
use super::memory::{DeviceMemory, is_inside, no_such_range};
use super::pinned::{PinBudget, PinnedBytes};
use super::status::{check, name_of};
use super::stream::Stream;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::view::ViewError;

/// Whole pages of a mapping of a file, pinned and mapped read-only into every context of the process
/// until they are given back.
///
/// One registration has all of them: the driver copies no range that reaches over the end of one, so that arrays of other
/// libraries over a view could not be copied. Several registrations also take no less time, and threads beside each other
/// neither (BENCHMARKS.md, "Views").
///
/// The bytes count against [`PinBudget::global`]. `new` reads in what is not in memory, and does not wait
/// for running kernels. The drop waits for everything that runs in the context that pinned them and in
/// those that were given an address or a copy, so it is not for a thread that serves requests.
#[derive(Debug)]
pub(crate) struct PagePin {
    /// The contexts whose kernels may know an address. The first is the one that registered the pages.
    contexts: Mutex<Vec<Arc<Context>>>,
    base: *const u8,
    bytes: u64,
    /// `None` only while it is being dropped.
    held: Option<(Arc<Mapping>, PinnedBytes<'static>)>,
}

// SAFETY: the pointer is an address for the driver, which may be called from any thread, and is not
// dereferenced.
unsafe impl Send for PagePin {}
// SAFETY: as above.
unsafe impl Sync for PagePin {}

impl PagePin {
    /// Pins the pages of `part`, a range of the file that begins at a page, ends at one, and lies within
    /// the mapping's [`page_range`](Mapping::page_range).
    ///
    /// # Errors
    /// A [`ViewError`] if the GPU pins no read-only pages, if the range is not one of whole pages in the
    /// mapping, if the budget does not have that much, or if the driver refuses: it does where the file
    /// ends before the last page.
    pub(crate) fn new(
        gpu: &Gpu,
        mapping: Arc<Mapping>,
        part: Range<u64>,
    ) -> Result<Self, ViewError> {
        let capabilities = gpu.capabilities();
        if !capabilities.pins_read_only {
            return Err(ViewError::Unsupported(capabilities.name.clone()));
        }
        let offset = locate(&mapping, &part).ok_or(ViewError::NotPages)?;
        let bytes = part.end - part.start;
        let pinned = PinBudget::global().take(bytes)?;
        let base = mapping.as_ptr().wrapping_add(offset);
        let context = gpu.context();
        let current = context.enter()?;
        let flags = sys::CU_MEMHOSTREGISTER_DEVICEMAP
            | sys::CU_MEMHOSTREGISTER_PORTABLE
            | sys::CU_MEMHOSTREGISTER_READ_ONLY;
        // SAFETY: the range lies within a mapping that `self` keeps until it is unregistered. The driver
        // is told that it is read-only.
        let answer =
            unsafe { sys::cuMemHostRegister_v2(base.cast_mut().cast(), bytes as usize, flags) };
        if answer != sys::CUresult::CUDA_SUCCESS {
            return Err(ViewError::Pin {
                bytes,
                error: name_of(answer),
            });
        }
        drop(current);
        Ok(Self {
            contexts: Mutex::new(vec![Arc::clone(context)]),
            base,
            bytes,
            held: Some((mapping, pinned)),
        })
    }

    /// Returns the address of the first byte for kernels of this GPU.
    pub(crate) fn device_ptr(&self, gpu: &Gpu) -> Result<u64, CudaError> {
        let context = gpu.context();
        self.note_context(context);
        let _current = context.enter()?;
        let mut device = 0;
        // SAFETY: the pointer is to an integer that outlives the call; the range is registered.
        check("cuMemHostGetDevicePointer", unsafe {
            sys::cuMemHostGetDevicePointer_v2(&raw mut device, self.base.cast_mut().cast(), 0)
        })?;
        Ok(device)
    }

    /// Starts a copy of `len` bytes from `offset` on to memory of the stream's GPU.
    ///
    /// # Safety
    /// `self` and the memory are kept until what was started on the stream has ended.
    pub(crate) unsafe fn copy(
        &self,
        offset: u64,
        len: u64,
        to: &DeviceMemory,
        at: u64,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        if !is_inside(offset, len, self.bytes) {
            return Err(no_such_range());
        }
        if !to.context().is_same(stream.context()) {
            return Err(CudaError::OtherGpu("the memory"));
        }
        self.note_context(stream.context());
        let from = self.base.wrapping_add(offset as usize);
        // SAFETY: `from` has the bytes, and the caller keeps the pages and the memory.
        unsafe { to.copy_in(from, at, len, stream) }
    }

    /// Notes a context in which something may use the pages.
    fn note_context(&self, context: &Arc<Context>) {
        let mut known = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|it| it.is_same(context)) {
            known.push(Arc::clone(context));
        }
    }

    fn unregister(&self) -> Result<(), CudaError> {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        // The driver's call waits as well, which its manual does not say. Whether a kernel failed does not
        // matter here: it has ended.
        for context in contexts.iter() {
            let _ = context.wait();
        }
        let _current = contexts[0].enter()?;
        // SAFETY: registered by `new`, once, at this address. No kernel that may know of it runs.
        check("cuMemHostUnregister", unsafe {
            sys::cuMemHostUnregister(self.base.cast_mut().cast())
        })
    }
}

impl Drop for PagePin {
    fn drop(&mut self) {
        let held = self.held.take();
        // Where the driver does not unregister the pages, it still takes their addresses for pinned, and
        // would copy from these pages whatever is mapped there next. So they stay mapped, and counted.
        if self.unregister().is_err() {
            mem::forget(held);
        }
    }
}

/// Returns where a range of whole pages begins in a mapping.
fn locate(mapping: &Mapping, part: &Range<u64>) -> Option<usize> {
    let whole = mapping.page_range();
    let page = Mapping::page_size();
    let is_inside = whole.start <= part.start && part.start < part.end && part.end <= whole.end;
    let is_pages = part.start.is_multiple_of(page) && part.end.is_multiple_of(page);
    (is_inside && is_pages).then(|| (part.start - whole.start) as usize)
}
