//! The thread around an engine.

pub(crate) mod builder;
mod limits;
mod queues;
mod run;
#[cfg(test)]
mod tests;
mod thread;

use std::ops::RangeBounds;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::task::Waker;
use std::time::Duration;

use vyre_ioq::{BufferHandle, FileHandle};
use vyre_uring::{AnyTransport, Buffer, PageCacheTransport, SetupReport};

use crate::active::ActiveGuard;
use crate::buffer_options::BufferOptions;
use crate::buffer_table::BufferTable;
use crate::commands::{Command, ControlFlags, EndLimits, Reply, Shutdown};
use crate::counters::{LoopCounters, QueueCounters, SharedCounters};
use crate::engine::table_changes::replica::Named;
use crate::error::{StopError, TableError};
use crate::file_options::FileOptions;
use crate::file_table::FileEntry;
use crate::options::LoopOptions;
use crate::queue_id::QueueId;
use crate::ranges::{buffer_range, file_range};

pub(crate) use thread::{Deadline, Thread};

/// The transport of a loop, around which [`IoLoopBuilder::spawn_with`](crate::IoLoopBuilder::spawn_with)
/// puts another one.
pub type BaseTransport = PageCacheTransport<AnyTransport>;

/// A thread that serves queues with io_uring, or with other threads where io_uring is refused.
///
/// ```
/// use std::io::Write;
/// use vyre_ioloop::{BufferTable, FileTable, IoLoop, Rights};
/// use vyre_ioq::{Queue, QueueLayout, Request};
/// use vyre_uring::Buffer;
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"weights")?;
///
/// let mut files = FileTable::new();
/// let mut buffers = BufferTable::new();
/// let weights = files.insert(file, Rights::READ)?;
/// let memory = Buffer::anonymous(1 << 16)?;
/// let pool = buffers.insert(memory.clone())?;
/// let (host, device) = Queue::anonymous(QueueLayout::with_slots(64))?;
///
/// let io = IoLoop::builder().files(files).buffers(buffers).queue(host).spawn()?;
///
/// let ticket = device.submit(Request::read(weights, 0, 4096).into_buffer(pool, 0))?;
/// let moved = device.wait(ticket)?.bytes()?; // errno becomes a typed error
/// assert_eq!(moved, 7);
///
/// io.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Shutdown
/// A drop drains, as [`stop`](Self::stop) does, and discards the error. By default, that takes up
/// to 40 seconds, for instance if a device waits for bytes of a pipe without a writer. A drop
/// during a panic aborts instead, as [`abort`](Self::abort) does; that takes up to 10 seconds. In a
/// forked child, a drop does nothing, and every method finds that the loop has ended.
#[derive(Debug)]
#[must_use = "dropping it stops the loop"]
pub struct IoLoop {
    flags: Arc<ControlFlags>,
    commands: mpsc::Sender<Command>,
    counters: Arc<SharedCounters>,
    report: SetupReport,
    wake_fd: Option<OwnedFd>,
    thread_id: u32,
    thread: Thread,
    options: LoopOptions,
    /// The number of the next queue that is added.
    next_queue: AtomicU64,
}

