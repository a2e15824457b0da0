//! A transport around another one that copies cached bytes out of a mapping.

mod bundle;
mod copy;
mod file_state;
mod queued;
#[cfg(all(test, feature = "sim"))]
mod tests;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use rustix::io::Errno;
use vyre_mapped::{Recovery, RecoveryError};

use crate::buffer::Buffer;
use crate::cached_file::CachedFile;
use crate::completion::{Completion, Token};
use crate::error::{Busy, EnterError, PushError, RegisterError};
use crate::file_traits::FileTraits;
use crate::futex_word::FutexWord;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::page_cache_counters::PageCacheCounters;
use crate::setup_report::SetupReport;
use crate::transport::{MAX_BUNDLE, Transport};
use bundle::Bundled;
use file_state::FileState;
use queued::{Done, Queued, Read};

/// The largest number of bytes of a read that is copied. A longer one goes to the transport around:
/// the copy would delay all other operations.
pub const MAX_COPY_BYTES: u32 = 128 << 10;

/// The number of bytes after which one [`submit`](Transport::submit) begins no further copy. What is left waits
/// for the next submission.
pub const SUBMIT_COPY_BYTES: u32 = 256 << 10;

/// The largest number of bytes of a short read. Short reads and long ones take turns, so that a flood of
/// long copies delays a short one by little.
const SHORT_BYTES: u32 = 16 << 10;

/// The number of bytes of the next read that are loaded into the processor's cache during a copy.
const PREFETCH_BYTES: u32 = 1024;

/// The number of reads ahead of a copy of which one line is prefetched. The processor then translates the addresses
/// of several reads at once; a prefetch waits for the translation of its own.
const LOOK_AHEAD: usize = 4;

/// The number of bundles and submissions with copies between two checks that the thread still recovers from SIGBUS.
const CHECK_EVERY: u32 = 256;

/// A transport around another one that serves reads of cached bytes without a system call: it copies
/// them out of a mapping of the file.
///
/// A [`Read`](Operation::Read) is copied if its file has a [`CachedFile`], if all its pages were
/// in memory when they were last looked for, if it has at most [`MAX_COPY_BYTES`] bytes, and if it ends
/// before the file does. All other operations go to the inner transport.
///
/// # Order of the steps
/// [`push`](Transport::push) queues a copy. [`submit`](Transport::submit) asks once for the size of each
/// file, then copies. [`reap`](Transport::reap) passes the completions on. The kernel's buffered read
/// also loads the size before it copies, without a lock, so each result is one that pread(2) could
/// have given between push and reap.
///
/// A read that reaches past the size, or whose copy raises SIGBUS, completes with `EINTR`. The caller
/// pushes it again, as after every `EINTR`, and the inner transport then performs it.
///
/// A read of up to 16 KiB can do without these steps: it joins a [`bundle`](Transport::bundle), and
/// [`copy_bundle`](Transport::copy_bundle) asks for the sizes and copies.
///
/// # Limits
/// - One submission copies about [`SUBMIT_COPY_BYTES`] of reads of up to 16 KiB, or of longer reads, in turns.
///   The longer read of a turn right after short ones is one alone.
/// - A page that has left memory since it was last looked for is read in while the thread waits.
/// - If the thread blocks SIGBUS, or if another handler has replaced the one of `vyre-mapped`, all
///   operations go to the inner transport. The thread is checked at every 256th bundle or submission with copies, and
///   after every wait.
#[derive(Debug)]
pub struct PageCacheTransport<T> {
    inner: T,
    files: Vec<Option<FileState>>,
    buffers: Vec<Option<Buffer>>,
    /// The reads of up to `SHORT_BYTES`, and the others.
    short: VecDeque<Queued>,
    long: VecDeque<Queued>,
    /// Set if the last submission copied short reads.
    long_is_next: bool,
    done: Vec<Done>,
    /// The reads that the next call copies, before anything else happens.
    bundle: Vec<Bundled>,
    /// `None` until a cached file is set, and if the thread does not recover from SIGBUS.
    recovery: Option<Recovery>,
    until_check: u32,
    /// The number of bundles and submissions with copies, to ask for each size once.
    submission: u64,
    next_token: u32,
    counters: PageCacheCounters,
}

