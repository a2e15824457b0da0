//! What a simulated transport is told to do, and the chance by which it does it.

use rustix::io::Errno;

use super::SimTransport;

/// Scripts a [`SimTransport`]. Probabilities are from 0 (never, the default) to 1 (always).
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

    /// The operations that may be in flight at once. Default: 64.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// The slots of the file table. Default: 64.
    pub fn files(mut self, files: u32) -> Self {
        self.files = files;
        self
    }

    /// The slots of the buffer table. Default: 64.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.buffers = buffers;
        self
    }

    /// The most calls of reap that an operation takes to complete. Default: 0, the first call.
    pub fn max_latency(mut self, reaps: u32) -> Self {
        self.max_latency = reaps;
        self
    }

    /// Whether completions of one reap come in any order. Default: no, that of submission.
    pub fn reorder(mut self, reorder: bool) -> Self {
        self.reorder = reorder;
        self
    }

    /// How often a transfer of two bytes or more is short.
    pub fn short(mut self, probability: f64) -> Self {
        self.short = probability;
        self
    }

    /// Sets the largest number of bytes that a transfer moves, as of a file whose server answers
    /// with no more, direct I/O or not. Default: no bound.
    pub fn at_most(mut self, bytes: u32) -> Self {
        self.at_most = bytes;
        self
    }

    /// Sets whether the first operation on each file that is put into a slot fails with `EAGAIN`,
    /// as does one that may not wait; a ring has the next one performed by threads that may.
    /// Default: no.
    pub fn refuse_first(mut self, refuse: bool) -> Self {
        self.refuse_first = refuse;
        self
    }

    /// Sets how many requests to cancel miss their operation, before others find theirs. Default:
    /// none.
    pub fn missed_cancels(mut self, requests: u32) -> Self {
        self.missed_cancels = requests;
        self
    }

    /// How often an operation fails with `EINTR` or `EAGAIN`.
    pub fn interrupted(mut self, probability: f64) -> Self {
        self.interrupted = probability;
        self
    }

    /// How often an operation fails with this errno. May be called for several.
    pub fn errno(mut self, errno: Errno, probability: f64) -> Self {
        self.errnos.push((errno, probability));
        self
    }

    /// How often an operation completes only once cancelled.
    pub fn stuck(mut self, probability: f64) -> Self {
        self.stuck = probability;
        self
    }

    /// How often an operation never completes, cancelled or not: [`quiesce`](crate::Transport::quiesce) then
    /// answers [`Busy`](crate::Busy).
    pub fn hung(mut self, probability: f64) -> Self {
        self.hung = probability;
        self
    }

    /// Makes a submit fail for good: the one with this number, counted from zero, among those that
    /// have something to submit.
    pub fn fatal_submit(mut self, number: u64, errno: Errno) -> Self {
        self.fatal = Some((number, errno));
        self
    }

    /// Builds the transport.
    pub fn build(self) -> SimTransport {
        SimTransport::new(self)
    }
}

/// The generator known as splitmix64.
#[derive(Debug, Clone)]
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}
