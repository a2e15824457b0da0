//! The results of operations that were begun together.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::wait::{Pending, awaited};

/// The results of operations that were begun together.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Batch(pub(crate) Pending);

#[pymethods]
impl Batch {
    /// Waits for all results, and returns them. Raises the first error.
    #[pyo3(signature = (timeout = None))]
    fn result<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        self.0.wait(py, timeout)?;
        let results: Vec<i64> = (0..self.0.batch.len())
            .map(|index| self.0.result(py, index))
            .collect::<PyResult<_>>()?;
        PyList::new(py, results)
    }

    /// Waits for all results, and returns them: numbers of bytes, and exceptions.
    #[pyo3(signature = (timeout = None))]
    fn outcomes<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        self.0.wait(py, timeout)?;
        let outcomes = PyList::empty(py);
        for index in 0..self.0.batch.len() {
            match self.0.result(py, index) {
                Ok(count) => outcomes.append(count)?,
                Err(error) => {
                    let value: Bound<'_, PyBaseException> = error.into_value(py).into_bound(py);
                    outcomes.append(value)?;
                }
            }
        }
        Ok(outcomes)
    }

    /// Returns whether all results are there.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.is_done(py)
    }

    /// Gives the operations up, unless all are done.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        self.0.cancel(py)
    }

    /// Returns whether the operations were given up.
    fn cancelled(&self) -> bool {
        self.0.batch.is_cancelled()
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        awaited(slf.as_any())
    }

    fn __len__(&self) -> usize {
        self.0.batch.len()
    }
}
