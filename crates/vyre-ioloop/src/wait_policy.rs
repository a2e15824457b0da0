//! The waiting policies of a loop.

use std::time::{Duration, Instant};

/// The way in which a loop's thread waits for work.
///
/// `docs/choosing-a-policy.md` in the repository compares them, with measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitPolicy {
    /// Never sleeps. The latency is lowest, and the cost is a whole core.
    Spin,
    /// Polls `spins` times, then sleeps for a sixteenth of the time since there was work, at most for `cap`. Any
    /// work restarts the cycle.
    ///
    /// A completion of the loop's transport, the deadline of a claimed request, a stop and a table change end a sleep
    /// early. A ring of a device does so if its queue offers
    /// [`Features::DOORBELL`](vyre_ioq::Features::DOORBELL), once sleeps are longer than 50 µs. Any other new request
    /// waits until the sleep ends.
    #[non_exhaustive]
    Adaptive {
        /// Passes without work before the first sleep.
        spins: u32,
        /// Longest sleep.
        cap: Duration,
    },
    /// Polls `spins` times, then sleeps until a device rings, and at most for `bound`. What ends a sleep of
    /// [`Adaptive`](Self::Adaptive) ends this one, too.
    ///
    /// A request whose device does not ring waits for up to `bound`. GPUs cannot ring, so hold an
    /// [`ActiveGuard`](crate::ActiveGuard) while a kernel runs: until it is dropped, the loop waits as by
    /// [`ADAPTIVE`](Self::ADAPTIVE). It does so all the time if a queue does not offer
    /// [`Features::DOORBELL`](vyre_ioq::Features::DOORBELL), or if nothing can wake it: see
    /// [`RingMeans`](crate::RingMeans).
    #[non_exhaustive]
    Doorbell {
        /// Passes without work before a sleep.
        spins: u32,
        /// Longest sleep. Devices see a heartbeat before each sleep, so it should be below a second.
        bound: Duration,
    },
}

impl WaitPolicy {
    /// The default of [`Adaptive`](Self::Adaptive): about 100 µs of polling, then sleeps of up to 10 ms.
    pub const ADAPTIVE: Self = Self::adaptive(ADAPTIVE_SPINS, ADAPTIVE_CAP);

    /// The default of [`Doorbell`](Self::Doorbell): some microseconds of polling, then sleeps of up to 100 ms.
    pub const DOORBELL: Self = Self::doorbell(50, Duration::from_millis(100));

    /// Returns the policy that polls for `spins` passes without work, and then sleeps for a sixteenth of the time since
    /// there was work, at most for `cap`.
    pub const fn adaptive(spins: u32, cap: Duration) -> Self {
        Self::Adaptive { spins, cap }
    }

    /// Returns the policy that polls for `spins` passes without work, then sleeps until a device rings, at most for
    /// `bound`.
    pub const fn doorbell(spins: u32, bound: Duration) -> Self {
        Self::Doorbell { spins, bound }
    }
}

impl Default for WaitPolicy {
    fn default() -> Self {
        Self::ADAPTIVE
    }
}

/// The numbers of [`WaitPolicy::ADAPTIVE`].
const ADAPTIVE_SPINS: u32 = 2_000;
const ADAPTIVE_CAP: Duration = Duration::from_millis(10);

/// The first sleep after work, and the shortest of all.
pub(crate) const FIRST_SLEEP: Duration = Duration::from_micros(5);

/// The shortest sleep that devices may end by a ring. A shorter one is over by the time that a ring has woken the thread.
pub(crate) const ANNOUNCED: Duration = Duration::from_micros(50);

/// A sleep is this part of the time since there was work.
const QUIET_PARTS: u32 = 16;

/// The number of passes without work after which the time is taken. A loop that finds work sooner reads no clock.
const NOTICED: u32 = 64;

/// The action after a pass without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Spin,
    Sleep(Duration),
}

/// The passes without work so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    policy: WaitPolicy,
    spun: u32,
    /// A time since which there was no work.
    quiet_since: Option<Instant>,
}

impl Backoff {
    pub(crate) const fn new(policy: WaitPolicy) -> Self {
        Self {
            policy,
            spun: 0,
            quiet_since: None,
        }
    }

    /// Records a pass with work.
    #[inline]
    pub(crate) const fn reset(&mut self) {
        self.spun = 0;
        self.quiet_since = None;
    }

