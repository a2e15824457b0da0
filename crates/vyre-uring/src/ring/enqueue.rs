//! Where memory is handed to the kernel, and where it is let go.
//!
//! The argument that all of it rests on: a [`Buffer`] or file in a table slot leaves the slot only
//! in `set_buffer` and `set_file`, which refuse while the slot's count of operations in flight is
//! not zero, and in `Drop`, which first collects the completion of everything in flight, or else
//! leaks both tables' contents and the ring. A count falls only in `settle`, for a completion whose
//! token matches, that is, when the kernel has finished with the operation or never took it.
#![allow(unsafe_code)] // Vouches for the addresses and descriptors given to the kernel.

use std::mem::ManuallyDrop;

use io_uring::squeue;
use rustix::io::Errno;

use super::Ring;
use super::slots::PIECE_SHIFT;
use crate::buffer::Buffer;
use crate::operation::Token;

impl Ring {
    /// Puts an entry into the submission queue, where the caller has seen room. An
    /// operation is already counted on its slots.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.0);
        // SAFETY: the entry cancels and names nothing; or it polls the alarm's descriptor, which stays
        // open for as long as the ring is entered; or it is of an operation, which names memory inside
        // the buffer, and the file, of slots that count it as in flight. By the argument above both
        // stay until its completion, or for ever.
        let pushed = unsafe { self.raw.push(&entry) };
        debug_assert!(pushed, "no room in the submission queue");
        let mask = self.queued.len() as u32 - 1;
        self.queued[(self.pushed & mask) as usize] = token.0;
        self.pushed = self.pushed.wrapping_add(1);
    }

    /// Registers a buffer in the places from `first` on, piece by piece.
    pub(super) fn register_places(&mut self, first: u32, buffer: &Buffer) -> Result<(), Errno> {
        let piece = 1usize << PIECE_SHIFT;
        let starts = (0..buffer.len()).step_by(piece);
        for (place, start) in (first..).zip(starts) {
            let len = piece.min(buffer.len() - start);
            let base = buffer.as_ptr().wrapping_add(start);
            // SAFETY: the piece is inside the buffer, which the caller puts into the slot at once or
            // whose places it clears; it stays there for as long as operations use the places.
            unsafe { self.raw.update_buffer(place, base, len) }?;
        }
        Ok(())
    }

    /// Frees the kernel's ring. For `Drop` alone, once nothing is in flight.
    pub(super) fn free(&mut self) {
        // SAFETY: called by `Drop for Ring` only, so once, and the field is not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.raw) }
    }
}
