//! Reasons of failed calls that are about GPUs.

use vyre_io::cuda::CudaError;
use vyre_io::cuda::view::ViewError;
use vyre_io::mapped::{Errno, MapError};

use crate::code::Code;
use crate::failure::Failure;

impl Failure {
    /// The kernel did not say whether a mapping shows its file.
    pub(crate) fn check(errno: Errno) -> Self {
        let message = format!("the state of the file cannot be read ({errno}): is /proc mounted?");
        Self::new(Code::Examine, message).errno(errno.raw_os_error())
    }
}

const fn of_cuda(error: &CudaError) -> Code {
    match error {
        CudaError::NoDriver | CudaError::StaticProgram => Code::NoDriver,
        CudaError::NoDevice | CudaError::NoSuchDevice { .. } => Code::NoDevice,
        CudaError::TooOld { .. } | CudaError::CannotMap(_) => Code::GpuUnfit,
        CudaError::NoContext | CudaError::NotPrimary => Code::NoContext,
        CudaError::OutOfMemory(_) => Code::OutOfMemory,
        CudaError::OtherGpu(_) => Code::BadArgument,
        CudaError::Driver { .. } => Code::Driver,
        _ => Code::Other,
    }
}

impl From<CudaError> for Failure {
    fn from(error: CudaError) -> Self {
        Self::new(of_cuda(&error), error)
    }
}

impl From<ViewError> for Failure {
    fn from(error: ViewError) -> Self {
        let mut errno = 0;
        let code = match &error {
            ViewError::Map(reason) => {
                if let MapError::Query(found) | MapError::Map(found) = reason {
                    errno = found.raw_os_error();
                }
                Code::NotMappable
            }
            ViewError::Unsupported(_) | ViewError::OtherAddresses(_) => Code::GpuUnfit,
            ViewError::WindowBytes(_) => Code::BadArgument,
            ViewError::NotPages => Code::NotPages,
            ViewError::PastEnd { .. } => Code::PastEnd,
            ViewError::OutOfRange { .. } => Code::OutOfRange,
            ViewError::TooShort { .. } => Code::TooShort,
            ViewError::Cancelled => Code::Cancelled,
            ViewError::Populate(found) => {
                errno = found.raw_os_error();
                Code::Populate
            }
            ViewError::NoThread(_) => Code::Thread,
            ViewError::Read { .. } => Code::ReadFailed,
            ViewError::PinLimit { .. } => Code::PinLimit,
            ViewError::Pin { .. } => Code::PinRefused,
            ViewError::Cuda(reason) => of_cuda(reason),
            _ => Code::Other,
        };
        Self::new(code, error).errno(errno)
    }
}
