//! The engine: a loop, the queue that it serves, and the operations that are in flight there.

mod close;
mod flight;
pub(crate) mod place;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Waker;
use std::time::Duration;

use vyre_io::{
    Buffer, BufferHandle, BufferTable, DeviceQueue, Features, FileHandle, IoLoop, LoopOptions,
    OutcomeEvent, Queue, QueueLayout, Rights, SpawnError, TransportChoice, WaitPolicy,
};

use crate::ended::{Ended, Listeners};
use crate::fork;
use crate::op::{CHUNK, Op};

use flight::Flight;

/// The files and the buffers of callers that the loop knows at once.
const LIVE_ENTRIES: u32 = 4096;

/// Settings of an engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Operations in flight at once.
    pub(crate) depth: u32,
    pub(crate) transport: TransportChoice,
    pub(crate) policy: WaitPolicy,
    pub(crate) core: Option<usize>,
    /// The time for operations to end when the engine is closed.
    pub(crate) drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            depth: 256,
            transport: TransportChoice::Auto,
            policy: WaitPolicy::DOORBELL,
            core: None,
            drain: Duration::from_secs(5),
        }
    }
}

/// Reason that an engine does not take an operation.
#[derive(Debug)]
pub(crate) enum Refused {
    /// This process was forked from the engine's.
    Forked,
    Closed,
}

/// A loop, the queue that it serves, and what is in flight there.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Neither used nor dropped in forks, where threads that hold its locks do not exist. `None` only at the end of a drop.
    inner: Option<Inner>,
    born: u32,
    drain: Duration,
}

#[derive(Debug)]
struct Inner {
    /// `None` once it was closed.
    io: RwLock<Option<IoLoop>>,
    device: DeviceQueue,
    /// A [`CHUNK`] for each slot.
    transfer: Buffer,
    transfer_handle: BufferHandle,
    state: Mutex<State>,
    /// Stored by threads that have locked `state`.
    is_closed: AtomicBool,
    /// Said by `Display` of the loop's report.
    report: String,
    listeners: Arc<Listeners>,
    /// The batches that were submitted with a key.
    ended: Arc<Ended>,
}

#[derive(Debug, Default)]
struct State {
    flights: Vec<Flight>,
    /// Requests that are no longer in `flights`, and whose slots and memory are not free yet.
    settling: usize,
    /// Operations that wait for a slot or for room in a table.
    waiting: VecDeque<Op>,
    /// The files that the loop knows, by number.
    files: HashMap<u64, FileHandle>,
}

impl Engine {
    /// Starts the loop.
    pub(crate) fn start(settings: Settings) -> Result<Arc<Self>, SpawnError> {
        let transfer = Buffer::anonymous(settings.depth as usize * CHUNK).map_err(|error| {
            SpawnError::Died {
                message: error.to_string(),
            }
        })?;
        let died = |message: String| SpawnError::Died { message };
        let mut buffers = BufferTable::new();
        let rights = Rights::READ | Rights::WRITE;
        let transfer_handle = buffers
            .insert_range(transfer.clone(), .., rights)
            .map_err(|error| died(error.to_string()))?;
        let features = Features::DOORBELL | Features::WAKE;
        let layout = QueueLayout::with_slots(settings.depth).with_features(features);
        let (mut host, device) =
            Queue::anonymous(layout).map_err(|error| died(error.to_string()))?;
        let listeners = Arc::new(Listeners::default());
        host.wake_device_by(Waker::from(Arc::clone(&listeners)));
        // Before any request, so that none needs to be told again.
        device.expect_wakeups();
        let ended = Ended::new().map_err(|error| died(error.to_string()))?;
        let options = LoopOptions::new()
            .wait_policy(settings.policy)
            .transport(settings.transport)
            .ring_entries(settings.depth)
            .live_entries(LIVE_ENTRIES)
            .drain_timeout(settings.drain);
        let mut builder = IoLoop::builder().buffers(buffers).queue(host);
        if let Some(core) = settings.core {
            builder = builder.pin_to(core);
        }
        let io = builder.options(options).spawn()?;
        let inner = Inner {
            report: io.report().to_string(),
            io: RwLock::new(Some(io)),
            device,
            transfer,
            transfer_handle,
            state: Mutex::default(),
            is_closed: AtomicBool::new(false),
            listeners,
            ended,
        };
        Ok(Arc::new(Self {
            inner: Some(inner),
            born: fork::generation(),
            drain: settings.drain,
        }))
    }

