//! Memory that requests read and write.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::ptr;

use vyre_io::uring::OutOfRange;

use crate::code::Code;
use crate::error::{Error, Place, answer, free, given, guard};
use crate::memory::{self, Foreign};

/// Memory that requests read and write. A table that has it keeps it, so the object can be freed once the program no
/// longer needs its address.
///
/// While a request is under way that names a part of the memory, the program neither writes that part nor, for a READ,
/// reads it by plain loads. After the outcome was taken, it may.
///
/// Threads: all functions may be called from several threads at once, but none beside or after
/// `vyre_io_buffer_free`.
pub struct Buffer(pub(crate) vyre_io::Buffer);

/// Maps zeroed memory of `len` bytes, aligned to a page, in huge pages where the kernel has them. Forked children do not
/// have it.
///
/// @param[out] buffer The buffer, or NULL after an error. Free it with vyre_io_buffer_free.
/// @return EMPTY, TOO_LONG, MAP or DONT_FORK after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_anonymous(
    len: usize,
    buffer: Option<&mut MaybeUninit<Option<Box<Buffer>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(buffer, "buffer")?;
        place.put(Buffer(vyre_io::Buffer::anonymous(len)?));
        Ok(())
    })
}

/// Makes zeroed memory of `len` bytes that other processes can map: a memfd, sealed so that nobody can shrink it.
///
/// @param[out] buffer The buffer, or NULL after an error.
/// @param[out] memfd  A descriptor of the memory, to send to the other process, or -1 after an error. The caller closes
///                    it. It is closed on exec.
/// @return EMPTY, TOO_LONG, MEMFD, RESIZE, SEAL or MAP after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_memfd(
    len: usize,
    buffer: Option<&mut MaybeUninit<Option<Box<Buffer>>>>,
    memfd: Option<&mut MaybeUninit<c_int>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(buffer, "buffer")?;
        let memfd = given(memfd, "memfd")?.write(-1);
        let (made, descriptor) = vyre_io::Buffer::memfd(len)?;
        place.put(Buffer(made));
        *memfd = descriptor.into_raw_fd();
        Ok(())
    })
}

/// Maps all of a memfd that another process made by vyre_io_buffer_memfd or a queue's. The descriptor stays the caller's.
///
/// @param[out] buffer The buffer, or NULL after an error.
/// @return DESCRIPTOR, NOT_MEMFD, CAN_SHRINK, EMPTY, TOO_LONG or MAP after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_from_memfd(
    memfd: c_int,
    buffer: Option<&mut MaybeUninit<Option<Box<Buffer>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(buffer, "buffer")?;
        let memfd = memory::duplicate(memfd)?;
        place.put(Buffer(vyre_io::Buffer::from_memfd(memfd)?));
        Ok(())
    })
}

/// Uses memory that the program allocated, such as pinned memory of a GPU runtime.
///
/// The memory must be readable and writable until `release` is called, and without a `release` until the process ends.
/// The call takes the memory over, even if it fails: `release` is called once in any case, with `context`, on whichever
/// thread uses the memory last, such as that of a loop. It must not throw, and must not wait for a loop.
///
/// @param release May be NULL.
/// @param[out] buffer The buffer, or NULL after an error.
/// @return NULL_POINTER, EMPTY or TOO_LONG after an error.
///
/// # Safety
/// `release` is NULL or can be called so, and the `len` bytes at `memory` are usable as said above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_buffer_from_memory(
    memory: *mut c_void,
    len: usize,
    release: Option<extern "C" fn(context: *mut c_void)>,
    context: *mut c_void,
    buffer: Option<&mut MaybeUninit<Option<Box<Buffer>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    // SAFETY: the caller's promises.
    let memory = unsafe { Foreign::new(memory, len, release, context) };
    guard(error, || {
        let place = Place::of(buffer, "buffer")?;
        place.put(Buffer(memory.into_buffer()?));
        Ok(())
    })
}

/// Returns the address of the first byte, or NULL for NULL. It stays valid until the buffer is freed, and as long as a
/// table or a loop has the buffer.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_data(buffer: Option<&Buffer>) -> *mut c_void {
    answer(ptr::null_mut(), || Some(buffer?.0.as_ptr().cast()))
}

/// Returns the number of bytes, or 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_len(buffer: Option<&Buffer>) -> usize {
    answer(0, || Some(buffer?.0.len()))
}

/// Copies bytes out of the buffer by atomic loads. Unlike a plain load, it may be called while requests write the bytes:
/// each byte then has its old or its new value.
///
/// @param to    Room for `count` bytes. May be NULL if `count` is 0.
/// @return OUT_OF_RANGE if the range leaves the buffer; nothing was copied.
///
/// # Safety
/// `to` is NULL or has room for `count` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_buffer_read(
    buffer: Option<&Buffer>,
    offset: usize,
    to: *mut c_void,
    count: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let buffer = given(buffer, "buffer")?;
        let len = buffer.0.len();
        if offset.checked_add(count).is_none_or(|end| end > len) {
            return Err(OutOfRange { offset, count, len }.into());
        }
        // SAFETY: the caller's promises.
        let to = unsafe { memory::bytes_for(to, count) }?;
        Ok(buffer.0.read_at(offset, to)?)
    })
}

/// Copies bytes into the buffer by atomic stores. It may be called while requests read the bytes or write others beside
/// them.
///
/// @param from  `count` bytes. May be NULL if `count` is 0.
/// @return OUT_OF_RANGE if the range leaves the buffer; nothing was copied.
///
/// # Safety
/// `from` is NULL or points to `count` bytes, which nobody writes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_buffer_write(
    buffer: Option<&Buffer>,
    offset: usize,
    from: *const c_void,
    count: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let buffer = given(buffer, "buffer")?;
        // SAFETY: the caller's promises.
        let from = unsafe { memory::bytes(from, count) }?;
        Ok(buffer.0.write_at(offset, from)?)
    })
}

/// Has the kernel provide all pages of the buffer now, so that no later call or request waits for that. Does nothing for
/// NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_populate(buffer: Option<&Buffer>) {
    answer((), || {
        buffer?.0.populate();
        Some(())
    });
}

/// Frees the object. The memory stays while a table or a loop has it. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_free(buffer: Option<Box<Buffer>>) {
    free(buffer);
}
