//! Files as arrays.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyAttributeError, PyBufferError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use vyre_io::cuda::CudaError;
use vyre_io::cuda::view::{self, ViewError, ViewState};
use vyre_io::mapped::MapError;

use super::error::io_error;
use crate::dlpack::{Array, CUDA, Device, HOST};
use crate::dtype::ElementType;
use crate::fork;
use crate::view::FilePart;

/// A part of a file, or of a copy of it, as an array of a GPU or of the host.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct FileView {
    path: PathBuf,
    dtype: &'static ElementType,
    shape: Vec<i64>,
    /// Offset of the array in the file, in bytes.
    offset: u64,
    /// `None` once it was closed.
    part: Mutex<Option<FilePart>>,
    /// The process that made it, by its number of forks.
    born: u32,
}

/// Returns the number of bytes of an array, or an exception.
fn size_of(dtype: &ElementType, shape: &[i64]) -> PyResult<u64> {
    let size = shape.iter().try_fold(dtype.size(), |size, &length| {
        size.checked_mul(u64::try_from(length).ok()?)
    });
    match size {
        Some(size) if i64::try_from(size).is_ok() => Ok(size),
        _ => Err(PyValueError::new_err(
            "the shape is negative, or larger than any file: give the lengths of its dimensions",
        )),
    }
}

/// Returns the errno that comes closest.
fn errno_of(error: &ViewError) -> i32 {
    match error {
        ViewError::Map(MapError::Query(errno)) | ViewError::Populate(errno) => errno.raw_os_error(),
        ViewError::Map(_) | ViewError::Unsupported(_) => libc::EOPNOTSUPP,
        ViewError::PinLimit { .. } => libc::ENOMEM,
        ViewError::NoThread(_) => libc::EAGAIN,
        ViewError::Cuda(
            CudaError::NoDriver | CudaError::NoDevice | CudaError::NoSuchDevice { .. },
        ) => libc::ENODEV,
        ViewError::Cuda(CudaError::OutOfMemory(_)) => libc::ENOMEM,
        _ => libc::EIO,
    }
}

fn view_error(error: &ViewError, path: &Path) -> PyErr {
    match error {
        ViewError::PastEnd { .. } | ViewError::NotPages | ViewError::OutOfRange { .. } => {
            PyValueError::new_err(error.to_string())
        }
        _ => PyOSError::new_err((
            errno_of(error),
            error.to_string(),
            path.as_os_str().to_owned(),
        )),
    }
}

impl FileView {
    fn part(&self) -> PyResult<FilePart> {
        if self.born != fork::generation() {
            return Err(crate::engine::Refused::Forked.into());
        }
        let part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        part.clone()
            .ok_or_else(|| PyValueError::new_err("the view is closed"))
    }
}

