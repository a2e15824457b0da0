//! The result of one operation.

use pyo3::prelude::*;

use super::wait::{Pending, awaited};

/// The result of an operation that has begun.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Future(pub(crate) Pending);

#[pymethods]
impl Future {
    /// Waits for the number of bytes that were moved.
    #[pyo3(signature = (timeout = None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<i64> {
        self.0.wait(py, timeout)?;
        self.0.result(py, 0)
    }

    /// Returns whether the result is there.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.is_done(py)
    }

    /// Gives the operation up, unless it is done.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.cancel(py)
    }

    /// Returns whether the operation was given up.
    fn cancelled(&self) -> bool {
        self.0.batch.is_cancelled()
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        awaited(slf.as_any(), &this.0, |py| {
            Ok(this.0.result(py, 0)?.into_pyobject(py)?.into_any())
        })
    }

    fn __repr__(&self) -> String {
        let state = match (self.0.batch.is_cancelled(), self.0.batch.is_done()) {
            (true, _) => "cancelled",
            (false, true) => "done",
            (false, false) => "pending",
        };
        format!("<vyre_io.Future {state}>")
    }
}
