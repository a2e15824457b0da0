//! Results of the lanes on the GPU.

use std::collections::BTreeMap;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use vyre_io::Errno;

/// Values of the kernel's `SUB_BUCKETS` and `BUCKETS`.
const SUB_BUCKETS: u64 = 32;
pub(super) const BUCKETS: usize = 1056;

/// Layout of the kernel's `Lane`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Lane {
    ops: u64,
    bytes: u64,
    failed: u64,
    verified: u64,
    bad: u64,
    bad_offset: u64,
    began: u64,
    ended: u64,
    ticks: u64,
    waited: u64,
    sum: u64,
    first_error: u32,
    end: u32,
}

/// Sums over the lanes of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    /// Requests that have an outcome.
    pub(crate) ops: u64,
    /// Bytes moved.
    pub(crate) bytes: u64,
    /// Requests whose outcome is an error.
    pub(crate) failed: u64,
    /// Errno of one of the failed requests.
    pub(crate) first_error: Option<Errno>,
    /// Blocks that were read whole and hold their stamps.
    pub(crate) verified: u64,
    /// Blocks that do not.
    pub(crate) bad: u64,
    /// Offset in the file of one of them.
    pub(crate) bad_offset: u64,
    /// Number of lanes that gave up because the host was gone, an outcome did not come, or no slot
    /// was free.
    pub(crate) gave_up: u32,
    /// Number of lanes that gave up because the host was gone.
    pub(crate) host_gone: u32,
    /// Share of a lane's time that passed in requests: mean of the lanes.
    pub(crate) wait_fraction: f64,
    /// The sum of the 64-bit words of all blocks that were read whole, modulo 2^64.
    pub(crate) sum: u64,
    /// Time from the start of the first lane to the end of the last.
    pub(crate) elapsed: Duration,
    /// Latencies in nanoseconds, from before the publication until the block has landed, each with
    /// its frequency.
    pub(crate) latencies: BTreeMap<u64, u64>,
}

impl Counted {
    pub(super) fn of(lanes: &[u8], histograms: &[u8]) -> Self {
        let mut total = Self::default();
        let (mut began, mut ended, mut waited) = (u64::MAX, 0, 0.0);
        let lanes = lanes.chunks_exact(size_of::<Lane>());
        let count = lanes.len();
        let histograms = histograms.chunks_exact(BUCKETS * size_of::<u32>());
        for (lane, histogram) in lanes.zip(histograms) {
            let lane: Lane = bytemuck::pod_read_unaligned(lane);
            began = began.min(lane.began);
            ended = ended.max(lane.ended);
            waited += lane.waited as f64 / lane.ticks.max(1) as f64;
            total.add(&lane);
            let nanos = lane.ended.saturating_sub(lane.began);
            let each = nanos as f64 / lane.ticks.max(1) as f64;
            for (bucket, count) in histogram.chunks_exact(size_of::<u32>()).enumerate() {
                let count: u32 = bytemuck::pod_read_unaligned(count);
                if count > 0 {
                    let nanos = (middle(bucket as u64) * each) as u64;
                    *total.latencies.entry(nanos).or_default() += u64::from(count);
                }
            }
        }
        total.elapsed = Duration::from_nanos(ended.saturating_sub(began));
        total.wait_fraction = waited / count.max(1) as f64;
        total
    }

    fn add(&mut self, lane: &Lane) {
        /// `WaitStatus::COMPLETED`.
        const ANSWERED: u32 = 1;
        /// `WaitStatus::HOST_GONE`.
        const HOST_GONE: u32 = 3;
        self.ops += lane.ops;
        self.bytes += lane.bytes;
        self.verified += lane.verified;
        self.sum = self.sum.wrapping_add(lane.sum);
        self.gave_up += u32::from(lane.end != ANSWERED);
        self.host_gone += u32::from(lane.end == HOST_GONE);
        if lane.failed > 0 {
            self.failed += lane.failed;
            let errno = Errno::from_raw(lane.first_error);
            self.first_error.get_or_insert(errno);
        }
        if lane.bad > 0 {
            if self.bad == 0 {
                self.bad_offset = lane.bad_offset;
            }
            self.bad += lane.bad;
        }
    }
}

/// Returns the middle of a bucket of the kernel's `bucket_of`, in ticks.
pub(super) fn middle(bucket: u64) -> f64 {
    if bucket < SUB_BUCKETS {
        return bucket as f64;
    }
    let power = bucket / SUB_BUCKETS + 4;
    let width = 1_u64 << (power - 5);
    let low = (SUB_BUCKETS + bucket % SUB_BUCKETS) * width;
    low as f64 + (width - 1) as f64 / 2.0
}
