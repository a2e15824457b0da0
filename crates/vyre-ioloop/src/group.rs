//! Several loops that share their files and buffers.

mod authority;
pub(crate) mod builder;
mod places;
mod queues;
mod reopen;
mod revocation;
#[cfg(test)]
mod tests;

use std::ops::RangeBounds;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::Waker;

use vyre_ioq::{BufferHandle, FileHandle};
use vyre_uring::{Buffer, SetupReport};

use crate::active::ActiveGuard;
use crate::buffer_options::BufferOptions;
use crate::buffer_table::BufferTable;
use crate::commands::{Command, Reply, Shutdown};
use crate::counters::{LoopCounters, QueueCounters};
use crate::engine::table_changes::replica::{Named, NewEntry};
use crate::error::{GroupStopError, TableError};
use crate::file_options::FileOptions;
use crate::file_table::FileEntry;
use crate::ioloop::{Deadline, IoLoop};
use crate::queue_id::QueueId;
use crate::ranges::{buffer_range, file_range};
use authority::Authority;
use places::Places;

/// Several threads that serve queues with io_uring, each with its own ring and queues. A handle
/// means the same file or buffer in all of them.
///
/// Every loop has a replica of the tables, which only its own thread reads. A request costs the same as
/// in an [`IoLoop`], and loops share no line of memory for it. The group chooses the handles and sends
/// every change to all replicas.
///
/// The devices of all queues can therefore name the same files and buffers: handles are numbers that a
/// device can guess. Serve a device that must not access another's by an [`IoLoop`] of its own, or by
/// another group.
///
/// Each loop but the first reopens regular files and block devices through `/proc/self/fd`, with the
/// same flags, because loops that read through one open file contend for a line of memory in the
/// kernel. This costs descriptors. Other state of the open file, such as locks and the advice of
/// `posix_fadvise`, is not carried over. A file is shared if `/proc` is missing or the file cannot be
/// reopened. All files are shared if the group would need over a quarter of the process's descriptors.
///
/// ```
/// use std::io::Write;
/// use vyre_ioloop::{BufferTable, FileTable, LoopGroup, QueueCounters, Rights};
/// use vyre_ioq::{Queue, QueueLayout, Request};
/// use vyre_uring::Buffer;
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"weights")?;
/// let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
/// let weights = files.insert(file, Rights::READ)?;
/// let pool = buffers.insert(Buffer::anonymous(1 << 16)?)?;
///
/// let mut group = LoopGroup::builder().loops(2).files(files).buffers(buffers);
/// let mut devices = Vec::new();
/// for _ in 0..4 {
///     let (host, device) = Queue::anonymous(QueueLayout::with_slots(64))?;
///     group = group.queue(host); // Loops 0, 1, 0, 1.
///     devices.push(device);
/// }
/// let group = group.spawn()?;
///
/// for device in &devices {
///     let ticket = device.submit(Request::read(weights, 0, 7).into_buffer(pool, 0))?;
///     assert_eq!(device.wait(ticket)?.bytes()?, 7);
/// }
/// // From here on, nobody can read the file through any queue.
/// group.revoke_file(weights)?;
///
/// let queues = (0..devices.len()).filter_map(|queue| group.queue_counters(queue));
/// println!("{:?}", queues.sum::<QueueCounters>());
/// group.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All methods may be called from several threads at once. Changes of different entries do not wait
/// for each other, and a revocation that waits for a device delays none.
///
/// Loops and queues are numbered from 0, queues in the order in which they were given to the
/// builder. Queues that are added later get the numbers that follow.
///
/// A loop that ends by itself, because its ring failed or its thread panicked, does not affect the
/// others. Devices of its queues see FAILED, changes go to the remaining loops, and
/// [`stop`](Self::stop) reports the reason.
///
/// Dropping the group drains, as [`stop`](Self::stop) does, and drops the errors. A drop during a
/// panic aborts instead. In a forked child, it does nothing.
#[derive(Debug)]
#[must_use = "dropping it stops the loops"]
pub struct LoopGroup {
    loops: Vec<IoLoop>,
    authority: Authority,
    places: Places,
}

