use std::fmt;
use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute as Attribute;

use crate::driver::{self, Context};
use crate::error::CudaError;

/// The oldest compute capability that has memory orderings.
pub(crate) const OLDEST: (u32, u32) = (7, 0);

/// A CUDA device that can be the device of a queue.
///
/// A clone names the same one. CUDA is loaded by the first call of [`open`](Self::open).
#[derive(Clone, Debug)]
pub struct Gpu {
    context: Arc<Context>,
    capabilities: Arc<Capabilities>,
}

/// What a GPU is, and what it can do with memory of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// What the driver calls it.
    pub name: String,
    /// The compute capability: 9 and 0 for 9.0.
    pub compute: (u32, u32),
    /// The version of CUDA that the driver was made for: 13 and 0 for 13.0.
    pub driver: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Whether kernels can access memory of the host. [`Gpu::open`] refuses a GPU that cannot.
    pub maps_host_memory: bool,
    /// Whether atomic read-modify-writes of the GPU and of the CPU exclude each other
    /// (`hostNativeAtomicSupported`). The queue needs none.
    pub host_native_atomics: bool,
    /// How bytes get from a file to a kernel.
    pub path: DataPath,
}

/// How bytes get from a file to a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataPath {
    /// io_uring moves them to and from host memory that the GPU reads and writes over its bus.
    /// Memory of the GPU itself cannot be registered with io_uring on a stock kernel.
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
    /// Opens a GPU by its number, from 0 on, as `CUDA_VISIBLE_DEVICES` leaves them.
    ///
    /// # Errors
    /// [`CudaError`]: what is missing, the driver first; or the GPU is too old or cannot map memory.
    pub fn open(ordinal: u32) -> Result<Self, CudaError> {
        let count = driver::start()?;
        if ordinal >= count {
            return Err(CudaError::NoSuchDevice { ordinal, count });
        }
        let context = Context::of(ordinal)?;
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

    /// What it can do.
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
            path: DataPath::Mapped,
        })
    }
}
