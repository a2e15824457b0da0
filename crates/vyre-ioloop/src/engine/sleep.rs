//! Sleeps, and what ends them.

use std::time::Duration;

use vyre_uring::{FutexWord, Transport};

use super::Engine;
use super::progress::Progress;
use crate::ring_means::RingMeans;
use crate::wait_policy::FIRST_SLEEP;

/// The longest sleep of a loop that waits for flushes of other loops.
const UNSETTLED: Duration = Duration::from_micros(100);

impl<T: Transport> Engine<T> {
    /// Sleeps until the transport has a completion, the next deadline of a claimed request passes,
    /// a [`waker`](Self::waker) is used, or `timeout` has passed. Devices see a heartbeat first.
    pub fn wait(&mut self, timeout: Duration) {
        let timeout = self.before_sleep(timeout);
        if let Err(error) = self.transport.wait(Some(timeout)) {
            self.note_failure(error);
        }
    }

    /// Prepares [`wait_for_rings`](Self::wait_for_rings) for devices that ring by the given means. Returns whether a
    /// request on any queue can end such a wait: every queue offers
    /// [`Features::DOORBELL`](vyre_ioq::Features::DOORBELL), and the transport has the means. Queues that are added
    /// later are listened to by the same means.
    pub fn listen(&mut self, means: RingMeans) -> bool {
        self.means = Some(means);
        let served = self.state.queues.iter().filter(|queue| !queue.is_vacant());
        let queues = served.clone().count();
        let words = served.filter_map(|queue| queue.host.doorbell_ptr());
        let words: Vec<_> = words.map(FutexWord::new).collect();
        let (offered, all) = (words.len(), words.len() == queues);
        let heard = match means {
            RingMeans::Futex => self.transport.set_futexes(words),
            RingMeans::Waker => self.transport.waker().is_some(),
        };
        let waits = heard && means == RingMeans::Futex;
        self.doorbells = vec![0; if waits { offered } else { 0 }];
        self.listens = heard && offered > 0;
        // Without a queue, nothing can be missed.
        self.rung = all && (heard || queues == 0);
        self.rung
    }

    /// Returns what [`listen`](Self::listen) returned last, for the queues that there are now.
    pub(crate) const fn is_rung(&self) -> bool {
        self.rung
    }

    /// Announces a sleep to the devices, makes one more pass, and sleeps as [`wait`](Self::wait) does if that pass
    /// found no work. A ring of a device ends the sleep, if the transport can be woken by the means that were given to
    /// [`listen`](Self::listen). Returns what the pass did.
    ///
    /// A request is either found by the pass, or its device sees the announcement and rings: see section 7 of `ABI.md`.
    pub fn wait_for_rings(&mut self, timeout: Duration) -> Progress {
        let mut offered = 0;
        for queue in &mut self.state.queues {
            if let Some(before) = queue.host.announce_sleep() {
                if let Some(doorbell) = self.doorbells.get_mut(offered) {
                    // The kernel compares the word as it is in memory.
                    *doorbell = before.to_le();
                }
                offered += 1;
            }
        }
        // Each announcement ends with a fence, so this sweep finds what was published before it. It reaps nothing: a
        // wake-up by the waker is a completion, and the sleep would not end with one that was reaped. Whoever used the
        // waker may have left a message that the caller looks for after the sleep.
        let progress = match self.stopped {
            true => self.step_after_end(),
            false => self.pass(0),
        };
        if progress.is_idle() {
            let timeout = self.before_sleep(timeout);
            if let Err(error) = self.transport.wait_on(&self.doorbells, Some(timeout)) {
                self.note_failure(error);
            }
        }
        for queue in &mut self.state.queues {
            queue.host.wake();
        }
        progress
    }

    /// Returns whether a ring on any queue ends [`wait_for_rings`](Self::wait_for_rings).
    pub(crate) const fn listens(&self) -> bool {
        self.listens
    }

    /// Counts a sleep and shows a heartbeat. Returns how long the sleep may last.
    fn before_sleep(&mut self, timeout: Duration) -> Duration {
        let timeout = self.longest_sleep(timeout);
        self.state.counters.sleeps += 1;
        self.beat();
        timeout
    }

    /// Shortens a sleep so that it ends at the next deadline of a claimed request. The clock is
    /// read only if there is one.
    fn longest_sleep(&self, timeout: Duration) -> Duration {
        let timeout = if self.state.unconfirmed.is_empty() {
            timeout
        } else {
            // Another loop's flush is waited for, and nothing of ours may end with it.
            timeout.min(UNSETTLED)
        };
        match self.until_due() {
            // Not for no time at all: one that is due and cannot be cancelled yet is not to cost a
            // core.
            Some(left) => left.max(FIRST_SLEEP).min(timeout),
            None => timeout,
        }
    }
}
