//! The latency of a lane with one read in flight, alone and beside a lane that floods the same loop with
//! long page-cache reads.

use std::hint;
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;
use vyre_io::Buffer;
use vyre_io::uring::SUBMIT_COPY_BYTES;
use vyre_io_cli::measure::block_numbers::BlockNumbers;
use vyre_io_cli::measure::cores::pin;
use vyre_io_cli::measure::figure::Figure;
use vyre_io_cli::measure::stamp;

use super::Case;
use crate::args::Args;
use crate::bare;
use crate::checker::{Checked, Checker};
use crate::contestant::Measured;
use crate::error::CompareError;
use crate::lane::{self, Device, STALLED, Work};
use crate::ours::{self, Pages, Path, Service};
use crate::results::Flood;
use crate::rounds;
use crate::run::{Bench, DEPTH, KIB, SIZE};

/// Size of the flood's reads.
const LONG: u32 = 64 * KIB;
/// Bytes that one pass copies at most: no copy begins after the limit, so it ends with the rest of a read.
const BUDGET: u64 = SUBMIT_COPY_BYTES as u64 + LONG as u64;
/// Polls without a completion before the lane looks at the clock.
const POLLS: u32 = 1 << 16;

/// Values of all rounds.
#[derive(Default)]
struct Values {
    lone_p50: Vec<f64>,
    beside_p50: Vec<f64>,
    flood_rate: Vec<f64>,
    /// The least share of the operations that were copied.
    copied: Option<f64>,
    verified: u64,
    count: u64,
}

/// Result of one measurement of the lane.
struct Timed {
    latency: Histogram<u64>,
    /// Bytes per second of the flood.
    flood_rate: f64,
}

pub(super) fn measure(
    args: &Args,
    bench: &Bench,
    rounds: (usize, usize),
) -> Result<Flood, CompareError> {
    let mut values = Values::default();
    let rounds = rounds::measure(3, rounds, |nth| match nth {
        0 | 1 => {
            let timed = timed(args, bench, nth == 1, &mut values)?;
            let at = |quantile| timed.latency.value_at_quantile(quantile) as f64;
            if nth == 0 {
                values.lone_p50.push(at(0.5));
            } else {
                values.beside_p50.push(at(0.5));
                values.flood_rate.push(timed.flood_rate);
                values.count += timed.latency.len();
            }
            Ok::<_, CompareError>(at(0.99))
        }
        _ => {
            let work = bench.work(DEPTH, LONG, args.time(), false);
            bare::copy_rate(bench, &work)
        }
    })?;
    let [lone, beside, copy] = &rounds.rates[..] else {
        unreachable!("three are measured")
    };
    let budget = |rate: &f64| BUDGET as f64 / rate * 1e9;
    let budget = Figure::of(copy.rounds.iter().map(budget).collect());
    let limits = lone.rounds.iter().zip(&budget.rounds);
    let limit = Figure::of(limits.map(|(lone, budget)| lone + budget).collect());
    Ok(Flood {
        size: SIZE,
        flood_size: LONG,
        flood_depth: DEPTH,
        lone_p50: Figure::of(values.lone_p50),
        lone_p99: lone.clone(),
        beside_p50: Figure::of(values.beside_p50),
        beside_p99: beside.clone(),
        beside_count: values.count,
        flood_rate: Figure::of(values.flood_rate),
        copy_rate: copy.clone(),
        budget_bytes: BUDGET,
        share: beside.over(&limit),
        budget,
        limit,
        copied: values.copied.unwrap_or(0.0),
        verified: values.verified,
    })
}

