//! The limits of one queue: when its next operation may start.
//!
//! Rates are paced by the virtual time at which all that has started is paid for (the generic cell rate
//! algorithm): an operation may start if that time is at most [`BURST`] ahead, and moves it by its cost. So a loop
//! that comes late loses nothing, a queue gets no more than its rate over any longer time, and one number is all
//! the state.

use crate::queue_options::QueueLimits;

/// The nanoseconds' worth of operations that may start at once after a pause. Sleeps of a loop end later than they
/// should by less than that, so a paced queue gets its whole rate.
const BURST: u64 = 5_000_000;

const SECOND: u64 = 1_000_000_000;

/// A rate, and what has started under it.
#[derive(Clone, Copy, Debug)]
struct Pace {
    per_second: u64,
    /// The time in nanoseconds at which everything that has started is paid for.
    paid_at: u64,
}

impl Pace {
    /// Begins without a burst, so that a queue that is always busy gets no more than its rate.
    fn new(per_second: u64, now: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            paid_at: now + BURST,
        }
    }

    /// Returns when more may start.
    const fn opens_at(&self) -> u64 {
        self.paid_at.saturating_sub(BURST)
    }

    /// Counts a start.
    fn charge(&mut self, units: u32, now: u64) {
        // A unit is at most an operation of 16 MiB, so the product fits.
        let cost = u64::from(units) * SECOND / self.per_second;
        self.paid_at = self.paid_at.max(now).saturating_add(cost);
    }
}

/// The event until which a queue may start nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A time, in microseconds of the engine's clock.
    Until(u64),
    /// The end of an operation of the queue.
    UntilRoom,
}

/// The limits of a queue, and its use of them.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: QueueLimits,
    operations: Pace,
    bytes: Pace,
    bytes_in_flight: u64,
    /// The bytes of the operation in flight of each slot.
    sizes: Box<[u32]>,
    /// The event until which the queue's backlog is held back, if it is.
    hold: Option<Hold>,
}

impl Limiter {
    /// Creates a limiter for a queue of this many slots, if there are limits. The bytes of operations that are under way
    /// do not count.
    pub(crate) fn of(limits: QueueLimits, slots: u32, now: u64) -> Option<Box<Self>> {
        let limiter = || Box::new(Self::new(limits, slots as usize, now));
        (limits != QueueLimits::NONE).then(limiter)
    }

    fn new(limits: QueueLimits, slots: usize, now: u64) -> Self {
        let now = nanoseconds(now);
        Self {
            limits,
            operations: Pace::new(limits.operations_per_second, now),
            bytes: Pace::new(limits.bytes_per_second, now),
            bytes_in_flight: 0,
            sizes: vec![0; slots].into(),
            hold: None,
        }
    }

    /// Begins to pace, now that the queue is served.
    pub(crate) fn begin(&mut self, now: u64) {
        self.set_limits(self.limits, now);
    }

    /// Changes the limits. What is in flight still counts. The rates begin anew, so that a debt of a low rate does not
    /// outlast it.
    pub(crate) fn set_limits(&mut self, limits: QueueLimits, now: u64) {
        let now = nanoseconds(now);
        self.limits = limits;
        self.operations = Pace::new(limits.operations_per_second, now);
        self.bytes = Pace::new(limits.bytes_per_second, now);
    }

    /// Returns why the next operation may not start now, with this many in flight, or `None` if it may.
    pub(crate) fn holds(&self, in_flight: u32, now: u64) -> Option<Hold> {
        if !self.has_room(in_flight) {
            return Some(Hold::UntilRoom);
        }
        self.closed_until(now).map(Hold::Until)
    }

    /// Returns whether one more operation may be in flight.
    fn has_room(&self, in_flight: u32) -> bool {
        in_flight < self.limits.operations.max(1) && self.bytes_in_flight < self.limits.bytes.max(1)
    }

    /// Returns the microsecond from which the next operation may start, if that is later than `now`.
    fn closed_until(&self, now: u64) -> Option<u64> {
        let opens_at = self.operations.opens_at().max(self.bytes.opens_at());
        (opens_at > nanoseconds(now)).then(|| opens_at.div_ceil(1_000))
    }

