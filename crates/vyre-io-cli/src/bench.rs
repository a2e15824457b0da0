//! `vyre-io bench`: what the queue and the loop cost.

mod baseline;
mod cuda;
mod lanes;
mod loops;
mod plan;
mod report;
mod stamp;
mod target;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{Queue, QueueLayout};
use vyre_ioq_cuda::bench::Bench;

use crate::args::{BenchArgs, BenchOp, DeviceArg, Pattern};
use crate::failure::Failure;
use baseline::Raw;
use cuda::Cuda;
use lanes::{Lanes, Tally};
use loops::Loops;
use plan::Plan;
use report::{Baseline, Report, Used};
use target::Target;

/// Rounds in which ours and the raw loop take turns.
const ROUNDS: u32 = 5;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    if let (Some(path), DeviceArg::Cuda(_)) = (&args.write_ptx, args.device) {
        let ptx = Bench::portable_ptx()?;
        return fs::write(path, ptx.text()).map_err(|error| Failure::file("write", path, error));
    }
    let plan = Plan::new(args)?;
    let cuda = match args.device {
        DeviceArg::Threads => None,
        DeviceArg::Cuda(ordinal) => Some(Cuda::open(args, ordinal)?),
    };
    let target = Target::open(args, &plan)?;
    let rounds = if args.baseline { ROUNDS } else { 1 };
    let each = Duration::from_secs_f64(args.seconds / f64::from(rounds));

    let mut tally = Tally::new();
    let mut raw_rates = Vec::new();
    let mut ratios = Vec::new();
    let (mut cpu, mut gpu_waits) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let round = match &cuda {
            Some(cuda) => cuda.round(args, &plan, target.as_ref(), each)?,
            None => round(args, &plan, target.as_ref(), each)?,
        };
        if let (Some(target), true) = (&target, args.baseline) {
            let rate = Raw::new(args, &plan, target)?.run(each)?;
            ratios.push(round.tally.rate() / rate);
            raw_rates.push(rate);
        }
        cpu.push(round.cpu);
        gpu_waits.extend(round.gpu_wait);
        tally.add(&round.tally);
    }
    let baseline = args.baseline.then(|| Baseline {
        baseline_iops: median(&mut raw_rates),
        ratio: median(&mut ratios),
        rounds,
    });
    let gpu = cuda.as_ref().map(Cuda::report);
    let used = Used {
        loop_cpu_fraction: median(&mut cpu),
        gpu_wait_fraction: (!gpu_waits.is_empty()).then(|| median(&mut gpu_waits)),
    };
    Report::new(args, &plan, &tally, used, gpu, baseline).print(args.format)?;
    tally.check()
}

/// One round of ours.
struct Round {
    tally: Tally,
    /// Fraction of a core that a loop's thread used, the mean over the loops.
    cpu: f64,
    /// Share of a lane's time that passed in requests, if lanes are warps.
    gpu_wait: Option<f64>,
}

impl Round {
    /// `used` is what all loops together spent in the time `wall`.
    fn new(tally: Tally, used: Duration, wall: Duration, plan: &Plan) -> Self {
        let wall = wall.as_secs_f64().max(1e-9);
        Self {
            tally,
            cpu: used.as_secs_f64() / wall / f64::from(plan.loops()),
            gpu_wait: None,
        }
    }
}

/// A round with threads as the device.
fn round(
    args: &BenchArgs,
    plan: &Plan,
    target: Option<&Target>,
    time: Duration,
) -> Result<Round, Failure> {
    let lanes = Lanes::new(plan, target, args.pattern == Pattern::Random)?;
    let (mut hosts, mut devices) = (Vec::new(), Vec::new());
    for id in 0..plan.queues() {
        let layout = QueueLayout::with_slots(plan.slots()).with_id(id.into());
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
    loops.stop()?;
    Ok(Round::new(tally, used, wall, plan))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
    }
}
