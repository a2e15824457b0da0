use vyre_ioq::AttachError;
use vyre_uring::BufferError;

/// Why a GPU cannot be used, or did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The CUDA driver is not installed.
    #[error(
        "there is no CUDA driver (libcuda.so.1): install NVIDIA's driver, or in a container pass \
         the GPU in (docker run --gpus all); else set LD_LIBRARY_PATH to where it is"
    )]
    NoDriver,
    /// The driver is there and sees no GPU.
    #[error(
        "the CUDA driver finds no GPU: look at nvidia-smi, at the permissions of /dev/nvidia*, and \
         whether CUDA_VISIBLE_DEVICES hides it"
    )]
    NoDevice,
    /// There are GPUs, but not that many.
    #[error("there is no GPU {ordinal}, only {count}: choose one from 0 on")]
    NoSuchDevice {
        /// The number asked for.
        ordinal: u32,
        /// How many GPUs there are.
        count: u32,
    },
    /// The GPU is older than the memory orderings that the queue needs.
    #[error(
        "{name} has compute capability {major}.{minor}: the queue needs 7.0 or later (Volta), so \
         use another GPU"
    )]
    TooOld {
        /// What the driver calls it.
        name: String,
        /// The capability's first number.
        major: u32,
        /// Its second.
        minor: u32,
    },
    /// The GPU cannot access memory of the host.
    #[error("{0} cannot map memory of the host: use another GPU")]
    CannotMap(String),
    /// The runtime compiler is not installed.
    #[error(
        "there is no NVRTC (libnvrtc.so): install the CUDA toolkit's runtime compiler or set \
         LD_LIBRARY_PATH to its lib64, or load PTX that was compiled beforehand"
    )]
    NoCompiler,
    /// NVRTC refused device code.
    #[error("the device code does not compile; mend it by what NVRTC says:\n{0}")]
    Compile(String),
    /// NVRTC that compiles for newer GPUs only.
    #[error(
        "NVRTC {}.{} compiles for no GPU of compute capability {}.{} or older: install NVRTC 12, or \
         load PTX that was compiled beforehand",
        .version.0, .version.1, .compute.0, .compute.1
    )]
    NoArchitecture {
        /// Version of CUDA that NVRTC belongs to.
        version: (u32, u32),
        /// Compute capability that was asked for.
        compute: (u32, u32),
    },
    /// Code of a compiler that is newer than the driver.
    #[error(
        "the code is of a compiler that is newer than the driver, which is for CUDA {}.{}: update the \
         driver, or compile by Kernel::compile and an NVRTC of CUDA {}, which makes machine code where it \
         has to",
        .driver.0, .driver.1, .driver.0
    )]
    CodeTooNew {
        /// Version of CUDA that the driver was made for.
        driver: (u32, u32),
    },
    /// Driver that compiles no PTX.
    #[error(
        "the driver compiles no PTX ({0}): install its PTX compiler (libnvidia-ptxjitcompiler), unset \
         CUDA_DISABLE_PTX_JIT, or compile by Kernel::compile and an NVRTC of the driver's major version of \
         CUDA, which makes machine code"
    )]
    NoJit(String),
    /// Code that was given as PTX, and is machine code.
    #[error("the code is no PTX but machine code: give the text that a compiler wrote for --ptx")]
    NotPtx,
    /// Cooperative launch of more blocks than the GPU runs at once.
    #[error(
        "{blocks} blocks do not run at once, at most {most}: launch fewer, or smaller ones, or none that \
         wait for each other"
    )]
    GridTooLarge {
        /// Number of blocks of the grid.
        blocks: u64,
        /// Number that runs at once on a GPU that runs nothing else.
        most: u64,
    },
    /// A text for the driver holds a zero byte.
    #[error("{0} holds a zero byte: leave it out")]
    ZeroByte(&'static str),
    /// Prebuilt PTX could not be read.
    #[error("cannot read {path}: {reason}; give a file that `--write-ptx` wrote")]
    Ptx {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The driver refused to pin and map memory.
    #[error(
        "{bytes} bytes cannot be pinned for the GPU ({error}): ask for less, or raise the limit on \
         locked memory (ulimit -l)"
    )]
    Register {
        /// The length.
        bytes: usize,
        /// The driver's name for the reason.
        error: String,
    },
    /// There is not that much memory on the GPU.
    #[error("the GPU has no {0} bytes free: ask for less, or end what else uses it")]
    OutOfMemory(usize),
    /// The host has no memory for the buffer.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The layout of a queue is unfit.
    #[error(transparent)]
    Layout(#[from] AttachError),
    /// Bare layout for a queue of a GPU.
    #[error(
        "a bare queue has no header, by which kernels see that their host has ended: use \
         QueueLayout::with_slots"
    )]
    BareQueue,
    /// Block size that the kernel of the benchmark cannot work with.
    #[error(
        "blocks of {0} bytes cannot be stamped, looked at or landed: give a multiple of {unit}",
        unit = crate::bench::SECTOR
    )]
    BlockSize(u32),
    /// Any other call that the driver refused.
    #[error("{call} failed with {error}: look at dmesg for what the driver says (NVRM, Xid)")]
    Driver {
        /// The function of the driver.
        call: &'static str,
        /// Its name for the reason.
        error: String,
    },
}
