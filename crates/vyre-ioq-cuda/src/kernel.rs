//! Device code: compiled, loaded, launched.
#![expect(
    unsafe_code,
    reason = "the caller who launches a kernel promises what it does"
)]

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use bytemuck::NoUninit;
use vyre_ioq::headers;

use crate::driver::{Function, Image, Stream};
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::nvrtc::{Compiler, Target};

/// Threads of a warp.
pub(crate) const WARP: u32 = 32;

/// GPU code as text, which the driver compiles for the GPU at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ptx(String);

impl Ptx {
    /// Compiles device code with NVRTC, for GPUs of compute capability `compute` and later. The text of
    /// `vyre_ioq.cuh` precedes `source`, which needs no include.
    ///
    /// If NVRTC does not know `compute` yet, it compiles for the newest older capability that it knows,
    /// since GPUs run PTX for older ones. A driver refuses PTX of a newer NVRTC; [`Kernel::compile`]
    /// then compiles to machine code.
    ///
    /// # Errors
    /// [`CudaError::NoCompiler`] if NVRTC is missing, [`CudaError::NoArchitecture`] if it no longer
    /// knows `compute`, or [`CudaError::Compile`] with its messages if it refuses the code.
    pub fn compile(source: &str, compute: (u32, u32)) -> Result<Self, CudaError> {
        let compiler = Compiler::find()?;
        let best = best(&compiler.architectures()?, compute, |_| true);
        let best = best.ok_or(CudaError::NoArchitecture {
            version: compiler.version(),
            compute,
        })?;
        let text = compiler.compile(&with_headers(source), Target::Ptx(best))?;
        String::from_utf8(text)
            .map(Self)
            .map_err(|error| CudaError::Compile(error.to_string()))
    }

    /// Compiles for as many GPUs as NVRTC supports: those of compute capability `oldest` and later, or
    /// from the oldest later one that NVRTC still knows.
    pub(crate) fn compile_portable(source: &str, oldest: (u32, u32)) -> Result<Self, CudaError> {
        let known = Compiler::find()?.architectures()?;
        let least = known
            .into_iter()
            .filter(|&it| it >= oldest.0 * 10 + oldest.1);
        let least = least.min().map_or(oldest, |it| (it / 10, it % 10));
        Self::compile(source, least)
    }

    /// Wraps prebuilt PTX.
    pub const fn from_text(text: String) -> Self {
        Self(text)
    }

    /// Reads prebuilt PTX from a file.
    ///
    /// # Errors
    /// [`CudaError::Ptx`] if the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, CudaError> {
        let text = std::fs::read_to_string(path).map_err(|error| CudaError::Ptx {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self(text))
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Machine code for the GPUs of one generation. The driver loads it without compiling it, so NVRTC may
/// be newer than the driver if both have the same major version of CUDA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cubin(pub(crate) Vec<u8>);

impl Cubin {
    /// Compiles device code with NVRTC, for GPUs of compute capability `compute` and later ones with
    /// the same major number; for a Tegra GPU, for that GPU only. The source is as for
    /// [`Ptx::compile`].
    ///
    /// # Errors
    /// As for [`Ptx::compile`]; also [`CudaError::NoArchitecture`] if NVRTC does not know the
    /// generation yet.
    pub fn compile(source: &str, compute: (u32, u32)) -> Result<Self, CudaError> {
        let compiler = Compiler::find()?;
        let takes = |architecture| takes_machine_code(compute, architecture);
        let best = best(&compiler.architectures()?, compute, takes);
        let best = best.ok_or(CudaError::NoArchitecture {
            version: compiler.version(),
            compute,
        })?;
        compiler
            .compile(&with_headers(source), Target::Cubin(best))
            .map(Self)
    }
}

fn with_headers(source: &str) -> String {
    [headers::CUDA, source].concat()
}

/// Tegra architectures, 101 and 110 by their old and new names. No other GPU, desktop or Tegra, runs
/// their machine code, and they run no other.
const TEGRA: [u32; 6] = [53, 62, 72, 87, 101, 110];

/// Returns whether a GPU of this capability, if it is no older than `architecture`, runs machine code for
/// it.
fn takes_machine_code(compute: (u32, u32), architecture: u32) -> bool {
    let own = compute.0 * 10 + compute.1;
    let any_tegra = TEGRA.contains(&own) || TEGRA.contains(&architecture);
    own == architecture || (architecture / 10 == compute.0 && !any_tegra)
}

/// Returns the newest architecture whose code a GPU of this capability runs.
fn best(known: &[u32], compute: (u32, u32), suits: impl Fn(u32) -> bool) -> Option<u32> {
    let own = compute.0 * 10 + compute.1;
    let runs = |&it: &u32| it <= own && suits(it);
    known.iter().copied().filter(runs).max()
}

/// The shape of a launch, and the shared memory of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    pub(crate) blocks: [u32; 3],
    pub(crate) threads: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) cooperative: bool,
}

