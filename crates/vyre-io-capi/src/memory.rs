//! Bytes, texts, descriptors and memory of the caller's: what a signature cannot check. Other files have no unsafe code
//! but exports and calls of these functions.
#![expect(unsafe_code, reason = "takes raw pointers and descriptors from C")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::{ptr, slice};

use vyre_io::cuda::{Gpu, GpuMemory, Stream};
use vyre_io::{Buffer, Region};

use crate::code::Code;
use crate::failure::Failure;

/// A function of the caller's that takes memory back. It is called once, with the context that came with it, on
/// whichever thread uses the memory last. It must not throw and must not call back into the object that it belongs to.
pub(crate) type Release = Option<extern "C" fn(context: *mut c_void)>;

/// Memory of the caller's that is in use here until this value is dropped.
pub(crate) struct Foreign {
    base: *mut c_void,
    len: usize,
    release: Release,
    context: *mut c_void,
}

// SAFETY: the caller of `Foreign::new` promises that the function may be called on any thread, and nothing here
// dereferences the pointers.
unsafe impl Send for Foreign {}
// SAFETY: a shared reference gives access to nothing.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// Takes memory over. From here on, `release` is called in any case.
    ///
    /// # Safety
    /// - The `len` bytes at `base` are mapped, readable and writable until `release` is called, or for ever without it.
    /// - `release` may be called on any thread with `context`, once.
    pub(crate) const unsafe fn new(
        base: *mut c_void,
        len: usize,
        release: Release,
        context: *mut c_void,
    ) -> Self {
        Self {
            base,
            len,
            release,
            context,
        }
    }

    fn base(&self) -> Result<NonNull<u8>, Failure> {
        let base = NonNull::new(self.base.cast());
        base.ok_or_else(|| Failure::new(Code::NullPointer, "memory is NULL"))
    }

    /// Turns the memory into a buffer.
    pub(crate) fn into_buffer(self) -> Result<Buffer, Failure> {
        let (base, len) = (self.base()?, self.len);
        if len == 0 {
            return Err(vyre_io::BufferError::Empty.into());
        }
        if isize::try_from(len).is_err() {
            return Err(vyre_io::BufferError::TooLong(len).into());
        }
        // SAFETY: the bytes are usable until the owner is dropped, by the contract of `new`, and `len` was checked. The
        // header tells the caller how C code may access them meanwhile: no Rust reference to them exists.
        Ok(unsafe { Buffer::from_raw_parts(base, len, Box::new(self)) })
    }

    /// Turns the memory into the region of a queue.
    pub(crate) fn into_region(self) -> Result<Region, Failure> {
        let (base, len) = (self.base()?, self.len);
        // SAFETY: the bytes are usable until the owner is dropped, by the contract of `new`, and a move of the owner does
        // not move them. The header tells the caller that C code accesses them by vyre_ioq.h alone, whose accesses are
        // atomic words.
        Ok(unsafe { Region::from_owner(base, len, self) }?)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            release(self.context);
        }
    }
}

/// Turns memory that was just made, and that nobody else in this process names, into the region of a queue.
pub(crate) fn region_of(buffer: Buffer) -> Result<Region, Failure> {
    let (base, len) = (buffer.as_ptr(), buffer.len());
    let base = NonNull::new(base).ok_or(vyre_io::BufferError::Empty)?;
    // SAFETY: the bytes are mapped, readable and writable until `buffer` is dropped, which the region keeps, and a move
    // of it does not move them. The caller gives away the only name of the buffer.
    Ok(unsafe { Region::from_owner(base, len, buffer) }?)
}

/// Returns bytes that the caller lends for reading.
///
/// # Safety
/// Unless it is NULL, `from` points to `count` initialised bytes that nobody writes during the call.
pub(crate) unsafe fn bytes<'a>(from: *const c_void, count: usize) -> Result<&'a [u8], Failure> {
    check(from, count, "from")?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, not too long, and readable by the contract of this function.
    Ok(unsafe { slice::from_raw_parts(from.cast(), count) })
}

/// Returns bytes that the caller lends for a result. They become zeros first, since C need not initialise them.
///
/// # Safety
/// Unless it is NULL, `to` points to `count` writable bytes that nobody else uses during the call.
pub(crate) unsafe fn bytes_for<'a>(to: *mut c_void, count: usize) -> Result<&'a mut [u8], Failure> {
    check(to, count, "to")?;
    if count == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not NULL, and writable by the contract of this function.
    unsafe { ptr::write_bytes(to.cast::<u8>(), 0, count) };
    // SAFETY: not NULL, not too long, initialised just now, and nobody else's during the call.
    Ok(unsafe { slice::from_raw_parts_mut(to.cast(), count) })
}

fn check(pointer: *const c_void, count: usize, name: &str) -> Result<(), Failure> {
    if pointer.is_null() && count > 0 {
        return Err(Failure::new(Code::NullPointer, format!("{name} is NULL")));
    }
    match isize::try_from(count) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::argument(format!("{count} bytes are too many"))),
    }
}

/// Returns numbers that the caller lends for reading.
///
/// # Safety
/// Unless it is NULL, `from` points to `count` numbers that nobody writes during the call.
pub(crate) unsafe fn numbers<'a>(from: *const u32, count: usize) -> Result<&'a [u32], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    check(from.cast(), count.saturating_mul(size_of::<u32>()), "cores")?;
    // SAFETY: not NULL, not too long, and readable by the contract of this function.
    Ok(unsafe { slice::from_raw_parts(from, count) })
}

