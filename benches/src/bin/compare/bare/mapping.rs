//! Serves slots by copies out of a mapping.

#![expect(
    unsafe_code,
    reason = "the server copies without the checks that it is compared with"
)]

use std::ptr;
use std::sync::atomic::AtomicBool;

use vyre_io::Buffer;

use super::slots::Slots;
use super::until_stopped;

pub(super) fn serve(mapping: &[u8], slots: &Slots, buffer: &Buffer, size: u32, stop: &AtomicBool) {
    let size = size as usize;
    let pass = || {
        let mut found = false;
        for slot in 0..slots.count() {
            if let Some(offset) = slots.published(slot) {
                let block = &mapping[offset as usize..][..size];
                let place = buffer.as_ptr().wrapping_add(slot as usize * size);
                // SAFETY: the block is inside the mapping, and the place inside the buffer, which has
                // one for each slot. The lane touches the place only after the outcome.
                unsafe { ptr::copy_nonoverlapping(block.as_ptr(), place, size) };
                slots.complete(slot, true);
                found = true;
            }
        }
        Ok(found)
    };
    let stopped = until_stopped(stop, pass);
    debug_assert!(stopped.is_ok(), "a copy does not fail");
}