#[pymethods]
impl FileView {
    /// Makes an array of a part of a file. `way` is "pin", "map" or "copy".
    #[new]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        dtype: &str,
        shape: Vec<i64>,
        offset: u64,
        way: &str,
        gpu: u32,
    ) -> PyResult<Self> {
        let dtype = ElementType::of(dtype).ok_or_else(|| {
            let names = ElementType::names();
            PyTypeError::new_err(format!(
                "{dtype:?} is no type of elements: give one of {names}"
            ))
        })?;
        let size = size_of(dtype, &shape)?;
        if size == 0 {
            return Err(PyValueError::new_err(
                "the array has no elements: give a larger shape",
            ));
        }
        // The memory of a copy begins with its first element.
        if way != "copy" && !offset.is_multiple_of(dtype.size()) {
            return Err(PyValueError::new_err(format!(
                "the offset {offset} is not a multiple of the {} bytes of {}: devices read aligned elements alone, so \
                 ask for a copy, or read the file",
                dtype.size(),
                dtype.name
            )));
        }
        if offset
            .checked_add(size)
            .is_none_or(|end| i64::try_from(end).is_err())
        {
            return Err(PyValueError::new_err(
                "the offset is past the end of any file: give a smaller one",
            ));
        }
        let made = py.detach(|| -> Result<_, Result<ViewError, std::io::Error>> {
            let file = File::open(&path).map_err(Err)?;
            let made = match way {
                "pin" => FilePart::pinned(&file, offset, size, gpu),
                "map" => FilePart::mapped(&file, offset, size),
                _ => FilePart::copied(&file, offset, size, gpu),
            };
            made.map_err(Ok)
        });
        let part = made.map_err(|error| match error {
            Ok(error) => view_error(&error, &path),
            Err(error) => io_error(py, &error, &path),
        })?;
        Ok(Self {
            path,
            dtype,
            shape,
            offset,
            part: Mutex::new(Some(part)),
            born: fork::generation(),
        })
    }

    /// Returns an array of other elements of the same bytes, from byte `at` on, which shares the pages.
    fn part_of(&self, dtype: &str, shape: Vec<i64>, at: u64) -> PyResult<Self> {
        let mut part = self.part()?;
        let dtype =
            ElementType::of(dtype).ok_or_else(|| PyTypeError::new_err("no type of elements"))?;
        let (size, whole) = (size_of(dtype, &shape)?, size_of(self.dtype, &self.shape)?);
        let is_inside = at.checked_add(size).is_some_and(|end| end <= whole);
        if size == 0 || !is_inside || !(part.address + at).is_multiple_of(dtype.size()) {
            return Err(PyValueError::new_err(
                "the part is empty, not inside the view, or not aligned",
            ));
        }
        part.address += at;
        Ok(Self {
            path: self.path.clone(),
            dtype,
            shape,
            offset: self.offset + at,
            part: Mutex::new(Some(part)),
            born: self.born,
        })
    }

    #[getter]
    fn __cuda_array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let part = self.part()?;
        let (Some(typestr), Some(_)) = (self.dtype.typestr, part.gpu) else {
            // So that a library goes on to `__dlpack__`.
            return Err(PyAttributeError::new_err(
                "the interface knows neither this type nor the host's memory: use DLPack",
            ));
        };
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("shape", PyTuple::new(py, &self.shape)?)?;
        interface.set_item("typestr", typestr)?;
        // PyTorch refuses the flag for memory that may only be read.
        interface.set_item("data", (part.address, false))?;
        interface.set_item("strides", py.None())?;
        interface.set_item("stream", py.None())?;
        Ok(interface)
    }

    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__(
        &self,
        py: Python<'_>,
        stream: Option<&Bound<'_, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Py<PyAny>> {
        // Nothing on any stream writes the bytes.
        let _ = stream;
        let part = self.part()?;
        let device = device_of(&part);
        if copy == Some(true) || dl_device.is_some_and(|wanted| wanted != device) {
            return Err(PyBufferError::new_err(
                "a view is not copied here: copy the array that the library makes of it",
            ));
        }
        let array = Array {
            address: part.address,
            device: Device {
                kind: device.0,
                ordinal: device.1,
            },
            dtype: self.dtype.dlpack,
            shape: self.shape.clone(),
            is_read_only: part.is_read_only(),
            owner: Box::new(part.pages),
        };
        array.into_capsule(py, max_version.is_some_and(|(major, _)| major >= 1))
    }

    fn __dlpack_device__(&self) -> PyResult<(i32, i32)> {
        Ok(device_of(&self.part()?))
    }

    /// Says whether the array shows what the file holds.
    fn check(&self, py: Python<'_>) -> PyResult<&'static str> {
        let part = self.part()?;
        let state = py.detach(|| part.check());
        let error = |errno: vyre_io::mapped::Errno| io_error(py, &errno.into(), &self.path);
        Ok(match state.map_err(error)? {
            ViewState::Current => "current",
            ViewState::Shorter { .. } => "shorter",
            _ => "detached",
        })
    }

    /// Gives the pages up, as far as no array of a library needs them.
    fn close(&self) {
        let part = self
            .part
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(part);
    }

    #[getter]
    fn closed(&self) -> bool {
        let part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        part.is_none()
    }

    #[getter]
    fn pinned_bytes(&self) -> PyResult<u64> {
        Ok(self.part()?.pinned)
    }

    #[getter]
    const fn dtype(&self) -> &'static str {
        self.dtype.name
    }

    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.shape)
    }

    #[getter]
    fn nbytes(&self) -> PyResult<u64> {
        size_of(self.dtype, &self.shape)
    }

    #[getter]
    const fn offset(&self) -> u64 {
        self.offset
    }

    fn __repr__(&self) -> String {
        let (path, name, shape) = (&self.path, self.dtype.name, &self.shape);
        format!("<vyre_io.FileView {path:?} {name} {shape:?}>")
    }

    const fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, PyAny>) {
        self.close();
    }
}

fn device_of(part: &FilePart) -> (i32, i32) {
    match part.gpu {
        Some(ordinal) => (CUDA, ordinal.cast_signed()),
        None => (HOST, 0),
    }
}

/// Returns the number of bytes that views pin.
#[pyfunction]
pub(crate) fn pinned_bytes() -> u64 {
    view::pinned_bytes()
}

/// Sets the number of bytes that views may pin.
#[pyfunction]
pub(crate) fn set_pin_limit(bytes: u64) {
    view::set_pin_limit(bytes);
}
