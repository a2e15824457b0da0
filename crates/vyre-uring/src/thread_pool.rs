//! A transport on threads, for where io_uring is forbidden or missing. An operation passes through the
//! files of this module in this order: [`push`] checks it, [`submit`] performs reads of cached bytes at
//! once and hands all others over, [`work`] decides when each starts, [`worker`] and [`poller`] perform
//! them, and [`collect`] takes the results. [`perform`] holds the system calls.

mod builder;
mod collect;
mod file_slot;
mod lists;
mod perform;
mod poller;
mod push;
mod shared;
mod sleeper;
mod submit;
#[cfg(test)]
mod tests;
mod work;
mod worker;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::completion::{Completion, Token};
use crate::error::{Busy, EnterError, PushError, RegisterError, SetupError};
use crate::file_traits::FileTraits;
use crate::futex_means::FutexMeans;
use crate::futex_word::FutexWord;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::relay::Relays;
use crate::setup_report::SetupReport;
use crate::thread_pool_report::ThreadPoolReport;
use crate::token_table::TokenTable;
use crate::transport::Transport;
use crate::wait_list::{WaitList, has_waitv};
pub use builder::ThreadPoolBuilder;
use file_slot::FileSlotState;
use shared::Shared;

/// A [`Transport`] on threads that call `preadv2(2)` and its relatives. It works where io_uring is
/// forbidden, as containers do by default, or missing. [`ThreadPool::builder`] sets a pool up.
///
/// # Who performs an operation
/// - Reads of cached bytes of regular files and block devices are performed by the thread that calls
///   [`submit`](Transport::submit), with `RWF_NOWAIT`, so they take no other thread. Files of remote file
///   systems and direct I/O are excluded.
/// - Workers perform all other operations on files with offsets. They are started when all others are
///   busy, up to [a limit](ThreadPoolBuilder::workers), and end after a while without work.
/// - One thread polls all files without offsets (pipes, sockets, terminals), and transfers when they are
///   ready. A read that waits for the other end occupies no thread.
///
/// # Limits
/// - A file may occupy at most as many workers as it leaves free: half of them if it is alone. Files
///   whose operations hang therefore leave workers to others. When there are many such files, no worker
///   is left, and operations that need one wait.
/// - Buffered writes to one file are performed one after another. The kernel would do the same.
/// - A cancelled operation ends at once unless a worker performs it. A system call under way cannot be
///   cancelled: the operation then ends with its own result.
/// - Linux before 6.4 has no `RWF_NOWAIT` for pipes and sockets. A worker then transfers once the file is
///   ready, and waits with it if another process was faster.
///
/// Nothing is registered with the kernel. A dropped pool cancels what is in flight and waits for
/// all of it. If the kernel does not give everything back in time, the threads keep the files and the
/// memory that they use until it does: see
/// [`ThreadPoolBuilder::drop_deadline`](ThreadPoolBuilder::drop_deadline).
pub struct ThreadPool {
    /// The operations in flight.
    tokens: TokenTable,
    files: Box<[FileSlotState]>,
    buffers: Box<[Option<Buffer>]>,
    /// Operations that the next submission performs or hands over.
    attempts: VecDeque<Queued>,
    queued: VecDeque<Queued>,
    /// Results that are known but not reaped, as the kernel encodes them.
    done: VecDeque<(Token, i32)>,
    shared: Arc<Shared>,
    /// The words that end a [`wait_on`](Transport::wait_on).
    waits: Option<WaitList>,
    /// The threads that wait on them if the kernel cannot wait on all of them at once.
    relays: Option<Relays>,
    report: ThreadPoolReport,
    drop_deadline: Duration,
    /// The number of operations pushed so far, and what it was when a quiesce gave up.
    pushed: u64,
    given_up: Option<u64>,
}

/// An operation that waits for a submission.
#[derive(Debug, Clone, Copy)]
struct Queued {
    token: Token,
    operation: Operation,
    /// The bytes at the beginning that were read already.
    moved: u32,
}

impl ThreadPool {
    /// Returns what the pool was built with.
    pub fn setup_report(&self) -> &ThreadPoolReport {
        &self.report
    }

    /// Notes why there is no ring.
    pub(crate) fn set_refused(&mut self, refused: Option<SetupError>) {
        self.report.refused = refused;
    }

