//! Enqueue: memory and descriptors are handed to the kernel.
//!
//! All unsafe code of a ring rests on one argument. A [`Buffer`] or a file leaves its table slot in two
//! ways only. `set_buffer` and `set_file` refuse while an operation in the token table names the slot.
//! `Drop` first collects the completion of everything in flight, or else leaks both tables' contents
//! and the ring. An operation enters the token table before its entry is enqueued. It leaves the table
//! only in `complete`, for a completion whose token matches: when the kernel has finished with the
//! operation, or never took it.
#![expect(unsafe_code, reason = "hands addresses and descriptors to the kernel")]

use std::mem::ManuallyDrop;

use io_uring::squeue;
use rustix::io::Errno;

use super::Ring;
use super::slots::PIECE_SHIFT;
use crate::buffer::Buffer;
use crate::completion::Token;

impl Ring {
    /// Puts an entry into the submission queue, in which the caller has seen room. The entry of an
    /// operation must be in the token table already.
    #[inline(always)]
    pub(super) fn enqueue(&mut self, entry: squeue::Entry, token: Token) {
        let entry = entry.user_data(token.raw());
        // SAFETY: by the argument above, the memory and the file of an operation stay until its
        // completion, or for ever. A cancellation names neither. A poll names the eventfd, which is open
        // while the ring is entered. A wait names a futex: the kernel checks the address, and only loads.
        let pushed = unsafe { self.kernel.push(&entry) };
        debug_assert!(pushed, "no room in the submission queue");
        let mask = self.queued.len() as u32 - 1;
        self.queued[(self.pushed & mask) as usize] = token;
        self.pushed = self.pushed.wrapping_add(1);
    }

    /// Registers a buffer at the indexes from `first` on, piece by piece.
    pub(super) fn register_pieces(&mut self, first: u32, buffer: &Buffer) -> Result<(), Errno> {
        let piece = 1usize << PIECE_SHIFT;
        let starts = (0..buffer.len()).step_by(piece);
        for (index, start) in (first..).zip(starts) {
            let len = piece.min(buffer.len() - start);
            let base = buffer.as_ptr().wrapping_add(start);
            // SAFETY: the piece is inside the buffer. The caller puts the buffer into its slot at
            // once or clears these indexes; it stays in the slot while operations use the indexes.
            unsafe { self.kernel.update_buffer(index, base, len) }?;
        }
        Ok(())
    }

    /// Frees the kernel's ring. For `Drop` alone, once nothing is in flight.
    pub(super) fn free(&mut self) {
        // SAFETY: called by `Drop for Ring` only, so once, and the field is not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.kernel) }
    }
}
