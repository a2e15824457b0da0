//! The loop as pure steps, which threads, tests, simulations and fuzz targets drive.

mod abandoned;
mod admission;
mod barriers;
mod bundle;
mod checks;
pub(crate) mod clock;
mod completion;
mod deadlines;
mod engine_state;
mod flush;
mod limiter;
mod limits;
mod outcome;
pub(crate) mod progress;
pub(crate) mod queue_changes;
pub(crate) mod queue_state;
mod reclaim;
mod request_state;
mod shares;
mod shutdown;
mod sleep;
mod slot_id;
mod slot_lists;
mod submission;
mod sweep;
mod sync_groups;
mod syncs;
pub(crate) mod table_changes;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

use rustix::io::Errno as OsErrno;
use vyre_ioq::{HostQueue, LoopState};
use vyre_uring::{BufferSlot, EnterError, RegisterError, Transport};

use crate::buffer_table::BufferTable;
use crate::counters::{LoopCounters, QueueCounters, SharedCounters};
use crate::file_table::FileTable;
use crate::queue_id::QueueId;
use crate::queue_options::QueueOptions;
use crate::ring_means::RingMeans;
use bundle::Bundle;
use clock::Clock;
use deadlines::heap::Deadlines;
use engine_state::EngineState;
use progress::Progress;
use queue_state::QueueState;
use reclaim::{Closing, Reclaimable};
use shares::Shares;
use table_changes::set_file;

/// The number of passes between two heartbeats while the loop is busy. A pass that moves many bytes
/// takes a long time and counts for more.
const BEAT_EVERY: u32 = 256;

/// The number of bytes with which a pass counts for two.
const BYTES_OF_A_PASS: u32 = 512 << 10;

/// The number of heartbeats between two announcements of long-running requests. It is more than one,
/// because there is a heartbeat before each sleep, however short.
const ANNOUNCE_EVERY: u32 = 16;

/// Serves queues through a transport, one pass at a time.
///
/// An engine never blocks, except in [`wait`](Self::wait) and [`wait_for_rings`](Self::wait_for_rings). After its
/// creation, it allocates nothing for a request. It reads the clock only while a claimed request has a deadline.
///
/// A device can make the kernel send signals to the thread that steps the engine, such as SIGXFSZ and
/// SIGPIPE, which end the process by default. That thread should call
/// [`block_signals`](crate::block_signals) first; the thread of an [`IoLoop`](crate::IoLoop) does.
///
/// A drop ends service as [`fail`](Self::fail) does, within 5 seconds. A fork of the process must
/// neither use nor drop the engine.
#[derive(Debug)]
pub struct Engine<T: Transport> {
    transport: T,
    state: EngineState,
    bundle: Bundle,
    /// The number of bundled reads that this pass has copied.
    copied: u32,
    shared: Arc<SharedCounters>,
    /// The clock of `RequestState::expires`.
    clock: Clock,
    /// The time at which cancellations of operations in flight are next repeated.
    ask_again: u64,
    /// The queue that next gives its waiting requests to the transport.
    turn: usize,
    until_beat: u32,
    until_announcement: u32,
    draining: bool,
    stopped: bool,
    /// The doorbells of the queues that offer one, as they were before the sleep. Empty unless the transport waits on
    /// them.
    doorbells: Vec<u32>,
    /// The means by which devices ring, once the engine was told.
    means: Option<RingMeans>,
    /// Set if a ring can end a sleep.
    listens: bool,
    /// Set if a request on any queue can end a sleep.
    rung: bool,
    /// The number of the next queue that is added.
    next_queue: QueueId,
    failure: Option<OsErrno>,
    /// The files and buffers to close. They are dropped after the transport.
    closing: Closing,
}

impl<T: Transport> Engine<T> {
    /// Creates an engine: registers the tables with the transport, and shows RUNNING to the devices of
    /// the queues.
    ///
    /// # Errors
    /// [`RegisterError`] if the transport refuses a file or a buffer.
    pub fn new(
        transport: T,
        files: FileTable,
        buffers: BufferTable,
        queues: Vec<HostQueue>,
    ) -> Result<Self, RegisterError> {
        let numbers = (0_usize..).map(QueueId::from);
        let queues = queues.into_iter().map(QueueOptions::from);
        Self::with_queues(transport, files, buffers, numbers.zip(queues).collect())
    }