    /// Records a pass without work, and returns what to do next. `rung` says whether every device that may publish a
    /// request rings for it.
    #[inline]
    pub(crate) fn idle(&mut self, rung: bool) -> Pause {
        let (spins, longest, until_rung) = match self.policy {
            WaitPolicy::Spin => return Pause::Spin,
            WaitPolicy::Adaptive { spins, cap } => (spins, cap, false),
            WaitPolicy::Doorbell { spins, bound } if rung => (spins, bound, true),
            WaitPolicy::Doorbell { spins, bound } => {
                (spins.max(ADAPTIVE_SPINS), bound.min(ADAPTIVE_CAP), false)
            }
        };
        if self.spun < spins {
            self.spun += 1;
            if self.spun == NOTICED {
                self.quiet_since = Some(Instant::now());
            }
            return Pause::Spin;
        }
        if until_rung {
            // A device that cannot ring may become active during the sleep. What was before says nothing of when its
            // requests come.
            self.spun = spins;
            self.quiet_since = None;
            return Pause::Sleep(longest);
        }
        let now = Instant::now();
        let since = *self.quiet_since.get_or_insert(now);
        Pause::Sleep(sleep_after(now.saturating_duration_since(since), longest))
    }
}

/// Returns the length of the sleep after a time without work.
fn sleep_after(quiet: Duration, cap: Duration) -> Duration {
    (quiet / QUIET_PARTS).max(FIRST_SLEEP).min(cap)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_millis(4);

    #[test]
    fn a_sleep_is_a_sixteenth_of_the_quiet_time_up_to_the_cap() {
        for (quiet, sleep) in [
            (0, 5),
            (80, 5),
            (160, 10),
            (16_000, 1_000),
            (64_000, 4_000),
            (1 << 40, 4_000),
        ] {
            let found = sleep_after(Duration::from_micros(quiet), CAP);
            assert_eq!(found, Duration::from_micros(sleep), "after {quiet} µs");
        }
        assert_eq!(
            sleep_after(CAP, Duration::ZERO),
            Duration::ZERO,
            "the cap of the caller"
        );
    }

    #[test]
    fn sleeps_grow_with_the_quiet_time_and_work_starts_over() {
        let mut backoff = Backoff::new(WaitPolicy::adaptive(100, CAP));
        for _ in 0..2 {
            for rung in [false, true].into_iter().cycle().take(100) {
                assert_eq!(backoff.idle(rung), Pause::Spin);
            }
            assert!(backoff.quiet_since.is_some(), "taken while it polled");
            let Pause::Sleep(first) = backoff.idle(false) else {
                panic!("no sleep")
            };
            backoff.quiet_since = Instant::now().checked_sub(Duration::from_millis(32));
            let Pause::Sleep(later) = backoff.idle(true) else {
                panic!("no sleep")
            };
            assert!(
                first >= FIRST_SLEEP && later >= Duration::from_millis(2),
                "{first:?}, {later:?}"
            );
            assert!(later <= CAP);
            backoff.reset();
        }
    }

    #[test]
    fn a_doorbell_is_slept_on_at_once_where_every_device_rings() {
        let bound = Duration::from_millis(100);
        let mut backoff = Backoff::new(WaitPolicy::doorbell(3, bound));
        let pauses: Vec<Pause> = (0..5).map(|_| backoff.idle(true)).collect();
        assert_eq!(pauses[..3], [Pause::Spin; 3]);
        assert_eq!(pauses[3..], [Pause::Sleep(bound); 2]);
        // A kernel is launched, and later another: each time it polls for as long as the adaptive policy, and then sleeps
        // for short times.
        for _ in 0..2 {
            for _ in 3..2_000 {
                assert_eq!(backoff.idle(false), Pause::Spin);
            }
            let Pause::Sleep(short) = backoff.idle(false) else {
                panic!("no sleep")
            };
            assert!(short < bound, "{short:?}");
            assert_eq!(backoff.idle(true), Pause::Sleep(bound));
            assert_eq!(backoff.quiet_since, None);
        }
    }

    #[test]
    fn spin_never_sleeps() {
        let mut backoff = Backoff::new(WaitPolicy::Spin);
        assert!((0..100_000).all(|_| backoff.idle(true) == Pause::Spin));
    }
}