/// Stores the first numbers of a list, as many as there is room for.
///
/// # Safety
/// Unless it is NULL, `to` has room for `capacity` numbers, which nobody else uses during the call.
pub(crate) unsafe fn store_numbers(from: &[u32], to: *mut u32, capacity: usize) {
    let count = from.len().min(capacity);
    if !to.is_null() {
        // SAFETY: the source has `count` numbers, and so has the destination, by the contract of this function. They are
        // different memory, since the source is a list of this library.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, count) };
    }
}

/// Returns a text of the caller's.
///
/// # Safety
/// Unless it is NULL, `from` points to a text that ends with NUL and that nobody writes during the call.
pub(crate) unsafe fn text<'a>(from: *const c_char, name: &'static str) -> Result<&'a str, Failure> {
    if from.is_null() {
        return Err(Failure::new(Code::NullPointer, format!("{name} is NULL")));
    }
    // SAFETY: not NULL, and ended by NUL, by the contract of this function.
    let text = unsafe { CStr::from_ptr(from) };
    text.to_str()
        .map_err(|_| Failure::argument(format!("{name} is not UTF-8")))
}

/// Stores a text, cut to whole characters, with a NUL at its end. Returns the length of the whole text.
///
/// # Safety
/// Unless it is NULL, `to` has room for `capacity` bytes, which nobody else uses during the call.
pub(crate) unsafe fn store_text(text: &str, to: *mut c_char, capacity: usize) -> usize {
    if to.is_null() || capacity == 0 {
        return text.len();
    }
    let part = crate::error::shortened(text, capacity - 1);
    // SAFETY: `part` has fewer than `capacity` bytes, and the text of this library is not the caller's memory.
    unsafe { ptr::copy_nonoverlapping(part.as_ptr(), to.cast::<u8>(), part.len()) };
    // SAFETY: the length of `part` is below `capacity`.
    let end = unsafe { to.add(part.len()) };
    // SAFETY: `end` is inside the room, as above.
    unsafe { end.write(0) };
    text.len()
}

/// Stores a struct of which the caller knows the first `size` bytes. Of a caller that knows more, the rest becomes zero.
///
/// # Safety
/// Unless it is NULL, `to` has room for `size` bytes, which nobody else uses during the call. `T` has no padding.
pub(crate) unsafe fn store_sized<T: Copy>(
    value: &T,
    to: *mut T,
    size: usize,
) -> Result<(), Failure> {
    if to.is_null() {
        return Err(Failure::new(Code::NullPointer, "the struct is NULL"));
    }
    check_size(size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: the caller's struct has `size` bytes, by the contract of this function.
    unsafe { ptr::write_bytes(to.cast::<u8>(), 0, size) };
    // SAFETY: both have at least `known` bytes, all of them initialised, and they are different memory.
    unsafe { ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), to.cast::<u8>(), known) };
    Ok(())
}

fn check_size(size: usize) -> Result<(), Failure> {
    if size == 0 || size > 1 << 16 {
        let message = format!("{size} bytes: give the sizeof of the struct");
        return Err(Failure::argument(message));
    }
    Ok(())
}

/// Stores the struct that `end` returns, unless `to` is NULL. The size is checked first, since nothing undoes `end`.
///
/// # Safety
/// As for [`store_sized`].
pub(crate) unsafe fn store_last<T: Copy>(
    end: impl FnOnce() -> Result<T, Failure>,
    to: *mut T,
    size: usize,
) -> Result<(), Failure> {
    if to.is_null() {
        return end().map(drop);
    }
    check_size(size)?;
    // SAFETY: the caller's promises are those of this function.
    unsafe { store_sized(&end()?, to, size) }
}

/// Duplicates a descriptor of the caller's, which stays the caller's.
pub(crate) fn duplicate(fd: c_int) -> Result<OwnedFd, Failure> {
    let refused = |errno: rustix::io::Errno| {
        let message = format!(
            "descriptor {fd} cannot be duplicated ({errno}): give an open one, or raise RLIMIT_NOFILE"
        );
        Failure::new(Code::Descriptor, message).errno(errno.raw_os_error())
    };
    if fd < 0 {
        return Err(refused(rustix::io::Errno::BADF));
    }
    // SAFETY: the descriptor is borrowed for this function alone, in which nothing closes it. If it is not open, the
    // kernel says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_dupfd_cloexec(borrowed, 0).map_err(refused)
}

/// Returns the GPU of a context that the caller made.
///
/// # Safety
/// Unless it is NULL, the context is not destroyed before everything that was made with the GPU is freed.
pub(crate) unsafe fn gpu_of(context: *mut c_void) -> Result<Gpu, Failure> {
    if context.is_null() {
        return Err(Failure::new(Code::NullPointer, "context is NULL"));
    }
    // SAFETY: the contract of this function.
    Ok(unsafe { Gpu::from_context(context) }?)
}

/// Returns memory of a GPU that the caller lends.
///
/// # Safety
/// Unless `address` is 0, the `len` bytes there are memory of this GPU until the result and what was started with it are
/// dropped. Meanwhile the caller uses them only in order with that.
pub(crate) unsafe fn of_gpu(gpu: &Gpu, address: u64, len: usize) -> Result<GpuMemory, Failure> {
    if address == 0 {
        return Err(Failure::new(Code::NullPointer, "to is NULL"));
    }
    // SAFETY: the contract of this function.
    Ok(unsafe { GpuMemory::from_raw(gpu, address, len, ()) })
}

/// Returns a stream of the caller's.
///
/// # Safety
/// The stream is one of the GPU's context, and is not destroyed before what was started on it by the result is dropped.
pub(crate) unsafe fn stream_of(gpu: &Gpu, stream: *mut c_void) -> Stream {
    // SAFETY: the contract of this function.
    unsafe { Stream::from_raw(gpu, stream, ()) }
}
