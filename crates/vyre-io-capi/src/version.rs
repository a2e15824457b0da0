//! The version of the library.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::{CStr, c_char};

use crate::error::answer;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };

/// Returns the version of the library, such as "0.1.0". Programs that were compiled with an earlier header of the same
/// first number, or the same second one while the first is 0, work with it. The text lives as long as the library.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_version() -> *const c_char {
    answer(VERSION.as_ptr(), || Some(VERSION.as_ptr()))
}
