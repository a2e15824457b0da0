//! The seam between what decides on I/O and what performs it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::completion::{Completion, Token};
use crate::error::{Busy, EnterError, PushError, RegisterError};
use crate::file_traits::FileTraits;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::setup_report::SetupReport;

/// Performs [`Operation`]s on files and buffers held in two tables.
///
/// The contract, whatever the implementation:
/// - every push that succeeds is answered by exactly one [`Completion`] through
///   [`reap`](Self::reap), in any order;
/// - a transfer may be short, also where the file does not end: one push moves at most what one
///   kernel operation can, and the completion says how much that was;
/// - buffers are referenced until the operations on them have completed;
/// - between set-up and drop, `push`, `submit`, `reap`, `wait` and `cancel` allocate nothing.
pub trait Transport {
    /// What set-up reached, with the entries registered since, if this is a ring or is built around
    /// one.
    fn setup_report(&self) -> Option<&SetupReport> {
        None
    }

    /// The operations that may be in flight at once.
    fn capacity(&self) -> u32;

    /// The operations pushed and not yet reaped, whether submitted or not.
    fn in_flight(&self) -> u32;

    /// Queues an operation without entering the kernel, unless the queue is full and has to be
    /// emptied first. `user` comes back with the completion.
    ///
    /// # Errors
    /// Any [`PushError`]; nothing was queued.
    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError>;

    /// Hands what is queued to the kernel without waiting for any of it; returns how many entries,
    /// cancel requests included, it took. What it had no room for stays queued for the next call.
    ///
    /// # Errors
    /// [`EnterError::Fatal`]: see there for what becomes of the operations.
    fn submit(&mut self) -> Result<u32, EnterError>;

    /// Passes every completion available now to `sink`; returns how many there were. Enters the
    /// kernel only if that has flagged work that it put off for this thread.
    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32
    where
        Self: Sized;

    /// Submits, then sleeps until a completion can be reaped or the time is over, which is a
    /// success. `None` waits without limit, except that it returns at once when nothing is in
    /// flight. A signal does not end the wait; the answer to a cancel request may, early.
    ///
    /// # Errors
    /// [`EnterError::Fatal`]: see there for what becomes of the operations.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError>;

    /// Returns a waker that ends [`wait`](Self::wait) early, for other threads. A wake-up before
    /// the wait ends the next wait; it may end one more. `None` if the transport cannot be woken,
    /// which is also the default implementation: its driver should then wait for short times only.
    /// A transport around another passes that one's waker on.
    fn waker(&mut self) -> Option<Waker> {
        None
    }

    /// Asks the kernel to end an operation early. The operation still completes exactly once, with
    /// `ECANCELED` or with its own outcome. The request is sent with the next submit.
    ///
    /// The kernel can miss a request, where the operation is on its way from one of its lists to
    /// another. So the call may be repeated for as long as the operation is in flight: it asks the
    /// kernel again once the earlier request was answered, and does nothing before. Whoever must
    /// have the operation ended repeats it until the completion comes.
    ///
    /// Returns `false` if the operation is no longer in flight, or if there was no room to ask.
    fn cancel(&mut self, token: Token) -> bool;

    /// Puts a file into a slot, or empties the slot. Examines the file first, as
    /// [`FileTraits::of`] does.
    ///
    /// # Errors
    /// Any [`RegisterError`]; [`RegisterError::Busy`] while operations on the slot are in flight.
    fn set_file(&mut self, slot: FileSlot, file: Option<Arc<OwnedFd>>)
    -> Result<(), RegisterError>;

    /// Puts a file that was examined before into a slot, or empties the slot, as
    /// [`set_file`](Self::set_file) does. To examine a file can wait for its file system, so a
    /// thread that must not wait has it done by another.
    ///
    /// The implementation that is provided calls `set_file`. A transport around another should pass
    /// the call on.
    ///
    /// # Errors
    /// As for [`set_file`](Self::set_file).
    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        let _ = traits;
        self.set_file(slot, Some(file))
    }

    /// Puts a buffer into a slot, or empties the slot.
    ///
    /// # Errors
    /// Any [`RegisterError`]; [`RegisterError::Busy`] while operations on the slot are in flight.
    fn set_buffer(&mut self, slot: BufferSlot, buffer: Option<Buffer>)
    -> Result<(), RegisterError>;

    /// Cancels everything in flight and waits until all of it has completed. Afterwards nothing
    /// touches a buffer any more; the completions are still there to be reaped.
    ///
    /// # Errors
    /// [`Busy`] when the kernel had not given everything back within `deadline`. Whatever has
    /// completed can be reaped, and the call may be repeated. An implementation that returns it before
    /// `deadline` is over says that waiting longer is of no use.
    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy>;
}
