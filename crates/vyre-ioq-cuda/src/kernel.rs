//! Kernels: loaded and launched.
#![expect(
    unsafe_code,
    reason = "the caller who launches a kernel promises what it does"
)]

use std::any::Any;
use std::sync::Arc;

use bytemuck::NoUninit;

use crate::code::{Cubin, Ptx};
use crate::driver::{Function, Image, Stream};
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::launch_config::LaunchConfig;

/// A loaded kernel. It is loaded completely, so a launch loads nothing and never waits for a running
/// kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    function: Arc<Function>,
    registers: u32,
    local_bytes: u32,
}

impl Kernel {
    /// Compiles device code for this GPU and loads its kernel `name`, an `extern "C"` function. The
    /// source is as for [`Ptx::compile`].
    ///
    /// The code is PTX. If the driver is older than NVRTC or compiles no PTX, the code is machine code,
    /// which a driver of the same major CUDA version accepts.
    ///
    /// # Errors
    /// As for [`Ptx::compile`] and [`load`](Self::load). [`CudaError::CodeTooNew`] and
    /// [`CudaError::NoJit`] mean that the driver accepts no machine code of this NVRTC either.
    pub fn compile(gpu: &Gpu, source: &str, name: &str) -> Result<Self, CudaError> {
        let compute = gpu.capabilities().compute;
        match Self::load(gpu, &Ptx::compile(source, compute)?, name) {
            Err(refused @ (CudaError::CodeTooNew { .. } | CudaError::NoJit(_))) => {
                Cubin::compile(source, compute)
                    .and_then(|cubin| Self::load_cubin(gpu, &cubin, name))
                    .map_err(|_| refused)
            }
            loaded => loaded,
        }
    }

    /// Loads the kernel `name`, an `extern "C"` function.
    ///
    /// # Errors
    /// [`CudaError`] if the driver refuses the code, or if the code has no such kernel.
    pub fn load(gpu: &Gpu, ptx: &Ptx, name: &str) -> Result<Self, CudaError> {
        Self::of(Function::load(gpu.context(), Image::Ptx(ptx.text()), name)?)
    }

    /// Loads the kernel `name` from machine code, as [`load`](Self::load) does from PTX.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_cubin(gpu: &Gpu, cubin: &Cubin, name: &str) -> Result<Self, CudaError> {
        Self::of(Function::load(
            gpu.context(),
            Image::Cubin(cubin.bytes()),
            name,
        )?)
    }

    fn of(function: Function) -> Result<Self, CudaError> {
        let (registers, local_bytes) = (function.registers()?, function.local_bytes()?);
        Ok(Self {
            function: Arc::new(function),
            registers,
            local_bytes,
        })
    }

    /// Returns the number of registers that each thread uses.
    pub const fn registers(&self) -> u32 {
        self.registers
    }

    /// Returns the bytes of local memory for each thread, which hold what does not fit into registers.
    pub const fn local_bytes(&self) -> u32 {
        self.local_bytes
    }

    /// Returns the number of blocks of this shape that run at once on an otherwise idle GPU.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the driver refuses the call, for example for a shape that the GPU
    /// cannot run.
    pub fn resident_blocks(&self, config: &LaunchConfig) -> Result<u64, CudaError> {
        self.function.resident_blocks(config)
    }

    /// Launches the kernel on a stream of its own. `keep` owns what the kernel uses, and is dropped
    /// after the kernel has ended.
    ///
    /// # Errors
    /// [`CudaError::GridTooLarge`] if a cooperative grid does not fit on the GPU, [`CudaError::Driver`]
    /// if the driver refuses the launch for another reason.
    ///
    /// # Safety
    /// - `A` has the layout of the kernel's only parameter.
    /// - Everything that the kernel accesses stays valid while `keep` lives, and this process meanwhile
    ///   uses it only as shared memory.
    pub unsafe fn launch<A: NoUninit>(
        &self,
        config: LaunchConfig,
        argument: &A,
        keep: impl Any + Send,
    ) -> Result<Launch, CudaError> {
        // SAFETY: the caller's promises; `Launch` waits for the kernel before it drops `keep`.
        let stream = unsafe { self.function.launch(&config, argument) }?;
        Ok(Launch {
            stream,
            _function: Arc::clone(&self.function),
            _keep: Box::new(keep),
        })
    }
}

/// A launched kernel. A drop waits for the kernel to end, so tell a persistent kernel to end first.
pub struct Launch {
    // First, since dropping it waits.
    stream: Stream,
    _function: Arc<Function>,
    _keep: Box<dyn Any + Send>,
}

impl Launch {
    /// Returns whether the kernel has ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the kernel ended with an error, such as a fault.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.stream.is_done()
    }

    /// Waits until the kernel has ended.
    ///
    /// # Errors
    /// As for [`is_done`](Self::is_done).
    pub fn wait(&self) -> Result<(), CudaError> {
        self.stream.wait()
    }
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
