//! Words in memory on which a transport waits.

/// A word on which a [`Transport`](crate::Transport) waits as on a futex that processes share.
///
/// Only the kernel accesses the word, and only while it begins to wait. It checks the address, so a word that is not
/// mapped any more ends waits with an error of the kernel and does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FutexWord(*const u32);

impl FutexWord {
    /// Names the word at an address, which is aligned to 4 bytes.
    pub const fn new(address: *const u32) -> Self {
        Self(address)
    }

    /// Returns the address.
    pub const fn as_ptr(self) -> *const u32 {
        self.0
    }
}
