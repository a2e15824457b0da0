//! Memory that is registered for any number of operations.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;

use super::error::table_error;
use super::request::Target;
use crate::engine::Engine;
use crate::engine::place::Registration;
use crate::memory::{Export, reap};
use crate::op::{Kind, Place};

/// Memory that an engine has registered.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Memory {
    /// `None` once it was closed.
    live: Mutex<Option<Live>>,
    len: usize,
}

#[derive(Clone)]
struct Live {
    registration: Arc<Registration>,
    export: Arc<Export>,
}

impl Memory {
    pub(crate) fn new(engine: &Arc<Engine>, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let export = Export::new(object, false)?;
        let whole = export.span(0, None)?;
        let len = whole.len();
        if len == 0 {
            return Err(PyValueError::new_err(
                "the buffer is empty: there is nothing to register",
            ));
        }
        let registered = object.py().detach(|| Registration::new(engine, &whole));
        let registration = Arc::new(registered?.map_err(|error| table_error(&error))?);
        let live = Live {
            registration,
            export,
        };
        Ok(Self {
            live: Mutex::new(Some(live)),
            len,
        })
    }

    /// Returns all of the memory, for operations of an engine, and where its loop finds it.
    pub(crate) fn whole(
        &self,
        engine: &Arc<Engine>,
        kind: Kind,
    ) -> PyResult<(Arc<Export>, Arc<Registration>)> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Live {
            registration,
            export,
        }) = &*live
        else {
            return Err(PyValueError::new_err("the memory is closed"));
        };
        if !registration.is_of(engine) {
            return Err(PyValueError::new_err(
                "the memory is registered with another engine than the file's",
            ));
        }
        if kind == Kind::Read && export.is_read_only() {
            return Err(PyBufferError::new_err(
                "the memory is read-only, and a read writes to it: register a writable buffer",
            ));
        }
        Ok((Arc::clone(export), Arc::clone(registration)))
    }

    /// Returns a part of the memory, for an operation of an engine.
    pub(crate) fn target(
        &self,
        engine: &Arc<Engine>,
        kind: Kind,
        at: usize,
        size: Option<usize>,
    ) -> PyResult<Target> {
        let (export, registration) = self.whole(engine, kind)?;
        let place = Place::Registered { registration, at };
        Ok(Target::Host(export.span(at, size)?, Some(place)))
    }
}

#[pymethods]
impl Memory {
    /// Waits for operations that use the memory, and gives it back.
    fn close(&self, py: Python<'_>) {
        let live = self
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(live) = live {
            py.detach(|| live.registration.end());
            drop(live);
            reap(py);
        }
    }

    #[getter]
    fn closed(&self) -> bool {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    const fn __len__(&self) -> usize {
        self.len
    }

    const fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        self.close(py);
    }
}
