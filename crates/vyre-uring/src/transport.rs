//! The interface between code that decides on I/O and code that performs it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use vyre_mapped::RecoveryError;

use crate::buffer::Buffer;
use crate::cached_file::CachedFile;
use crate::completion::{Completion, Token};
use crate::error::{Busy, EnterError, PushError, RegisterError};
use crate::file_traits::FileTraits;
use crate::futex_word::FutexWord;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::page_cache_counters::PageCacheCounters;
use crate::setup_report::SetupReport;

/// The largest number of reads that are [bundled](Transport::bundle) at a time: one for each bit of the result.
pub const MAX_BUNDLE: usize = u64::BITS as usize;

/// Performs [`Operation`]s on files and buffers that are held in two tables.
///
/// An implementation guarantees:
/// - Every push that succeeds leads to exactly one [`Completion`], which [`reap`](Self::reap) passes
///   on. Completions come in any order.
/// - A transfer may be short, even before the end of the file: one push transfers at most what one
///   operation of the kernel can. The completion carries the number of bytes.
/// - A buffer is kept until the operations on it have completed.
/// - `push`, `bundle`, `copy_bundle`, `submit`, `reap`, `wait`, `wait_on` and `cancel` do not allocate.
pub trait Transport {
    /// Returns what the transport was built with, if this is a [`Ring`](crate::Ring), a
    /// [`ThreadPool`](crate::ThreadPool) or is built around one. `None` by default.
    fn setup_report(&self) -> Option<SetupReport> {
        None
    }

    /// Returns the number of operations that may be in flight at once.
    fn capacity(&self) -> u32;

    /// Returns the number of operations pushed and not yet reaped, whether submitted or not.
    fn in_flight(&self) -> u32;

    /// Queues an operation. Enters the kernel only if the queue is full. `user` comes back with the
    /// completion.
    ///
    /// # Errors
    /// Nothing was queued.
    /// - [`PushError::Full`] if as many operations are in flight as the transport takes.
    /// - [`PushError::UnknownFile`] or [`PushError::UnknownBuffer`] if the slot is empty or beyond
    ///   the table.
    /// - [`PushError::OutOfRange`] if the range leaves the buffer, or passes `i64::MAX` in the file.
    /// - [`PushError::Unsupported`] if the transport does not have the operation.
    /// - [`PushError::Poisoned`] once the transport has failed for good.
    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError>;

    /// Bundles a read that needs neither the kernel nor a wait: [`copy_bundle`](Self::copy_bundle) performs it, and
    /// it is never in flight. Returns `false` for any other operation, which the caller [pushes](Self::push).
    ///
    /// At most [`MAX_BUNDLE`] reads are bundled at a time. Until they are copied, the caller calls no other
    /// method that takes `&mut self`.
    ///
    /// A transport that performs nothing by itself bundles nothing, which is the default. A transport around another
    /// one forwards the call if it has nothing to do for the operation.
    #[inline]
    fn bundle(&mut self, operation: Operation) -> bool {
        let _ = operation;
        false
    }

    /// Performs the bundled reads, in order. Returns the set of those that were not performed: bit `n` for the
    /// `n`-th. The caller pushes these. Each of the others has moved all of its bytes.
    ///
    /// A transport around another one that forwards [`bundle`](Self::bundle) forwards this call, too.
    #[inline]
    fn copy_bundle(&mut self) -> u64 {
        0
    }

    /// Submits the queued operations and cancel requests without waiting for any of them. Returns
    /// how many the kernel took. Those that it has no room for stay queued for the next call.
    ///
    /// # Errors
    /// [`EnterError::Fatal`] if the transport has failed for good. The operations that the kernel had
    /// not taken complete with the same errno.
    fn submit(&mut self) -> Result<u32, EnterError>;

    /// Passes every completion that is available now to `sink`, and returns how many there were.
    /// Enters the kernel only if the kernel has flagged work that it deferred to this thread.
    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32
    where
        Self: Sized;

    /// Submits, then sleeps until a completion can be reaped or the timeout is over. Neither a
    /// timeout nor a signal is an error. Without a timeout the wait has no limit, but returns at once
    /// if nothing is in flight. The answer to a cancel request may end the wait early.
    ///
    /// # Errors
    /// [`EnterError::Fatal`], as for [`submit`](Self::submit).
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError>;

    /// Returns a waker by which another thread ends a [`wait`](Self::wait) early. If a wake-up comes
    /// between two waits, it ends the next one. A wait may also end without a wake-up.
    ///
    /// Returns `None` if the transport cannot be woken, which is the default. Its caller should then
    /// use short timeouts. A transport around another one forwards the call.
    fn waker(&mut self) -> Option<Waker> {
        None
    }

