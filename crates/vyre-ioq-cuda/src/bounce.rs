//! Copies between files and memory of a GPU.

use std::fs::File;
use std::io;

use crate::driver::Bounce;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::memory::GpuMemory;

/// The reason why a [`BounceBuffer`] did not copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BounceError {
    /// The file could not be read or written.
    #[error("the file cannot be read or written: {0}")]
    File(#[from] io::Error),
    /// The memory does not have the part.
    #[error("{len} bytes from {at} on are not inside the memory of {memory}: give another part")]
    OutOfRange {
        /// The start of the part.
        at: usize,
        /// The bytes of the part.
        len: usize,
        /// The bytes of the memory.
        memory: usize,
    },
    /// The offset in the file is larger than any file.
    #[error("the part of the file ends past the largest offset of files: give a smaller offset")]
    Offset,
    /// The driver refused a call.
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// Pinned memory, twice 2 MiB, through which one thread copies between files and memory of a GPU. The copy engine copies one
/// half while the thread reads or writes the other.
///
/// It takes any file and any part of it. For gigabytes of a cached file, [`view::load`](crate::view::load) is faster; for
/// files that a kernel reads, see [`view`](crate::view).
#[derive(Debug)]
pub struct BounceBuffer(Bounce);

impl BounceBuffer {
    /// Allocates and pins the memory, which takes about a millisecond.
    ///
    /// # Errors
    /// [`CudaError`] if there is no memory, or if the driver refuses a call.
    pub fn new(gpu: &Gpu) -> Result<Self, CudaError> {
        Bounce::new(gpu.context()).map(Self)
    }

    /// Reads `len` bytes of a file, from `offset` on, to memory, from `at` on. Returns their number, which is less where the
    /// file ends. They are there when this returns.
    ///
    /// # Errors
    /// A [`BounceError`]. Any part of the bytes may then have been copied.
    pub fn read(
        &mut self,
        file: &File,
        offset: u64,
        to: &GpuMemory,
        at: usize,
        len: usize,
    ) -> Result<usize, BounceError> {
        check(offset, to, at, len)?;
        self.0.read((file, offset), to.shared(), (at as u64, len))
    }

    /// Writes `len` bytes of memory, from `at` on, to a file, from `offset` on. What writes the memory must have ended.
    ///
    /// # Errors
    /// A [`BounceError`]. Any part of the bytes may then have been written.
    pub fn write(
        &mut self,
        file: &File,
        offset: u64,
        from: &GpuMemory,
        at: usize,
        len: usize,
    ) -> Result<usize, BounceError> {
        check(offset, from, at, len)?;
        self.0
            .write((file, offset), from.shared(), (at as u64, len))
    }
}

fn check(offset: u64, memory: &GpuMemory, at: usize, len: usize) -> Result<(), BounceError> {
    if at.checked_add(len).is_none_or(|end| end > memory.len()) {
        let memory = memory.len();
        return Err(BounceError::OutOfRange { at, len, memory });
    }
    let end = offset.checked_add(len as u64);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(BounceError::Offset);
    }
    Ok(())
}