/// The answers of loops to a command. A loop in neither list has ended without an answer.
#[derive(Debug, Default)]
struct Answers {
    done: Vec<usize>,
    refused: Vec<(usize, TableError)>,
}

impl LoopGroup {
    /// Adds a byte range of a file to all loops. A range without an end covers the rest of the file.
    /// When it returns, every loop knows the handle.
    ///
    /// It needs two answers from each loop, and thus up to two sleeps of each.
    ///
    /// # Errors
    /// [`TableError`] if the entry is invalid, or if a loop has no room or refuses it. Then no request
    /// has found the entry in any loop, or ever will.
    pub fn insert_file(
        &self,
        file: impl Into<OwnedFd>,
        range: impl RangeBounds<u64>,
        options: impl Into<FileOptions>,
    ) -> Result<FileHandle, TableError> {
        let entry = FileEntry::new(file.into(), file_range(range), options)?;
        self.insert(&NewEntry::File(entry))
            .map(FileHandle::from_raw)
    }

    /// Adds a byte range of a buffer to all loops. When it returns, every loop knows the handle. The
    /// calling thread first provides all pages of the buffer.
    ///
    /// # Errors
    /// [`TableError`] if the range is invalid, or if a loop has no room or refuses it. Then no request
    /// has found the entry in any loop, or ever will.
    pub fn insert_buffer(
        &self,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        options: impl Into<BufferOptions>,
    ) -> Result<BufferHandle, TableError> {
        let range = buffer_range(range, &buffer);
        BufferTable::check(&buffer, &range)?;
        // Here, since to register it would else stop the loops for seconds.
        buffer.populate();
        let entry = NewEntry::Buffer {
            buffer,
            range,
            options: options.into(),
        };
        self.insert(&entry).map(BufferHandle::from_raw)
    }

    /// Shuts all loops down at the same time, each as [`IoLoop::stop`] does: claimed requests are
    /// finished, and unclaimed ones get ECANCELED. It returns when all have ended, within the time
    /// limit of one loop.
    ///
    /// # Errors
    /// [`GroupStopError`] if any loop did not end in order. It names each of them.
    pub fn stop(mut self) -> Result<(), GroupStopError> {
        self.end(Shutdown::Drain)
    }

    /// Shuts all loops down at the same time, each as [`IoLoop::abort`] does: every request is
    /// cancelled and gets ECANCELED. It returns when all have ended, within the time limit of one loop.
    ///
    /// # Errors
    /// The same as for [`stop`](Self::stop).
    pub fn abort(mut self) -> Result<(), GroupStopError> {
        self.end(Shutdown::Abort)
    }

    /// Keeps all loops from sleeping for long until the guard is dropped: see [`ActiveGuard`].
    pub fn active(&self) -> ActiveGuard {
        ActiveGuard::new(self.loops.iter().map(|io| io.flags().clone()).collect())
    }

    /// Returns a waker that ends a sleep of a loop: see [`IoLoop::waker`].
    pub fn waker(&self, index: usize) -> Option<Waker> {
        self.loops.get(index)?.waker()
    }

    /// Returns the eventfd of a loop's waker: see [`IoLoop::wake_fd`].
    pub fn wake_fd(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.loops.get(index)?.wake_fd()
    }

    /// Returns the number of loops, including those that have ended.
    pub fn loops(&self) -> usize {
        self.loops.len()
    }

    /// Returns the number of the loop that serves a queue.
    pub fn loop_of(&self, queue: impl Into<QueueId>) -> Option<usize> {
        self.places.loop_of(queue.into())
    }

    /// Returns whether a loop serves: see [`IoLoop::is_running`].
    pub fn is_running(&self, index: usize) -> Option<bool> {
        self.loops.get(index).map(IoLoop::is_running)
    }

