//! Memory of a GPU that belongs to Python objects.
#![expect(
    unsafe_code,
    reason = "hands memory of Python objects to the copy engine"
)]

use std::ops::Range;
use std::sync::Arc;

use pyo3::exceptions::{PyBufferError, PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vyre_io::cuda::{Gpu, GpuMemory};

use crate::dlpack::{self, CUDA};
use crate::memory::{Held, Returned, returned};

/// The memory of a GPU of a Python object, contiguous, which the object keeps until this is dropped.
#[derive(Debug)]
struct Owner {
    /// `None` only while this is dropped.
    held: Option<Held>,
    returned: Arc<Returned>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.returned.push(self.held.take());
    }
}

/// A part of a Python object's memory of a GPU.
#[derive(Clone, Debug)]
pub(crate) struct GpuSpan {
    pub(crate) gpu: Gpu,
    /// The number of the GPU, if its context is the one that all libraries share.
    pub(crate) ordinal: Option<u32>,
    pub(crate) memory: GpuMemory,
    pub(crate) range: Range<usize>,
}

/// Numbers of an object's memory.
struct Found {
    address: u64,
    len: usize,
    gpu: Gpu,
    ordinal: Option<u32>,
    is_read_only: bool,
    held: Held,
}

impl GpuSpan {
    /// Takes an object's memory of a GPU, or returns `None` if it has none. To be `written`, it must not be read-only.
    pub(crate) fn of(
        object: &Bound<'_, PyAny>,
        written: bool,
        (at, size): (usize, Option<usize>),
    ) -> PyResult<Option<Self>> {
        let Some(found) = find(object)? else {
            return Ok(None);
        };
        let Found {
            address,
            len,
            gpu,
            ordinal,
            is_read_only,
            held,
        } = found;
        let owner = Owner {
            held: Some(held),
            returned: returned(object.py()),
        };
        if written && is_read_only {
            return Err(PyBufferError::new_err(
                "the array is read-only, and a read writes to it: give a writable one",
            ));
        }
        let end = size.map_or(Some(len.max(at)), |size| at.checked_add(size));
        let range = match end {
            Some(end) if end <= len => at..end,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "{} bytes at {at} are not inside the buffer of {len}: give a smaller size",
                    size.unwrap_or(0)
                )));
            }
        };
        // SAFETY: the object keeps the bytes until `owner` is dropped. What other code does with them meanwhile is what
        // the documentation of operations allows.
        let memory = unsafe { GpuMemory::from_raw(&gpu, address, len, owner) };
        Ok(Some(Self {
            gpu,
            ordinal,
            memory,
            range,
        }))
    }
}

fn open(ordinal: u32) -> PyResult<Gpu> {
    Gpu::open(ordinal).map_err(|error| PyOSError::new_err((libc::ENODEV, error.to_string())))
}

fn find(object: &Bound<'_, PyAny>) -> PyResult<Option<Found>> {
    let py = object.py();
    // It knows the device, and every type.
    if object.hasattr(intern!(py, "__dlpack_device__"))? {
        let (kind, ordinal): (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
        if kind != CUDA {
            return Ok(None);
        }
        let ordinal = u32::try_from(ordinal).unwrap_or(0);
        let taken = dlpack::take(object)?;
        return Ok(Some(Found {
            address: taken.address,
            len: taken.len,
            gpu: open(ordinal)?,
            ordinal: Some(ordinal),
            is_read_only: taken.is_read_only,
            held: Held::Tensor(taken),
        }));
    }
    match object.getattr(intern!(py, "__cuda_array_interface__")) {
        Ok(interface) => of_interface(object, interface.cast()?).map(Some),
        Err(_) => Ok(None),
    }
}

fn of_interface(object: &Bound<'_, PyAny>, interface: &Bound<'_, PyDict>) -> PyResult<Found> {
    let wrong = |what: &str| {
        PyTypeError::new_err(format!(
            "the object's __cuda_array_interface__ has no {what}"
        ))
    };
    let entry = |name: &str| interface.get_item(name);
    let shape: Vec<usize> = entry("shape")?.ok_or_else(|| wrong("shape"))?.extract()?;
    let (address, is_read_only): (u64, bool) =
        entry("data")?.ok_or_else(|| wrong("data"))?.extract()?;
    let kind: String = entry("typestr")?
        .ok_or_else(|| wrong("typestr"))?
        .extract()?;
    let item: usize = kind
        .get(2..)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| wrong("typestr that is known here"))?;
    let len = shape
        .iter()
        .try_fold(item, |bytes, &length| bytes.checked_mul(length))
        .ok_or_else(|| wrong("shape that an array may have"))?;
    let strides: Option<Vec<isize>> = match entry("strides")? {
        Some(strides) if !strides.is_none() => Some(strides.extract()?),
        _ => None,
    };
    let mut expected = item;
    let is_contiguous = strides.is_none_or(|strides| {
        let pairs = strides.iter().zip(&shape).rev();
        len == 0
            || pairs.fold(true, |so_far, (&stride, &length)| {
                let fits = length == 1 || stride.unsigned_abs() == expected && stride > 0;
                expected *= length;
                so_far && fits
            })
    });
    if !is_contiguous {
        return Err(PyBufferError::new_err(
            "the array is not contiguous: give a contiguous one, such as a copy",
        ));
    }
    let gpu = match Gpu::current() {
        Ok(gpu) => gpu,
        Err(_) => open(0)?,
    };
    Ok(Found {
        address,
        len,
        gpu,
        ordinal: None,
        is_read_only,
        held: Held::Object(object.clone().unbind()),
    })
}