    /// Creates an engine whose queues have these numbers, in ascending order.
    pub(crate) fn with_queues(
        mut transport: T,
        files: FileTable,
        buffers: BufferTable,
        queues: Vec<(QueueId, QueueOptions)>,
    ) -> Result<Self, RegisterError> {
        for (_, entry) in files.entries.iter() {
            set_file(&mut transport, entry)?;
        }
        for (index, held) in buffers.held.iter().enumerate() {
            if let Some(held) = held {
                let slot = BufferSlot::new(index as u32);
                transport.set_buffer(slot, Some(held.buffer.clone()))?;
            }
        }
        let next_queue = queues.last().map_or(0, |(id, _)| id.raw() + 1);
        let state = |(id, options)| QueueState::new(id, options);
        let mut queues: Vec<QueueState> = queues.into_iter().map(state).collect();
        for queue in &mut queues {
            queue.host.set_state(LoopState::Running);
        }
        let deadlines = Deadlines::new(queues.iter().map(|queue| queue.requests.len() as u32));
        let slots = queues.iter().map(|queue| queue.requests.len()).sum();
        Ok(Self {
            shared: Arc::new(SharedCounters::new(
                queues.iter().map(|queue| (queue.id, queue.shared.clone())),
            )),
            state: EngineState {
                shares: Shares::new(transport.capacity(), queues.len()),
                files,
                buffers,
                queues,
                abandoned: Vec::new(),
                backlogged: 0,
                held: 0,
                unconfirmed: Vec::with_capacity(slots),
                counters: LoopCounters::default(),
                deadlines,
                cancelling: 0,
                reclaimable: Reclaimable::default(),
            },
            transport,
            bundle: Bundle::new(),
            copied: 0,
            clock: Clock::new(),
            ask_again: 0,
            turn: 0,
            until_beat: 0,
            until_announcement: ANNOUNCE_EVERY,
            draining: false,
            doorbells: Vec::new(),
            means: None,
            listens: false,
            rung: false,
            next_queue: QueueId::from_raw(next_queue),
            stopped: false,
            failure: None,
            closing: Closing::default(),
        })
    }

    /// Performs one pass: reaps completions, claims and checks published requests, submits operations
    /// in one batch, and stores outcomes. It never blocks. After service has ended, it stores no
    /// outcome.
    #[inline]
    pub fn step(&mut self) -> Progress {
        if self.stopped {
            return self.step_after_end();
        }
        let reaped = self.reap();
        self.pass(reaped)
    }

    /// Performs a pass after its completions were reaped, or one that leaves them to the next.
    #[inline(always)]
    fn pass(&mut self, reaped: u32) -> Progress {
        let mut claimed = 0;
        for queue in 0..self.state.queues.len() {
            claimed += self.sweep_queue(queue);
        }
        let expired = if self.is_timed() { self.expire() } else { 0 };
        let copied = std::mem::take(&mut self.copied);
        let started = self.submit() + copied;
        let reaped = reaped + copied;
        self.publish();
        if !self.state.reclaimable.is_empty() {
            self.reclaim();
        }
        let progress = Progress {
            reaped,
            claimed,
            started,
            expired,
        };
        if !progress.is_idle() {
            self.state.counters.busy_passes += 1;
            self.count_page_cache_reads();
            self.shared.whole.publish(&self.state.counters);
        }
        let passes = 1 + self.state.shares.begin_pass() / BYTES_OF_A_PASS;
        if self.until_beat == 0 {
            self.beat();
        }
        self.until_beat = self.until_beat.saturating_sub(passes);
        progress
    }

    /// Returns a waker with which other threads end [`wait`](Self::wait) early. `None` if the transport
    /// cannot be woken: then wait for short times only.
    pub fn waker(&mut self) -> Option<Waker> {
        self.transport.waker()
    }

    /// Returns another descriptor of the eventfd by which other processes end [`wait`](Self::wait) early. `None` if the
    /// transport has no eventfd.
    pub fn wake_fd(&mut self) -> Option<OwnedFd> {
        self.transport.wake_fd()
    }

    /// Returns the number of claimed requests without an outcome.
    pub fn outstanding(&self) -> u32 {
        self.state
            .queues
            .iter()
            .map(|queue| queue.host.owed())
            .sum()
    }

    /// Returns the errno with which the transport failed, if it did. From then on, every request ends
    /// with it, and whoever drives the engine should stop it.
    pub const fn failure(&self) -> Option<OsErrno> {
        self.failure
    }

    /// Returns the transport.
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    /// Returns the current counters of the loop.
    pub const fn counters(&self) -> LoopCounters {
        self.state.counters
    }

    /// Returns the current counters of a queue.
    pub fn queue_counters(&self, queue: impl Into<QueueId>) -> Option<QueueCounters> {
        let place = self.state.place_of(queue.into())?;
        Some(self.state.queues[place].counters())
    }

    pub(crate) fn shared_counters(&self) -> Arc<SharedCounters> {
        self.shared.clone()
    }

    #[cold]
    fn note_failure(&mut self, error: EnterError) {
        let errno = match error {
            EnterError::Fatal(errno) => errno,
            _ => OsErrno::IO,
        };
        self.failure.get_or_insert(errno);
    }

    #[cold]
    fn beat(&mut self) {
        self.until_beat = BEAT_EVERY;
        self.until_announcement -= 1;
        let announces = self.until_announcement == 0;
        if announces {
            self.until_announcement = ANNOUNCE_EVERY;
        }
        for queue in &mut self.state.queues {
            queue.host.beat();
            if announces {
                queue.host.announce_lasting_claims();
            }
        }
        // Faults of a device are counted without a claim.
        self.publish_counters();
    }

    #[inline]
    fn count_page_cache_reads(&mut self) {
        let counted = self.transport.page_cache_counters();
        let counters = &mut self.state.counters;
        counters.page_cache_reads = counted.copied;
        counters.page_cache_passed_on = counted.passed_on + counted.past_end;
        counters.page_cache_faults = counted.faulted;
    }

    fn publish_counters(&self) {
        self.shared.whole.publish(&self.state.counters);
        for queue in &self.state.queues {
            queue.shared.publish(&queue.counters());
        }
    }
}
