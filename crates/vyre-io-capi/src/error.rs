//! The boundary: a failure goes out as a code and a text, and no panic passes.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::panic::{self, AssertUnwindSafe};

use crate::code::Code;
use crate::failure::Failure;

/// The number of bytes of the text of a `struct vyre_io_error`, with the NUL at its end.
const MESSAGE_BYTES: usize = 500;

/// Reason that a call failed. Every function that can fail takes a place for one as its last parameter, which may be NULL. It
/// owns nothing, and may be copied and thrown away. After success, `code` is VYRE_IO_RESULT_OK and the rest is zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Error {
    /// Result that the call returned.
    pub code: Code,
    /// The errno of the system call that failed, or 0.
    pub os_errno: i32,
    /// The number of operations or requests that the kernel still holds, where the code is about them, or 0.
    pub held: u32,
    /// Text that says what happened and what to do, in English and UTF-8, ended by NUL. A text that is too long is cut.
    pub message: [c_char; 500],
}

const _: () = assert!(size_of::<Error>() == 512 && MESSAGE_BYTES == 500);

impl Error {
    fn new(failure: &Failure) -> Self {
        let mut message = [0; MESSAGE_BYTES];
        let text = shortened(&failure.message, MESSAGE_BYTES - 1);
        // A NUL would end the text for its reader.
        let bytes = text.bytes().map(|byte| if byte == 0 { b'?' } else { byte });
        for (place, byte) in message.iter_mut().zip(bytes) {
            *place = byte as c_char;
        }
        Self {
            code: failure.code,
            os_errno: failure.os_errno,
            held: failure.held,
            message,
        }
    }

    const OK: Self = Self {
        code: Code::Ok,
        os_errno: 0,
        held: 0,
        message: [0; MESSAGE_BYTES],
    };
}

/// Returns as much of a text as fits, in whole characters.
pub(crate) fn shortened(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev();
    let end = end.into_iter().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Runs the body of an exported function. Stores what failed in `error`.
pub(crate) fn guard(
    error: Option<&mut MaybeUninit<Error>>,
    body: impl FnOnce() -> Result<(), Failure>,
) -> Code {
    // Whatever the body left half done belongs to the object, which says so itself: loops and tables have no state that
    // a panic could make unsound, and the caller is told not to use the object further.
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    let outcome = outcome.unwrap_or_else(|payload| Err(Failure::panic(payload)));
    if let Some(place) = error {
        place.write(outcome.as_ref().err().map_or(Error::OK, Error::new));
    }
    outcome.err().map_or(Code::Ok, |failure| failure.code)
}

/// Runs the body of an exported function that cannot fail. Returns `otherwise` for NULL and after a panic.
pub(crate) fn answer<T>(otherwise: T, body: impl FnOnce() -> Option<T>) -> T {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(found) => found.unwrap_or(otherwise),
        Err(payload) => {
            drop(Failure::panic(payload));
            otherwise
        }
    }
}

/// Frees an object. NULL is none.
pub(crate) fn free<T>(object: Option<Box<T>>) {
    answer((), || {
        drop(object);
        Some(())
    });
}

/// Returns what a pointer points to, unless it is NULL.
pub(crate) fn given<T>(pointer: Option<T>, name: &'static str) -> Result<T, Failure> {
    pointer.ok_or_else(|| Failure::new(Code::NullPointer, format!("{name} is NULL")))
}

/// A place for a new object. It holds NULL until the object is there.
pub(crate) struct Place<'a, T>(&'a mut Option<Box<T>>);

impl<'a, T> Place<'a, T> {
    pub(crate) fn of(
        place: Option<&'a mut MaybeUninit<Option<Box<T>>>>,
        name: &'static str,
    ) -> Result<Self, Failure> {
        Ok(Self(given(place, name)?.write(None)))
    }

    pub(crate) fn put(self, object: T) {
        *self.0 = Some(Box::new(object));
    }
}
