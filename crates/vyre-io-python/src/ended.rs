//! Batches that have ended, for whoever waits for many of them without a thread for each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Wake;

use vyre_io::OutcomeEvent;

use crate::batch::Batch;
use crate::engine::{Engine, Refused};
use crate::fork;

/// Batches that have ended and were not taken yet, and a descriptor that is readable while there are any.
///
/// It is also readable once an engine has outcomes that nobody has looked at. [`take`](Self::take) does that: no thread of
/// an engine turns outcomes into ends by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    event: Arc<OutcomeEvent>,
    batches: Mutex<Vec<(u64, Arc<Batch>)>>,
    engines: Mutex<Vec<Weak<Engine>>>,
    born: u32,
}

impl Ended {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            event: Arc::new(OutcomeEvent::new()?),
            batches: Mutex::default(),
            engines: Mutex::default(),
            born: fork::generation(),
        }))
    }

    /// Returns the descriptor, an eventfd.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.event.as_fd().as_raw_fd()
    }

    /// Adds a batch, with the number by which its caller knows it.
    pub(crate) fn push(&self, key: u64, batch: Arc<Batch>) {
        lock(&self.batches).push((key, batch));
        self.event.waker().wake();
    }

    /// Has the outcomes of an engine make the descriptor readable.
    pub(crate) fn listen_to(self: &Arc<Self>, engine: &Arc<Engine>) -> Result<(), Refused> {
        let known = Arc::downgrade(engine);
        let mut engines = lock(&self.engines);
        if !engines.iter().any(|other| other.ptr_eq(&known)) {
            engine.add_listener(&self.event)?;
            engines.retain(|other| other.strong_count() > 0);
            engines.push(known);
        }
        drop(engines);
        engine.arm_and_poll()
    }

    /// Returns the batches that have ended since the last call, and makes the descriptor unreadable until there are more.
    pub(crate) fn take(&self) -> Result<Vec<(u64, Arc<Batch>)>, Refused> {
        if self.born != fork::generation() {
            // The parent would miss what is taken here: both have one descriptor.
            return Err(Refused::Forked);
        }
        // Before everything else: what happens from here on makes it readable again.
        self.event.clear();
        let engines: Vec<_> = lock(&self.engines)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for engine in engines {
            engine.arm_and_poll()?;
        }
        Ok(std::mem::take(&mut *lock(&self.batches)))
    }
}

/// Those whom the loop of an engine tells that there are outcomes. Of an [`Ended`], it has the event alone: the thread of
/// the loop must not be the last to hold a batch, whose files need that thread to be forgotten.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<Vec<Weak<OutcomeEvent>>>);

impl Listeners {
    pub(crate) fn add(&self, event: &Arc<OutcomeEvent>) {
        let mut all = lock(&self.0);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(event));
    }
}

impl Wake for Listeners {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// Called by the thread of the loop, which waits for nobody here but a thread that adds a listener.
    fn wake_by_ref(self: &Arc<Self>) {
        for event in lock(&self.0).iter().filter_map(Weak::upgrade) {
            event.waker().wake();
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
