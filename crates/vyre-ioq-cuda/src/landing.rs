//! Where the bytes of a READ are when a kernel hears of them: in mapped memory of the host, or in
//! memory of the GPU. The kernel brings them there itself, or the loop does.

mod copy_engine;
mod transport;

use std::fmt;
use std::sync::Arc;

use vyre_uring::Buffer;

use crate::driver::DeviceMemory;
use crate::error::CudaError;
use crate::gpu::Gpu;

pub use copy_engine::CopyEngine;
pub use transport::{LandingTransport, MoveError, Mover};

/// Blocks from this size on are brought to the GPU by the loop, smaller ones by the kernel.
///
/// A move by the loop takes time of the loop's thread whatever its size, and a warp alone moves a
/// large block slowly. On an H200, one warp had blocks of 1 MiB 1.6 times as fast by the loop, and of 64 KiB none did;
/// with a hundred warps and more, the kernel is ahead at 1 MiB as well, by a fifth (BENCHMARKS.md).
pub const LOOP_FROM: u32 = 1 << 20;

/// How the bytes of a READ get into memory of the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Landing {
    /// Not at all: kernels read them from mapped memory.
    #[default]
    None,
    /// The warp that asked for a block copies it from mapped memory, once it has the outcome.
    Kernel,
    /// The loop moves the block before it publishes the outcome: see [`LandingTransport`].
    Loop,
}

impl Landing {
    /// The faster way for blocks of that many bytes, of which a kernel reads each byte more than once.
    pub const fn for_size(bytes: u32) -> Self {
        if bytes < LOOP_FROM {
            Self::Kernel
        } else {
            Self::Loop
        }
    }
}

impl fmt::Display for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Kernel => "kernel",
            Self::Loop => "loop",
        })
    }
}

/// Memory of the GPU that lies behind a buffer: what is read into the buffer lands at the same offset
/// of it.
///
/// A clone names the same memory. Kernels that use it must have ended when the last one goes.
#[derive(Clone, Debug)]
pub struct LandingBuffer {
    host: Buffer,
    device: Arc<DeviceMemory>,
}

impl LandingBuffer {
    /// Zeroed memory of the GPU, as long as `host`, which should be
    /// [`MappedMemory`](crate::MappedMemory): what is not pinned is moved at a tenth of the speed.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or what else the driver says.
    pub fn behind(gpu: &Gpu, host: Buffer) -> Result<Self, CudaError> {
        let device = DeviceMemory::zeroed(gpu.context(), host.len())?;
        Ok(Self {
            host,
            device: Arc::new(device),
        })
    }

    /// The buffer that it lies behind, for the loop's buffer table.
    pub const fn host(&self) -> &Buffer {
        &self.host
    }

    /// The address of the first byte on the GPU, for kernels.
    pub fn device_ptr(&self) -> u64 {
        self.device.address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_the_loops() {
        assert_eq!(Landing::for_size(4096), Landing::Kernel);
        assert_eq!(Landing::for_size(LOOP_FROM - 1), Landing::Kernel);
        assert_eq!(Landing::for_size(LOOP_FROM), Landing::Loop);
        assert_eq!(Landing::for_size(u32::MAX), Landing::Loop);
    }
}
