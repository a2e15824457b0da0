//! Waiting for results without the interpreter lock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOverflowError, PyStopIteration, PyTimeoutError};
use pyo3::prelude::*;

use super::error::os_error;
use crate::batch::Batch;
use crate::engine::Engine;
use crate::memory::reap;

/// The time after which a wait looks for signals, such as that of Ctrl-C.
const SLICE: Duration = Duration::from_millis(20);

/// The results of operations, and the engine that they are in flight on. `None` if none is on an engine.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) batch: Arc<Batch>,
    pub(crate) engine: Option<Arc<Engine>>,
}

impl Pending {
    /// Returns whether all operations have ended.
    pub(crate) fn is_done(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.batch.is_done()
            && let Some(engine) = &self.engine
        {
            py.detach(|| engine.poll())?;
        }
        reap(py);
        Ok(self.batch.is_done())
    }

    /// Gives the operations up. Returns whether they were not done before.
    pub(crate) fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        if self.is_done(py)? || !self.batch.cancel() {
            return Ok(self.batch.is_cancelled());
        }
        if let Some(engine) = &self.engine {
            py.detach(|| engine.forget_cancelled())?;
            reap(py);
        }
        Ok(true)
    }

    /// Waits for the results, and raises if that takes longer than `timeout` seconds, or if they were given up.
    pub(crate) fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let limit = timeout.map(duration).transpose()?;
        self.check_cancelled(py)?;
        if self.batch.is_done() {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            let left = limit.map_or(SLICE, |limit| limit.saturating_sub(began.elapsed()));
            let is_done = py.detach(|| match &self.engine {
                Some(engine) => engine.wait(&self.batch, began, left.min(SLICE)),
                None => Ok(self.batch.wait(began, left.min(SLICE))),
            })?;
            if is_done {
                break;
            }
            py.check_signals()?;
            self.check_cancelled(py)?;
            if limit.is_some_and(|limit| began.elapsed() >= limit) {
                return Err(PyTimeoutError::new_err(format!(
                    "no result within {} s: the operation goes on",
                    timeout.unwrap_or_default()
                )));
            }
        }
        reap(py);
        self.check_cancelled(py)
    }

    /// Returns the result of an operation that has ended.
    pub(crate) fn result(&self, py: Python<'_>, index: usize) -> PyResult<i64> {
        self.batch
            .result(index)
            .map_err(|errno| os_error(py, errno, &self.batch.file(index).path))
    }

    fn check_cancelled(&self, py: Python<'_>) -> PyResult<()> {
        if !self.batch.is_cancelled() {
            return Ok(());
        }
        let class = py
            .import("concurrent.futures")?
            .getattr("CancelledError")?
            .cast_into()?;
        Err(PyErr::from_type(class, ()))
    }
}

/// Returns a time in seconds.
pub(crate) fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds.max(0.0))
        .map_err(|_| PyOverflowError::new_err("the timeout is too long"))
}

/// Returns the iterator behind `await` of an operation.
pub(crate) fn awaited<'py>(
    object: &Bound<'py, PyAny>,
    pending: &Pending,
    result: impl FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    if pending.is_done(py)? && !pending.batch.is_cancelled() {
        let ready = Ready(Mutex::new(Some(result(py)?.unbind())));
        return Ok(Bound::new(py, ready)?.into_any());
    }
    let coroutine = py
        .import("vyre_io._asyncio")?
        .call_method1("result_of", (object,))?;
    coroutine.call_method0("__await__")
}

/// The iterator behind `await` of an operation that has ended: it returns the result and never waits.
#[pyclass(frozen)]
struct Ready(Mutex<Option<Py<PyAny>>>);

#[pymethods]
impl Ready {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self) -> PyResult<()> {
        let value = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(PyStopIteration::new_err((value,)))
    }
}
