//! Pinned memory through which a thread copies a file to the GPU.
#![expect(
    unsafe_code,
    reason = "a file is read into memory that the copy engine reads"
)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::slice;
use std::sync::Arc;

use vyre_uring::Buffer;

use super::context::Context;
use super::event::Event;
use super::memory::{DeviceMemory, Registration};
use super::stream::Stream;
use crate::error::CudaError;
use crate::view::ViewError;

/// Two halves of pinned memory, one of which is filled from a file while the copy engine empties the other.
/// A drop waits for the copies.
#[derive(Debug)]
pub(crate) struct Staging {
    // First, since dropping it waits.
    stream: Stream,
    to: Arc<DeviceMemory>,
    halves: [Half; 2],
    next: usize,
}

#[derive(Debug)]
struct Half {
    memory: Memory,
    /// Happens when the copy engine has emptied the half.
    emptied: Event,
    is_copied: bool,
}

#[derive(Debug)]
enum Memory {
    /// Not yet pinned. The first fill brings the pages, on the thread that owns them, before they are pinned.
    Fresh(Buffer),
    Pinned(Registration),
}

impl Staging {
    pub(crate) fn new(to: &Arc<DeviceMemory>, piece: usize) -> Result<Self, CudaError> {
        let context = to.context();
        let half = || {
            Ok::<_, CudaError>(Half {
                memory: Memory::Fresh(Buffer::anonymous(piece)?),
                emptied: Event::new(context)?,
                is_copied: false,
            })
        };
        Ok(Self {
            stream: Stream::new(context)?,
            to: Arc::clone(to),
            halves: [half()?, half()?],
            next: 0,
        })
    }

    /// Reads `len` bytes of a file, no more than a half has, and starts to copy them to the memory.
    pub(crate) fn copy(
        &mut self,
        file: &File,
        offset: u64,
        len: usize,
        at: u64,
    ) -> Result<(), ViewError> {
        let half = &mut self.halves[self.next];
        self.next ^= 1;
        if half.is_copied {
            half.emptied.wait()?;
        }
        half.fill(file, offset, len)
            .map_err(|error| ViewError::Read {
                offset,
                reason: error.to_string(),
            })?;
        let from = half.pinned(self.to.context())?;
        // SAFETY: the half has `len` bytes, which were just filled. `self` keeps it and the memory, and drops
        // them after the stream.
        unsafe { self.to.copy_in(from, at, len as u64, &self.stream) }?;
        half.emptied.record(&self.stream)?;
        half.is_copied = true;
        Ok(())
    }

    /// Waits until all copies have ended.
    pub(crate) fn wait(&self) -> Result<(), CudaError> {
        self.stream.wait()
    }
}

impl Half {
    fn buffer(&self) -> &Buffer {
        match &self.memory {
            Memory::Fresh(buffer) => buffer,
            Memory::Pinned(registration) => registration.buffer(),
        }
    }

    fn fill(&mut self, file: &File, offset: u64, len: usize) -> io::Result<()> {
        assert!(len <= self.buffer().len());
        // SAFETY: the buffer has these bytes, which are initialized, as all of a buffer is. Nothing else
        // accesses them: nobody else has the buffer, and the copy engine has emptied the half.
        let bytes = unsafe { slice::from_raw_parts_mut(self.buffer().as_ptr(), len) };
        file.read_exact_at(bytes, offset)
    }

    /// Returns the address of the memory, which is pinned from then on.
    fn pinned(&mut self, context: &Arc<Context>) -> Result<*mut u8, CudaError> {
        if let Memory::Fresh(buffer) = &self.memory {
            let registration = Registration::new(context, buffer.clone())?;
            self.memory = Memory::Pinned(registration);
        }
        Ok(self.buffer().as_ptr())
    }
}
