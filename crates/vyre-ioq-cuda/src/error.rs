//! The error of every operation on a GPU.

use vyre_ioq::AttachError;
use vyre_uring::BufferError;

/// The reason why a GPU cannot be used, or why an operation on it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The CUDA driver is not installed.
    #[error(
        "there is no CUDA driver (libcuda.so.1): install NVIDIA's driver, or in a container pass \
         the GPU in (docker run --gpus all); else set LD_LIBRARY_PATH to where it is"
    )]
    NoDriver,
    /// The program is statically linked against musl, which loads no libraries.
    #[error(
        "a program that is statically linked with musl loads no CUDA driver: use a build for a target that links \
         dynamically, such as {}-unknown-linux-gnu",
        std::env::consts::ARCH
    )]
    StaticProgram,
    /// The driver is installed but finds no GPU.
    #[error(
        "the CUDA driver finds no GPU: look at nvidia-smi, at the permissions of /dev/nvidia*, and \
         whether CUDA_VISIBLE_DEVICES hides it"
    )]
    NoDevice,
    /// There are fewer GPUs than this number asks for.
    #[error("there is no GPU {ordinal}, only {count}: choose one from 0 on")]
    NoSuchDevice {
        /// The number of the requested GPU.
        ordinal: u32,
        /// The number of GPUs.
        count: u32,
    },
    /// The GPU is too old for the memory orderings that the queue needs.
    #[error(
        "{name} has compute capability {major}.{minor}: the queue needs 7.0 or later (Volta), so \
         use another GPU"
    )]
    TooOld {
        /// The driver's name for the GPU.
        name: String,
        /// The major number of its compute capability.
        major: u32,
        /// The minor number of its compute capability.
        minor: u32,
    },
    /// The GPU cannot access host memory.
    #[error("{0} cannot map memory of the host: use another GPU")]
    CannotMap(String),
    /// The runtime compiler is not installed.
    #[error(
        "there is no NVRTC (libnvrtc.so): install the CUDA toolkit's runtime compiler or set \
         LD_LIBRARY_PATH to its lib64, or load PTX that was compiled beforehand"
    )]
    NoCompiler,
    /// NVRTC rejected the device code.
    #[error("the device code does not compile; mend it by what NVRTC says:\n{0}")]
    Compile(String),
    /// NVRTC compiles for newer GPUs only.
    #[error(
        "NVRTC {}.{} compiles for no GPU of compute capability {}.{} or older: install NVRTC 12, or \
         load PTX that was compiled beforehand",
        .version.0, .version.1, .compute.0, .compute.1
    )]
    NoArchitecture {
        /// The CUDA version of NVRTC.
        version: (u32, u32),
        /// The requested compute capability.
        compute: (u32, u32),
    },
    /// The code comes from a compiler that is newer than the driver.
    #[error(
        "the code is of a compiler that is newer than the driver, which is for CUDA {}.{}: update the \
         driver, or compile by Kernel::compile and an NVRTC of CUDA {}, which makes machine code where it \
         has to",
        .driver.0, .driver.1, .driver.0
    )]
    CodeTooNew {
        /// The CUDA version of the driver.
        driver: (u32, u32),
    },
    /// The driver does not compile PTX.
    #[error(
        "the driver compiles no PTX ({0}): install its PTX compiler (libnvidia-ptxjitcompiler), unset \
         CUDA_DISABLE_PTX_JIT, or compile by Kernel::compile and an NVRTC of the driver's major version of \
         CUDA, which makes machine code"
    )]
    NoJit(String),
    /// The code was passed as PTX but is machine code.
    #[error("the code is no PTX but machine code: give the text that a compiler wrote for --ptx")]
    NotPtx,
    /// A cooperative launch has more blocks than the GPU runs at once.
    #[error(
        "{blocks} blocks do not run at once, at most {most}: launch fewer, or smaller ones, or none that \
         wait for each other"
    )]
    GridTooLarge {
        /// The number of blocks in the grid.
        blocks: u64,
        /// The number of blocks that an otherwise idle GPU runs at once.
        most: u64,
    },
    /// A text for the driver contains a zero byte.
    #[error("{0} holds a zero byte: leave it out")]
    ZeroByte(&'static str),
    /// Prebuilt PTX could not be read.
    #[error("cannot read {path}: {reason}; give a file that `--write-ptx` wrote")]
    Ptx {
        /// The file.
        path: String,
        /// The error of the operating system.
        reason: String,
    },
    /// The calling thread has no current CUDA context.
    #[error("the thread has no current CUDA context: open a GPU by its number")]
    NoContext,
    /// The current context is not the primary one of its GPU.
    #[error(
        "the current CUDA context is not the primary one of its GPU: give it to Gpu::from_context, or open the \
         GPU by its number"
    )]
    NotPrimary,
    /// Two objects belong to different GPUs or contexts.
    #[error("{0} belongs to another GPU or context: use one that was made with the same Gpu")]
    OtherGpu(&'static str),
    /// Memory that should be pinned is not.
    #[error(
        "the memory is not pinned and mapped for the GPU ({0}): allocate it by cudaHostAlloc, or register it"
    )]
    NotPinned(String),
    /// The driver refused to pin and map memory.
    #[error(
        "{bytes} bytes cannot be pinned for the GPU ({error}): ask for less, or raise the limit on \
         locked memory (ulimit -l)"
    )]
    Register {
        /// The length of the memory in bytes.
        bytes: usize,
        /// The driver's name for the error.
        error: String,
    },
    /// The GPU does not have that much free memory.
    #[error("the GPU has no {0} bytes free: ask for less, or end what else uses it")]
    OutOfMemory(usize),
    /// The host memory for the buffer could not be allocated.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The layout of the queue is not valid.
    #[error(transparent)]
    Layout(#[from] AttachError),
    /// A queue for a GPU cannot have the bare layout.
    #[error(
        "a bare queue has no header, by which kernels see that their host has ended: use \
         QueueLayout::with_slots"
    )]
    BareQueue,
    /// The driver refused another call.
    #[error("{call} failed with {error}: look at dmesg for what the driver says (NVRM, Xid)")]
    Driver {
        /// The driver's function.
        call: &'static str,
        /// The driver's name for its error.
        error: String,
    },
}

impl CudaError {
    /// Returns the reason why a library that cannot be loaded is missing, which is `otherwise` in a program that can load libraries.
    pub(crate) fn missing(otherwise: Self) -> Self {
        if cfg!(all(target_env = "musl", target_feature = "crt-static")) {
            Self::StaticProgram
        } else {
            otherwise
        }
    }
}