    /// Returns whether this process was forked from the engine's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.born != fork::generation()
    }

    fn inner(&self) -> Result<&Inner, Refused> {
        match &self.inner {
            Some(inner) if !self.is_elsewhere() => Ok(inner),
            _ => Err(Refused::Forked),
        }
    }

    /// Returns whether operations are taken, now.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        // Relaxed: an operation that begins meanwhile is checked again.
        match self.inner()?.is_closed.load(Relaxed) {
            true => Err(Refused::Closed),
            false => Ok(()),
        }
    }

    /// Returns which transport the loop has, and why no better one.
    pub(crate) fn report(&self) -> Result<&str, Refused> {
        Ok(&self.inner()?.report)
    }

    /// Begins operations.
    pub(crate) fn submit(self: &Arc<Self>, mut ops: Vec<Op>) -> Result<(), Refused> {
        let inner = self.inner()?;
        for op in &ops {
            op.file.attach_to(self);
        }
        // Before the lock is taken: it takes seconds for gigabytes of untouched memory.
        for op in ops.iter_mut().filter(|op| op.needs_own_place()) {
            op.place = inner.own_place(op);
        }
        let mut state = inner.lock();
        // Relaxed: the lock orders it.
        if inner.is_closed.load(Relaxed) {
            drop(state);
            inner.cancel_all(ops);
            return Err(Refused::Closed);
        }
        state.waiting.extend(ops);
        inner.move_on(state);
        Ok(())
    }

    /// Ends what has an outcome, and begins what waited for it.
    pub(crate) fn poll(&self) -> Result<(), Refused> {
        let inner = self.inner()?;
        inner.move_on(inner.lock());
        Ok(())
    }

    /// Returns where the ends of batches with keys are told.
    pub(crate) fn ended(&self) -> Result<&Arc<Ended>, Refused> {
        Ok(&self.inner()?.ended)
    }

    /// Has outcomes told to somebody, once it was [armed](Self::arm_and_poll).
    pub(crate) fn add_listener(&self, event: &Arc<OutcomeEvent>) -> Result<(), Refused> {
        self.inner()?.listeners.add(event);
        Ok(())
    }

    /// Has the listeners told of the next outcomes, and ends what has one already.
    pub(crate) fn arm_and_poll(&self) -> Result<(), Refused> {
        let inner = self.inner()?;
        // First: an outcome that the look below misses comes later, and is told. The number is for those who sleep.
        let _ = inner.device.arm();
        inner.move_on(inner.lock());
        Ok(())
    }

    /// Forgets operations that were cancelled and have not begun.
    pub(crate) fn forget_cancelled(&self) -> Result<(), Refused> {
        let inner = self.inner()?;
        let mut state = inner.lock();
        let (cancelled, waiting) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(Op::is_cancelled);
        state.waiting = waiting;
        drop(state);
        inner.cancel_all(cancelled);
        Ok(())
    }

    /// Has the loop forget a file on which nothing is in flight.
    pub(crate) fn detach(&self, number: u64) {
        let Ok(inner) = self.inner() else { return };
        let handle = inner.lock().files.remove(&number);
        if let Some(handle) = handle {
            inner.with_loop(|io| io.revoke_file(handle));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the loop, unless the engine was closed.
    fn with_loop<T>(&self, call: impl FnOnce(&IoLoop) -> T) -> Option<T> {
        let io = self.io.read().unwrap_or_else(PoisonError::into_inner);
        io.as_ref().map(call)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.is_elsewhere() {
            // The memory of a fork, whose parent has the loop.
            std::mem::forget(self.inner.take());
        } else {
            // Nobody is left to be told what the loop could not do.
            let _ = self.close();
        }
    }
}
