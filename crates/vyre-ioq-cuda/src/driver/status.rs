//! Status codes of the driver.

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

use crate::error::CudaError;

/// Converts the driver's status to a result.
pub(super) fn check(call: &'static str, answer: sys::CUresult) -> Result<(), CudaError> {
    if answer == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    Err(CudaError::Driver {
        call,
        error: name_of(answer),
    })
}

pub(super) fn name_of(answer: sys::CUresult) -> String {
    DriverError(answer).error_name().map_or_else(
        |_| format!("error {}", answer as u32),
        |name| name.to_string_lossy().into_owned(),
    )
}
