//! GPUs and their properties.
#![expect(unsafe_code, reason = "the caller promises that a context stays")]

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use crate::driver::{self, Context};
use crate::error::CudaError;

/// The oldest compute capability with memory orderings.
pub(crate) const OLDEST: (u32, u32) = (7, 0);

/// A CUDA GPU that can be the device of a queue.
///
/// Clones name the same GPU. The first call of [`open`](Self::open) loads CUDA.
#[derive(Clone, Debug)]
pub struct Gpu {
    context: Arc<Context>,
    capabilities: Arc<Capabilities>,
}

/// The properties of a GPU, and its access to host memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The driver's name for the GPU.
    pub name: String,
    /// The compute capability: (9, 0) is 9.0.
    pub compute: (u32, u32),
    /// The CUDA version of the driver: (13, 0) is 13.0.
    pub driver: (u32, u32),
    /// The number of multiprocessors.
    pub multiprocessors: u32,
    /// `true` if kernels can access host memory. [`Gpu::open`] refuses a GPU that cannot.
    pub maps_host_memory: bool,
    /// `true` if atomic read-modify-writes of GPU and CPU exclude each other
    /// (`hostNativeAtomicSupported`). The queue does not depend on it.
    pub host_native_atomics: bool,
    /// `true` if pages that the host may only read can be pinned for kernels
    /// (`hostRegisterReadOnlySupported`). A view of a file needs it.
    pub pins_read_only: bool,
    /// `true` if pinned memory has the same address for kernels as for the host
    /// (`canUseHostPointerForRegisteredMem`). [`Windows`](crate::windows::Windows) of a file need it.
    pub uses_host_pointers: bool,
    /// The path of bytes from a file to a kernel.
    pub path: DataPath,
}

/// The path of bytes from a file to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataPath {
    /// io_uring moves the bytes to and from host memory that the GPU accesses over its bus. An
    /// unmodified Linux kernel cannot register GPU memory with io_uring.
    Mapped,
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapped => f.write_str(
                "mapped host memory: io_uring cannot register memory of the GPU on a stock kernel",
            ),
        }
    }
}

impl Gpu {
    /// Opens the GPU with this number. Numbers start at 0 and count the GPUs that
    /// `CUDA_VISIBLE_DEVICES` leaves visible.
    ///
    /// # Errors
    /// [`CudaError`] if the driver or the GPU is missing, if the GPU is too old, or if it cannot map
    /// host memory.
    pub fn open(ordinal: u32) -> Result<Self, CudaError> {
        let count = driver::start()?;
        if ordinal >= count {
            return Err(CudaError::NoSuchDevice { ordinal, count });
        }
        Self::of(Context::of(ordinal)?)
    }

    /// Opens the GPU of the calling thread's current context, as the CUDA runtime, PyTorch and CuPy leave it.
    ///
    /// # Errors
    /// [`CudaError::NoContext`] if the thread has no current context, [`CudaError::NotPrimary`] if it is not
    /// the primary one of its GPU, or as for [`open`](Self::open).
    pub fn current() -> Result<Self, CudaError> {
        driver::start()?;
        let ordinal = driver::current_ordinal()?.ok_or(CudaError::NoContext)?;
        let gpu = Self::open(ordinal)?;
        if gpu.context.is_current()? {
            Ok(gpu)
        } else {
            Err(CudaError::NotPrimary)
        }
    }

    /// Takes a context that other code made, a `CUcontext`, instead of the primary one of a GPU.
    ///
    /// # Errors
    /// The same as for [`open`](Self::open).
    ///
    /// # Safety
    /// The context is not destroyed before everything that was made with the GPU is dropped.
    pub unsafe fn from_context(context: *mut c_void) -> Result<Self, CudaError> {
        driver::start()?;
        // SAFETY: the caller's promise. Everything made with the GPU holds a clone.
        Self::of(unsafe { Context::borrowed(context) }?)
    }

    fn of(context: Arc<Context>) -> Result<Self, CudaError> {
        let capabilities = Capabilities::of(&context)?;
        let (major, minor) = capabilities.compute;
        let name = capabilities.name.clone();
        if capabilities.compute < OLDEST {
            return Err(CudaError::TooOld { name, major, minor });
        }
        if !capabilities.maps_host_memory {
            return Err(CudaError::CannotMap(name));
        }
        Ok(Self {
            context,
            capabilities: Arc::new(capabilities),
        })
    }

    /// Returns the properties of the GPU.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}

impl Capabilities {
    fn of(context: &Context) -> Result<Self, CudaError> {
        let is = |which| context.attribute(which).map(|value| value != 0);
        let version = driver::version()?;
        Ok(Self {
            name: context.name()?,
            compute: (
                context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            driver: (version / 1000, version % 1000 / 10),
            multiprocessors: context
                .attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            maps_host_memory: is(Attribute::CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY)?
                && is(Attribute::CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED)?,
            host_native_atomics: is(Attribute::CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED)?,
            pins_read_only: is(Attribute::CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED)?,
            uses_host_pointers: is(
                Attribute::CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
            )?,
            path: DataPath::Mapped,
        })
    }
}
