//! Streams: sequences of kernels or copies.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use super::context::{Context, Current};
use super::status::check;
use crate::error::CudaError;

/// A sequence of kernels or copies that run one after the other. It waits for no other stream.
#[derive(Debug)]
pub(crate) struct Stream {
    context: Arc<Context>,
    stream: sys::CUstream,
    /// Keeps a stream that somebody else made; that one is neither destroyed nor waited for.
    owner: Option<Owner>,
}

/// A value of the caller's that keeps something alive. It is only dropped.
pub(super) struct Owner {
    _kept: Box<dyn Any + Send + Sync>,
}

impl Owner {
    pub(super) fn new(kept: impl Any + Send + Sync) -> Self {
        Self {
            _kept: Box::new(kept),
        }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner")
    }
}

// SAFETY: streams of the driver may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above, by several at once.
unsafe impl Sync for Stream {}

impl Stream {
    /// Wraps a stream that somebody else made.
    ///
    /// # Safety
    /// The stream is one of the context, and is not destroyed before `owner` is dropped.
    pub(crate) unsafe fn borrowed(
        context: &Arc<Context>,
        stream: *mut c_void,
        owner: impl Any + Send + Sync,
    ) -> Self {
        Self {
            context: Arc::clone(context),
            stream: stream.cast(),
            owner: Some(Owner::new(owner)),
        }
    }

    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let mut made = Self {
            context: Arc::clone(context),
            stream: ptr::null_mut(),
            owner: None,
        };
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the pointer is to a handle that outlives the call.
        check("cuStreamCreate", unsafe {
            sys::cuStreamCreate(&raw mut made.stream, flags)
        })?;
        Ok(made)
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Makes the context of the stream current until the guard is dropped.
    pub(super) fn enter(&self) -> Result<Current<'_>, CudaError> {
        self.context.enter()
    }

    pub(crate) const fn raw(&self) -> sys::CUstream {
        self.stream
    }

    /// Returns whether the kernel has ended, or its error.
    pub(crate) fn is_done(&self) -> Result<bool, CudaError> {
        let _current = self.context.enter()?;
        // SAFETY: the stream is there until `self` is dropped.
        match unsafe { sys::cuStreamQuery(self.stream) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            answer => check("cuStreamQuery", answer).map(|()| true),
        }
    }

    /// Waits until the kernel has ended.
    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        let _current = self.context.enter()?;
        // SAFETY: the stream is there until `self` is dropped.
        check("cuStreamSynchronize", unsafe {
            sys::cuStreamSynchronize(self.stream)
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.owner.is_some() {
            return;
        }
        // What the kernel uses goes next: it must have ended.
        let _ = self.wait();
        if self.stream.is_null() {
            return;
        }
        if let Ok(_current) = self.context.enter() {
            // SAFETY: made by `new` and destroyed once.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
    }
}