    /// Returns the sum of all loops' counters. They lag the loops by at most one pass, and are not from
    /// a single moment.
    pub fn counters(&self) -> LoopCounters {
        self.loops.iter().map(IoLoop::counters).sum()
    }

    /// Returns a loop's counters. They lag the loop by at most one pass.
    pub fn loop_counters(&self, index: usize) -> Option<LoopCounters> {
        self.loops.get(index).map(IoLoop::counters)
    }

    /// Returns a queue's counters.
    pub fn queue_counters(&self, queue: impl Into<QueueId>) -> Option<QueueCounters> {
        let queue = queue.into();
        let index = self.places.loop_of(queue)?;
        self.loops.get(index)?.queue_counters(queue)
    }

    /// Returns which transport a loop has, the set-up that it reached, and why no better one.
    pub fn report(&self, index: usize) -> Option<&SetupReport> {
        self.loops.get(index).map(IoLoop::report)
    }

    /// Returns the kernel's ID of a loop's thread, as in `/proc/self/task`.
    pub fn thread_id(&self, index: usize) -> Option<u32> {
        self.loops.get(index).map(IoLoop::thread_id)
    }

    /// Two rounds, so that no request finds the entry in one loop while another may still refuse it.
    fn insert(&self, entry: &NewEntry) -> Result<u32, TableError> {
        let kind = entry.kind();
        self.authority.release_ended();
        let handle = self.authority.reserve(kind)?;
        let named = Named { kind, handle };
        let everyone: Vec<usize> = (0..self.loops.len()).collect();
        let sharing = !self.authority.may_reopen(self.loops.len());
        let staged = self.ask(&everyone, |index, reply| Command::Stage {
            handle,
            entry: match entry {
                NewEntry::File(entry) if index != 0 && !sharing => {
                    NewEntry::File(reopen::entry(entry))
                }
                shared => shared.clone(),
            },
            reply,
        });
        if let Some((index, reason)) = staged.refused.into_iter().next() {
            self.ask(&staged.done, |_, reply| Command::Withdraw { named, reply });
            self.authority.free(named);
            return Err(reason.in_loop(index));
        }
        let revealed = self.ask(&staged.done, |_, reply| Command::Reveal { named, reply });
        debug_assert!(revealed.refused.is_empty(), "{revealed:?}");
        if revealed.done.is_empty() {
            self.authority.free(named);
            return Err(TableError::Ended);
        }
        self.authority.publish(named, revealed.done);
        Ok(handle)
    }

    /// Sends a command to each of some loops at once, and waits for all answers.
    fn ask(&self, loops: &[usize], command: impl Fn(usize, Reply<()>) -> Command) -> Answers {
        let send = |&index: &usize| {
            let to = |reply| command(index, reply);
            (index, self.loops[index].send(to))
        };
        let asked: Vec<_> = loops.iter().map(send).collect();
        let mut answers = Answers::default();
        for (index, answer) in asked {
            match answer.recv() {
                Ok(Ok(())) => answers.done.push(index),
                Ok(Err(refusal)) => answers.refused.push((index, refusal)),
                Err(_) => {}
            }
        }
        answers
    }

    fn end(&mut self, shutdown: Shutdown) -> Result<(), GroupStopError> {
        end_all(&mut self.loops, shutdown)
    }
}

/// Shuts loops down at the same time, within one common deadline.
fn end_all(loops: &mut [IoLoop], shutdown: Shutdown) -> Result<(), GroupStopError> {
    let limits = loops.iter().map(|io| io.begin_end(shutdown));
    let deadline = Deadline::after(limits.max().unwrap_or_default());
    let ended = loops
        .iter_mut()
        .map(|io| io.finish_end(deadline))
        .enumerate();
    let failures: Vec<_> = ended
        .filter_map(|(index, how)| Some((index, how.err()?)))
        .collect();
    GroupStopError::of(failures, loops.len())
}

impl Drop for LoopGroup {
    fn drop(&mut self) {
        let _ = self.end(Shutdown::by_drop());
    }
}
