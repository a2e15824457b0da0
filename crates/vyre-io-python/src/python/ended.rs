//! Ends of batches, for event loops.

use std::sync::Arc;

use pyo3::prelude::*;

use super::batch::Batch as PyBatch;
use super::future::Future;
use super::wait::Pending;
use crate::ended::Ended as Core;
use crate::memory::reap;

/// The operations that the tasks of an event loop wait for, by number.
#[pyclass(frozen, module = "vyre_io._native", name = "_Ended")]
pub(crate) struct Ended(Arc<Core>);

#[pymethods]
impl Ended {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Core::new()?))
    }

    /// Returns a descriptor that is readable once operations have ended.
    fn fileno(&self) -> i32 {
        self.0.descriptor()
    }

    /// Has the number reported once a `Future` or `Batch` has ended, or was given up.
    fn watch(&self, py: Python<'_>, operation: &Bound<'_, PyAny>, key: u64) -> PyResult<()> {
        if let Ok(future) = operation.cast_exact::<Future>() {
            return self.watch_pending(py, &future.get().0, key);
        }
        self.watch_pending(py, &operation.cast_exact::<PyBatch>()?.get().pending, key)
    }

    /// Returns the numbers of the operations that have ended since the last call.
    fn take(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        let taken = py.detach(|| self.0.take())?;
        reap(py);
        Ok(taken.into_iter().map(|(key, _)| key).collect())
    }
}

impl Ended {
    fn watch_pending(&self, py: Python<'_>, pending: &Pending, key: u64) -> PyResult<()> {
        py.detach(|| {
            pending.batch.watch(key, &self.0, true);
            match &pending.engine {
                Some(engine) => self.0.listen_to(engine),
                None => Ok(()),
            }
        })?;
        reap(py);
        Ok(())
    }
}
