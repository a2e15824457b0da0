//! The driver itself, its devices and their primary contexts.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use super::status::check;
use crate::error::CudaError;

/// Loads and initializes the driver, and returns the number of devices.
pub(crate) fn start() -> Result<u32, CudaError> {
    // SAFETY: loading the driver's library runs its initializers, which are made to run in any
    // process at any time.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::missing(CudaError::NoDriver));
    }
    // SAFETY: takes no pointer; 0 is the one value allowed.
    match unsafe { sys::cuInit(0) } {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => return Err(CudaError::NoDevice),
        answer => check("cuInit", answer)?,
    }
    let mut count = 0;
    // SAFETY: the pointer is to an integer that outlives the call.
    check("cuDeviceGetCount", unsafe {
        sys::cuDeviceGetCount(&raw mut count)
    })?;
    match u32::try_from(count) {
        Ok(0) | Err(_) => Err(CudaError::NoDevice),
        Ok(count) => Ok(count),
    }
}

/// Returns the current context of the calling thread, or null.
fn current() -> Result<sys::CUcontext, CudaError> {
    let mut context = ptr::null_mut();
    // SAFETY: the pointer is to a handle that outlives the call.
    check("cuCtxGetCurrent", unsafe {
        sys::cuCtxGetCurrent(&raw mut context)
    })?;
    Ok(context)
}

/// Returns the ordinal of the device of the calling thread's current context, or `None` without one.
pub(crate) fn current_ordinal() -> Result<Option<u32>, CudaError> {
    if current()?.is_null() {
        return Ok(None);
    }
    let mut device = 0;
    // SAFETY: the pointer is to an integer that outlives the call; the thread has a context.
    check("cuCtxGetDevice", unsafe {
        sys::cuCtxGetDevice(&raw mut device)
    })?;
    for ordinal in 0..start()? {
        if handle(ordinal)? == device {
            return Ok(Some(ordinal));
        }
    }
    Ok(None)
}

/// Returns the driver's handle of a device.
fn handle(ordinal: u32) -> Result<sys::CUdevice, CudaError> {
    let mut device = 0;
    // SAFETY: the pointer is to an integer that outlives the call.
    check("cuDeviceGet", unsafe {
        sys::cuDeviceGet(&raw mut device, ordinal.cast_signed())
    })?;
    Ok(device)
}

/// Returns the CUDA version of the driver: 13000 is 13.0.
pub(crate) fn version() -> Result<u32, CudaError> {
    let mut version = 0;
    // SAFETY: the pointer is to an integer that outlives the call.
    check("cuDriverGetVersion", unsafe {
        sys::cuDriverGetVersion(&raw mut version)
    })?;
    Ok(version.unsigned_abs())
}

/// A device with a context: the primary one of this process, which is retained until the last clone is
/// dropped, or one of the caller's.
#[derive(Debug)]
pub(crate) struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// `true` if the context is the primary one, which is then retained.
    is_retained: bool,
}

// SAFETY: contexts of the driver may be used from any thread, by several at once.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    pub(crate) fn of(ordinal: u32) -> Result<Arc<Self>, CudaError> {
        let device = handle(ordinal)?;
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is to a handle that outlives the call; the device is one.
        check("cuDevicePrimaryCtxRetain", unsafe {
            sys::cuDevicePrimaryCtxRetain(&raw mut context, device)
        })?;
        Ok(Arc::new(Self {
            device,
            context,
            is_retained: true,
        }))
    }

    /// Wraps a context that somebody else made.
    ///
    /// # Safety
    /// The context is one of the driver's, and is not destroyed before the last clone is dropped.
    pub(crate) unsafe fn borrowed(context: *mut c_void) -> Result<Arc<Self>, CudaError> {
        let mut made = Self {
            device: 0,
            context: context.cast(),
            is_retained: false,
        };
        let mut device = 0;
        {
            let _current = made.enter()?;
            // SAFETY: the pointer is to an integer that outlives the call.
            check("cuCtxGetDevice", unsafe {
                sys::cuCtxGetDevice(&raw mut device)
            })?;
        }
        made.device = device;
        Ok(Arc::new(made))
    }

    /// Returns whether this is the current context of the calling thread.
    pub(crate) fn is_current(&self) -> Result<bool, CudaError> {
        Ok(current()? == self.context)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.context == other.context
    }

    /// Makes this the current context of the calling thread until the guard is dropped. The guard
    /// restores the previous context, by which other code in the process chooses its device.
    pub(super) fn enter(&self) -> Result<Current<'_>, CudaError> {
        // SAFETY: the context is retained until `self` is dropped.
        check("cuCtxPushCurrent", unsafe {
            sys::cuCtxPushCurrent_v2(self.context)
        })?;
        Ok(Current(PhantomData))
    }

    /// Waits until everything that runs in the context has ended, or has failed.
    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        let _current = self.enter()?;
        // SAFETY: takes no pointer; the current context is this one.
        check("cuCtxSynchronize", unsafe { sys::cuCtxSynchronize() })
    }

    pub(crate) fn name(&self) -> Result<String, CudaError> {
        let mut bytes = [0_u8; 256];
        let len = bytes.len() as c_int;
        // SAFETY: the driver writes at most `len` bytes, a zero byte among them.
        check("cuDeviceGetName", unsafe {
            sys::cuDeviceGetName(bytes.as_mut_ptr().cast(), len, self.device)
        })?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(0);
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    pub(crate) fn attribute(&self, which: sys::CUdevice_attribute) -> Result<u32, CudaError> {
        let mut value = 0;
        // SAFETY: the pointer is to an integer that outlives the call; the device is one.
        check("cuDeviceGetAttribute", unsafe {
            sys::cuDeviceGetAttribute(&raw mut value, which, self.device)
        })?;
        Ok(value.unsigned_abs())
    }
}

/// Guard for as long as a context of this crate is the calling thread's current one.
#[must_use]
pub(super) struct Current<'a>(PhantomData<(&'a Context, *const ())>);

impl Drop for Current<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: the pointer is to a handle that outlives the call. The guard is not `Send`, guards of
        // a thread are dropped in the reverse of their order, and no call in between leaves another
        // context: what is popped is what `enter` pushed.
        let _ = unsafe { sys::cuCtxPopCurrent_v2(&raw mut popped) };
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.is_retained {
            return;
        }
        // SAFETY: retained once by `of`, and everything made in it held a clone that is gone.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}
