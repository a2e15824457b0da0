//! The mover of a READ's bytes to the memory in which they land.

use std::os::fd::OwnedFd;

use vyre_uring::Buffer;

/// A move failed. The READ that it belongs to ends with EIO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes could not be moved to the GPU: look at dmesg for what the driver says (NVRM, Xid)")]
pub struct MoveError;

/// Moves bytes from buffers to the memory behind them. Moves form batches, and a batch ends after all
/// batches before it. No method waits.
pub trait Mover {
    /// Returns the number of the destination behind a buffer, or `None` if bytes that are read into
    /// the buffer stay there.
    fn destination(&self, buffer: &Buffer) -> Option<u32>;

    /// Starts to move a range of the buffer to the same range of its destination.
    ///
    /// # Errors
    /// [`MoveError`] if the move was not started.
    fn start(&mut self, destination: u32, offset: u64, len: u32) -> Result<(), MoveError>;

    /// Returns the number of a view of this file, or `None` if bytes of the file are always read.
    fn view_of(&self, file: &OwnedFd) -> Option<u32> {
        let _ = file;
        None
    }

    /// Starts to move bytes of a view, from `from` of the file on, to a range of the destination. Returns
    /// `false` if the view does not have all of them, or may no longer show the file: they are then read.
    ///
    /// # Errors
    /// [`MoveError`] if the move was not started.
    fn start_from_view(
        &mut self,
        view: u32,
        from: u64,
        destination: u32,
        offset: u64,
        len: u32,
    ) -> Result<bool, MoveError> {
        let _ = (view, from, destination, offset, len);
        Ok(false)
    }

    /// Makes a batch of the moves that were started since the last batch. Returns `false` if too many
    /// batches are under way: the moves then become part of the next batch.
    ///
    /// # Errors
    /// [`MoveError`] if the moves since the last batch have failed and ended. None of them accesses a
    /// buffer or a destination any more.
    fn close_batch(&mut self) -> Result<bool, MoveError>;

    /// Returns whether the oldest batch has ended, and forgets the batch if so.
    ///
    /// # Errors
    /// [`MoveError`] if the batch has ended and some of its moves failed. None of them accesses a
    /// buffer or a destination any more.
    fn has_ended(&mut self) -> Result<bool, MoveError>;
}
