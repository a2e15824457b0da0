//! The thread that copies.

use std::marker::PhantomData;

use crate::error::RecoveryError;
use crate::sys;

/// Shows that the calling thread recovers from a SIGBUS of a copy: this crate's handler is installed,
/// and the thread does not block the signal.
///
/// Every copy takes a `Recovery`. Creating one installs the handler, once in the life of the process,
/// and checks the thread. Later changes are found by [`check`](Self::check), which costs two system
/// calls: call it once for each batch of copies. It stays on its thread:
///
/// ```compile_fail,E0277
/// fn leaves<T: Send>() {}
/// leaves::<vyre_mapped::Recovery>();
/// ```
#[derive(Debug)]
pub struct Recovery {
    /// The signal mask is that of a thread.
    _one_thread: PhantomData<*mut ()>,
}

impl Recovery {
    /// Installs the handler of SIGBUS, unless it has been installed before, and checks the calling
    /// thread.
    ///
    /// Install handlers of your own before. One that is installed afterwards replaces this crate's, and
    /// copies are refused from then on.
    ///
    /// # Errors
    /// - [`RecoveryError::Unavailable`] on an architecture other than x86-64 and AArch64.
    /// - [`RecoveryError::Blocked`] if the thread blocks SIGBUS.
    /// - [`RecoveryError::Replaced`] if another handler was installed since.
    /// - [`RecoveryError::Install`] if the kernel refuses the handler.
    pub fn new() -> Result<Self, RecoveryError> {
        sys::install()?;
        let recovery = Self {
            _one_thread: PhantomData,
        };
        recovery.check()?;
        Ok(recovery)
    }

    /// Checks again that the thread does not block SIGBUS and that the handler is in place. If either
    /// has changed, do not copy: a fault would end the process.
    ///
    /// # Errors
    /// [`RecoveryError::Blocked`] or [`RecoveryError::Replaced`].
    pub fn check(&self) -> Result<(), RecoveryError> {
        sys::check()
    }
}
