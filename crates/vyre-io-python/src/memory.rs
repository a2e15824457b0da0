//! Memory of Python objects, which operations read and write while no interpreter lock is held.
//!
//! A program that uses the bytes meanwhile finds old and new ones, as it does beside `readinto` of Python's own files,
//! which holds no lock either. No reference to the bytes is ever created.
#![expect(
    unsafe_code,
    reason = "hands memory of Python objects to the kernel and to transports"
)]

use std::ffi::c_long;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use vyre_io::Buffer;
use vyre_io::mapped::{Mapping, Recovery};

use crate::dlpack::{self, CUDA_HOST, HOST, Taken};
use crate::fork;

/// The Python object that keeps memory.
#[derive(Debug)]
pub(crate) enum Held {
    Buffer(PyUntypedBuffer),
    Object(Py<PyAny>),
    Tensor(Taken),
}

/// Objects whose memory operations no longer use, until a thread with the interpreter lock gives it back to Python.
#[derive(Debug)]
pub(crate) struct Returned {
    held: Mutex<Vec<Held>>,
    /// The process, by its number of forks.
    born: u32,
}

impl Returned {
    /// Gives an object back, on any thread, perhaps one that Python does not know, and after the interpreter has ended.
    pub(crate) fn push(&self, held: Option<Held>) {
        if self.born != fork::generation() {
            // The memory of a fork: a thread that does not exist here may have locked the list.
            std::mem::forget(held);
            return;
        }
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(held);
    }
}

/// That of this process: a child of a fork cannot use that of its parent, which another thread may have locked. This lock is
/// held only by threads with the interpreter lock, as fork(2) is called.
static RETURNED: Mutex<Option<Arc<Returned>>> = Mutex::new(None);

pub(crate) fn returned(_: Python<'_>) -> Arc<Returned> {
    let mut shared = RETURNED.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = fork::generation();
    match &*shared {
        Some(returned) if returned.born == generation => Arc::clone(returned),
        _ => {
            let returned = Arc::new(Returned {
                held: Mutex::default(),
                born: generation,
            });
            // What was returned in the parent is left to it: nobody may know how far another thread was.
            std::mem::forget(shared.replace(Arc::clone(&returned)));
            returned
        }
    }
}

/// Gives the memory that operations no longer use back to Python.
pub(crate) fn reap(py: Python<'_>) {
    let returned = returned(py);
    let all = std::mem::take(&mut *returned.held.lock().unwrap_or_else(PoisonError::into_inner));
    for held in all {
        match held {
            Held::Buffer(buffer) => buffer.release(py),
            Held::Object(object) => object.drop_ref(py),
            Held::Tensor(taken) => drop(taken),
        }
    }
}

/// The memory of a Python object, contiguous, which the object keeps at its place until this is dropped.
#[derive(Debug)]
pub(crate) struct Export {
    /// `None` only while this is dropped.
    held: Option<Held>,
    base: NonNull<u8>,
    len: usize,
    is_read_only: bool,
    returned: Arc<Returned>,
}

// SAFETY: `base` belongs to the object that `held`, itself `Send`, keeps; nothing here depends on the thread.
unsafe impl Send for Export {}
// SAFETY: shared references give out the address and nothing else.
unsafe impl Sync for Export {}

impl Drop for Export {
    fn drop(&mut self) {
        self.returned.push(self.held.take());
    }
}

impl Export {
    /// Takes an object's memory. To be `written`, it must not be read-only.
    pub(crate) fn new(object: &Bound<'_, PyAny>, written: bool) -> PyResult<Arc<Self>> {
        // PyTorch's tensors, and others.
        let buffer = match PyUntypedBuffer::get(object) {
            Ok(buffer) => buffer,
            Err(error) if !object.hasattr(intern!(object.py(), "__dlpack__"))? => {
                return Err(error);
            }
            Err(_) => return Self::of_tensor(object.py(), dlpack::take(object)?, written),
        };
        if written && buffer.readonly() {
            return Err(PyBufferError::new_err(
                "the buffer is read-only, and a read writes to it: give a writable one, such as a bytearray",
            ));
        }
        if !buffer.is_c_contiguous() && !buffer.is_fortran_contiguous() {
            return Err(PyBufferError::new_err(
                "the buffer is not contiguous: give a contiguous one, such as a copy",
            ));
        }
        let len = buffer.len_bytes();
        let base = NonNull::new(buffer.buf_ptr().cast()).unwrap_or(NonNull::dangling());
        Ok(Arc::new(Self {
            is_read_only: buffer.readonly(),
            held: Some(Held::Buffer(buffer)),
            base,
            len,
            returned: returned(object.py()),
        }))
    }

    /// Takes the memory of an array by DLPack.
    fn of_tensor(py: Python<'_>, taken: Taken, written: bool) -> PyResult<Arc<Self>> {
        if ![HOST, CUDA_HOST].contains(&taken.device.kind) {
            return Err(PyBufferError::new_err(
                "the array is not in memory of the host: give one that is",
            ));
        }
        if written && taken.is_read_only {
            return Err(PyBufferError::new_err(
                "the array is read-only, and a read writes to it: give a writable one",
            ));
        }
        let base = ptr::with_exposed_provenance_mut(taken.address as usize);
        Ok(Arc::new(Self {
            base: NonNull::new(base).unwrap_or(NonNull::dangling()),
            len: taken.len,
            is_read_only: taken.is_read_only,
            held: Some(Held::Tensor(taken)),
            returned: returned(py),
        }))
    }

    /// Returns whether the memory may only be read.
    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Returns all bytes from an offset on, or `size` of them.
    pub(crate) fn span(self: &Arc<Self>, at: usize, size: Option<usize>) -> PyResult<Span> {
        let size = size.unwrap_or(self.len.saturating_sub(at));
        self.check(at, size)?;
        Ok(Span {
            export: Arc::clone(self),
            range: at..at + size,
        })
    }

