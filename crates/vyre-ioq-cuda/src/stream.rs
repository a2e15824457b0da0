//! Streams: sequences of kernels and copies.
#![expect(unsafe_code, reason = "the caller promises that a stream is one")]

use std::any::Any;
use std::ffi::c_void;
use std::sync::Arc;

use crate::driver;
use crate::error::CudaError;
use crate::gpu::Gpu;

/// A sequence of kernels and copies of one GPU, each of which begins when the one before it has ended.
///
/// Clones name the same stream.
#[derive(Clone, Debug)]
pub struct Stream(Arc<driver::Stream>);

impl Stream {
    /// Creates a stream that waits for no other. The drop of its last clone waits for what was started on it.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the driver creates none.
    pub fn new(gpu: &Gpu) -> Result<Self, CudaError> {
        Ok(Self(Arc::new(driver::Stream::new(gpu.context())?)))
    }

    /// Wraps a stream that other code made: a `CUstream` or a `cudaStream_t`, such as PyTorch's current one.
    /// Null is the default stream. `owner` keeps the stream, and is dropped with the last clone, which waits
    /// for nothing.
    ///
    /// # Safety
    /// The stream is one of the GPU's context ([`Gpu::open`] or [`Gpu::from_context`]), and is not destroyed
    /// before `owner` is dropped.
    pub unsafe fn from_raw(gpu: &Gpu, stream: *mut c_void, owner: impl Any + Send + Sync) -> Self {
        // SAFETY: the caller's promises.
        Self(Arc::new(unsafe {
            driver::Stream::borrowed(gpu.context(), stream, owner)
        }))
    }

    /// Returns the driver's handle, a `CUstream`.
    pub fn as_raw(&self) -> *mut c_void {
        self.0.raw().cast()
    }

    /// Returns whether everything that was started on the stream has ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if something ended with an error, such as a fault.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.0.is_done()
    }

    /// Waits until everything that was started on the stream has ended.
    ///
    /// # Errors
    /// The same as for [`is_done`](Self::is_done).
    pub fn wait(&self) -> Result<(), CudaError> {
        self.0.wait()
    }

    pub(crate) const fn shared(&self) -> &Arc<driver::Stream> {
        &self.0
    }
}
