//! Memory that is not atomic, as the bytes of a request are not.

#![expect(
    unsafe_code,
    reason = "models share plain memory that a queue must order"
)]

use loom::cell::UnsafeCell;

/// Plain memory that both ends of a queue use in turn. It is safe to use only if the queue orders the
/// two: where it does not, loom reports concurrent accesses.
pub(crate) struct Plain(UnsafeCell<u32>);

// SAFETY: whoever shares one claims to have the queue order every access: loom checks that before
// each access.
unsafe impl Sync for Plain {}
// SAFETY: a number; as for `Sync`.
unsafe impl Send for Plain {}

impl Plain {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    pub(crate) fn get(&self) -> u32 {
        // SAFETY: loom has checked that no other thread is writing.
        self.0.with(|value| unsafe { *value })
    }

    pub(crate) fn set(&self, value: u32) {
        // SAFETY: loom has checked that no other thread is reading or writing.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}
