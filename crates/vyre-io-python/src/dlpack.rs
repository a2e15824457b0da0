//! DLPack, by which libraries for arrays hand each other memory without a copy: <https://dmlc.github.io/dlpack/>.
#![expect(unsafe_code, reason = "the interface is one of C")]

use std::any::Any;
use std::ffi::{CStr, c_void};
use std::{ptr, slice};

use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The type of an element, as DLPack numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct DataType {
    pub(crate) code: u8,
    pub(crate) bits: u8,
    pub(crate) lanes: u16,
}

/// A kind of device, as DLPack numbers it, and the number of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Device {
    pub(crate) kind: i32,
    pub(crate) ordinal: i32,
}

/// The number of the host's memory, of NVIDIA GPUs, and of the host's memory that a GPU has pinned.
pub(crate) const HOST: i32 = 1;
pub(crate) const CUDA: i32 = 2;
pub(crate) const CUDA_HOST: i32 = 3;

/// The version of the structures below.
const VERSION: [u32; 2] = [1, 1];
const READ_ONLY: u64 = 1;

const PLAIN: &CStr = c"dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
/// The names after the tensor was taken.
const PLAIN_TAKEN: &CStr = c"used_dltensor";
const VERSIONED_TAKEN: &CStr = c"used_dltensor_versioned";

