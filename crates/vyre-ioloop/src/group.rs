//! Several loops that share their files and buffers.

mod authority;
mod builder;
mod reopen;
mod revocation;
#[cfg(test)]
mod tests;

use std::ops::RangeBounds;
use std::os::fd::OwnedFd;

use vyre_ioq::{BufferHandle, FileHandle};
use vyre_uring::{Buffer, SetupReport};

use crate::buffer_table::BufferTable;
use crate::commands::{Command, Reply, Shutdown};
use crate::counters::{LoopCounters, QueueCounters};
use crate::engine::table_changes::replica::{Named, NewEntry};
use crate::error::{GroupStopError, TableError};
use crate::file_table::FileEntry;
use crate::ioloop::{Deadline, IoLoop};
use crate::ranges::{buffer_range, file_range};
use crate::rights::Rights;
use authority::Authority;

pub use builder::LoopGroupBuilder;

/// Several threads that serve queues by io_uring, each with a ring and queues of its own. A handle
/// means the same file or buffer in all of them.
///
/// Every loop has a replica of the tables, which its own thread alone reads: a request costs what it
/// costs in an [`IoLoop`], and no two loops share a line of memory for it. The group picks the
/// handles and brings every change to all replicas.
///
/// So the devices of all queues reach the same files and buffers: handles are numbers, which a device
/// can guess. One that must not reach another's is served by an [`IoLoop`] of its own, or by another
/// group.
///
/// Each loop but the first opens regular files and block devices once more, with the same flags, by
/// `/proc/self/fd`: loops that read through one open file contend for a line of memory that the kernel
/// keeps in it. This costs descriptors. What else belongs to the open file, such as the advice of
/// `posix_fadvise` and its locks, is not carried over. Without `/proc`, a file is shared, and so is one
/// that cannot be opened again; and all are in a group that would have over a quarter of the process's
/// descriptors so.
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
/// // From here on nobody can read the file, through whichever queue.
/// group.revoke_file(weights)?;
///
/// let queues = (0..devices.len()).filter_map(|queue| group.queue_counters(queue));
/// println!("{:?}", queues.sum::<QueueCounters>());
/// group.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All methods may be called from several threads at once. Changes of different entries do not
/// wait for one another, and a revocation that waits for a device holds up none.
///
/// Loops and queues are numbered from 0, queues in the order in which they were given to the
/// builder.
///
/// A loop that ends by itself, because its ring failed or its thread panicked, leaves the others as
/// they are. Devices of its queues see FAILED, changes go to the loops that are left, and
/// [`stop`](Self::stop) says what became of it.
///
/// Dropping the group drains, as [`stop`](Self::stop) does, and drops the errors. A drop during a
/// panic's unwinding aborts instead. In a forked child, it does nothing.
#[derive(Debug)]
#[must_use = "dropping it stops the loops"]
pub struct LoopGroup {
    loops: Vec<IoLoop>,
    authority: Authority,
    /// Of each queue: its loop, and its number there.
    queues: Vec<(usize, usize)>,
}

/// What loops answered to a command. A loop that is in neither has ended without an answer.
#[derive(Debug, Default)]
struct Answers {
    done: Vec<usize>,
    refused: Vec<(usize, TableError)>,
}

impl LoopGroup {
    /// What a group is made of.
    pub fn builder() -> LoopGroupBuilder {
        LoopGroupBuilder::new()
    }

    /// Adds a byte range of a file to all loops. A range without an end is all the rest of the
    /// file. When this returns, every loop knows the handle.
    ///
    /// It takes two answers of each loop, so up to two of its sleeps.
    ///
    /// # Errors
    /// [`TableError`]. Then no request, in whichever loop, has found the entry or ever will.
    pub fn insert_file(
        &self,
        file: impl Into<OwnedFd>,
        range: impl RangeBounds<u64>,
        rights: Rights,
    ) -> Result<FileHandle, TableError> {
        let entry = FileEntry::new(file.into(), file_range(range), rights)?;
        self.insert(&NewEntry::File(entry))
            .map(FileHandle::from_raw)
    }

    /// Adds a byte range of a buffer to all loops. When this returns, every loop knows the handle. All
    /// pages of the buffer are provided first, by the calling thread.
    ///
    /// # Errors
    /// [`TableError`]. Then no request, in whichever loop, has found the entry or ever will.
    pub fn insert_buffer(
        &self,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        rights: Rights,
    ) -> Result<BufferHandle, TableError> {
        let range = buffer_range(range, &buffer);
        BufferTable::check(&buffer, &range)?;
        // Here, since to register it would else stop the loops for seconds.
        buffer.populate();
        let entry = NewEntry::Buffer {
            buffer,
            range,
            rights,
        };
        self.insert(&entry).map(BufferHandle::from_raw)
    }

    /// Ends all loops at the same time, each as [`IoLoop::stop`] does: what is claimed is finished,
    /// the rest is answered with ECANCELED. Returns when all have ended, at the latest after the
    /// time that one loop may take.
    ///
    /// # Errors
    /// [`GroupStopError`], which names every loop that did not end as it should.
    pub fn stop(mut self) -> Result<(), GroupStopError> {
        self.end(Shutdown::Drain)
    }

    /// Ends all loops at the same time, each as [`IoLoop::abort`] does: everything is cancelled and
    /// answered with ECANCELED. Returns when all have ended, at the latest after the time that one
    /// loop may take.
    ///
    /// # Errors
    /// [`GroupStopError`], which names every loop that did not end as it should.
    pub fn abort(mut self) -> Result<(), GroupStopError> {
        self.end(Shutdown::Abort)
    }

    /// How many loops there are, those that have ended included.
    pub fn loops(&self) -> usize {
        self.loops.len()
    }

    /// The loop that serves a queue.
    pub fn loop_of(&self, queue: usize) -> Option<usize> {
        self.queues.get(queue).map(|&(index, _)| index)
    }

    /// Returns whether a loop serves: see [`IoLoop::is_running`].
    pub fn is_running(&self, index: usize) -> Option<bool> {
        self.loops.get(index).map(IoLoop::is_running)
    }

    /// The counters of all loops together. They lag the loops by at most one pass, and are not of
    /// one moment.
    pub fn counters(&self) -> LoopCounters {
        self.loops.iter().map(IoLoop::counters).sum()
    }

    /// A loop's counters. They lag the loop by at most one pass.
    pub fn loop_counters(&self, index: usize) -> Option<LoopCounters> {
        self.loops.get(index).map(IoLoop::counters)
    }

    /// A queue's counters.
    pub fn queue_counters(&self, queue: usize) -> Option<QueueCounters> {
        let &(index, within) = self.queues.get(queue)?;
        self.loops.get(index)?.queue_counters(within)
    }

    /// What a loop's ring came to use, and why not more.
    pub fn report(&self, index: usize) -> Option<&SetupReport> {
        self.loops.get(index).map(IoLoop::report)
    }

    /// The kernel's number of a loop's thread, to look it up below `/proc/self/task`.
    pub fn thread_id(&self, index: usize) -> Option<u32> {
        self.loops.get(index).map(IoLoop::thread_id)
    }

    /// Two rounds: no request may find the entry in one loop while another may yet refuse it.
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

    /// Gives some loops a command each, all at once, and waits for all of their answers.
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

/// Ends loops at the same time, within one deadline for all.
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