impl<T: Transport> PageCacheTransport<T> {
    /// Wraps a transport whose tables are empty.
    pub fn new(inner: T) -> Self {
        let capacity = inner.capacity() as usize;
        Self {
            inner,
            files: Vec::new(),
            buffers: Vec::new(),
            short: VecDeque::with_capacity(capacity),
            long: VecDeque::with_capacity(capacity),
            long_is_next: false,
            done: Vec::with_capacity(capacity),
            bundle: Vec::with_capacity(MAX_BUNDLE),
            recovery: None,
            until_check: 0,
            submission: 0,
            next_token: 0,
            counters: PageCacheCounters::default(),
        }
    }

    /// Returns the inner transport.
    pub const fn inner(&self) -> &T {
        &self.inner
    }

    /// Returns the number of copies that were pushed and not yet reaped.
    #[inline]
    fn held(&self) -> u32 {
        self.queued() + self.done.len() as u32
    }

    /// Returns the number of copies that wait for a submission.
    #[inline]
    fn queued(&self) -> u32 {
        (self.short.len() + self.long.len()) as u32
    }

    /// Queues a read of cached bytes. Returns `None` if the inner transport is to perform it.
    #[inline]
    fn push_copy(&mut self, read: Read, user: u64) -> Option<Result<Token, PushError>> {
        let state = self.files.get_mut(read.file.index() as usize)?.as_mut()?;
        if self.recovery.is_none() || read.len == 0 || read.len > MAX_COPY_BYTES {
            self.counters.passed_on += 1;
            return None;
        }
        let buffer = self.buffers.get(read.buffer.index() as usize)?.as_ref()?;
        // Otherwise the inner transport refuses the read.
        let buffer_end = read.buffer_offset.checked_add(read.len.into())?;
        if buffer_end > buffer.len() as u64 {
            return None;
        }
        let end = read.offset.checked_add(read.len.into())?;
        if !state.may_copy(read.offset..end) {
            self.counters.passed_on += 1;
            return None;
        }
        if self.in_flight() >= self.capacity() {
            return Some(Err(PushError::Full));
        }
        let token = Token::of_wrapper(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        match self.short.len() {
            0 => self.prefetch(&read, PREFETCH_BYTES),
            1..LOOK_AHEAD => self.prefetch(&read, 1),
            // The copies before it do that.
            _ => {}
        }
        let queue = match read.len <= SHORT_BYTES {
            true => &mut self.short,
            false => &mut self.long,
        };
        queue.push_back(Queued { read, token, user });
        Some(Ok(token))
    }

    /// Copies what is queued, up to the limit, or returns it to the caller to be pushed again. Returns
    /// the number of operations that ended.
    ///
    /// Short reads and long ones take turns, so that neither starves the other, and the completion of a short read
    /// does not wait for a long copy behind it.
    fn copy_queued(&mut self) -> u32 {
        self.begin_copies();
        let before = self.done.len();
        let after_short = std::mem::take(&mut self.long_is_next);
        if self.short.is_empty() || (after_short && !self.long.is_empty()) {
            // One alone while short reads keep coming: they wait for no more than that.
            self.copy_long(if after_short { 1 } else { SUBMIT_COPY_BYTES });
        } else {
            self.copy_short();
            self.long_is_next = true;
        }
        (self.done.len() - before) as u32
    }

    /// Begins a run of copies. Each file is then asked for its size anew.
    fn begin_copies(&mut self) {
        self.check_thread();
        self.submission += 1;
    }

    fn copy_short(&mut self) {
        let mut bytes = 0;
        while bytes < SUBMIT_COPY_BYTES
            && let Some(queued) = self.short.pop_front()
        {
            if let Some(next) = self.short.front() {
                self.prefetch(&next.read, PREFETCH_BYTES);
            }
            if let Some(later) = self.short.get(LOOK_AHEAD - 1) {
                self.prefetch(&later.read, 1);
            }
            bytes += queued.read.len;
            self.copy_one(queued);
        }
    }

    fn copy_long(&mut self, limit: u32) {
        let mut bytes = 0;
        while bytes < limit
            && let Some(queued) = self.long.pop_front()
        {
            bytes += queued.read.len;
            self.copy_one(queued);
        }
    }

    /// Loads at most this many bytes of a read into the processor's cache.
    #[inline]
    fn prefetch(&self, read: &Read, bytes: u32) {
        if let Some(Some(file)) = self.files.get(read.file.index() as usize) {
            let end = read.offset.saturating_add(read.len.min(bytes).into());
            file.cached()
                .residency()
                .mapping()
                .prefetch(read.offset..end);
        }
    }

    #[inline]
    fn copy_one(&mut self, Queued { read, token, user }: Queued) {
        let result = self.copy(&read);
        self.done.push(Done {
            completion: Completion::new(user, token, result),
            file: read.file,
            buffer: read.buffer,
        });
    }

    /// Copies the bytes of one read.
    ///
    /// # Errors
    /// `EINTR` if the inner transport is to perform the read.
    #[inline]
    fn copy(&mut self, read: &Read) -> Result<u32, Errno> {
        let file = self.files.get_mut(read.file.index() as usize);
        let buffer = self.buffers.get(read.buffer.index() as usize);
        let (Some(Some(file)), Some(Some(buffer)), Some(recovery)) = (file, buffer, &self.recovery)
        else {
            return Err(Errno::INTR);
        };
        // In range: `push_copy` has checked it.
        let range = read.offset..read.offset + u64::from(read.len);
        if range.end > file.size_at(self.submission) {
            self.counters.past_end += 1;
            return Err(Errno::INTR);
        }
        if copy::to_buffer(file.cached(), recovery, &range, buffer, read.buffer_offset) {
            self.counters.copied += 1;
            self.counters.bytes += u64::from(read.len);
            Ok(read.len)
        } else {
            self.counters.faulted += 1;
            file.cached().residency().forget(range);
            Err(Errno::INTR)
        }
    }

    /// Checks from time to time that the thread recovers from SIGBUS.
    fn check_thread(&mut self) {
        if self.until_check == 0 {
            self.until_check = CHECK_EVERY;
            if self
                .recovery
                .as_ref()
                .is_some_and(|recovery| recovery.check().is_err())
            {
                self.recovery = None;
            }
        }
        self.until_check -= 1;
    }

    /// Returns the number of copies that were pushed and not yet reaped, of those that meet a condition.
    fn held_on(&self, file: impl Fn(FileSlot) -> bool, buffer: impl Fn(BufferSlot) -> bool) -> u32 {
        let queued = self.short.iter().chain(&self.long);
        let queued = queued.map(|it| (it.read.file, it.read.buffer));
        let done = self.done.iter().map(|it| (it.file, it.buffer));
        let held = queued.chain(done);
        held.filter(|&(of, to)| file(of) || buffer(to)).count() as u32
    }

    /// Returns the copies on a file that are in flight as an error.
    fn check_idle(&self, slot: FileSlot) -> Result<(), RegisterError> {
        match self.held_on(|file| file == slot, |_| false) {
            0 => Ok(()),
            in_flight => Err(RegisterError::Busy { in_flight }),
        }
    }

    /// Forgets the mapping of a slot unless the slot holds what it held before.
    fn forget_replaced(
        &mut self,
        slot: FileSlot,
        set: Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        if matches!(set, Ok(()) | Err(RegisterError::Emptied(_)))
            && let Some(state) = self.files.get_mut(slot.index() as usize)
        {
            *state = None;
        }
        set
    }
}

impl<T: Transport> Transport for PageCacheTransport<T> {
    fn setup_report(&self) -> Option<SetupReport> {
        self.inner.setup_report()
    }

