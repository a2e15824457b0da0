//! Devices that cannot ring.
#![expect(unsafe_code, reason = "exports functions")]

use crate::error::free;

/// Keeps loops from sleeping for long until it is freed. Several may exist at once.
pub struct ActiveGuard {
    _guard: vyre_io::ActiveGuard,
}

impl ActiveGuard {
    pub(crate) const fn new(guard: vyre_io::ActiveGuard) -> Self {
        Self { _guard: guard }
    }
}

/// Frees the guard: the loops may sleep again. Also after the loop was stopped or freed. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_active_guard_free(active: Option<Box<ActiveGuard>>) {
    free(active);
}
