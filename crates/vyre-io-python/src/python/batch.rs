//! The results of operations that were begun together.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView};

use super::wait::{Pending, awaited};

/// The results of operations that were begun together.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Batch {
    pub(crate) pending: Pending,
    pub(crate) key: Option<u64>,
}

#[pymethods]
impl Batch {
    /// Waits for all results, and returns them. Raises the first error.
    #[pyo3(signature = (timeout = None))]
    fn result<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        self.pending.wait(py, timeout)?;
        let results: Vec<i64> = (0..self.pending.batch.len())
            .map(|index| self.pending.result(py, index))
            .collect::<PyResult<_>>()?;
        PyList::new(py, results)
    }

    /// Waits for all results, and returns them: numbers of bytes, and exceptions.
    #[pyo3(signature = (timeout = None))]
    fn outcomes<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        self.pending.wait(py, timeout)?;
        let outcomes = PyList::empty(py);
        for index in 0..self.pending.batch.len() {
            match self.pending.result(py, index) {
                Ok(count) => outcomes.append(count)?,
                Err(error) => {
                    let value: Bound<'_, PyBaseException> = error.into_value(py).into_bound(py);
                    outcomes.append(value)?;
                }
            }
        }
        Ok(outcomes)
    }

    /// Waits for all results, and returns them as numbers of 64 bits: of bytes, or the negative of an errno.
    #[pyo3(signature = (timeout = None))]
    fn counts<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.pending.wait(py, timeout)?;
        let batch = &self.pending.batch;
        let words = (0..batch.len()).flat_map(|index| batch.word(index).to_ne_bytes());
        let bytes = PyBytes::new(py, &words.collect::<Vec<u8>>());
        PyMemoryView::from(&bytes)?.call_method1("cast", ("q",))
    }

    /// Returns the number that the batch was submitted with.
    #[getter]
    const fn key(&self) -> Option<u64> {
        self.key
    }

    /// Returns whether all results are there.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        self.pending.is_done(py)
    }

    /// Gives the operations up, unless all are done.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        self.pending.cancel(py)
    }

    /// Returns whether the operations were given up.
    fn cancelled(&self) -> bool {
        self.pending.batch.is_cancelled()
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        awaited(slf.as_any(), &this.pending, |py| {
            Ok(this.result(py, None)?.into_any())
        })
    }

    fn __len__(&self) -> usize {
        self.pending.batch.len()
    }
}
