//! Device code: compiled, loaded, launched.
#![allow(unsafe_code)] // A kernel may do anything: who launches one promises that it does not.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use bytemuck::NoUninit;
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use vyre_ioq::headers;

use crate::driver::{self, Function, Stream};
use crate::error::CudaError;
use crate::gpu::Gpu;

/// Threads of a warp.
pub(crate) const WARP: u32 = 32;

/// Code for GPUs, as text that the driver compiles for the one at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ptx(String);

impl Ptx {
    /// Compiles device code by NVRTC, for GPUs from compute capability `compute` on. `vyre_ioq.cuh`
    /// comes before `source`, which includes nothing.
    ///
    /// # Errors
    /// [`CudaError::NoCompiler`], or [`CudaError::Compile`] with what the compiler says.
    pub fn compile(source: &str, compute: (u32, u32)) -> Result<Self, CudaError> {
        if source.contains('\0') {
            return Err(CudaError::ZeroByte("the device code"));
        }
        if !driver::has_compiler() {
            return Err(CudaError::NoCompiler);
        }
        let text = [headers::CUDA_PARTS, headers::CUDA, source].concat();
        let options = CompileOptions {
            options: vec![
                format!("--gpu-architecture=compute_{}{}", compute.0, compute.1),
                "--std=c++17".to_owned(),
            ],
            ..CompileOptions::default()
        };
        match compile_ptx_with_opts(text, options) {
            Ok(ptx) => Ok(Self(ptx.to_src())),
            Err(CompileError::CompileError { log, .. }) => {
                Err(CudaError::Compile(log.to_string_lossy().into_owned()))
            }
            Err(other) => Err(CudaError::Compile(other.to_string())),
        }
    }

    /// Takes PTX that was compiled beforehand.
    pub const fn from_text(text: String) -> Self {
        Self(text)
    }

    /// Reads PTX that was compiled beforehand.
    ///
    /// # Errors
    /// [`CudaError::Ptx`].
    pub fn from_file(path: &Path) -> Result<Self, CudaError> {
        let text = std::fs::read_to_string(path).map_err(|error| CudaError::Ptx {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self(text))
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A kernel that is loaded, whole: to launch it loads nothing, so that it never waits for a kernel
/// that already runs.
#[derive(Clone, Debug)]
pub struct Kernel {
    function: Arc<Function>,
    registers: u32,
    local_bytes: u32,
}

impl Kernel {
    /// Loads the kernel `name`, an `extern "C"` function.
    ///
    /// # Errors
    /// [`CudaError`]: what the driver makes of the code.
    pub fn load(gpu: &Gpu, ptx: &Ptx, name: &str) -> Result<Self, CudaError> {
        let function = Function::load(gpu.context(), &ptx.0, name)?;
        let (registers, local_bytes) = (function.registers()?, function.local_bytes()?);
        Ok(Self {
            function: Arc::new(function),
            registers,
            local_bytes,
        })
    }

    /// Registers that each of its threads uses.
    pub const fn registers(&self) -> u32 {
        self.registers
    }

    /// Bytes of each of its threads in local memory: what does not fit into registers is there.
    pub const fn local_bytes(&self) -> u32 {
        self.local_bytes
    }

    /// Launches `blocks` blocks of `threads` threads, on a stream of their own. `keep` is what the
    /// kernel uses, and is dropped after it has ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the driver does not launch it.
    ///
    /// # Safety
    /// - `A` has the layout of the kernel's one parameter.
    /// - Whatever the kernel accesses is valid while `keep` is kept, and not used by this process
    ///   meanwhile other than as shared memory.
    pub unsafe fn launch<A: NoUninit>(
        &self,
        blocks: u32,
        threads: u32,
        argument: &A,
        keep: impl Any + Send,
    ) -> Result<Launch, CudaError> {
        // SAFETY: the caller's promises; `Launch` waits for the kernel before it drops `keep`.
        let stream = unsafe { self.function.launch(blocks, threads, argument) }?;
        Ok(Launch {
            stream,
            _function: Arc::clone(&self.function),
            _keep: Box::new(keep),
        })
    }
}

/// A kernel that was launched. Dropping it waits for the kernel's end: a persistent kernel must be
/// told to end before.
pub struct Launch {
    // First, since dropping it waits.
    stream: Stream,
    _function: Arc<Function>,
    _keep: Box<dyn Any + Send>,
}

impl Launch {
    /// Whether the kernel has ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] with the error that it ended by, a fault say.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.stream.is_done()
    }

    /// Waits for the kernel's end.
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
