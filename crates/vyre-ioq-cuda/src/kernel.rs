//! Kernels: loaded and launched.
#![expect(
    unsafe_code,
    reason = "the caller who launches a kernel promises what it does"
)]

use std::any::Any;
use std::sync::Arc;

use bytemuck::NoUninit;

use crate::code::{Cubin, Ptx};
use crate::driver::{self, Event, Function, Image, Pending};
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::launch_config::LaunchConfig;
use crate::stream::Stream;

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
    /// The same as for [`Ptx::compile`] and [`load`](Self::load). [`CudaError::CodeTooNew`] and
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
    /// The same as for [`load`](Self::load).
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
        let stream = driver::Stream::new(self.function.context())?;
        // SAFETY: the caller's promises; `Launch` waits for the kernel before it drops `keep`.
        unsafe { self.function.launch(&stream, &config, argument) }?;
        Ok(self.launched(End::Stream(stream), keep))
    }

    /// Launches the kernel on a stream, after what was started there before. `keep` owns what the kernel
    /// uses, and is dropped after the kernel has ended.
    ///
    /// # Errors
    /// [`CudaError::OtherGpu`] if the stream is of another GPU, or as for [`launch`](Self::launch).
    ///
    /// # Safety
    /// The same as for [`launch`](Self::launch).
    pub unsafe fn launch_on<A: NoUninit>(
        &self,
        stream: &Stream,
        config: LaunchConfig,
        argument: &A,
        keep: impl Any + Send,
    ) -> Result<Launch, CudaError> {
        let stream = stream.shared();
        // Before the launch, since nothing may fail after it.
        let event = Event::new(self.function.context())?;
        // SAFETY: the caller's promises; `Launch` waits for the kernel before it drops `keep`.
        unsafe { self.function.launch(stream, &config, argument) }?;
        let pending = Pending::mark(event, stream)?;
        Ok(self.launched(End::Pending(pending), keep))
    }

    fn launched(&self, end: End, keep: impl Any + Send) -> Launch {
        Launch {
            end,
            _function: Arc::clone(&self.function),
            _keep: Box::new(keep),
        }
    }
}

/// The end of a kernel.
#[derive(Debug)]
enum End {
    /// That of the kernel's own stream.
    Stream(driver::Stream),
    /// A point on a stream that others use.
    Pending(Pending),
}

/// A launched kernel. A drop waits for the kernel to end, so tell a persistent kernel to end first.
pub struct Launch {
    // First, since dropping it waits.
    end: End,
    _function: Arc<Function>,
    _keep: Box<dyn Any + Send>,
}

impl Launch {
    /// Returns whether the kernel has ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the kernel ended with an error, such as a fault.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        match &self.end {
            End::Stream(stream) => stream.is_done(),
            End::Pending(pending) => pending.is_done(),
        }
    }

    /// Waits until the kernel has ended.
    ///
    /// # Errors
    /// The same as for [`is_done`](Self::is_done).
    pub fn wait(&self) -> Result<(), CudaError> {
        match &self.end {
            End::Stream(stream) => stream.wait(),
            End::Pending(pending) => pending.wait(),
        }
    }
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
