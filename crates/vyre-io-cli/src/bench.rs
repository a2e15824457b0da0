//! `vyre-io bench`: what the queue and the loop cost.

mod baseline;
mod lanes;
mod plan;
mod report;
mod stamp;
mod target;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{BufferTable, FileTable, IoLoop, Queue, QueueLayout, Rights};

use crate::args::{BenchArgs, BenchOp, Pattern, PolicyArg};
use crate::failure::Failure;
use baseline::Raw;
use lanes::{Lanes, Tally};
use plan::Plan;
use report::{Baseline, Report};
use target::Target;

/// Rounds in which ours and the raw loop take turns.
const ROUNDS: u32 = 5;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let plan = Plan::new(args)?;
    let target = Target::open(args, &plan)?;
    let rounds = if args.baseline { ROUNDS } else { 1 };
    let each = Duration::from_secs_f64(args.seconds / f64::from(rounds));

    let mut tally = Tally::new();
    let mut raw_rates = Vec::new();
    let mut ratios = Vec::new();
    let mut cpu = Vec::new();
    for _ in 0..rounds {
        let round = round(args, &plan, target.as_ref(), each)?;
        if let (Some(target), true) = (&target, args.baseline) {
            let rate = Raw::new(args, &plan, target)?.run(each)?;
            ratios.push(round.tally.rate() / rate);
            raw_rates.push(rate);
        }
        cpu.push(round.cpu);
        tally.add(&round.tally);
    }
    let baseline = args.baseline.then(|| Baseline {
        baseline_iops: median(&mut raw_rates),
        ratio: median(&mut ratios),
        rounds,
    });
    Report::new(args, &plan, &tally, median(&mut cpu), baseline).print(args.format)?;
    tally.check()
}

/// One round of ours.
struct Round {
    tally: Tally,
    /// Fraction of a core that the loop's thread used.
    cpu: f64,
}

fn round(
    args: &BenchArgs,
    plan: &Plan,
    target: Option<&Target>,
    time: Duration,
) -> Result<Round, Failure> {
    let mut files = FileTable::new();
    let mut buffers = BufferTable::new();
    let mut lanes = Lanes::new(plan, target, args.pattern == Pattern::Random, &mut buffers)?;
    if let Some(target) = target {
        let rights = match args.op {
            BenchOp::Write => Rights::READ | Rights::WRITE,
            _ => Rights::READ,
        };
        lanes.set_file(files.insert(target.duplicate()?, rights)?);
    }
    let mut builder = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        // As the baseline's: a larger ring is more memory to walk through.
        .ring_entries(plan.depth().next_power_of_two().clamp(8, 4096))
        .policy(match args.policy {
            PolicyArg::Spin => vyre_io::Policy::Spin,
            PolicyArg::Adaptive => vyre_io::Policy::ADAPTIVE,
        });
    if let Some(core) = plan.loop_core() {
        builder = builder.pin_to(core);
    }
    let mut devices = Vec::new();
    for id in 0..plan.queues() {
        let layout = QueueLayout::with_slots(plan.slots()).with_id(id.into());
        let (host, device) = Queue::anonymous(layout)?;
        builder = builder.queue(host);
        devices.push(device);
    }
    let io = builder.spawn()?;

    let cpu_before = cpu_time(io.thread_id());
    let started = Instant::now();
    let mut tally = if args.op == BenchOp::Idle {
        thread::sleep(time);
        Tally::idle(started.elapsed())
    } else {
        lanes.run(&devices, time)?
    };
    let cpu_after = cpu_time(io.thread_id());
    let wall = started.elapsed();
    lanes.verify(&devices, &mut tally)?;
    io.stop()?;
    let used = cpu_after.saturating_sub(cpu_before);
    Ok(Round {
        tally,
        cpu: used.as_secs_f64() / wall.as_secs_f64().max(1e-9),
    })
}

/// Time that a thread of this process has spent on a core. Zero where the kernel does not say.
fn cpu_time(thread: u32) -> Duration {
    let nanos = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))
        .ok()
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
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
