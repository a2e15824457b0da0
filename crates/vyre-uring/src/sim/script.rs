//! The script of a simulated transport, and the random numbers that it follows.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rustix::io::Errno;

/// Scripts a [`SimTransport`](crate::SimTransport). Probabilities range from 0 (never, the default)
/// to 1 (always).
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until built"]
pub struct SimBuilder {
    pub(super) seed: u64,
    pub(super) capacity: u32,
    pub(super) files: u32,
    pub(super) buffers: u32,
    pub(super) max_latency: u32,
    pub(super) reorder: bool,
    pub(super) short: f64,
    pub(super) interrupted: f64,
    pub(super) stuck: f64,
    pub(super) hung: f64,
    pub(super) at_most: u32,
    pub(super) refuse_first: bool,
    pub(super) missed_cancels: u32,
    pub(super) errnos: Vec<(Errno, f64)>,
    pub(super) fatal: Option<(u64, Errno)>,
}

impl SimBuilder {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            capacity: 64,
            files: 64,
            buffers: 64,
            max_latency: 0,
            reorder: false,
            short: 0.0,
            interrupted: 0.0,
            stuck: 0.0,
            hung: 0.0,
            at_most: u32::MAX,
            refuse_first: false,
            missed_cancels: 0,
            errnos: Vec::new(),
            fatal: None,
        }
    }

    /// Sets how many operations may be in flight at once. Default: 64.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets the number of slots of the file table. Default: 64.
    pub fn files(mut self, files: u32) -> Self {
        self.files = files;
        self
    }

    /// Sets the number of slots of the buffer table. Default: 64.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.buffers = buffers;
        self
    }

    /// Sets the maximum delay of a completion, in calls of reap beyond the first. Default: 0, every
    /// operation completes in the first call.
    pub fn max_latency(mut self, reaps: u32) -> Self {
        self.max_latency = reaps;
        self
    }

    /// Sets whether the completions of one reap come in random order. Default: no, in the order of
    /// submission.
    pub fn reorder(mut self, reorder: bool) -> Self {
        self.reorder = reorder;
        self
    }

    /// Sets the probability that a transfer of two bytes or more is short.
    pub fn short(mut self, probability: f64) -> Self {
        self.short = probability;
        self
    }

    /// Sets the largest number of bytes of one transfer, as for a file whose server sends no more at
    /// a time. Default: no limit.
    pub fn at_most(mut self, bytes: u32) -> Self {
        self.at_most = bytes;
        self
    }

    /// Sets whether the first operation on each file that is put into a slot fails with `EAGAIN`,
    /// as a non-blocking operation that would block does. Default: no.
    pub fn refuse_first(mut self, refuse: bool) -> Self {
        self.refuse_first = refuse;
        self
    }

    /// Sets how many cancel requests miss their operation before the first one succeeds. Default:
    /// none.
    pub fn missed_cancels(mut self, requests: u32) -> Self {
        self.missed_cancels = requests;
        self
    }

    /// Sets the probability that an operation fails with `EINTR` or `EAGAIN`.
    pub fn interrupted(mut self, probability: f64) -> Self {
        self.interrupted = probability;
        self
    }

    /// Sets the probability that an operation fails with this errno. May be called for several.
    pub fn errno(mut self, errno: Errno, probability: f64) -> Self {
        self.errnos.push((errno, probability));
        self
    }

    /// Sets the probability that an operation completes only once cancelled.
    pub fn stuck(mut self, probability: f64) -> Self {
        self.stuck = probability;
        self
    }

    /// Sets the probability that an operation never completes, even once cancelled:
    /// [`quiesce`](crate::Transport::quiesce) then returns [`Busy`](crate::Busy).
    pub fn hung(mut self, probability: f64) -> Self {
        self.hung = probability;
        self
    }

    /// Makes one submission fail for good: the one with this number, counted from zero, among those
    /// that have something to submit.
    pub fn fatal_submit(mut self, number: u64, errno: Errno) -> Self {
        self.fatal = Some((number, errno));
        self
    }
}

/// Random numbers of a simulation, the same for a seed on every machine.
#[derive(Debug, Clone)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `bound`, or zero if there is none.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}
