//! Code that all tests on a GPU share.

use std::fmt::Display;
use std::io::Write;
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vyre_ioq_cuda::{CudaError, Gpu};

/// A GPU that no other test uses meanwhile: much of what CUDA is asked for waits for all kernels of
/// the process, those too that wait for a loop that is about to ask it for something.
pub(crate) struct Alone {
    gpu: Gpu,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Alone {
    type Target = Gpu;

    fn deref(&self) -> &Gpu {
        &self.gpu
    }
}

/// Reports that a test cannot run. Writes to stderr directly, since the harness hides what the macros
/// print in a test that passes: `cargo xtask ci` counts these lines.
pub(crate) fn skip(test: &str, why: impl Display) {
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The GPU, or none and a loud word why.
pub(crate) fn gpu(test: &str) -> Option<Alone> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match Gpu::open(0) {
        Ok(gpu) => Some(Alone { gpu, _turn: turn }),
        Err(error @ (CudaError::NoDriver | CudaError::StaticProgram | CudaError::NoDevice)) => {
            skip(test, error);
            None
        }
        Err(error) => panic!("there is a GPU, but {error}"),
    }
}