    #[inline]
    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    #[inline]
    fn in_flight(&self) -> u32 {
        self.inner.in_flight() + self.held()
    }

    #[inline]
    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        if let Some(read) = Read::of(&operation)
            && let Some(pushed) = self.push_copy(read, user)
        {
            return pushed;
        }
        if self.held() > 0 && self.in_flight() >= self.capacity() {
            return Err(PushError::Full);
        }
        self.inner.push(operation, user)
    }

    // Always: called in one place, with operands that are in registers there.
    #[inline(always)]
    fn bundle(&mut self, operation: Operation) -> bool {
        Read::of(&operation).is_some_and(|read| self.bundle_read(read))
    }

    #[inline]
    fn copy_bundle(&mut self) -> u64 {
        self.copy_all_bundled()
    }

    #[inline]
    fn submit(&mut self) -> Result<u32, EnterError> {
        // First, so that the kernel works while this thread copies.
        let submitted = self.inner.submit();
        if self.queued() == 0 {
            return submitted;
        }
        let copies = self.copy_queued();
        submitted.map(|submitted| submitted + copies)
    }

    #[inline]
    fn reap<F: FnMut(Completion)>(&mut self, mut sink: F) -> u32 {
        let copies = self.done.len() as u32;
        for done in self.done.drain(..) {
            sink(done.completion);
        }
        copies + self.inner.reap(sink)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        if self.held() > 0 {
            return self.submit().map(drop);
        }
        // Much may happen during a sleep.
        self.until_check = 0;
        self.inner.wait(timeout)
    }

