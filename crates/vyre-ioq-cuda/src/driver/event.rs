//! Events: points in the sequence of a stream.
#![expect(unsafe_code, reason = "the CUDA driver is a C library")]

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;

use super::context::Context;
use super::status::check;
use super::stream::Stream;
use crate::error::CudaError;

/// Event on a stream.
#[derive(Debug)]
pub(crate) struct Event {
    context: Arc<Context>,
    event: sys::CUevent,
}

// SAFETY: events of the driver may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above, by several at once.
unsafe impl Sync for Event {}

impl Event {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        let _current = context.enter()?;
        let mut made = Self {
            context: Arc::clone(context),
            event: ptr::null_mut(),
        };
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: the pointer is to a handle that outlives the call.
        check("cuEventCreate", unsafe {
            sys::cuEventCreate(&raw mut made.event, flags)
        })?;
        Ok(made)
    }

    /// Has it happen when everything that was started on the stream has ended.
    pub(crate) fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        let _current = stream.enter()?;
        // SAFETY: both handles are there until `self` and the stream are dropped.
        check("cuEventRecord", unsafe {
            sys::cuEventRecord(self.event, stream.raw())
        })
    }

    /// Returns whether it has happened since it was recorded.
    pub(crate) fn has_ended(&self) -> Result<bool, CudaError> {
        let _current = self.context.enter()?;
        // SAFETY: the event is there until `self` is dropped.
        match unsafe { sys::cuEventQuery(self.event) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            answer => check("cuEventQuery", answer).map(|()| true),
        }
    }

    /// Waits until it has happened since it was recorded.
    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        let _current = self.context.enter()?;
        // SAFETY: the event is there until `self` is dropped.
        check("cuEventSynchronize", unsafe {
            sys::cuEventSynchronize(self.event)
        })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.event.is_null() {
            return;
        }
        if let Ok(_current) = self.context.enter() {
            // SAFETY: made by `new` and destroyed once. The driver keeps a recorded event until it has happened.
            let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
        }
    }
}

/// The end of everything that had been started on a stream. A drop waits for it.
#[derive(Debug)]
pub(crate) struct Pending {
    event: Event,
    // The event is one of the stream's context.
    _stream: Arc<Stream>,
}

impl Pending {
    /// Marks the end of what was started so far. Waits for it if it cannot be marked.
    pub(crate) fn mark(event: Event, stream: &Arc<Stream>) -> Result<Self, CudaError> {
        if let Err(error) = event.record(stream) {
            // What was started uses memory that the caller is about to drop.
            let _ = stream.wait();
            return Err(error);
        }
        Ok(Self {
            event,
            _stream: Arc::clone(stream),
        })
    }

    /// Returns whether everything has ended, or the error with which it did.
    pub(crate) fn is_done(&self) -> Result<bool, CudaError> {
        self.event.has_ended()
    }

    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        self.event.wait()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = self.wait();
    }
}
