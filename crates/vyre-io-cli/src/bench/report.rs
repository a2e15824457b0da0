//! Report of a run, which is also the JSON object.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::cuda::GpuReport;
use super::plan::Plan;
use super::rounds::{Baseline, Rounds, Used};
use super::tally::Served;
use crate::args::{BaselineKind, BenchArgs, BenchOp, DeviceArg, Pattern, PolicyArg};

/// One JSON object.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) op: BenchOp,
    pub(super) pattern: Pattern,
    /// `threads` or `cuda`.
    pub(super) device: &'static str,
    /// `ring` or `threads`.
    pub(super) transport: &'static str,
    /// Name of the transport and the reason for it.
    #[serde(skip)]
    pub(super) transport_summary: String,
    /// None if threads are the device.
    pub(super) gpu: Option<GpuReport>,
    pub(super) loops: u32,
    pub(super) block_size: u32,
    pub(super) lanes: u32,
    pub(super) depth: u32,
    pub(super) slots: u32,
    pub(super) queues: u32,
    pub(super) direct: bool,
    pub(super) policy: PolicyArg,
    pub(super) seconds: f64,
    pub(super) ops: u64,
    pub(super) rounds: usize,
    /// Median over the rounds.
    pub(super) iops: f64,
    pub(super) iops_min: f64,
    pub(super) iops_max: f64,
    pub(super) round_iops: Vec<f64>,
    pub(super) bytes_per_second: f64,
    pub(super) errors: u64,
    /// Blocks whose contents were checked and right.
    pub(super) verified: u64,
    pub(super) latency_ns: Latency,
    /// `none`, `kernel` or `loop`.
    pub(super) landing: String,
    /// Cores of the loops, then of the lanes. `None` if threads are not bound.
    pub(super) loop_cores: Option<Vec<usize>>,
    pub(super) lane_cores: Option<Vec<usize>>,
    /// True if blocks may be copied out of the page cache.
    pub(super) page_cache: bool,
    #[serde(flatten)]
    pub(super) served: Served,
    #[serde(flatten)]
    pub(super) used: Used,
    #[serde(flatten)]
    pub(super) baseline: Option<Compared>,
    /// Set if the rounds differ so much that their medians are not a measurement.
    pub(super) unsteady: bool,
    /// Reasons why the figures are worse than they could be.
    pub(super) notes: Vec<String>,
    #[serde(skip)]
    pub(super) recorded: Histogram<u64>,
}

/// Comparison of vyre-io with the baseline.
#[derive(Debug, Serialize)]
pub(super) struct Compared {
    /// Name of the baseline.
    pub(super) baseline: &'static str,
    /// Median over the rounds.
    pub(super) baseline_iops: f64,
    pub(super) baseline_iops_min: f64,
    pub(super) baseline_iops_max: f64,
    pub(super) baseline_round_iops: Vec<f64>,
    /// Median over the rounds of the ratio of vyre-io to the baseline.
    pub(super) ratio: f64,
    pub(super) ratio_min: f64,
    pub(super) ratio_max: f64,
}

impl Compared {
    fn of(kind: BaselineKind, baseline: &Baseline) -> Self {
        let Baseline { iops, ratio } = baseline;
        Self {
            baseline: kind.name(),
            baseline_iops: iops.median,
            baseline_iops_min: iops.min,
            baseline_iops_max: iops.max,
            baseline_round_iops: iops.rounds.clone(),
            ratio: ratio.median,
            ratio_min: ratio.min,
            ratio_max: ratio.max,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

impl Latency {
    fn of(recorded: &Histogram<u64>) -> Self {
        Self {
            p50: recorded.value_at_quantile(0.5),
            p90: recorded.value_at_quantile(0.9),
            p99: recorded.value_at_quantile(0.99),
            p999: recorded.value_at_quantile(0.999),
            max: recorded.max(),
        }
    }
}

impl Report {
    pub(super) fn new(
        args: &BenchArgs,
        plan: &Plan,
        rounds: &Rounds,
        gpu: Option<GpuReport>,
    ) -> Self {
        let Rounds { tally, iops, .. } = rounds;
        let bytes_each = tally.bytes as f64 / tally.ops.max(1) as f64;
        let raw_unsteady = |raw: &Baseline| raw.iops.is_unsteady() || raw.ratio.is_unsteady();
        Self {
            op: args.op,
            pattern: args.pattern,
            device: match args.device {
                DeviceArg::Threads => "threads",
                DeviceArg::Cuda(_) => "cuda",
            },
            transport: match rounds.transport.is_ring {
                true => "ring",
                false => "threads",
            },
            transport_summary: rounds.transport.summary.clone(),
            gpu,
            loops: plan.loops(),
            block_size: plan.block_size,
            lanes: plan.lanes(),
            depth: plan.depth(),
            slots: plan.slots(),
            queues: plan.queues(),
            direct: args.direct,
            policy: args.policy,
            seconds: tally.elapsed.as_secs_f64(),
            ops: tally.ops,
            rounds: iops.rounds.len(),
            iops: iops.median,
            iops_min: iops.min,
            iops_max: iops.max,
            round_iops: iops.rounds.clone(),
            bytes_per_second: iops.median * bytes_each,
            errors: tally.errors(),
            verified: tally.verified,
            latency_ns: Latency::of(&tally.latency),
            landing: plan.landing.to_string(),
            loop_cores: plan.loop_cores().map(<[usize]>::to_vec),
            lane_cores: plan.lane_cores().map(<[usize]>::to_vec),
            page_cache: args.page_cache,
            served: tally.served,
            used: rounds.used,
            baseline: rounds
                .baseline
                .as_ref()
                .map(|raw| Compared::of(args.baseline_kind(rounds.transport.is_ring), raw)),
            unsteady: args.op != BenchOp::Idle
                && (iops.is_unsteady() || rounds.baseline.as_ref().is_some_and(raw_unsteady)),
            notes: plan.notes(args),
            recorded: tally.latency.clone(),
        }
    }
}
