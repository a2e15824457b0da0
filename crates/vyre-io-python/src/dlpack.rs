//! DLPack, by which libraries for arrays hand each other memory without a copy: <https://dmlc.github.io/dlpack/>.
#![expect(unsafe_code, reason = "the interface is one of C")]

use std::any::Any;
use std::ffi::{CStr, c_void};
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;

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

/// The number of NVIDIA GPUs.
pub(crate) const CUDA: i32 = 2;

/// The version of the structures below.
const VERSION: [u32; 2] = [1, 1];
const READ_ONLY: u64 = 1;

const PLAIN: &CStr = c"dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";

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
