//! The loop's thread: set-up, steps, waits, shutdown.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::io::Errno as OsErrno;
use rustix::thread::CpuSet;
use vyre_uring::{AnyTransport, PageCacheTransport, SetupReport, Transport};

use super::BaseTransport;
use super::thread::End;
use crate::buffer_table::BufferTable;
use crate::commands::{Command, ControlFlags, Inbox, Shutdown};
use crate::counters::SharedCounters;
use crate::engine::Engine;
use crate::engine::progress::Progress;
use crate::error::message_of;
use crate::error::{SpawnError, StopError};
use crate::file_table::FileTable;
use crate::new_queue::{check_end, check_memory};
use crate::options::LoopOptions;
use crate::os_errno::from_os;
use crate::queue_id::QueueId;
use crate::queue_options::QueueOptions;
use crate::ring_means::RingMeans;
use crate::signals::block_signals;
use crate::wait_policy::{ANNOUNCED, Backoff, Pause, WaitPolicy};

/// The longest sleep on a transport that cannot be woken, where stops and table changes wait for its
/// end.
const UNWOKEN: Duration = Duration::from_millis(10);

/// Everything that the thread needs: see the builder's methods.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(super) files: FileTable,
    pub(super) buffers: BufferTable,
    pub(super) queues: Vec<(QueueId, QueueOptions)>,
    pub(super) core: Option<usize>,
    /// The cores of the group's other loops.
    pub(super) others: Vec<usize>,
    pub(super) options: LoopOptions,
}

impl Setup {
    /// Builds the transport, with room for the tables and for later insertions.
    fn transport(&self, worker_cores: Vec<usize>) -> Result<AnyTransport, SpawnError> {
        let room = |entries: u32| entries.saturating_add(self.options.live_entries);
        Ok(AnyTransport::builder()
            .choice(self.options.transport)
            .withhold(self.options.withheld)
            .entries(self.entries())
            .files(room(self.files.slots.bound()))
            .buffers(room(self.buffers.held.len() as u32))
            .drop_deadline(self.options.abort_timeout)
            .worker_cores(worker_cores)
            .build()?)
    }

    /// Refuses queues that cannot be served.
    pub(super) fn check_queues(&self) -> Result<(), SpawnError> {
        for (number, (queue, QueueOptions { host, .. })) in self.queues.iter().enumerate() {
            let earlier = self.queues[..number].iter();
            let memory = earlier.map(|(id, queue)| (*id, queue.host.addresses()));
            let checked = check_end(host).and_then(|()| check_memory(&host.addresses(), memory));
            let queue = *queue;
            checked.map_err(|reason| SpawnError::Queue { queue, reason })?;
        }
        Ok(())
    }

    /// Returns the number of entries of the transport, at least two for each queue: with fewer, endless
    /// requests of one queue could leave none for another. Zero is passed on, and the transport refuses
    /// it.
    fn entries(&self) -> u32 {
        let queues = u32::try_from(self.queues.len()).unwrap_or(u32::MAX);
        match self.options.ring_entries {
            0 => 0,
            entries => entries.max(queues.saturating_mul(2)),
        }
    }

    /// Binds the thread to its core, if one is set. Returns the cores for the kernel's workers, which
    /// would otherwise share the loop's core: the thread's previous cores without those of the loops,
    /// if any others are left.
    fn pin(&self) -> Result<Vec<usize>, SpawnError> {
        let Some(core) = self.core else {
            return Ok(Vec::new());
        };
        let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
        pin(core)?;
        let mut cores: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|&other| allowed.is_set(other) && other != core)
            .collect();
        if cores.iter().any(|core| !self.others.contains(core)) {
            cores.retain(|core| !self.others.contains(core));
        }
        Ok(cores)
    }
}

/// The thread's report once it serves.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) counters: Arc<SharedCounters>,
    pub(super) report: SetupReport,
    pub(super) wake_fd: Option<OwnedFd>,
    pub(super) thread_id: u32,
}