impl LaunchConfig {
    /// Returns a launch of `blocks` blocks of `threads` threads, in one dimension.
    pub const fn new(blocks: u32, threads: u32) -> Self {
        Self::with_dimensions([blocks, 1, 1], [threads, 1, 1])
    }

    /// Returns a launch of blocks and threads in three dimensions, x first.
    pub const fn with_dimensions(blocks: [u32; 3], threads: [u32; 3]) -> Self {
        Self {
            blocks,
            threads,
            shared_bytes: 0,
            cooperative: false,
        }
    }

    /// Sets the bytes of dynamic shared memory for each block.
    #[must_use]
    pub const fn shared_bytes(mut self, bytes: u32) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// Makes the launch cooperative: all blocks of the grid run at once, as kernels need whose blocks
    /// wait for each other. The grid starts when the GPU has room for all of it. A grid that is too
    /// large for the GPU is refused.
    #[must_use]
    pub const fn cooperative(mut self) -> Self {
        self.cooperative = true;
        self
    }

    pub(crate) fn block_count(&self) -> u64 {
        self.blocks.iter().copied().map(u64::from).product()
    }
}

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
        Self::of(Function::load(gpu.context(), Image::Ptx(&ptx.0), name)?)
    }

    /// Loads the kernel `name` from machine code, as [`load`](Self::load) does from PTX.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_cubin(gpu: &Gpu, cubin: &Cubin, name: &str) -> Result<Self, CudaError> {
        Self::of(Function::load(gpu.context(), Image::Cubin(cubin), name)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Architectures that NVRTC 12.4 and 13.5 say they compile for.
    const OF_12_4: &[u32] = &[50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90];
    const OF_13_5: &[u32] = &[75, 80, 86, 87, 88, 89, 90, 100, 103, 107, 110, 120, 121];

    #[test]
    fn the_newest_architecture_that_the_gpu_runs_is_chosen() {
        let any = |known, compute| best(known, compute, |_| true);
        for (compute, of_12_4, of_13_5) in [
            ((7, 0), Some(70), None),
            ((7, 5), Some(75), Some(75)),
            ((9, 0), Some(90), Some(90)),
            ((10, 0), Some(90), Some(100)),
            ((12, 0), Some(90), Some(120)),
            ((99, 9), Some(90), Some(121)),
        ] {
            assert_eq!(any(OF_12_4, compute), of_12_4, "{compute:?}");
            assert_eq!(any(OF_13_5, compute), of_13_5, "{compute:?}");
        }
        assert_eq!(any(&[], (9, 0)), None);
    }

    #[test]
    fn machine_code_is_of_the_same_generation_and_kind() {
        let same = |known, compute| best(known, compute, |it| takes_machine_code(compute, it));
        assert_eq!(same(OF_12_4, (8, 6)), Some(86));
        assert_eq!(same(OF_13_5, (10, 5)), Some(103));
        assert_eq!(same(OF_12_4, (10, 0)), None);
        assert_eq!(same(OF_13_5, (7, 0)), None);
        // A desktop GPU that is newer than NVRTC gets nothing for Tegra.
        assert_eq!(same(OF_12_4, (8, 8)), Some(86));
        assert_eq!(same(&[80, 86, 87], (8, 9)), Some(86));
        assert_eq!(same(&[100, 101, 120], (10, 3)), Some(100));
        assert_eq!(same(&[110], (11, 2)), None);
        // Tegra gets its own, or nothing.
        assert_eq!(same(OF_12_4, (8, 7)), Some(87));
        assert_eq!(same(&[80, 86], (8, 7)), None);
        assert_eq!(same(&[100], (10, 1)), None);
    }

    #[test]
    fn a_launch_has_the_shape_that_was_asked_for() {
        let config = LaunchConfig::with_dimensions([2, 3, 4], [8, 4, 1]).shared_bytes(5);
        assert_eq!(config.block_count(), 24);
        assert!(!config.cooperative && config.cooperative().cooperative);
        let config = LaunchConfig::new(7, 32);
        assert_eq!((config.blocks, config.threads), ([7, 1, 1], [32, 1, 1]));
    }
}