/// Measures the lane once, alone or beside the flood.
fn timed(
    args: &Args,
    bench: &Bench,
    beside: bool,
    values: &mut Values,
) -> Result<Timed, CompareError> {
    let work = bench.work(1, SIZE, args.time(), true);
    let long = bench.work(DEPTH, LONG, args.time(), false);
    let (buffer, pool) = (work.buffer()?, long.buffer()?);
    let target = &bench.target;
    let opened = target
        .reopen()
        .map_err(CompareError::file("open", target.path()))?;
    let files = vec![(opened, Path::PageCache)];
    let lanes = [(&buffer, &work), (&pool, &long)];
    let service = Service::start(bench, files, Pages::Mapped, &lanes)?;
    let mut lane = service.lane(0, ours::whole(&service.files), &work)?;
    let flood = service.lane(1, ours::whole(&service.files), &long)?;
    let mut flood = beside.then(|| Flooding::new(flood, &long, &pool));
    let mut checker = Checker::new(1, SIZE, true);
    let seconds = thread::scope(|scope| {
        let driver = scope.spawn(|| {
            pin(bench.lane_core());
            drive(&mut lane, &work, &buffer, &mut checker, flood.as_mut())
        });
        driver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let flooded = flood.map_or(0, |flood| flood.done * u64::from(LONG));
    let checked: Checked = checker.finish();
    let counters = service.stop()?;
    let copied = ours::copied(&counters);
    let measured = Measured::of(Case::Flood.name(), 0.0, checked, Some(copied))?;
    let copied = values.copied.into_iter().chain(measured.copied);
    values.copied = copied.min_by(f64::total_cmp);
    values.verified += measured.verified;
    match measured.latency {
        Some(latency) => Ok(Timed {
            latency,
            flood_rate: flooded as f64 / seconds,
        }),
        None => unreachable!("latencies are recorded"),
    }
}

/// The lane of the flood.
struct Flooding<'a, D> {
    device: D,
    buffer: &'a Buffer,
    numbers: BlockNumbers,
    offsets: Vec<u64>,
    place: u32,
    done: u64,
}

impl<'a, D: Device> Flooding<'a, D> {
    fn new(device: D, work: &Work, buffer: &'a Buffer) -> Self {
        // Not the blocks of the other lane.
        let mut numbers = BlockNumbers::new(1, work.blocks, true);
        let draw = |_| numbers.draw() * u64::from(LONG);
        Self {
            device,
            buffer,
            offsets: (0..work.depth).map(draw).collect(),
            numbers,
            place: 0,
            done: 0,
        }
    }

    fn start(&mut self) {
        for (place, &offset) in (0..).zip(&self.offsets) {
            self.device.publish(place, offset);
        }
    }

    /// Replaces the oldest read if it has ended. Returns whether it has.
    #[inline]
    fn step(&mut self) -> Result<bool, CompareError> {
        match self.device.take(self.place) {
            None => Ok(false),
            Some(Ok(LONG)) => {
                let offset = self.numbers.draw() * u64::from(LONG);
                self.offsets[self.place as usize] = offset;
                self.device.publish(self.place, offset);
                self.place = (self.place + 1) % self.offsets.len() as u32;
                self.done += 1;
                Ok(true)
            }
            Some(outcome) => Err(lane::fault(outcome, LONG)),
        }
    }

    /// Waits for the reads in flight and verifies their blocks: earlier, that would have delayed the other
    /// lane.
    fn finish(&mut self) -> Result<(), CompareError> {
        let mut block = vec![0; LONG as usize];
        for (place, &offset) in (0..).zip(&self.offsets) {
            lane::wait(&mut self.device, place, LONG)?;
            let read = self
                .buffer
                .read_at(place as usize * block.len(), &mut block);
            debug_assert!(read.is_ok(), "every place is inside the buffer");
            if !stamp::is_intact(offset, &block) {
                let who = Case::Flood.name();
                return Err(CompareError::WrongBytes { who, offset });
            }
        }
        Ok(())
    }
}

/// Drives both lanes on one thread, so that they do not take the core from each other. Returns the seconds
/// that it took.
fn drive(
    lane: &mut impl Device,
    work: &Work,
    buffer: &Buffer,
    checker: &mut Checker,
    mut flood: Option<&mut Flooding<'_, impl Device>>,
) -> Result<f64, CompareError> {
    let mut numbers = BlockNumbers::new(0, work.blocks, true);
    let mut draw = || numbers.draw() * u64::from(SIZE);
    if let Some(flood) = &mut flood {
        flood.start();
    }
    let started = Instant::now();
    let mut offset = draw();
    lane.publish(0, offset);
    let (mut idle, mut since) = (0, started);
    let seconds = loop {
        match lane.take(0) {
            Some(Ok(SIZE)) => {
                checker.completed(buffer, 0, offset);
                offset = draw();
                lane.publish(0, offset);
                idle = 0;
                since = Instant::now();
                if since.duration_since(started) >= work.time {
                    break started.elapsed().as_secs_f64();
                }
            }
            Some(outcome) => return Err(lane::fault(outcome, SIZE)),
            None => {
                idle += 1;
                hint::spin_loop();
            }
        }
        if let Some(flood) = &mut flood {
            flood.step()?;
        }
        if idle == POLLS {
            idle = 0;
            if since.elapsed() > STALLED {
                return Err(CompareError::Stalled(STALLED.as_secs()));
            }
            thread::yield_now();
        }
    };
    lane::wait(lane, 0, SIZE)?;
    if let Some(flood) = flood {
        flood.finish()?;
    }
    Ok(seconds)
}
