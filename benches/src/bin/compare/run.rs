//! A comparison: what is measured, in which order.

use std::path::PathBuf;
use std::time::Duration;

use vyre_io_cli::measure::cores::{Cores, allowed};

use crate::args::Args;
use crate::checker;
use crate::contestant::{ALL, Contestant};
use crate::error::CompareError;
use crate::lane::Work;
use crate::machine::Machine;
use crate::quiet::{self, Ticks};
use crate::results::{Cell, Distribution, Noted, Results};
use crate::rounds;
use crate::target::Target;
use crate::{cases, fio, ours, report};

pub(crate) const KIB: u32 = 1024;
/// The size for which depths are compared, and the depth for which sizes are.
pub(crate) const SIZE: u32 = 4 * KIB;
pub(crate) const DEPTH: u32 = 32;
/// The most rounds, as a multiple of the least.
const PATIENCE: usize = 3;

/// The file, the cores and the programs that every measurement uses.
pub(crate) struct Bench {
    pub(crate) target: Target,
    /// The core of the loop, then that of the lane.
    pub(crate) cores: Cores,
    /// Number of cores that this program may use.
    pub(crate) allowed: usize,
    /// Program that hosts the original loop.
    pub(crate) original: Option<PathBuf>,
    /// Version of fio.
    pub(crate) fio: Option<String>,
    /// Reason why the file cannot be read out of the page cache. `None` if it can.
    pub(crate) no_page_cache: Option<String>,
}

impl Bench {
    fn new(args: &Args, plan: &Plan) -> Result<Self, CompareError> {
        let cores = Cores::choose(args.cores.as_ref(), 2, 2)?;
        if let (Some(why), false) = (&cores.note, args.quick) {
            return Err(CompareError::NoCores(why.clone()));
        }
        let largest = plan.cells.iter().map(|&(depth, size)| depth * size).max();
        let target = Target::open(args, largest.unwrap_or(0).into())?;
        Ok(Self {
            no_page_cache: ours::refusal(&target)?,
            target,
            allowed: cores.allowed,
            cores,
            original: args.original.clone(),
            fio: fio::version(),
        })
    }

    /// Returns the core of a thread. `None` if nothing is bound.
    pub(crate) fn core(&self, nth: usize) -> Option<usize> {
        self.cores.list.get(nth).copied()
    }

    pub(crate) fn loop_core(&self) -> Option<usize> {
        self.core(0)
    }

    pub(crate) fn lane_core(&self) -> Option<usize> {
        self.core(1)
    }

    /// Returns the number of threads of the pread pool.
    pub(crate) fn pool(&self) -> usize {
        match self.cores.list.len() {
            0 => self.allowed.max(1),
            bound => bound,
        }
    }

    pub(crate) fn work(&self, depth: u32, size: u32, time: Duration, latency: bool) -> Work {
        Work {
            depth,
            size,
            blocks: self.target.len / u64::from(size),
            time,
            most: u64::MAX,
            latency,
        }
    }
}

/// The measurements to make.
struct Plan {
    /// Depths and sizes of which the rates are compared.
    cells: Vec<(u32, u32)>,
    /// Depths at which the latencies are compared.
    latencies: &'static [u32],
    rounds: (usize, usize),
}

impl Plan {
    fn new(args: &Args) -> Self {
        let mut plan = Self::whole(args);
        if !args.case.is_empty() {
            plan.cells.clear();
            plan.latencies = &[];
        }
        plan
    }

    fn whole(args: &Args) -> Self {
        if args.quick {
            return Self {
                cells: vec![(1, SIZE), (DEPTH, SIZE), (DEPTH, 64 * KIB)],
                latencies: &[1],
                rounds: (1, 1),
            };
        }
        let depths = [1, 8, DEPTH, 64].map(|depth| (depth, SIZE));
        let sizes = [16, 64, 128, 1024].map(|size| (DEPTH, size * KIB));
        let least = usize::from(args.rounds);
        Self {
            cells: [depths, sizes].concat(),
            latencies: &[1, DEPTH],
            rounds: (least, PATIENCE * least),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), CompareError> {
    let plan = Plan::new(args);
    let mut bench = Bench::new(args, &plan)?;
    let wanted = |who: &&Contestant| **who == Contestant::RawRing || args.wants(who.name());
    let (mut contestants, mut left_out) = (Vec::new(), Vec::new());
    for &who in ALL.iter().filter(wanted) {
        if let Some(why) = who.missing(&bench) {
            eprintln!("compare: LEFT OUT: {}: {why}", who.name());
            left_out.push((who.name(), why.to_owned()));
        } else {
            contestants.push(who);
        }
    }

    let cores = match bench.cores.list.len() {
        0 => allowed(),
        _ => bench.cores.list.clone(),
    };
    let (asleep, patience) = if args.quick {
        (50, 0)
    } else {
        (1000, args.wait)
    };
    let (asleep, patience) = (Duration::from_millis(asleep), Duration::from_secs(patience));
    let noise = quiet::wait(&cores, asleep, patience).map_err(CompareError::Machine)?;
    let before = Ticks::now(&cores).map_err(CompareError::Machine)?;
    let mut rates = Vec::new();
    for &(depth, size) in &plan.cells {
        let work = bench.work(depth, size, args.time(), false);
        rates.push(cell(&bench, &contestants, &work, plan.rounds)?);
    }
    let mut latencies = Vec::new();
    for &depth in plan.latencies {
        let work = bench.work(depth, SIZE, args.time(), true);
        latencies.extend(distributions(&bench, &contestants, &work, plan.rounds.0)?);
    }
    let cases = cases::measure(args, &mut bench, plan.rounds)?;
    let after = Ticks::now(&cores).map_err(CompareError::Machine)?;
    let (_, stolen) = after.since(before);
    let results = Results {
        machine: Machine::new(&bench, noise, stolen),
        quick: args.quick,
        seconds: args.time().as_secs_f64(),
        left_out,
        rates,
        latencies,
        cases,
    };
    report::write(&results, &args.out)
}

/// Compares the rates at one depth and size.
fn cell(
    bench: &Bench,
    contestants: &[Contestant],
    work: &Work,
    rounds: (usize, usize),
) -> Result<Cell, CompareError> {
    eprintln!(
        "compare: depth {}, blocks of {} KiB",
        work.depth,
        work.size / KIB
    );
    let mut noted = vec![Noted::default(); contestants.len()];
    let rounds = rounds::measure(contestants.len(), rounds, |nth| {
        let measured = contestants[nth].measure(bench, work)?;
        noted[nth].add(&measured);
        Ok::<_, CompareError>(measured.rate)
    })?;
    Ok(Cell::new(work, contestants, &rounds, &noted))
}

/// Records the latencies at one depth, in turns.
fn distributions(
    bench: &Bench,
    contestants: &[Contestant],
    work: &Work,
    rounds: usize,
) -> Result<Vec<Distribution>, CompareError> {
    eprintln!("compare: latencies at depth {}", work.depth);
    let recorded = contestants.iter().filter(|who| who.has_latency());
    let mut recorded: Vec<_> = recorded.map(|&who| (who, checker::histogram())).collect();
    for round in 0..rounds {
        let count = recorded.len();
        for turn in 0..count {
            let (who, all) = &mut recorded[(turn + round) % count];
            if let Some(latency) = who.measure(bench, work)?.latency {
                // The bounds are the same, so there is nothing to refuse.
                let _ = all.add(&latency);
            }
        }
    }
    let all = recorded.into_iter();
    Ok(all
        .map(|(who, recorded)| Distribution::new(work, who, recorded))
        .collect())
}
