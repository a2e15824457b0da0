//! What a run came to, for people and for programs.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use indicatif::HumanBytes;
use serde::Serialize;

use super::cuda::GpuReport;
use super::lanes::Tally;
use super::plan::Plan;
use crate::args::{BenchArgs, BenchOp, DeviceArg, Format, Pattern, PolicyArg};

/// One JSON object.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    op: BenchOp,
    pattern: Pattern,
    /// `threads` or `cuda`.
    device: &'static str,
    /// None if threads are the device.
    gpu: Option<GpuReport>,
    loops: u32,
    block_size: u32,
    lanes: u32,
    depth: u32,
    slots: u32,
    queues: u32,
    direct: bool,
    policy: PolicyArg,
    seconds: f64,
    ops: u64,
    iops: f64,
    bytes_per_second: f64,
    errors: u64,
    /// Blocks whose contents were checked and right.
    verified: u64,
    latency_ns: Latency,
    /// `none`, `kernel` or `loop`.
    landing: String,
    #[serde(flatten)]
    used: Used,
    #[serde(flatten)]
    baseline: Option<Baseline>,
}

/// What the work cost; medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Used {
    /// Share of a core that a loop used, the mean of the loops.
    pub(super) loop_cpu_fraction: f64,
    /// Share of a lane's time that passed in requests, the mean of the lanes. None if they are threads.
    pub(super) gpu_wait_fraction: Option<f64>,
}

/// How ours compares with the raw loop.
#[derive(Debug, Serialize)]
pub(super) struct Baseline {
    /// Median over the rounds.
    pub(super) baseline_iops: f64,
    /// Median of the rounds' ratios.
    pub(super) ratio: f64,
    pub(super) rounds: u32,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
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
        tally: &Tally,
        used: Used,
        gpu: Option<GpuReport>,
        baseline: Option<Baseline>,
    ) -> Self {
        Self {
            op: args.op,
            pattern: args.pattern,
            device: match args.device {
                DeviceArg::Threads => "threads",
                DeviceArg::Cuda(_) => "cuda",
            },
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
            iops: tally.rate(),
            bytes_per_second: tally.bytes as f64 / tally.elapsed.as_secs_f64().max(1e-9),
            errors: tally.errors(),
            verified: tally.verified,
            latency_ns: Latency::of(&tally.latency),
            landing: plan.landing.to_string(),
            used,
            baseline,
        }
    }

    pub(super) fn print(&self, format: Format) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if format == Format::Json {
            serde_json::to_writer(&mut out, self)?;
            return writeln!(out);
        }
        writeln!(
            out,
            "{:?}, {:?}, {} a request, {} lanes, depth {}, {} queues of {} slots, {}, {:?}",
            self.op,
            self.pattern,
            HumanBytes(self.block_size.into()),
            self.lanes,
            self.depth,
            self.queues,
            self.slots,
            if self.direct { "direct" } else { "buffered" },
            self.policy,
        )?;
        writeln!(
            out,
            "  {:.0} operations a second, {}/s ({} in {:.2} s; {} errors, {} blocks verified)",
            self.iops,
            HumanBytes(self.bytes_per_second as u64),
            self.ops,
            self.seconds,
            self.errors,
            self.verified,
        )?;
        let Latency {
            p50,
            p90,
            p99,
            p999,
            max,
        } = self.latency_ns;
        writeln!(
            out,
            "  latency in ns: p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max}"
        )?;
        writeln!(
            out,
            "  {} loops; each used {:.1} % of a core",
            self.loops,
            100.0 * self.used.loop_cpu_fraction
        )?;
        if let Some(gpu) = &self.gpu {
            writeln!(out, "  lanes are warps of {gpu}")?;
            writeln!(out, "  blocks land in memory of the GPU: {}", self.landing)?;
        }
        if let Some(fraction) = self.used.gpu_wait_fraction {
            writeln!(out, "  a lane waited {:.1} % of its time", 100.0 * fraction)?;
        }
        if let Some(baseline) = &self.baseline {
            writeln!(
                out,
                "  raw io_uring: {:.0} operations a second; ratio {:.3}, median of {} rounds",
                baseline.baseline_iops, baseline.ratio, baseline.rounds
            )?;
        }
        Ok(())
    }
}