    /// Returns another descriptor of the eventfd of the [`waker`](Self::waker). Who writes the number 1 to it, as 8
    /// bytes, ends a wait as the waker does. Another process can have it.
    ///
    /// Returns `None` if the waker is not an eventfd, which is the default. A transport around another one forwards
    /// the call.
    fn wake_fd(&mut self) -> Option<OwnedFd> {
        None
    }

    /// Sets the words on which [`wait_on`](Self::wait_on) waits, in place of earlier ones. Returns whether the
    /// transport can wait on them. A transport around another one forwards the call.
    ///
    /// The default is `false`: whoever stores to the words cannot end a wait.
    fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        let _ = words;
        false
    }

    /// Waits as [`wait`](Self::wait) does, and also ends if a word of [`set_futexes`](Self::set_futexes) differs from
    /// its value in `expected` (as it is in memory), or if it is woken by FUTEX_WAKE, without FUTEX_PRIVATE_FLAG. No
    /// such wake-up is lost: one that comes before this call, and after the words were loaded, ends the wait. One that
    /// comes between two waits may end the next one. Without a timeout, the wait has no limit.
    ///
    /// The default calls `wait`. A transport around another one forwards the call.
    ///
    /// # Errors
    /// [`EnterError::Fatal`], as for [`submit`](Self::submit).
    fn wait_on(&mut self, expected: &[u32], timeout: Option<Duration>) -> Result<(), EnterError> {
        let _ = expected;
        self.wait(timeout)
    }

    /// Asks the kernel to end an operation early. The operation still completes exactly once, with
    /// `ECANCELED` or with its own result. The next submission sends the request.
    ///
    /// A request can miss an operation that is moving between two lists of the kernel. The call may
    /// therefore be repeated while the operation is in flight: it sends another request once the
    /// kernel has answered the earlier one, and does nothing before. A caller that needs the
    /// operation to end repeats the call until the completion comes.
    ///
    /// Returns `false` if the operation is no longer in flight, or if there was no room for the
    /// request.
    fn cancel(&mut self, token: Token) -> bool;

    /// Puts a file into a slot, or empties the slot. Examines the file first, as
    /// [`FileTraits::of`] does.
    ///
    /// # Errors
    /// - [`RegisterError::UnknownFile`] if the slot is beyond the table.
    /// - [`RegisterError::Busy`] while operations on the slot are in flight.
    /// - [`RegisterError::Kernel`] if the kernel refuses the file.
    /// - [`RegisterError::Emptied`] if it then refuses the file that the slot held before, too.
    fn set_file(&mut self, slot: FileSlot, file: Option<Arc<OwnedFd>>)
    -> Result<(), RegisterError>;

    /// Puts a file that was examined before into a slot, as [`set_file`](Self::set_file) does.
    /// Examining a file can wait for its file system, so a thread that must not wait leaves it to
    /// another thread.
    ///
    /// By default this calls `set_file`. A transport around another one should forward the call.
    ///
    /// # Errors
    /// The same as for [`set_file`](Self::set_file).
    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        let _ = traits;
        self.set_file(slot, Some(file))
    }

    /// Allows reads of the file in a slot to be copied out of the page cache, where they give what the
    /// kernel would. The next [`set_file`](Self::set_file) of the slot ends that.
    ///
    /// A transport that does not copy ignores the call, which is the default. A transport around
    /// another one should forward it.
    ///
    /// # Errors
    /// A [`RecoveryError`] if this thread cannot survive a truncation of the file during a copy. The
    /// file is served as before.
    fn set_page_cache(
        &mut self,
        slot: FileSlot,
        cached: Arc<CachedFile>,
    ) -> Result<(), RecoveryError> {
        let _ = (slot, cached);
        Ok(())
    }

    /// Returns the counts of the reads of such files. All are zero by default. A transport around
    /// another one should forward the call.
    fn page_cache_counters(&self) -> PageCacheCounters {
        PageCacheCounters::default()
    }

    /// Puts a buffer into a slot, or empties the slot.
    ///
    /// # Errors
    /// - [`RegisterError::UnknownBuffer`] if the slot is beyond the table.
    /// - [`RegisterError::Busy`] while operations on the slot are in flight.
    /// - [`RegisterError::EmptyBuffer`] if the buffer has no bytes.
    fn set_buffer(&mut self, slot: BufferSlot, buffer: Option<Buffer>)
    -> Result<(), RegisterError>;

    /// Cancels everything in flight and waits until all of it has completed. Afterwards nothing
    /// accesses a buffer any more; the completions can still be reaped.
    ///
    /// # Errors
    /// [`Busy`] if the kernel has not given everything back within `deadline`. Whatever has
    /// completed can be reaped, and the call may be repeated. An implementation returns this error
    /// before `deadline` if waiting longer is of no use.
    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy>;
}
