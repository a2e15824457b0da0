//! Memory: host memory that is mapped into every context, and memory of the GPU.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

use std::any::Any;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;
use vyre_uring::Buffer;

use super::context::{Context, Current};
use super::status::{check, name_of};
use super::stream::{Owner, Stream};
use crate::error::CudaError;

/// Host memory that is pinned and mapped into every context until it is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    context: Arc<Context>,
    device: u64,
    /// `true` if this crate pinned the memory, and unpins it.
    is_own: bool,
    // Dropped after the memory was given up.
    buffer: Buffer,
}

impl Registration {
    pub(crate) fn new(context: &Arc<Context>, buffer: Buffer) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let (base, len) = (buffer.as_ptr().cast::<c_void>(), buffer.len());
        let flags = sys::CU_MEMHOSTREGISTER_DEVICEMAP | sys::CU_MEMHOSTREGISTER_PORTABLE;
        // SAFETY: the range is that of a buffer which `self` keeps until it is unregistered.
        let answer = unsafe { sys::cuMemHostRegister_v2(base, len, flags) };
        if answer != sys::CUresult::CUDA_SUCCESS {
            return Err(CudaError::Register {
                bytes: len,
                error: name_of(answer),
            });
        }
        let mut made = Self {
            context: Arc::clone(context),
            device: 0,
            is_own: true,
            buffer,
        };
        // SAFETY: the pointer is to an integer that outlives the call; the range is registered.
        check("cuMemHostGetDevicePointer", unsafe {
            sys::cuMemHostGetDevicePointer_v2(&raw mut made.device, base, 0)
        })?;
        Ok(made)
    }

    /// Wraps memory that somebody else pinned and mapped, and unpins after the buffer is dropped.
    pub(crate) fn of_pinned(context: &Arc<Context>, buffer: Buffer) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let mut device = 0;
        // SAFETY: the pointer is to an integer that outlives the call; the driver knows whether it mapped
        // the address.
        let answer = unsafe {
            sys::cuMemHostGetDevicePointer_v2(&raw mut device, buffer.as_ptr().cast(), 0)
        };
        if answer != sys::CUresult::CUDA_SUCCESS {
            return Err(CudaError::NotPinned(name_of(answer)));
        }
        Ok(Self {
            context: Arc::clone(context),
            device,
            is_own: false,
            buffer,
        })
    }

    /// Returns the address of the first byte for kernels.
    pub(crate) const fn device(&self) -> u64 {
        self.device
    }

    pub(crate) fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.is_own {
            return;
        }
        if let Ok(_current) = self.context.enter() {
            // SAFETY: registered by `new`, once, at this address.
            let _ = unsafe { sys::cuMemHostUnregister(self.buffer.as_ptr().cast()) };
        }
    }
}

/// GPU memory that is freed on drop, or given up if somebody else allocated it.
#[derive(Debug)]
pub(crate) struct DeviceMemory {
    context: Arc<Context>,
    address: u64,
    len: usize,
    owner: Option<Owner>,
}

impl DeviceMemory {
    pub(crate) fn zeroed(context: &Arc<Context>, len: usize) -> Result<Self, CudaError> {
        let current = context.enter()?;
        let made = Self::allocate(context, len)?;
        // SAFETY: the range was just allocated.
        check("cuMemsetD8", unsafe {
            sys::cuMemsetD8_v2(made.address, 0, len)
        })?;
        wait_for_null_stream(&current)?;
        Ok(made)
    }

