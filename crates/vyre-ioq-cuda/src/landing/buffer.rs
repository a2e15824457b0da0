//! Memory of the GPU behind a buffer of the loop.

use std::sync::Arc;

use vyre_uring::Buffer;

use crate::driver::DeviceMemory;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::memory::GpuMemory;

/// Memory of the GPU behind a buffer: bytes that are read into the buffer land at the same offset of
/// this memory.
///
/// A clone names the same memory. Kernels that use it must have ended when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct LandingBuffer {
    pub(super) host: Buffer,
    pub(super) device: Arc<DeviceMemory>,
}

impl LandingBuffer {
    /// Allocates zeroed memory of the GPU, as long as `host`. `host` should be
    /// [`MappedMemory`](crate::MappedMemory): memory that is not pinned is moved at a tenth of the
    /// speed.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`] if the GPU has not enough memory left, or another [`CudaError`] if
    /// the driver refuses the allocation.
    pub fn behind(gpu: &Gpu, host: Buffer) -> Result<Self, CudaError> {
        let device = DeviceMemory::zeroed(gpu.context(), host.len())?;
        Ok(Self {
            host,
            device: Arc::new(device),
        })
    }

    /// Has bytes that are read into `host` land in memory of the caller's, at the same offsets. Bytes past
    /// the end of the shorter one do not land: a READ of them ends with EIO.
    pub fn behind_memory(host: Buffer, memory: &GpuMemory) -> Self {
        Self {
            host,
            device: Arc::clone(memory.shared()),
        }
    }

    /// Returns the buffer in front of the memory, for the loop's buffer table.
    pub const fn host(&self) -> &Buffer {
        &self.host
    }

    /// Returns the address of the first byte on the GPU, for kernels.
    pub fn device_ptr(&self) -> u64 {
        self.device.address()
    }
}
