//! All rounds of a run: vyre-io and the baseline take turns.

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use vyre_io::{Buffer, Queue};
use vyre_io_cli::measure::bare_pool::BarePool;
use vyre_io_cli::measure::block_numbers::BlockNumbers;
use vyre_io_cli::measure::figure::Figure;
use vyre_io_cli::measure::raw_loop::RawLoop;

use super::cuda::Cuda;
use super::lanes::Lanes;
use super::loops::{Loops, Transport};
use super::plan::Plan;
use super::round::Round;
use super::tally::{Served, Tally};
use super::target::Target;
use super::written;
use crate::args::{BaselineKind, BenchArgs, BenchOp, Pattern};
use crate::failure::Failure;

/// Number of rounds of a run. With `--baseline`, vyre-io and the baseline alternate.
const ROUNDS: u32 = 5;

/// Processor time that the work took: medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Used {
    /// Share of a core that a loop used: mean of the loops.
    pub(super) loop_cpu_fraction: f64,
    /// Share of a lane's time that passed in requests: mean of the lanes. `None` for lanes that are
    /// threads.
    pub(super) gpu_wait_fraction: Option<f64>,
}

/// Rate of the baseline, and the ratio of vyre-io's rate to it.
pub(super) struct Baseline {
    pub(super) iops: Figure,
    pub(super) ratio: Figure,
}

/// Results of all rounds of a run.
pub(super) struct Rounds {
    pub(super) tally: Tally,
    pub(super) iops: Figure,
    pub(super) used: Used,
    pub(super) baseline: Option<Baseline>,
    pub(super) transport: Transport,
}

impl Rounds {
    pub(super) fn run(
        args: &BenchArgs,
        plan: &Plan,
        cuda: Option<&Cuda>,
        target: Option<&Target>,
    ) -> Result<Self, Failure> {
        let each = Duration::from_secs_f64(args.seconds / f64::from(ROUNDS));
        let mut tally = Tally::new();
        let (mut rates, mut raw_rates) = (Vec::new(), Vec::new());
        let (mut cpu, mut gpu_waits) = (Vec::new(), Vec::new());
        let mut transport = Transport::default();
        for _ in 0..ROUNDS {
            let round = one(args, plan, cuda, target, each)?;
            let rate = round.tally.rate();
            if let (Some(target), true) = (target, args.baseline) {
                let is_ring = round.transport.is_ring;
                raw_rates.push(baseline(args, plan, cuda, target, each, is_ring)?);
            }
            transport = round.transport;
            rates.push(rate);
            cpu.push(round.cpu);
            gpu_waits.extend(round.gpu_wait);
            tally.add(&round.tally);
        }
        let (iops, raw) = (Figure::of(rates), Figure::of(raw_rates));
        Ok(Self {
            tally,
            used: Used {
                loop_cpu_fraction: Figure::of(cpu).median,
                gpu_wait_fraction: (!gpu_waits.is_empty()).then(|| Figure::of(gpu_waits).median),
            },
            baseline: args.baseline.then(|| Baseline {
                ratio: iops.over(&raw),
                iops: raw,
            }),
            iops,
            transport,
        })
    }
}

/// Runs one round of vyre-io, and the checks after it.
fn one(
    args: &BenchArgs,
    plan: &Plan,
    cuda: Option<&Cuda>,
    target: Option<&Target>,
    time: Duration,
) -> Result<Round, Failure> {
    if let Some(cuda) = cuda {
        return cuda.round(args, plan, target, time);
    }
    let writes = target.filter(|_| args.op == BenchOp::Write);
    if let Some(target) = writes {
        target.begin_writes()?;
    }
    let mut round = round(args, plan, target, time)?;
    if let Some(target) = writes {
        written::verify_and_restore(args, plan, target, &mut round.tally)?;
    }
    Ok(round)
}

/// Runs one round of the baseline. Returns the operations per second.
fn baseline(
    args: &BenchArgs,
    plan: &Plan,
    cuda: Option<&Cuda>,
    target: &Target,
    time: Duration,
    is_ring: bool,
) -> Result<f64, Failure> {
    match (args.baseline_kind(is_ring), cuda) {
        (BaselineKind::BareServers, Some(cuda)) => cuda.bare_round(args, plan, target, time),
        (kind, _) => raw(args, plan, target, time, kind == BaselineKind::RawRing),
    }
}

/// Runs one round of the raw loop, or of the bare pool. Returns the operations per second.
fn raw(
    args: &BenchArgs,
    plan: &Plan,
    target: &Target,
    time: Duration,
    is_ring: bool,
) -> Result<f64, Failure> {
    let writes = args.op == BenchOp::Write;
    if writes {
        target.begin_writes()?;
    }
    let (depth, block_size) = (plan.depth(), plan.block_size);
    let buffer = Buffer::anonymous(depth as usize * block_size as usize)?;
    if writes {
        written::prepare(&buffer, target, block_size);
    }
    let file = target.duplicate()?;
    let numbers = BlockNumbers::new(0, target.blocks, args.pattern == Pattern::Random);
    let mark = |_, block| {
        if writes {
            target.written.mark(block);
        }
    };
    let rate = if is_ring {
        let raw = RawLoop {
            file,
            buffer,
            depth,
            block_size,
            writes,
            polls: writes && !args.direct,
            numbers,
            core: plan.loop_cores().and_then(|cores| cores.first().copied()),
        };
        raw.run(time, mark)
    } else {
        let pool = BarePool {
            file,
            buffer,
            depth,
            block_size,
            writes,
            numbers,
            threads: plan.pool_threads(args),
            cores: plan.pool_cores(args),
        };
        pool.run(time, mark)
    };
    let rate = rate.map_err(Failure::Baseline)?;
    if writes {
        written::restore(args, plan, target)?;
    }
    Ok(rate)
}

/// Runs a round with threads as the device.
fn round(
    args: &BenchArgs,
    plan: &Plan,
    target: Option<&Target>,
    time: Duration,
) -> Result<Round, Failure> {
    let lanes = Lanes::new(plan, target, args.pattern == Pattern::Random)?;
    let (mut hosts, mut devices) = (Vec::new(), Vec::new());
    for id in 0..plan.queues() {
        let layout = args.layout(plan.slots()).with_id(id.into());
        let (host, device) = Queue::anonymous(layout)?;
        hosts.push(host);
        devices.push(device);
    }
    let loops = Loops::start(args, plan, target, lanes.buffer(), None, hosts)?;
    let handles = loops.handles();

    let before = loops.cpu_time();
    let started = Instant::now();
    let mut tally = if args.op == BenchOp::Idle {
        thread::sleep(time);
        Tally::idle(started.elapsed())
    } else {
        lanes.run(&devices, handles, time)?
    };
    let used = loops.cpu_time().saturating_sub(before);
    let wall = started.elapsed();
    lanes.verify(&devices, handles, &mut tally)?;
    let transport = loops.transport();
    tally.served = Served::of(&loops.stop()?);
    Ok(Round::new(tally, used, wall, plan, transport))
}