    /// Counts the start of an operation.
    pub(crate) fn start(&mut self, slot: u32, bytes: u32, now: u64) {
        let now = nanoseconds(now);
        self.operations.charge(1, now);
        self.bytes.charge(bytes, now);
        self.bytes_in_flight += u64::from(bytes);
        self.sizes[slot as usize] = bytes;
    }

    /// Counts the end of an operation. Returns whether the backlog was held back until then.
    pub(crate) fn end(&mut self, slot: u32) -> bool {
        self.bytes_in_flight -= u64::from(std::mem::take(&mut self.sizes[slot as usize]));
        self.hold.take_if(|hold| *hold == Hold::UntilRoom).is_some()
    }

    pub(crate) const fn hold(&self) -> Option<Hold> {
        self.hold
    }

    pub(crate) const fn set_hold(&mut self, hold: Option<Hold>) {
        self.hold = hold;
    }
}

/// Converts a time of the engine's clock.
const fn nanoseconds(microseconds: u64) -> u64 {
    microseconds.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A queue that always has work gets its rate, however late the loop comes, as long as it comes within the
        /// burst; and never more.
        #[test]
        fn a_busy_queue_gets_its_rate_and_no_more(
            rate in 1_u64..2_000_000,
            bytes in prop_oneof![Just(u64::MAX), 1_000_u64..1 << 33],
            size in 0_u32..1 << 20,
            delays in prop::collection::vec(0_u64..4_000, 1..400),
        ) {
            let limits = QueueLimits::new().operations_per_second(rate).bytes_per_second(bytes);
            let began = 77;
            let mut limiter = Limiter::new(limits, 1, began);
            let (mut now, mut started) = (began, 0_u64);
            for late in delays {
                now = limiter.closed_until(now).map_or(now, |opens| opens.max(now)) + late;
                while limiter.closed_until(now).is_none() && started < 100_000 {
                    limiter.start(0, size, now);
                    limiter.end(0);
                    started += 1;
                }
            }
            let cost = (SECOND / rate).max(u64::from(size) * SECOND / bytes);
            prop_assume!(cost > 0 && started < 100_000);
            // The first starts at once, and the last may be due any time until the next one.
            let due = (now - began) * 1_000 / cost + 1;
            prop_assert!(started <= due, "{started} of {due}");
            prop_assert!(started + 1 >= due, "{started} of {due}");
        }

        #[test]
        fn the_room_is_what_the_limits_leave(
            operations in 0_u32..6,
            bytes in 0_u64..400,
            steps in prop::collection::vec((prop::bool::weighted(0.6), 0_u32..8, 0_u32..200), 0..60),
        ) {
            let limits = QueueLimits::new().operations_in_flight(operations).bytes_in_flight(bytes);
            let mut limiter = Limiter::new(limits, 8, 1);
            let mut model = [None; 8];
            for (starts, slot, size) in steps {
                let held: Vec<u64> = model.iter().flatten().copied().collect();
                let fits = (held.len() as u32) < operations.max(1)
                    && held.iter().sum::<u64>() < bytes.max(1);
                prop_assert_eq!(limiter.has_room(held.len() as u32), fits);
                let state = &mut model[slot as usize];
                if starts && fits && state.is_none() {
                    limiter.start(slot, size, 1);
                    *state = Some(u64::from(size));
                } else if state.take().is_some() {
                    limiter.end(slot);
                }
            }
        }
    }

    #[test]
    fn a_pause_earns_a_burst_of_five_milliseconds() {
        let limits = QueueLimits::new().operations_per_second(1_000);
        let mut limiter = Limiter::new(limits, 1, 0);
        let minute = 60_000_000;
        let mut at_once = 0;
        while limiter.closed_until(minute).is_none() {
            limiter.start(0, 0, minute);
            limiter.end(0);
            at_once += 1;
        }
        assert_eq!(at_once, 6, "five for the pause, and the one that is due");
    }

    #[test]
    fn limits_that_are_lifted_limit_nothing() {
        let limits = QueueLimits::new()
            .operations_per_second(1)
            .bytes_in_flight(1);
        let mut limiter = Limiter::new(limits, 2, 0);
        limiter.start(0, u32::MAX >> 8, 0);
        assert!(!limiter.has_room(1));
        assert_eq!(limiter.closed_until(0), Some(1_000_000));
        limiter.set_limits(QueueLimits::NONE, 1);
        assert!(limiter.has_room(1));
        assert_eq!(limiter.closed_until(1), None);
    }
}
