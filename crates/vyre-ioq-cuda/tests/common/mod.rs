//! What all tests on a GPU share.

use vyre_ioq_cuda::{CudaError, Gpu};

/// The GPU, or none and a loud word why.
pub(crate) fn gpu(test: &str) -> Option<Gpu> {
    match Gpu::open(0) {
        Ok(gpu) => Some(gpu),
        Err(error @ (CudaError::NoDriver | CudaError::NoDevice)) => {
            eprintln!("SKIPPED: {test}: {error}");
            None
        }
        Err(error) => panic!("there is a GPU, but {error}"),
    }
}
