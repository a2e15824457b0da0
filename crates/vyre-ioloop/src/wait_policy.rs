//! The waiting policies of a loop.

use std::time::Duration;

/// The way in which a loop's thread waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitPolicy {
    /// Never sleeps. The latency is lowest, and the cost is a whole core.
    Spin,
    /// Polls `spins` times, then sleeps: 10 µs at first, then twice as long each time, up to `cap`. Any
    /// work restarts the cycle. A completion of the loop's ring, the deadline of a claimed request, a
    /// stop and a table change end a sleep early. A new request waits until the sleep ends.
    #[non_exhaustive]
    Adaptive {
        /// Passes without work before the first sleep.
        spins: u32,
        /// Longest sleep.
        cap: Duration,
    },
}

impl WaitPolicy {
    /// The default of [`Adaptive`](Self::Adaptive): about 100 µs of polling, then sleeps of up to
    /// 100 µs.
    pub const ADAPTIVE: Self = Self::adaptive(2_000, Duration::from_micros(100));

    /// Returns the policy that polls for `spins` passes without work, then sleeps for `cap` at most.
    pub const fn adaptive(spins: u32, cap: Duration) -> Self {
        Self::Adaptive { spins, cap }
    }
}

impl Default for WaitPolicy {
    fn default() -> Self {
        Self::ADAPTIVE
    }
}

/// The first sleep of the adaptive policy, and the shortest of all.
pub(crate) const FIRST_SLEEP: Duration = Duration::from_micros(10);

/// The action after a pass without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Spin,
    Sleep(Duration),
}

/// The state of a policy: a pure function of the passes so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    policy: WaitPolicy,
    spun: u32,
    sleep: Duration,
}

impl Backoff {
    pub(crate) const fn new(policy: WaitPolicy) -> Self {
        Self {
            policy,
            spun: 0,
            sleep: FIRST_SLEEP,
        }
    }

    /// Records a pass with work.
    #[inline]
    pub(crate) const fn reset(&mut self) {
        self.spun = 0;
        self.sleep = FIRST_SLEEP;
    }

    /// Records a pass without work, and returns what to do next.
    #[inline]
    pub(crate) fn idle(&mut self) -> Pause {
        let WaitPolicy::Adaptive { spins, cap } = self.policy else {
            return Pause::Spin;
        };
        if self.spun < spins {
            self.spun += 1;
            return Pause::Spin;
        }
        let sleep = self.sleep.min(cap);
        self.sleep = (sleep * 2).min(cap);
        Pause::Sleep(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_double_up_to_the_cap_and_work_starts_over() {
        let mut backoff = Backoff::new(WaitPolicy::Adaptive {
            spins: 3,
            cap: Duration::from_micros(65),
        });
        for _ in 0..2 {
            let pauses: Vec<Pause> = (0..8).map(|_| backoff.idle()).collect();
            let slept = |micros| Pause::Sleep(Duration::from_micros(micros));
            assert_eq!(pauses[..3], [Pause::Spin; 3]);
            assert_eq!(
                pauses[3..],
                [slept(10), slept(20), slept(40), slept(65), slept(65)]
            );
            backoff.reset();
        }
    }

    #[test]
    fn spin_never_sleeps() {
        let mut backoff = Backoff::new(WaitPolicy::Spin);
        assert!((0..100_000).all(|_| backoff.idle() == Pause::Spin));
    }
}
