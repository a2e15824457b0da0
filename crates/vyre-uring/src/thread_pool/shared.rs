//! State that the owner of a pool and its threads share.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::sleeper::{COMPLETED, Sleeper};
use super::work::Work;

/// The state under the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) work: Work,
    /// The number of workers, and how many of them wait for work.
    pub(super) workers: u32,
    pub(super) idle: u32,
    /// Set from the call that wakes or starts a worker until that worker has the lock. The worker then
    /// wakes the next one if there is more to do. More than one wake-up at a time would be of no use for
    /// operations that are short.
    pub(super) waking: bool,
    /// Set while the owner sleeps, or is about to.
    pub(super) asleep: bool,
    /// Set once the poller was started or is to be started.
    pub(super) has_poller: bool,
    /// Set while a worker is to start the poller.
    pub(super) wants_poller: bool,
    /// Set while the poller waits for files, or is about to.
    pub(super) polling: bool,
    /// Set while the poller keeps files open.
    pub(super) poller_holds: bool,
    /// The number of times that it has let go of them.
    pub(super) poll_rounds: u64,
    /// Set when the pool ends.
    pub(super) closed: bool,
    pub(super) threads: Vec<JoinHandle<()>>,
}

/// Settings of the threads.
#[derive(Debug)]
pub(super) struct Settings {
    /// The largest number of workers.
    pub(super) most: u32,
    /// The cores of the threads, if they are limited.
    pub(super) cores: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Workers wait here.
    pub(super) work_came: Condvar,
    /// Whoever waits for the end of a round of the poller waits here.
    pub(super) round_over: Condvar,
    pub(super) sleeper: Arc<Sleeper>,
    /// Ends the poller's wait.
    pub(super) poke: OwnedFd,
    /// Wakes the owner when something is written to it, once it was asked for.
    rings: OnceLock<OwnedFd>,
    /// The number of results to collect, to be read without the lock.
    results: AtomicU32,
    pub(super) settings: Settings,
}

/// Threads to wake once the lock is free.
#[derive(Debug, Default, Clone, Copy)]
#[must_use = "wake them"]
pub(super) struct Wakes {
    pub(super) worker: bool,
    pub(super) owner: bool,
    pub(super) poller: bool,
}

impl Shared {
    pub(super) fn new(work: Work, settings: Settings) -> Result<Self, Errno> {
        let state = State {
            work,
            workers: 0,
            idle: 0,
            waking: false,
            asleep: false,
            has_poller: false,
            wants_poller: false,
            polling: false,
            poller_holds: false,
            poll_rounds: 0,
            closed: false,
            threads: Vec::new(),
        };
        Ok(Self {
            state: Mutex::new(state),
            work_came: Condvar::new(),
            round_over: Condvar::new(),
            sleeper: Arc::default(),
            poke: new_eventfd()?,
            rings: OnceLock::new(),
            results: AtomicU32::new(0),
            settings,
        })
    }

    /// Returns the eventfd by which others wake the owner. It is made when it is first asked for.
    pub(super) fn rings(&self) -> Option<&OwnedFd> {
        if self.rings.get().is_none() {
            // Another thread may have been faster, whose eventfd does as well.
            let _ = self.rings.set(new_eventfd().ok()?);
        }
        self.rings.get()
    }

    /// Returns that eventfd if it was asked for.
    pub(super) fn polled_rings(&self) -> Option<&OwnedFd> {
        self.rings.get()
    }

    /// Takes the lock. No code of a caller runs under it, so nothing that it guards is left half done
    /// by a panic.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees the lock, then wakes whom the changes concern.
    pub(super) fn unlock(&self, mut state: MutexGuard<'_, State>) {
        let wakes = state.wakes();
        self.publish(&state);
        drop(state);
        self.wake(wakes);
    }

    /// Tells the owner the number of results.
    pub(super) fn publish(&self, state: &State) {
        // Release: pairs with the load in `has_results`. The lock orders the results themselves.
        let results = state.work.done().len() as u32;
        self.results.store(results, Ordering::Release);
    }

    pub(super) fn wake(&self, wakes: Wakes) {
        if wakes.worker {
            self.work_came.notify_one();
        }
        if wakes.owner {
            self.sleeper.notify(COMPLETED);
        }
        if wakes.poller {
            self.poke_poller();
        }
    }

    /// Waits until the poller holds no file for which nothing waits any more. It does not wait for
    /// files, so this does not take long.
    pub(super) fn await_poller(&self) {
        let mut state = self.lock();
        let round = state.poll_rounds;
        while state.poller_holds && state.poll_rounds == round {
            self.poke_poller();
            let limit = Duration::from_millis(10);
            let waited = self.round_over.wait_timeout(state, limit);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn poke_poller(&self) {
        // Fails only if the counter is at its maximum: then the signal is there already.
        let _ = rustix::io::write(&self.poke, &1u64.to_ne_bytes());
    }

    /// Returns whether there are results to collect, without the lock.
    #[inline]
    pub(super) fn has_results(&self) -> bool {
        // Acquire: pairs with the store in `publish`.
        self.results.load(Ordering::Acquire) != 0
    }
}

fn new_eventfd() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

impl State {
    /// Decides who is to be woken, and notes it.
    pub(super) fn wakes(&mut self) -> Wakes {
        let worker = !self.waking && self.idle > 0 && (self.wants_poller || self.work.may_start());
        self.waking |= worker;
        let owner = self.asleep && !self.work.done().is_empty();
        self.asleep &= !owner;
        let poller = self.polling && self.work.poll_changed;
        self.polling &= !poller;
        Wakes {
            worker,
            owner,
            poller,
        }
    }
}
