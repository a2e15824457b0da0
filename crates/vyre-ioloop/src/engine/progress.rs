//! Report of a pass.

/// The work of one [`Engine::step`](super::Engine::step).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Progress {
    /// Completions reaped from the transport, and reads that it performed at once.
    pub reaped: u32,
    /// Requests claimed.
    pub claimed: u32,
    /// Operations given to the transport, and reads that it performed at once.
    pub started: u32,
    /// Requests cancelled because their deadline passed.
    pub expired: u32,
}

impl Progress {
    /// Returns whether there was nothing to do.
    #[inline]
    pub const fn is_idle(&self) -> bool {
        self.reaped | self.claimed | self.started | self.expired == 0
    }
}
