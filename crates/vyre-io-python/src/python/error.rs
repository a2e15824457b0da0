//! Exceptions.

use std::io;
use std::path::Path;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use vyre_io::{SpawnError, TableError};

use crate::engine::Refused;

/// Returns the exception of an errno, which is one of the subclasses of `OSError`, with the name of the file.
pub(crate) fn os_error(py: Python<'_>, errno: i32, path: &Path) -> PyErr {
    let text = || -> PyResult<String> {
        py.import("os")?
            .call_method1("strerror", (errno,))?
            .extract()
    };
    match text() {
        Ok(text) => PyOSError::new_err((errno, text, path.as_os_str().to_owned())),
        Err(error) => error,
    }
}

/// Returns the exception of an error of Rust's library.
pub(crate) fn io_error(py: Python<'_>, error: &std::io::Error, path: &Path) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => os_error(py, errno, path),
        None => {
            let errno = match error.kind() {
                io::ErrorKind::InvalidInput => libc::EINVAL,
                _ => libc::EIO,
            };
            PyOSError::new_err((errno, error.to_string(), path.as_os_str().to_owned()))
        }
    }
}

impl From<Refused> for PyErr {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Forked => PyRuntimeError::new_err(
                "this belongs to the process that this one was forked from: make a new one here",
            ),
            Refused::Closed => PyValueError::new_err("the engine is closed"),
        }
    }
}

/// Returns the exception of an engine that did not start.
pub(crate) fn spawn_error(error: &SpawnError) -> PyErr {
    PyOSError::new_err(format!("the engine did not start: {error}"))
}

/// Returns the exception of memory that the loop does not take.
pub(crate) fn table_error(error: &TableError) -> PyErr {
    PyOSError::new_err(format!("the memory cannot be registered: {error}"))
}