    /// Returns an error unless bytes are inside the memory.
    pub(crate) fn check(&self, at: usize, size: usize) -> PyResult<()> {
        match at.checked_add(size) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(PyValueError::new_err(format!(
                "{size} bytes at {at} are not inside the buffer of {}: give a smaller size",
                self.len
            ))),
        }
    }
}

/// A part of a Python object's memory.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    export: Arc<Export>,
    range: Range<usize>,
}

impl Span {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.export.is_read_only()
    }

    /// Returns whether this is memory of that object.
    pub(crate) fn is_of(&self, export: &Arc<Export>) -> bool {
        Arc::ptr_eq(&self.export, export)
    }

    /// Returns a part.
    ///
    /// # Panics
    /// If it is not inside.
    pub(crate) fn part(&self, at: usize, len: usize) -> Self {
        assert!(at <= self.len() && len <= self.len() - at);
        let start = self.range.start + at;
        Self {
            export: Arc::clone(&self.export),
            range: start..start + len,
        }
    }

    /// Returns a number of 64 bits.
    ///
    /// # Panics
    /// If it is not inside.
    pub(crate) fn number(&self, index: usize) -> i64 {
        assert!(index < self.len() / size_of::<i64>());
        let number = self.address().as_ptr().cast::<i64>().wrapping_add(index);
        // SAFETY: the assertion; the address need not be aligned.
        unsafe { number.read_unaligned() }
    }

    fn address(&self) -> NonNull<u8> {
        // SAFETY: `Export::span` checked that the range is inside the memory.
        unsafe { self.export.base.add(self.range.start) }
    }

    /// Returns a buffer for transports over the same bytes, which keeps the object's memory.
    pub(crate) fn to_buffer(&self) -> Buffer {
        let owner = Box::new(Arc::clone(&self.export));
        // SAFETY: the object keeps its memory at its place until `owner` is dropped, and it is readable. It is written
        // only by reads, for which `Export::new` found it writable. This module creates no reference to it. What Python
        // code does to it meanwhile is what the module's comment allows.
        unsafe { Buffer::from_raw_parts(self.address(), self.len(), owner) }
    }

    /// Copies from `buffer`, where no operation writes any more, to the first `len` bytes.
    pub(crate) fn copy_from(&self, buffer: &Buffer, offset: usize, len: usize) {
        assert!(len <= self.len() && offset + len <= buffer.len());
        let from = buffer.as_ptr().wrapping_add(offset);
        // SAFETY: both are valid for `len` bytes, by the assertion, and are different memory: one is an allocation of
        // this crate's.
        unsafe { ptr::copy_nonoverlapping(from, self.address().as_ptr(), len) };
    }

    /// Copies everything to `buffer`, which no operation uses yet.
    pub(crate) fn copy_to(&self, buffer: &Buffer, offset: usize) {
        assert!(offset + self.len() <= buffer.len());
        let to = buffer.as_ptr().wrapping_add(offset);
        // SAFETY: as in `copy_from`.
        unsafe { ptr::copy_nonoverlapping(self.address().as_ptr(), to, self.len()) };
    }

    /// Reads bytes that are in memory by preadv2(2), without waiting for a drive. Returns their number, which is less
    /// than the length where the file ends or further bytes are not in memory.
    pub(crate) fn read_without_waiting(&self, file: &File, offset: u64) -> io::Result<usize> {
        let part = libc::iovec {
            iov_base: self.address().as_ptr().cast(),
            iov_len: self.len(),
        };
        // A negative one is none: -1 stands for the position of the file.
        libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The kernel takes the offset in two halves of a `long` each. Of 64 bits, the upper half is shifted out.
        let (low, high) = (offset as c_long, (offset >> 32) as c_long);
        let (fd, count) = (c_long::from(file.as_raw_fd()), c_long::from(1));
        let flags = c_long::from(libc::RWF_NOWAIT);
        let parts = &raw const part;
        // By its number: C libraries that the wheels are for, such as musl 1.2.4, lack the function.
        // SAFETY: the part is valid for writes of its length, and the kernel writes no more.
        let count = unsafe { libc::syscall(libc::SYS_preadv2, fd, parts, count, low, high, flags) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Copies a range of a mapped file to the bytes from `at` on. Returns whether all of it was copied.
    ///
    /// # Panics
    /// If there is no room for it.
    pub(crate) fn copy_mapped(
        &self,
        at: usize,
        mapping: &Mapping,
        recovery: &Recovery,
        range: Range<u64>,
    ) -> bool {
        let len = (range.end - range.start) as usize;
        assert!(at <= self.len() && len <= self.len() - at);
        // SAFETY: inside the memory, by the assertion.
        let to = unsafe { self.address().add(at) };
        // SAFETY: valid for writes of the length of the range, as above. Whoever uses the bytes meanwhile does so as the
        // module's comment says.
        let copied = unsafe { mapping.copy_to_ptr(recovery, range, to) };
        copied == Ok(len)
    }

    /// Fills all bytes by pread(2).
    ///
    /// # Errors
    /// That of pread(2), or `UnexpectedEof` if the file ends before.
    pub(crate) fn read_all(&self, file: &File, offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < self.len() {
            let at = offset.saturating_add(done as u64);
            let at = libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
            let to = self.address().as_ptr().wrapping_add(done).cast();
            // SAFETY: the rest of the part is valid for writes of its length.
            let count = unsafe { libc::pread(file.as_raw_fd(), to, self.len() - done, at) };
            match usize::try_from(count) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }
}