impl IoLoop {
    /// Shuts the loop down in order: claimed requests are finished, and unclaimed ones get ECANCELED.
    /// Requests that have not ended by the [`drain_timeout`](crate::LoopOptions::drain_timeout) are
    /// cancelled, as by [`abort`](Self::abort). After success, the kernel can access no buffer any
    /// more. The thread has ended too, unless its exit hangs in the kernel for longer than the
    /// remaining time.
    ///
    /// Returns after at most the drain timeout, the
    /// [`abort_timeout`](crate::LoopOptions::abort_timeout) and 5 seconds, whatever the kernel does: 40
    /// seconds by default. A device that waits for bytes of a pipe, or of another file without offsets,
    /// makes it take the whole drain timeout, unless its requests have deadlines.
    ///
    /// # Errors
    /// [`StopError`] if the ring failed, the thread panicked or did not answer, or the kernel still
    /// holds operations.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.end(Shutdown::Drain)
    }

    /// Shuts the loop down at once: every request is cancelled and gets ECANCELED. After success, the
    /// kernel can access no buffer any more. The thread has ended too, unless its exit hangs in the
    /// kernel for longer than the remaining time.
    ///
    /// Returns after at most the [`abort_timeout`](crate::LoopOptions::abort_timeout) and 5 seconds,
    /// whatever the kernel does: 10 seconds by default.
    ///
    /// # Errors
    /// The same as for [`stop`](Self::stop).
    pub fn abort(mut self) -> Result<(), StopError> {
        self.end(Shutdown::Abort)
    }

    /// Keeps the loop from sleeping for long until the guard is dropped: see [`ActiveGuard`].
    pub fn active(&self) -> ActiveGuard {
        ActiveGuard::new(vec![self.flags.clone()])
    }

    /// Returns a waker that ends a sleep of the loop, or `None` if its transport cannot be woken. A device of this
    /// process that rings by [`RingMeans::Waker`](crate::RingMeans::Waker) calls it when
    /// [`DeviceQueue::ring`](vyre_ioq::DeviceQueue::ring) has returned true.
    pub fn waker(&self) -> Option<Waker> {
        self.flags.waker()
    }

    /// Returns the eventfd of the [waker](Self::waker), for devices in other processes that ring by
    /// [`RingMeans::Waker`](crate::RingMeans::Waker). They write the number 1 to it, as 8 bytes. `None` with other
    /// means, and if the transport has no eventfd. Whoever has the descriptor can wake the loop at any time, which
    /// costs it some microseconds.
    pub fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.wake_fd.as_ref().map(AsFd::as_fd)
    }

    /// Returns whether the loop serves. It ends by itself only if the ring fails or the thread panics;
    /// [`stop`](Self::stop) then returns the reason.
    pub fn is_running(&self) -> bool {
        self.thread.is_running()
    }

    /// Returns the loop's counters. They lag the loop by at most one pass.
    pub fn counters(&self) -> LoopCounters {
        self.counters.whole.read()
    }

    /// Returns a queue's counters, or `None` if there is no such queue.
    pub fn queue_counters(&self, queue: impl Into<QueueId>) -> Option<QueueCounters> {
        self.counters.queue(queue.into())
    }

    /// Returns which transport the loop has, the set-up that it reached, and why no better one.
    pub const fn report(&self) -> &SetupReport {
        &self.report
    }

    /// Returns the kernel's ID of the loop's thread, as in `/proc/self/task`.
    pub const fn thread_id(&self) -> u32 {
        self.thread_id
    }

    /// Adds a byte range of a file while the loop runs. A range without an end, or with the end
    /// `u64::MAX`, covers the rest of the file.
    ///
    /// # Errors
    /// [`TableError`] if the entry is invalid, if the table or the ring has no room, or if the loop has
    /// ended.
    pub fn insert_file(
        &self,
        file: impl Into<OwnedFd>,
        range: impl RangeBounds<u64>,
        options: impl Into<FileOptions>,
    ) -> Result<FileHandle, TableError> {
        // Here, since a file system that does not answer is not to stop the loop.
        let entry = FileEntry::new(file.into(), file_range(range), options)?;
        self.ask(|reply| Command::InsertFile { entry, reply })
    }

    /// Adds a byte range of a buffer while the loop runs. The calling thread first provides all pages
    /// of the buffer, which takes seconds for gigabytes of untouched memory.
    ///
    /// # Errors
    /// [`TableError`] if the range is invalid, if the table or the ring has no room, or if the loop has
    /// ended.
    pub fn insert_buffer(
        &self,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        options: impl Into<BufferOptions>,
    ) -> Result<BufferHandle, TableError> {
        let range = buffer_range(range, &buffer);
        BufferTable::check(&buffer, &range)?;
        // Here, since to register it would else stop the loop for seconds.
        buffer.populate();
        let options = options.into();
        self.ask(|reply| Command::InsertBuffer {
            buffer,
            range,
            options,
            reply,
        })
    }

    /// Revokes a file handle, as [`revoke_file_within`](Self::revoke_file_within) does with the
    /// [`drain_timeout`](crate::LoopOptions::drain_timeout).
    ///
    /// # Errors
    /// The same as for [`revoke_file_within`](Self::revoke_file_within).
    pub fn revoke_file(&self, handle: FileHandle) -> Result<(), TableError> {
        self.revoke(handle.into(), self.options.end_limits(None))
    }

    /// Revokes a file handle: requests claimed from now on get EBADF. Returns when nothing is in flight
    /// on it. Other entries are served meanwhile.
    ///
    /// Requests on the handle have `timeout` to end by themselves. Then they are cancelled and get
    /// ECANCELED. A timeout of zero cancels them at once. The call returns after at most the timeout,
    /// the [`abort_timeout`](crate::LoopOptions::abort_timeout) and 5 seconds, whatever the kernel
    /// does.
    ///
    /// # Errors
    /// - [`TableError::Unknown`] if the handle names nothing, [`TableError::Ended`] if the loop has
    ///   ended.
    /// - [`TableError::InFlight`] if the kernel has not returned all cancelled requests. The handle is
    ///   revoked even so.
    /// - [`TableError::Unresponsive`] if the loop's thread does not answer.
    /// - [`TableError::Held`] if the loop has ended while the kernel held operations.
    pub fn revoke_file_within(
        &self,
        handle: FileHandle,
        timeout: Duration,
    ) -> Result<(), TableError> {
        self.revoke(handle.into(), self.options.end_limits(Some(timeout)))
    }

    /// Revokes a buffer handle, as [`revoke_buffer_within`](Self::revoke_buffer_within) does with the
    /// [`drain_timeout`](crate::LoopOptions::drain_timeout).
    ///
    /// # Errors
    /// The same as for [`revoke_buffer_within`](Self::revoke_buffer_within).
    pub fn revoke_buffer(&self, handle: BufferHandle) -> Result<(), TableError> {
        self.revoke(handle.into(), self.options.end_limits(None))
    }

    /// Revokes a buffer handle: requests claimed from now on get EBADF. Returns when nothing is in
    /// flight on it, so that its bytes are the caller's again. Other entries are served meanwhile. The
    /// timeout is as for [`revoke_file_within`](Self::revoke_file_within).
    ///
    /// # Errors
    /// The same as for [`revoke_file_within`](Self::revoke_file_within). After any error other than
    /// [`TableError::Unknown`] and [`TableError::Ended`], the kernel may still write to the bytes.
    pub fn revoke_buffer_within(
        &self,
        handle: BufferHandle,
        timeout: Duration,
    ) -> Result<(), TableError> {
        self.revoke(handle.into(), self.options.end_limits(Some(timeout)))
    }

    fn revoke(&self, named: Named, limits: EndLimits) -> Result<(), TableError> {
        let answer = self.send(|reply| Command::Revoke {
            named,
            limits,
            reply,
        });
        let limit = self.options.longest_end(limits);
        match answer.recv_timeout(limit) {
            Ok(revoked) => Ok(revoked?),
            Err(RecvTimeoutError::Timeout) => Err(TableError::Unresponsive { waited: limit }),
            Err(RecvTimeoutError::Disconnected) => Err(self
                .kept()
                .map_or(TableError::Ended, |operations| TableError::Held {
                    operations,
                })),
        }
    }

    pub(crate) const fn flags(&self) -> &Arc<ControlFlags> {
        &self.flags
    }

    /// Returns the options of the loop, which bound revocations without a timeout of their own.
    pub(crate) const fn options(&self) -> &LoopOptions {
        &self.options
    }

    fn ask<A>(&self, command: impl FnOnce(Reply<A>) -> Command) -> Result<A, TableError> {
        let answer = self.send(command);
        answer.recv().map_err(|_| TableError::Ended)?
    }

    /// Sends the loop a command. The answer comes through the channel, which closes without one if the
    /// loop has ended, or ends before it processes the command.
    pub(crate) fn send<A, E>(
        &self,
        command: impl FnOnce(Reply<A, E>) -> Command,
    ) -> mpsc::Receiver<Result<A, E>> {
        let (reply, answer) = mpsc::sync_channel(2);
        // What a loop that is gone does not take is dropped, and the reply with it. So is what a
        // forked child asks: nobody would ever take it.
        if !self.thread.is_elsewhere() {
            let _ = self.commands.send(command(reply));
            self.flags.announce();
        }
        answer
    }

    /// Returns the number of operations that the kernel held when service ended, if it has ended and
    /// there were any.
    pub(crate) fn kept(&self) -> Option<u32> {
        if self.thread.is_elsewhere() {
            return None;
        }
        let kept = self.thread.end().get()?.err()?.kept();
        (kept > 0).then_some(kept)
    }

    /// Tells the loop to end without waiting for it. Returns the time limit of the shutdown.
    pub(crate) fn begin_end(&self, shutdown: Shutdown) -> Duration {
        if !self.thread.is_elsewhere() {
            self.flags.request_shutdown(shutdown);
        }
        self.options.longest_shutdown(shutdown)
    }

    /// Waits for a loop that was told to end.
    pub(crate) fn finish_end(&mut self, deadline: Deadline) -> Result<(), StopError> {
        let how = self.thread.join(deadline);
        if matches!(how, Err(StopError::Unresponsive { .. })) {
            // Once it wakes, it is to lose no more time.
            self.flags.request_shutdown(Shutdown::Abort);
        }
        how
    }

    fn end(&mut self, shutdown: Shutdown) -> Result<(), StopError> {
        let limit = self.begin_end(shutdown);
        self.finish_end(Deadline::after(limit))
    }
}

impl Shutdown {
    /// Returns how a dropped loop shuts down. While a panic unwinds, it does not wait for devices.
    pub(crate) fn by_drop() -> Self {
        match std::thread::panicking() {
            true => Self::Abort,
            false => Self::Drain,
        }
    }
}

impl Drop for IoLoop {
    fn drop(&mut self) {
        let _ = self.end(Shutdown::by_drop());
    }
}
