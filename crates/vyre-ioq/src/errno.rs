//! Errno values, as the count word of a failed slot carries them.

use core::fmt;

use crate::abi::errno;

/// Linux errno value.
///
/// The constants are the values that the host itself stores. Any other value comes from the kernel. `Display`
/// also names EAGAIN, EFBIG and EPIPE.
///
/// ```
/// use vyre_ioq::Errno;
///
/// assert_eq!(Errno::from_raw(34), Errno::ERANGE);
/// assert_eq!(Errno::ERANGE.to_string(), "ERANGE (errno 34)");
/// assert_eq!(Errno::from_raw(4).name(), None);
/// assert_eq!(Errno::from_raw(27).to_string(), "EFBIG (errno 27)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(u32);

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Self = Self(errno::$name);)+

            /// Returns the symbolic name of a value that has a constant here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $(errno::$name => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    /// Input/output error.
    EIO,
    /// Unknown or revoked handle.
    EBADF,
    /// The handle lacks the right for the request.
    EACCES,
    /// Unknown operation or flag, a reserved word that is not zero, or a misaligned request on a direct-I/O
    /// file.
    EINVAL,
    /// No space left on the file's device.
    ENOSPC,
    /// The request is outside the byte range of a handle.
    ERANGE,
    /// The count of a request with [`Flags::EXACT`](crate::Flags::EXACT) is short.
    ENODATA,
    /// A MAP of a file whose bytes the device cannot load by itself.
    EOPNOTSUPP,
    /// A MAP of more bytes than the host keeps in memory for devices.
    ENOBUFS,
    /// The deadline of the request has passed.
    ETIMEDOUT,
    /// The loop has stopped or failed.
    ECANCELED,
}

impl Errno {
    /// Returns the errno with this number.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Returns the number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Returns the name for `Display`, which also covers some errnos that only the kernel gives.
    const fn known_name(self) -> Option<&'static str> {
        match self.0 {
            11 => Some("EAGAIN"),
            27 => Some("EFBIG"),
            32 => Some("EPIPE"),
            _ => self.name(),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known_name() {
            Some(name) => write!(f, "{name} (errno {})", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

#[cfg(feature = "std")]
impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        i32::try_from(errno.0).map_or_else(|_| Self::other(errno), Self::from_raw_os_error)
    }
}
