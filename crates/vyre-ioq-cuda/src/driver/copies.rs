//! Copies from the host to the GPU that nobody waits for.
#![allow(unsafe_code)] // A foreign interface.

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys;
use vyre_uring::Buffer;

use super::{Context, DeviceMemory, Stream, check};
use crate::error::CudaError;

/// A stream that copies from buffers to the memory that belongs to each, and keeps both until the
/// copies have ended.
#[derive(Debug)]
pub(crate) struct CopyStream {
    // First, since dropping it waits.
    stream: Stream,
    pairs: Vec<(Buffer, Arc<DeviceMemory>)>,
}

impl CopyStream {
    pub(crate) fn new(
        context: &Arc<Context>,
        pairs: Vec<(Buffer, Arc<DeviceMemory>)>,
    ) -> Result<Self, CudaError> {
        let stream = Stream::new(context)?;
        Ok(Self { stream, pairs })
    }

    pub(crate) fn pairs(&self) -> &[(Buffer, Arc<DeviceMemory>)] {
        &self.pairs
    }

    /// Starts to copy `len` bytes of the buffer of that number, from `offset` on.
    pub(crate) fn copy(&self, pair: usize, offset: u64, len: u32) -> Result<(), CudaError> {
        let refused = || CudaError::Driver {
            call: "cuMemcpyHtoDAsync",
            error: "a range that is not there".to_owned(),
        };
        let (host, device) = self.pairs.get(pair).ok_or_else(refused)?;
        let end = offset.checked_add(len.into()).ok_or_else(refused)?;
        if end > host.len().min(device.len) as u64 {
            return Err(refused());
        }
        self.stream.context.enter()?;
        let from = host.as_ptr().wrapping_add(offset as usize);
        // SAFETY: both ranges are inside memory that `self` keeps, and dropping `self` waits for the
        // stream first. Others may write the host's bytes meanwhile, as to any buffer: the copy is
        // the device's access, not this process's.
        check("cuMemcpyHtoDAsync", unsafe {
            sys::cuMemcpyHtoDAsync_v2(
                device.address + offset,
                from.cast(),
                len as usize,
                self.stream.stream,
            )
        })
    }

    /// Has the event happen once what was started so far has ended.
    pub(crate) fn record(&self, event: &Event) -> Result<(), CudaError> {
        self.stream.context.enter()?;
        // SAFETY: both handles are there until `event` and `self` are dropped.
        check("cuEventRecord", unsafe {
            sys::cuEventRecord(event.event, self.stream.stream)
        })
    }
}

/// Something that happens on a stream.
#[derive(Debug)]
pub(crate) struct Event {
    context: Arc<Context>,
    event: sys::CUevent,
}

// SAFETY: events of the driver may be used from any thread.
unsafe impl Send for Event {}

impl Event {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Self, CudaError> {
        context.enter()?;
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

    /// Whether it has happened since it was recorded.
    pub(crate) fn has_ended(&self) -> Result<bool, CudaError> {
        self.context.enter()?;
        // SAFETY: the event is there until `self` is dropped.
        match unsafe { sys::cuEventQuery(self.event) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            answer => check("cuEventQuery", answer).map(|()| true),
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.event.is_null() && self.context.enter().is_ok() {
            // SAFETY: made by `new` and destroyed once. The driver waits for what it was recorded for.
            let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
        }
    }
}
