//! Requests of which arrays describe many.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::file::File;
use crate::at_once::Part;

/// Reads of one file into one buffer.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Reads(pub(crate) Many);

/// Writes of one buffer to one file.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Writes(pub(crate) Many);

/// Parts of a file, and the memory to read them to or to write them from.
pub(crate) struct Many {
    pub(crate) file: Py<File>,
    pub(crate) buffer: Py<PyAny>,
    pub(crate) parts: Vec<Part>,
}

#[pymethods]
impl Reads {
    #[new]
    #[pyo3(signature = (file, buffer, offsets, size, *, at = None))]
    fn new(
        file: Py<File>,
        buffer: Py<PyAny>,
        offsets: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Many::new(file, buffer, offsets, size, at).map(Self)
    }

    const fn __len__(&self) -> usize {
        self.0.parts.len()
    }
}

#[pymethods]
impl Writes {
    #[new]
    #[pyo3(signature = (file, buffer, offsets, size, *, at = None))]
    fn new(
        file: Py<File>,
        buffer: Py<PyAny>,
        offsets: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Many::new(file, buffer, offsets, size, at).map(Self)
    }

    const fn __len__(&self) -> usize {
        self.0.parts.len()
    }
}

impl Many {
    fn new(
        file: Py<File>,
        buffer: Py<PyAny>,
        offsets: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        at: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let offsets = numbers("offsets", offsets)?;
        let count = offsets.len();
        let sizes = match size.extract::<usize>() {
            Ok(size) => vec![size; count],
            Err(_) => sizes_of("size", numbers("size", size)?)?,
        };
        let at = match at {
            Some(at) => sizes_of("at", numbers("at", at)?)?,
            None => one_after_the_other(&sizes)?,
        };
        for (name, len) in [("size", sizes.len()), ("at", at.len())] {
            if len != count {
                return Err(PyValueError::new_err(format!(
                    "{name} has {len} numbers, and offsets has {count}"
                )));
            }
        }
        let parts = offsets.into_iter().zip(at).zip(sizes);
        Ok(Self {
            file,
            buffer,
            parts: parts
                .map(|((offset, at), len)| Part { offset, at, len })
                .collect(),
        })
    }
}

/// Returns the numbers of an array with a buffer, or of a sequence.
fn numbers(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    let py = object.py();
    if let Ok(buffer) = PyBuffer::<i64>::get(object) {
        let signed = buffer.to_vec(py)?.into_iter();
        return signed
            .map(|number| u64::try_from(number).map_err(|_| negative(name)))
            .collect();
    }
    if let Ok(buffer) = PyBuffer::<u64>::get(object) {
        return buffer.to_vec(py);
    }
    object.extract().map_err(|error: PyErr| {
        let (is_negative, is_type) = (
            error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py),
            error.is_instance_of::<PyTypeError>(py),
        );
        match (is_negative, is_type) {
            (true, _) => negative(name),
            (_, true) => PyTypeError::new_err(format!(
                "{name} is no array of 64-bit integers and no sequence of integers: give one, such as by \
                 astype(numpy.int64)"
            )),
            _ => error,
        }
    })
}

fn negative(name: &str) -> PyErr {
    PyValueError::new_err(format!(
        "{name} has a number that is negative, or has more than 64 bits"
    ))
}

fn sizes_of(name: &str, numbers: Vec<u64>) -> PyResult<Vec<usize>> {
    let sizes = numbers.into_iter().map(usize::try_from);
    sizes.collect::<Result<_, _>>().map_err(|_| negative(name))
}

/// Returns the places of parts without gaps.
fn one_after_the_other(sizes: &[usize]) -> PyResult<Vec<usize>> {
    let mut next = 0_usize;
    let places = sizes.iter().map(|&size| {
        let at = next;
        next = next.checked_add(size)?;
        Some(at)
    });
    places
        .collect::<Option<_>>()
        .ok_or_else(|| PyValueError::new_err("the sizes are too large for any memory"))
}
