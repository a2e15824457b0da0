//! A transport on io_uring. An operation passes through the files of this module in this order:
//! [`push`] checks it and builds its entry, [`enqueue`] puts the entry into the submission queue,
//! [`submit`] enters the kernel, [`reap`] takes the kernel's completions, and [`complete`] matches
//! each with its operation. [`wait`] sleeps, [`cancel`] ends operations early, and [`register`]
//! changes the tables.

mod cancel;
mod complete;
mod enqueue;
mod futexes;
mod push;
mod reap;
mod register;
mod slots;
mod submit;
#[cfg(test)]
mod tests;
mod wait;
mod wake;

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use rustix::io::Errno;

use crate::buffer::Buffer;
use crate::completion::{Completion, Token};
use crate::error::{Busy, EnterError, PushError, RegisterError};
use crate::file_traits::FileTraits;
use crate::futex_word::FutexWord;
use crate::kernel_ring::KernelRing;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::settings::CommonSettings;
use crate::setup_report::{RingReport, SetupReport};
use crate::token_table::TokenTable;
use crate::transport::Transport;
use futexes::Futexes;
use slots::{BufferSlotState, FileSlotState, SpareIndexes};
use wake::WakeEvent;

/// A [`Transport`] on one io_uring, for the thread that built it.
///
/// All of its operations are methods of its own; the implementation of [`Transport`] forwards to
/// them. [`Ring::builder`] sets a ring up.
///
/// A dropped ring cancels what is in flight and waits for all of it. If the kernel does not give
/// everything back in time, the ring leaks itself and the memory that the kernel may yet write to:
/// see [`RingBuilder::drop_deadline`](crate::RingBuilder::drop_deadline).
///
/// A ring cannot leave its thread:
///
/// ```compile_fail,E0277
/// fn leaves<T: Send>() {}
/// leaves::<vyre_uring::Ring>();
/// ```
pub struct Ring {
    /// The kernel's part of the ring, in a place from which `Drop` can decline to free it.
    kernel: ManuallyDrop<KernelRing>,
    /// The operations in flight.
    tokens: TokenTable,
    files: Box<[FileSlotState]>,
    buffers: Box<[BufferSlotState]>,
    /// The token of each entry of the submission queue, by queue position. Names the operations to
    /// complete with an error if the kernel never takes them.
    queued: Box<[Token]>,
    /// The number of entries ever queued, wrapping: the next position in `queued`.
    pushed: u32,
    /// Results that are known but not reaped, as the kernel encodes them.
    stashed: VecDeque<(Token, i32)>,
    /// Cancel requests that the kernel has not answered.
    cancels: u32,
    /// Completions that matched nothing.
    strays: u64,
    /// The eventfd that wakes the ring, once a waker was asked for.
    wake: Option<WakeEvent>,
    /// The words that end a [`wait_on`](Self::wait_on).
    futexes: Box<Futexes>,
    /// The errno by which the kernel refused to be entered, once it did.
    poisoned: Option<Errno>,
    fixed_files: bool,
    fixed_buffers: bool,
    ext_arg: bool,
    spare_indexes: SpareIndexes,
    report: RingReport,
    drop_deadline: Duration,
    /// The value of `pushed` when a quiesce gave up.
    given_up: Option<u32>,
    /// The kernel knows one thread as the ring's only issuer.
    _one_thread: PhantomData<*mut ()>,
}

impl Ring {
    /// Creates a ring whose tables have this many slots. The kernel's buffer table has one index for
    /// each slot, and more up to `buffer_indexes`.
    pub(crate) fn new(
        kernel: KernelRing,
        report: RingReport,
        settings: &CommonSettings,
        buffer_indexes: u32,
    ) -> Self {
        let entries = report.sq_entries;
        let [files, buffers] = [settings.files, settings.buffers];
        Self {
            tokens: TokenTable::with_capacity(entries),
            files: (0..files).map(|_| FileSlotState::EMPTY).collect(),
            buffers: (0..buffers).map(|_| BufferSlotState::EMPTY).collect(),
            queued: vec![Token::from_raw(0); entries as usize].into(),
            pushed: 0,
            stashed: VecDeque::with_capacity(entries as usize),
            cancels: 0,
            strays: 0,
            wake: None,
            futexes: Box::default(),
            poisoned: None,
            fixed_files: report.files.in_use(),
            fixed_buffers: report.buffers.in_use(),
            ext_arg: report.features.ext_arg,
            spare_indexes: SpareIndexes::new(buffers..buffer_indexes),
            report,
            drop_deadline: settings.drop_deadline,
            given_up: None,
            kernel: ManuallyDrop::new(kernel),
            _one_thread: PhantomData,
        }
    }

    /// Returns what the ring was built with, and why not with more.
    pub fn setup_report(&self) -> &RingReport {
        &self.report
    }

    /// Returns the number of operations that may be in flight at once.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.tokens.capacity()
    }

    /// Returns the number of operations pushed and not yet reaped, whether submitted or not.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.tokens.len()
    }

    /// Returns whether the buffer in this slot is registered with the kernel. Otherwise it
    /// is served by plain reads and writes.
    pub fn is_buffer_registered(&self, slot: BufferSlot) -> bool {
        self.buffers
            .get(slot.index() as usize)
            .is_some_and(|state| state.buf_index.is_some())
    }

    /// Returns the number of completions that matched nothing in flight. They were ignored. Any at
    /// all indicates a fault of the kernel or of this crate.
    pub fn stray_completions(&self) -> u64 {
        self.strays
    }
}

/// Forwards to the methods of the same names.
/// Readable while a completion can be reaped, for a program that waits on many descriptors by poll(2) or epoll(7). Submit
/// before: a wait on the descriptor submits nothing.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.fd()
    }
}

impl Transport for Ring {
    fn setup_report(&self) -> Option<SetupReport> {
        Some(SetupReport::Ring(self.setup_report().clone()))
    }

    #[inline]
    fn capacity(&self) -> u32 {
        self.capacity()
    }

    #[inline]
    fn in_flight(&self) -> u32 {
        self.in_flight()
    }

    #[inline]
    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        self.push(operation, user)
    }

    #[inline]
    fn submit(&mut self) -> Result<u32, EnterError> {
        self.submit()
    }

    #[inline]
    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        self.reap(sink)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.wait(timeout)
    }

    fn waker(&mut self) -> Option<Waker> {
        self.waker()
    }

    fn wake_fd(&mut self) -> Option<OwnedFd> {
        self.wake_fd()
    }

    fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        self.set_futexes(words)
    }

    fn wait_on(&mut self, expected: &[u32], timeout: Option<Duration>) -> Result<(), EnterError> {
        self.wait_on(expected, timeout)
    }

    fn cancel(&mut self, token: Token) -> bool {
        self.cancel(token)
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        self.set_file(slot, file)
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.set_file_with(slot, file, traits)
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        self.set_buffer(slot, buffer)
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.quiesce(deadline)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let deadline = if self.given_up == Some(self.pushed) {
            // Nothing was pushed since: what is in flight has been waited for.
            Duration::ZERO
        } else {
            self.drop_deadline
        };
        match self.quiesce(deadline) {
            Ok(()) => self.free(),
            Err(Busy { .. }) => {
                // The kernel may yet write to the buffers, so neither they nor the ring are freed.
                self.buffers.iter_mut().for_each(BufferSlotState::leak);
                self.files.iter_mut().for_each(FileSlotState::leak);
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.capacity())
            .field("in_flight", &self.in_flight())
            .field("stray_completions", &self.strays)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}