#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: Device,
    dimensions: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`, which has no flags.
#[repr(C)]
struct Plain {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Plain)>,
}

/// `DLManagedTensorVersioned`.
#[repr(C)]
struct Versioned {
    version: [u32; 2],
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: Tensor,
}

/// The numbers that a tensor points to, and the owner of its memory.
struct Context {
    shape: Box<[i64]>,
    strides: Box<[i64]>,
    _owner: Box<dyn Any + Send>,
}

/// Memory that is handed out.
pub(crate) struct Array {
    /// The address for the device.
    pub(crate) address: u64,
    pub(crate) device: Device,
    pub(crate) dtype: DataType,
    pub(crate) shape: Vec<i64>,
    pub(crate) is_read_only: bool,
    /// Keeps the memory, and is dropped on any thread.
    pub(crate) owner: Box<dyn Any + Send>,
}

/// Returns the strides of elements that lie one after the other, in elements.
pub(crate) fn strides(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; shape.len()];
    for index in (1..shape.len()).rev() {
        strides[index - 1] = strides[index] * shape[index].max(1);
    }
    strides
}

impl Array {
    /// Returns a capsule for a library that takes DLPack 1, or one for a library that does not.
    pub(crate) fn into_capsule(self, py: Python<'_>, is_versioned: bool) -> PyResult<Py<PyAny>> {
        let mut context = Box::new(Context {
            strides: strides(&self.shape).into(),
            shape: self.shape.into(),
            _owner: self.owner,
        });
        let tensor = Tensor {
            // A number, and no pointer of this process's, where the device has an address space of its own.
            data: ptr::without_provenance_mut(self.address as usize),
            device: self.device,
            dimensions: context.shape.len() as i32,
            dtype: self.dtype,
            shape: context.shape.as_mut_ptr(),
            strides: context.strides.as_mut_ptr(),
            byte_offset: 0,
        };
        let context = Box::into_raw(context).cast();
        let (pointer, name): (*mut c_void, _) = if is_versioned {
            let managed = Versioned {
                version: VERSION,
                context,
                deleter: Some(delete_versioned),
                flags: if self.is_read_only { READ_ONLY } else { 0 },
                tensor,
            };
            (Box::into_raw(Box::new(managed)).cast(), VERSIONED)
        } else {
            let managed = Plain {
                tensor,
                context,
                deleter: Some(delete_plain),
            };
            (Box::into_raw(Box::new(managed)).cast(), PLAIN)
        };
        // SAFETY: the pointer is not null, the name lives for ever, and this thread has the interpreter's lock.
        let capsule = unsafe { ffi::PyCapsule_New(pointer, name.as_ptr(), Some(forget_capsule)) };
        // SAFETY: a new reference, or null with an exception.
        unsafe { Bound::from_owned_ptr_or_err(py, capsule) }.map(Bound::unbind)
    }
}

/// Frees what a library that has taken the tensor no longer needs.
unsafe extern "C" fn delete_versioned(managed: *mut Versioned) {
    // SAFETY: the library passes what it took out of the capsule, once, which `into_capsule` had boxed.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: `into_capsule` had boxed it for this tensor alone.
    drop(unsafe { Box::from_raw(managed.context.cast::<Context>()) });
}

/// Frees a tensor that has no version: see [`delete_versioned`].
unsafe extern "C" fn delete_plain(managed: *mut Plain) {
    // SAFETY: as in `delete_versioned`.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: as in `delete_versioned`.
    drop(unsafe { Box::from_raw(managed.context.cast::<Context>()) });
}

/// Frees a tensor that no library has taken: who takes it renames the capsule.
unsafe extern "C" fn forget_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: Python passes a capsule, and has the interpreter's lock.
    if unsafe { ffi::PyCapsule_IsValid(capsule, VERSIONED.as_ptr()) } != 0 {
        // SAFETY: as above; the name is that of the pointer.
        let managed = unsafe { ffi::PyCapsule_GetPointer(capsule, VERSIONED.as_ptr()) };
        // SAFETY: nobody took it, so it is dropped here alone.
        unsafe { delete_versioned(managed.cast()) };
    // SAFETY: as above.
    } else if unsafe { ffi::PyCapsule_IsValid(capsule, PLAIN.as_ptr()) } != 0 {
        // SAFETY: as above.
        let managed = unsafe { ffi::PyCapsule_GetPointer(capsule, PLAIN.as_ptr()) };
        // SAFETY: as above.
        unsafe { delete_plain(managed.cast()) };
    }
}

/// Memory of an array of another library, contiguous, which is kept until this is dropped. That needs the interpreter's
/// lock.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) address: u64,
    pub(crate) len: usize,
    pub(crate) device: Device,
    pub(crate) is_read_only: bool,
    managed: Managed,
}

#[derive(Clone, Copy, Debug)]
enum Managed {
    Plain(*mut Plain),
    Versioned(*mut Versioned),
}

// SAFETY: what the pointer points to is only passed to its deleter, by a thread with the interpreter's lock.
unsafe impl Send for Taken {}
// SAFETY: shared references give out numbers alone.
unsafe impl Sync for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        match self.managed {
            Managed::Plain(managed) => {
                // SAFETY: the structure lives until its deleter is called.
                if let Some(delete) = unsafe { &*managed }.deleter {
                    // SAFETY: `take` took it out of a capsule, and nobody else drops it.
                    unsafe { delete(managed) };
                }
            }
            Managed::Versioned(managed) => {
                // SAFETY: as above.
                if let Some(delete) = unsafe { &*managed }.deleter {
                    // SAFETY: as above.
                    unsafe { delete(managed) };
                }
            }
        }
    }
}

/// Takes the memory of an object with `__dlpack__`.
pub(crate) fn take(object: &Bound<'_, PyAny>) -> PyResult<Taken> {
    let py = object.py();
    let versions = PyDict::new(py);
    versions.set_item("max_version", (VERSION[0], VERSION[1]))?;
    let capsule = match object.call_method("__dlpack__", (), Some(&versions)) {
        // A library of before DLPack 1.
        Err(error) if error.is_instance_of::<PyTypeError>(py) => {
            object.call_method0("__dlpack__")?
        }
        capsule => capsule?,
    };
    let raw = capsule.as_ptr();
    // SAFETY: the object is alive, and this thread has the interpreter's lock.
    let is_versioned = unsafe { ffi::PyCapsule_IsValid(raw, VERSIONED.as_ptr()) } != 0;
    let (name, taken) = match is_versioned {
        true => (VERSIONED, VERSIONED_TAKEN),
        false => (PLAIN, PLAIN_TAKEN),
    };
    // SAFETY: as above. Another object than such a capsule gives null and an exception.
    let pointer = unsafe { ffi::PyCapsule_GetPointer(raw, name.as_ptr()) };
    if pointer.is_null() {
        return Err(PyErr::fetch(py));
    }
    let (tensor, is_read_only, managed) = if is_versioned {
        let managed = pointer.cast::<Versioned>();
        // SAFETY: a capsule of this name has such a structure, which lives until its deleter is called.
        let found = unsafe { &*managed };
        if found.version[0] != VERSION[0] {
            return Err(PyBufferError::new_err(format!(
                "the array is of DLPack {}, which is not known here",
                found.version[0]
            )));
        }
        let is_read_only = found.flags & READ_ONLY != 0;
        (&found.tensor, is_read_only, Managed::Versioned(managed))
    } else {
        let managed = pointer.cast::<Plain>();
        // SAFETY: as above.
        let found = unsafe { &*managed };
        (&found.tensor, false, Managed::Plain(managed))
    };
    let len = bytes_of(tensor)?;
    // SAFETY: as above. Who takes the tensor renames the capsule.
    if unsafe { ffi::PyCapsule_SetName(raw, taken.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(Taken {
        address: (tensor.data.addr() as u64).wrapping_add(tensor.byte_offset),
        len,
        device: tensor.device,
        is_read_only,
        managed,
    })
}

/// Returns the bytes of a contiguous tensor.
fn bytes_of(tensor: &Tensor) -> PyResult<usize> {
    let count = usize::try_from(tensor.dimensions).unwrap_or(0);
    let numbers = |at: *mut i64| match count {
        0 => &[][..],
        // SAFETY: a tensor has a length and, if not null, a stride for each dimension.
        _ => unsafe { slice::from_raw_parts(at, count) },
    };
    let shape = numbers(tensor.shape);
    let items = shape
        .iter()
        .try_fold(1_usize, |items, &length| {
            items.checked_mul(usize::try_from(length).ok()?)
        })
        .ok_or_else(|| PyBufferError::new_err("the array has a length that is none"))?;
    let is_contiguous = items == 0
        || tensor.strides.is_null()
        || numbers(tensor.strides)
            .iter()
            .zip(strides(shape))
            .zip(shape)
            .all(|((found, right), &length)| length == 1 || *found == right);
    if !is_contiguous {
        return Err(PyBufferError::new_err(
            "the array is not contiguous: give a contiguous one, such as a copy",
        ));
    }
    let bits = usize::from(tensor.dtype.bits) * usize::from(tensor.dtype.lanes);
    if !bits.is_multiple_of(8) {
        return Err(PyBufferError::new_err(
            "the array's elements are no whole bytes",
        ));
    }
    items
        .checked_mul(bits / 8)
        .ok_or_else(|| PyBufferError::new_err("the array has a length that is none"))
}