    /// Puts a file that was examined before into a slot.
    fn replace_file(
        &mut self,
        slot: FileSlot,
        file: Option<(Arc<OwnedFd>, FileTraits)>,
    ) -> Result<(), RegisterError> {
        let state = self
            .files
            .get_mut(slot.index() as usize)
            .ok_or(RegisterError::UnknownFile(slot))?;
        self.tokens.check_file_idle(slot)?;
        if state.file.is_some() && !state.has_offsets {
            // Else the poller could keep the old file open for a moment longer.
            self.shared.await_poller();
        }
        match file {
            Some((file, traits)) => state.set(file, traits),
            None => state.clear(),
        }
        Ok(())
    }
}

impl Transport for ThreadPool {
    fn setup_report(&self) -> Option<SetupReport> {
        Some(SetupReport::ThreadPool(self.report.clone()))
    }

    #[inline]
    fn capacity(&self) -> u32 {
        self.tokens.capacity()
    }

    #[inline]
    fn in_flight(&self) -> u32 {
        self.tokens.len()
    }

    #[inline]
    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        self.enqueue(operation, user)
    }

    #[inline]
    fn submit(&mut self) -> Result<u32, EnterError> {
        Ok(self.submit_queued())
    }

    #[inline]
    fn reap<F: FnMut(Completion)>(&mut self, mut sink: F) -> u32 {
        self.collect();
        let mut count = 0;
        while let Some((token, res)) = self.done.pop_front() {
            if let Some(operation) = self.tokens.remove(token) {
                count += 1;
                sink(Completion::from_raw(operation.user, token, res));
            }
        }
        count
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.submit_queued();
        self.sleep(timeout);
        Ok(())
    }

    fn waker(&mut self) -> Option<Waker> {
        Some(Waker::from(self.shared.sleeper.clone()))
    }

    fn wake_fd(&mut self) -> Option<OwnedFd> {
        worker::poll_rings(&self.shared)?.try_clone().ok()
    }

    fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        self.waits = None;
        self.relays = None;
        let withheld = self.report.withheld;
        let means = if words.len() <= WaitList::MOST && has_waitv(withheld) {
            self.waits = Some(self.shared.sleeper.list(&words));
            FutexMeans::Vector
        } else {
            let waker = Waker::from(self.shared.sleeper.clone());
            self.relays = Relays::start(&words, &waker, withheld);
            let relays = self.relays.as_ref();
            relays.map_or(FutexMeans::Nothing, Relays::means)
        };
        self.report.futexes = (!words.is_empty()).then_some(means);
        means != FutexMeans::Nothing
    }

    fn wait_on(&mut self, expected: &[u32], timeout: Option<Duration>) -> Result<(), EnterError> {
        self.submit_queued();
        self.sleep_on(expected, timeout);
        Ok(())
    }

    fn cancel(&mut self, token: Token) -> bool {
        self.cancel_one(token)
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        let file = file.map(|file| {
            let traits = FileTraits::of(&file);
            (file, traits)
        });
        self.replace_file(slot, file)
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.replace_file(slot, Some((file, traits)))
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        let place = self
            .buffers
            .get_mut(slot.index() as usize)
            .ok_or(RegisterError::UnknownBuffer(slot))?;
        self.tokens.check_buffer_idle(slot)?;
        if buffer.as_ref().is_some_and(Buffer::is_empty) {
            return Err(RegisterError::EmptyBuffer);
        }
        *place = buffer;
        Ok(())
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        let quiet = self.cancel_and_collect(deadline);
        self.given_up = quiet.is_err().then_some(self.pushed);
        quiet
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // If nothing was pushed since a quiesce gave up, what is in flight has been waited for.
        let deadline = match self.given_up == Some(self.pushed) {
            true => Duration::ZERO,
            false => self.drop_deadline,
        };
        let quiet = self.cancel_and_collect(deadline).is_ok();
        let mut state = self.shared.lock();
        state.closed = true;
        let threads = std::mem::take(&mut state.threads);
        self.shared.unlock(state);
        self.shared.work_came.notify_all();
        self.shared.poke_poller();
        if quiet {
            // None is in a system call that could take long.
            for thread in threads {
                let _ = thread.join();
            }
        }
        // Otherwise each thread ends when its system call does. Its operation keeps the file open and
        // the memory mapped until then.
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("capacity", &self.tokens.capacity())
            .field("in_flight", &self.tokens.len())
            .finish_non_exhaustive()
    }
}
