//! Relays: threads that wait on futexes for a transport that cannot, and wake it.
//!
//! A relay is armed before a sleep with the values that its words are expected to have. It waits in the kernel until a
//! word differs or is woken. Then it is no longer armed, and wakes the transport. It stays armed across sleeps that end
//! otherwise, like a wait that is queued in a ring; then the expected values are old, which does no harm: the kernel does
//! not compare again, and the next wake-up of a word ends the wait.
//!
//! No wake-up is lost. The transport arms the relay after its caller has loaded the words. If the relay was armed by an
//! earlier sleep, its wait either is queued, so that the wake-up ends it, or has ended, so that it is about to wake the
//! transport. The waker keeps that signal for the next sleep.
//!
//! Nobody who stores to the words can keep a relay busy: each arming ends once.

mod sys;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};

use crate::futex_means::FutexMeans;
use crate::futex_word::FutexWord;
use crate::kernel_features::KernelFeatures;
use crate::service_thread;
use crate::wait_list::{WaitList, has_waitv};

/// The largest number of relays of a transport. Without `futex_waitv`, each waits on one word.
const MOST: usize = 16;

/// The time after which a relay without `futex_waitv` looks whether it is to end.
const SLICE: Duration = Duration::from_secs(1);

/// The relay waits to be armed.
const IDLE: u32 = 0;

/// The relay waits on its words, or is about to, or has done so and will wake the transport.
const ARMED: u32 = 1;

/// The kernel has refused a wait: the relay is of no use.
const REFUSED: u32 = 2;

/// The relay ends.
const CLOSED: u32 = 3;

/// State that a relay shares with its transport.
#[derive(Debug)]
struct Shared {
    state: AtomicU32,
    expected: Box<[AtomicU32]>,
}

/// The relays of a transport, which end with it.
#[derive(Debug)]
pub(crate) struct Relays(Vec<Relay>);

#[derive(Debug)]
struct Relay {
    shared: Arc<Shared>,
    end: End,
}

/// Means by which a relay is ended.
#[derive(Debug)]
enum End {
    /// By its state, on which it always waits.
    Joined(Option<JoinHandle<()>>),
    /// By a wake-up of the word at this address. One that comes before the relay waits is missed, so it is not waited for:
    /// the relay ends after a slice.
    Woken(usize),
}

impl Relays {
    /// Starts relays for these words. They run on the cores of this thread: while it sleeps, its core is free, and the other
    /// cores may belong to devices that spin. Returns `None` if there are too many words, or if the kernel gives
    /// no threads.
    pub(crate) fn start(
        words: &[FutexWord],
        waker: &Waker,
        withheld: KernelFeatures,
    ) -> Option<Self> {
        let vector = has_waitv(withheld);
        let each = if vector { WaitList::MOST } else { 1 };
        if words.len().div_ceil(each) > MOST {
            return None;
        }
        let relays = words
            .chunks(each)
            .map(|words| Relay::start(words, waker.clone(), vector));
        relays.collect::<Result<_, _>>().ok().map(Self)
    }

    /// Returns what a report says of them.
    pub(crate) fn means(&self) -> FutexMeans {
        FutexMeans::Relays(self.0.len() as u32)
    }

    /// Lets a change or a wake-up of a word call the waker once. Returns whether it will.
    pub(crate) fn arm(&self, expected: &[u32]) -> bool {
        let (mut rest, mut armed) = (expected, true);
        for relay in &self.0 {
            let (own, others) = rest.split_at(rest.len().min(relay.shared.expected.len()));
            rest = others;
            armed &= relay.shared.arm(own);
        }
        armed && rest.is_empty()
    }
}

impl Shared {
    fn arm(&self, expected: &[u32]) -> bool {
        // Acquire: pairs with the release in `run`, which ends the relay's use of the expected values.
        match self.state.load(Ordering::Acquire) {
            ARMED => true,
            IDLE => {
                for (word, &value) in self.expected.iter().zip(expected) {
                    word.store(value, Ordering::Relaxed);
                }
                // Release: pairs with the load in `run`, which thus sees the values.
                self.state.store(ARMED, Ordering::Release);
                let _ = futex::wake(&self.state, Flags::PRIVATE, 1);
                true
            }
            _ => false,
        }
    }

    /// Waits and wakes until the transport ends.
    fn run(&self, mut waits: Waits, waker: &Waker) {
        loop {
            // Acquire: pairs with the store in `arm`.
            let state = self.state.load(Ordering::Acquire);
            match state {
                CLOSED => return,
                ARMED => {}
                state => {
                    // Early ends are allowed, such as a state that has changed.
                    let _ = futex::wait(&self.state, Flags::PRIVATE, state, None);
                    continue;
                }
            }
            let next = match waits.wait(&self.expected) {
                Ok(()) | Err(Errno::AGAIN) => IDLE,
                // Armed still, unless it is to end.
                Err(Errno::INTR | Errno::TIMEDOUT) => continue,
                Err(_) => REFUSED,
            };
            // Release: pairs with the load in `arm`. It fails if the relay is to end.
            let (done, unread) = (Ordering::Release, Ordering::Relaxed);
            let ended = self.state.compare_exchange(ARMED, next, done, unread);
            // After the change of the state: the transport that this wakes arms the relay anew.
            if ended.is_ok() {
                waker.wake_by_ref();
            }
        }
    }
}

/// The waits of a relay on its words.
enum Waits {
    /// On all of them and on the state.
    Vector(WaitList),
    /// On one word, by its address.
    One(usize),
}

impl Waits {
    fn wait(&mut self, expected: &[AtomicU32]) -> Result<(), Errno> {
        let load = |word: &AtomicU32| word.load(Ordering::Relaxed);
        match self {
            Self::Vector(list) => list.wait(expected.iter().map(load), None),
            Self::One(address) => sys::wait(*address, load(&expected[0]), SLICE),
        }
    }
}

impl Relay {
    fn start(words: &[FutexWord], waker: Waker, vector: bool) -> Result<Self, Errno> {
        let shared = Arc::new(Shared {
            state: AtomicU32::new(IDLE),
            expected: words.iter().map(|_| AtomicU32::new(0)).collect(),
        });
        let theirs = shared.clone();
        let addresses: Vec<usize> = words.iter().map(|word| word.as_ptr().addr()).collect();
        let run = move || {
            let waits = match vector {
                true => Waits::Vector(WaitList::new(&theirs.state, ARMED, &addresses)),
                false => Waits::One(addresses[0]),
            };
            theirs.run(waits, &waker);
        };
        let thread = service_thread::spawn("vyre-io-relay", &[], run)?;
        let end = match vector {
            true => End::Joined(Some(thread)),
            false => End::Woken(words[0].as_ptr().addr()),
        };
        Ok(Self { shared, end })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.state.store(CLOSED, Ordering::Relaxed);
        let _ = futex::wake(&self.shared.state, Flags::PRIVATE, 1);
        match &mut self.end {
            // It is in no call that could take long.
            End::Joined(thread) => drop(thread.take().map(JoinHandle::join)),
            End::Woken(word) => sys::wake(*word),
        }
    }
}