    fn waker(&mut self) -> Option<Waker> {
        self.inner.waker()
    }

    fn wake_fd(&mut self) -> Option<OwnedFd> {
        self.inner.wake_fd()
    }

    fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        self.inner.set_futexes(words)
    }

    fn wait_on(&mut self, expected: &[u32], timeout: Option<Duration>) -> Result<(), EnterError> {
        if self.held() > 0 {
            return self.submit().map(drop);
        }
        // As in `wait`.
        self.until_check = 0;
        self.inner.wait_on(expected, timeout)
    }

    fn cancel(&mut self, token: Token) -> bool {
        if token.is_of_wrapper() {
            // A submission copies it soon.
            let mut queued = self.short.iter().chain(&self.long);
            return queued.any(|queued| queued.token == token);
        }
        self.inner.cancel(token)
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        self.check_idle(slot)?;
        let set = self.inner.set_file(slot, file);
        self.forget_replaced(slot, set)
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.check_idle(slot)?;
        let set = self.inner.set_file_with(slot, file, traits);
        self.forget_replaced(slot, set)
    }

    fn set_page_cache(
        &mut self,
        slot: FileSlot,
        cached: Arc<CachedFile>,
    ) -> Result<(), RecoveryError> {
        if self.recovery.is_none() {
            self.recovery = Some(Recovery::new()?);
        }
        let index = slot.index() as usize;
        if index >= self.files.len() {
            self.files.resize_with(index + 1, || None);
        }
        self.files[index] = Some(FileState::new(cached));
        Ok(())
    }

    fn page_cache_counters(&self) -> PageCacheCounters {
        self.counters
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        if let in_flight @ 1.. = self.held_on(|_| false, |buffer| buffer == slot) {
            return Err(RegisterError::Busy { in_flight });
        }
        self.inner.set_buffer(slot, buffer.clone())?;
        let index = slot.index() as usize;
        if index >= self.buffers.len() {
            self.buffers.resize_with(index + 1, || None);
        }
        self.buffers[index] = buffer;
        Ok(())
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        for Queued { read, token, user } in self.short.drain(..).chain(self.long.drain(..)) {
            self.done.push(Done {
                completion: Completion::new(user, token, Err(Errno::CANCELED)),
                file: read.file,
                buffer: read.buffer,
            });
        }
        self.inner.quiesce(deadline)
    }
}