/// Runs the thread from set-up to shutdown. The transport is made, used and dropped here, because it
/// belongs to one thread.
pub(super) fn thread<T: Transport>(
    setup: Setup,
    wrap: impl FnOnce(BaseTransport) -> T,
    flags: &ControlFlags,
    end: &End,
    inbox: mpsc::Receiver<Command>,
    ready: &mpsc::SyncSender<Result<Started, SpawnError>>,
) {
    let options = setup.options;
    let (mut engine, report) = match prepare(setup, wrap) {
        Ok(prepared) => prepared,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let longest = match engine.waker() {
        Some(waker) => {
            flags.set_waker(waker);
            Duration::MAX
        }
        None => UNWOKEN,
    };
    let _ = engine.listen(options.ring_means);
    // With its entries and its means registered, where it still can be asked.
    let report = engine.transport().setup_report().unwrap_or(report);
    let wake_fd = match options.ring_means {
        RingMeans::Waker => engine.wake_fd(),
        RingMeans::Futex => None,
    };
    let _ = ready.send(Ok(Started {
        counters: engine.shared_counters(),
        report,
        wake_fd,
        thread_id: rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs(),
    }));
    let mut inbox = Inbox::new(inbox);
    let served = panic::catch_unwind(AssertUnwindSafe(|| {
        serve(&mut engine, options, flags, &mut inbox, longest)
    }));
    // Before anything is dropped: that takes as long as the kernel likes if it holds operations.
    end.set(served.unwrap_or_else(|payload| {
        let message = message_of(&*payload);
        let kept = fail(&mut engine, options);
        Err(StopError::Panicked { message, kept })
    }));
}

fn prepare<T: Transport>(
    setup: Setup,
    wrap: impl FnOnce(BaseTransport) -> T,
) -> Result<(Engine<T>, SetupReport), SpawnError> {
    // Before the ring is made, and before anything of the caller's runs here.
    block_signals().map_err(SpawnError::Signals)?;
    let worker_cores = setup.pin()?;
    // Else the kernel adds 50 µs to every sleep. Where that is refused, sleeps are longer.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
    let transport = setup.transport(worker_cores)?;
    let report = transport.setup_report();
    let engine = Engine::with_queues(
        wrap(PageCacheTransport::new(transport)),
        setup.files,
        setup.buffers,
        setup.queues,
    )?;
    Ok((engine, report))
}

fn pin(core: usize) -> Result<(), SpawnError> {
    let refused = |reason: std::io::Error| SpawnError::Pin { core, reason };
    if core >= CpuSet::MAX_CPU {
        return Err(refused(std::io::ErrorKind::InvalidInput.into()));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).map_err(|errno| refused(errno.into()))
}

fn serve<T: Transport>(
    engine: &mut Engine<T>,
    options: LoopOptions,
    flags: &ControlFlags,
    inbox: &mut Inbox,
    longest: Duration,
) -> Result<(), StopError> {
    let mut backoff = Backoff::new(options.wait_policy);
    let mut commanded = false;
    loop {
        let progress = engine.step();
        commanded |= flags.take_commands();
        if commanded {
            commanded = inbox.serve(engine);
        }
        inbox.advance_changes(engine);
        if let Some(errno) = engine.failure() {
            return failed(engine, options, errno);
        }
        match flags.shutdown() {
            Shutdown::None => {}
            Shutdown::Drain => return drain(engine, options, flags),
            Shutdown::Abort => return engine.stop(options.abort_timeout).map_err(stuck),
        }
        if commanded || !progress.is_idle() {
            backoff.reset();
            continue;
        }
        match backoff.idle(engine.is_rung() && !flags.is_active()) {
            Pause::Spin => std::hint::spin_loop(),
            Pause::Sleep(time) => {
                let time = inbox.longest_sleep(time.min(longest));
                if !sleep(engine, time).is_idle() {
                    backoff.reset();
                }
            }
        }
    }
}

/// Sleeps. Devices may end the sleep if it is long enough. Returns what was done instead.
fn sleep<T: Transport>(engine: &mut Engine<T>, time: Duration) -> Progress {
    if time >= ANNOUNCED && engine.listens() {
        return engine.wait_for_rings(time);
    }
    engine.wait(time);
    Progress::default()
}

/// Finishes the claimed requests, and cancels them after the time limit.
fn drain<T: Transport>(
    engine: &mut Engine<T>,
    options: LoopOptions,
    flags: &ControlFlags,
) -> Result<(), StopError> {
    // A time too far away to be named is no limit.
    let end = Instant::now().checked_add(options.drain_timeout);
    let mut backoff = Backoff::new(WaitPolicy::ADAPTIVE);
    engine.drain();
    while engine.outstanding() > 0 {
        if let Some(errno) = engine.failure() {
            return failed(engine, options, errno);
        }
        if end.is_some_and(|end| Instant::now() >= end) || flags.shutdown() == Shutdown::Abort {
            break;
        }
        if !engine.step().is_idle() {
            backoff.reset();
        } else if let Pause::Sleep(time) = backoff.idle(false) {
            // Nothing is claimed any more, so no ring has to be heard.
            engine.wait(time);
        }
    }
    engine.stop(options.abort_timeout).map_err(stuck)
}

/// Ends service because the ring has become unusable.
#[cold]
fn failed<T: Transport>(
    engine: &mut Engine<T>,
    options: LoopOptions,
    errno: OsErrno,
) -> Result<(), StopError> {
    Err(StopError::Ring {
        errno: from_os(errno),
        kept: fail(engine, options),
    })
}

/// Tells devices that the host failed. Returns the number of operations that the kernel holds, or after a
/// panic of the transport the number of requests without an outcome.
#[cold]
fn fail<T: Transport>(engine: &mut Engine<T>, options: LoopOptions) -> u32 {
    let failed = panic::catch_unwind(AssertUnwindSafe(|| engine.fail(options.abort_timeout)));
    match failed {
        Ok(Ok(())) => 0,
        Ok(Err(busy)) => busy.in_flight,
        // A transport that panics even here may hold anything that has no outcome.
        Err(_) => engine.outstanding(),
    }
}

fn stuck(busy: vyre_uring::Busy) -> StopError {
    StopError::Stuck {
        operations: busy.in_flight,
    }
}