    /// Wraps memory that somebody else allocated and `owner` keeps.
    ///
    /// # Safety
    /// The `len` bytes at `address` are memory of the context's GPU until `owner` is dropped. Until then, other
    /// code uses them only in ways that it orders before or after what is done with them here.
    pub(crate) unsafe fn borrowed(
        context: &Arc<Context>,
        address: u64,
        len: usize,
        owner: impl Any + Send + Sync,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            address,
            len,
            owner: Some(Owner::new(owner)),
        }
    }

    /// Allocates memory that holds whatever was there before.
    pub(crate) fn allocate(context: &Arc<Context>, len: usize) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let mut made = Self {
            context: Arc::clone(context),
            address: 0,
            len,
            owner: None,
        };
        // SAFETY: the pointer is to an integer that outlives the call.
        match unsafe { sys::cuMemAlloc_v2(&raw mut made.address, len) } {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => return Err(CudaError::OutOfMemory(len)),
            answer => check("cuMemAlloc", answer)?,
        }
        Ok(made)
    }

    /// Allocates memory that holds a copy of `bytes`.
    pub(crate) fn of(context: &Arc<Context>, bytes: &[u8]) -> Result<Self, CudaError> {
        let current = context.enter()?;
        let made = Self::allocate(context, bytes.len())?;
        // SAFETY: both ranges have the length of `bytes`, which the call has read, or copied to a place
        // of the driver's own, when it returns.
        check("cuMemcpyHtoD", unsafe {
            sys::cuMemcpyHtoD_v2(made.address, bytes.as_ptr().cast(), bytes.len())
        })?;
        wait_for_null_stream(&current)?;
        Ok(made)
    }

    /// Copies everything out, after everything launched on the null stream has ended.
    pub(crate) fn read(&self) -> Result<Vec<u8>, CudaError> {
        let _current = self.context.enter()?;
        let mut bytes = vec![0_u8; self.len];
        // SAFETY: both ranges have the length of `bytes`; the call returns when all is written.
        check("cuMemcpyDtoH", unsafe {
            sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), self.address, self.len)
        })?;
        Ok(bytes)
    }

    /// Starts a copy of `len` bytes of host memory to `at` of this memory.
    ///
    /// # Safety
    /// The host memory has these bytes. It and `self` are kept until what was started on the stream has
    /// ended.
    pub(super) unsafe fn copy_in(
        &self,
        from: *const u8,
        at: u64,
        len: u64,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        if !is_inside(at, len, self.len as u64) {
            return Err(no_such_range());
        }
        let _current = stream.enter()?;
        // SAFETY: both ranges are inside memory that the caller keeps until the copy has ended. Others may
        // write the host's bytes meanwhile: the copy is the device's access, not this process's.
        check("cuMemcpyHtoDAsync", unsafe {
            sys::cuMemcpyHtoDAsync_v2(self.address + at, from.cast(), len as usize, stream.raw())
        })
    }

    /// Starts a copy of `len` bytes from `at` on to host memory.
    ///
    /// # Safety
    /// The host memory has room for these bytes, and nothing else uses it before the copy has ended. It and `self` are kept
    /// until what was started on the stream has ended.
    pub(super) unsafe fn copy_out(
        &self,
        at: u64,
        to: *mut u8,
        len: u64,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        if !is_inside(at, len, self.len as u64) {
            return Err(no_such_range());
        }
        let _current = stream.enter()?;
        // SAFETY: both ranges are inside memory that the caller keeps until the copy has ended.
        check("cuMemcpyDtoHAsync", unsafe {
            sys::cuMemcpyDtoHAsync_v2(to.cast(), self.address + at, len as usize, stream.raw())
        })
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.address == 0 || self.owner.is_some() {
            return;
        }
        if let Ok(_current) = self.context.enter() {
            // SAFETY: allocated by `allocate` and freed once. Kernels that use it have ended: each keeps
            // it, by its launch's contract or as a field of its `Launch`.
            let _ = unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// Returns whether `len` bytes from `offset` on are among the first `bytes`.
pub(super) fn is_inside(offset: u64, len: u64, bytes: u64) -> bool {
    offset.checked_add(len).is_some_and(|end| end <= bytes)
}

/// Returns the error of a copy from or to bytes that are not there.
pub(super) fn no_such_range() -> CudaError {
    CudaError::Driver {
        call: "cuMemcpyHtoDAsync",
        error: "a range that is not there".to_owned(),
    }
}

/// Waits for the null stream, which runs fills and copies. The streams of kernels do not wait for it,
/// so kernels could otherwise overtake them.
fn wait_for_null_stream(_: &Current<'_>) -> Result<(), CudaError> {
    // SAFETY: the null stream is always there.
    check("cuStreamSynchronize", unsafe {
        sys::cuStreamSynchronize(ptr::null_mut())
    })
}
