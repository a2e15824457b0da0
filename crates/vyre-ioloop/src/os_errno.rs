//! Conversion of the operating system's errnos to those that devices see.

use rustix::io::Errno as OsErrno;
use vyre_ioq::Errno;

/// Returns the errno that the device gets for a failed operation.
pub(crate) fn device_errno(errno: OsErrno) -> Errno {
    match errno {
        // Drives answer the first for a bad sector and the second for a command that took too long.
        // To the device they are the host's own words, as is the third: a short count of an EXACT
        // request, a deadline, and a cancellation that somebody asked for.
        OsErrno::NODATA | OsErrno::TIMEDOUT | OsErrno::CANCELED => Errno::EIO,
        errno => from_os(errno),
    }
}

/// Converts an errno unchanged. Negative values do not occur.
pub(crate) fn from_os(errno: OsErrno) -> Errno {
    Errno::from_raw(errno.raw_os_error().unsigned_abs())
}
