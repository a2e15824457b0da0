//! Special cases: what page-cache reads do where the plain comparison does not look.

mod evicted;
mod files;
mod flood;

use clap::ValueEnum;

use crate::args::Args;
use crate::contestant::{Contestant, Measured};
use crate::error::CompareError;
use crate::lane::Work;
use crate::ours::Path;
use crate::results::{Cases, Noted, Pair, Side};
use crate::rounds;
use crate::run::{Bench, SIZE};
use crate::target::Target;

/// One special case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Many cached files: page-cache reads for every second one, against none
    Files,
    /// Pages that are not in memory: a file with page-cache reads, against the same file without
    Evicted,
    /// Direct I/O: page-cache reads for another file of the table, against none
    Direct,
    /// Latency of a lane beside one that floods the loop with page-cache reads of 64 KiB
    Flood,
    /// Depth 1 of a memfd that cannot shrink, against the raw ring
    Sealed,
}

impl Case {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Evicted => "evicted",
            Self::Direct => "direct",
            Self::Flood => "flood",
            Self::Sealed => "sealed",
        }
    }
}

/// Measures the cases that were asked for. `rounds` are the least and the most.
pub(crate) fn measure(
    args: &Args,
    bench: &mut Bench,
    rounds: (usize, usize),
) -> Result<Cases, CompareError> {
    let mut cases = Cases::default();
    for &case in Case::value_variants() {
        if !args.wants_case(case) {
            continue;
        }
        // A memfd has page-cache reads wherever the file lies.
        let refused = bench.no_page_cache.clone();
        let why = match refused.filter(|_| case != Case::Sealed) {
            Some(why) => Some(why),
            None => one(args, bench, case, rounds, &mut cases)?,
        };
        if let Some(why) = why {
            eprintln!("compare: LEFT OUT: {}: {why}", case.name());
            cases.left_out.push((case.name(), why));
        }
    }
    Ok(cases)
}

/// Measures one case. Returns why it cannot be measured here, if it cannot.
fn one(
    args: &Args,
    bench: &mut Bench,
    case: Case,
    rounds: (usize, usize),
    cases: &mut Cases,
) -> Result<Option<String>, CompareError> {
    eprintln!("compare: case {}", case.name());
    match case {
        Case::Files => match files::Files::make(args) {
            Ok(files) => cases.pairs.push(files.compare(args, bench, rounds)?),
            Err(error) => return Ok(Some(error.to_string())),
        },
        Case::Evicted | Case::Direct => match evicted::Evicted::make(args, case) {
            Ok(file) if case == Case::Evicted => {
                cases.pairs.push(file.compare(args, bench, rounds)?);
            }
            Ok(file) => cases.pairs.push(file.compare_direct(args, bench, rounds)?),
            Err(error) => return Ok(Some(error.to_string())),
        },
        Case::Flood => cases.flood = Some(flood::measure(args, bench, rounds)?),
        Case::Sealed => {
            let sealed = Target::sealed(args)?;
            let before = std::mem::replace(&mut bench.target, sealed);
            let pair = self::sealed(args, bench, rounds);
            bench.target = before;
            cases.pairs.push(pair?);
        }
    }
    Ok(None)
}

fn sealed(args: &Args, bench: &Bench, rounds: (usize, usize)) -> Result<Pair, CompareError> {
    let work = bench.work(1, SIZE, args.time(), false);
    let sides = [Contestant::RawRing, Contestant::Ours(Path::PageCache)];
    pair(
        Case::Sealed,
        sides.map(Contestant::name),
        &work,
        rounds,
        |nth| sides[nth].measure(bench, &work),
    )
}

/// Measures two sides in turns, and compares the second with the first.
fn pair(
    case: Case,
    names: [&'static str; 2],
    work: &Work,
    rounds: (usize, usize),
    mut one: impl FnMut(usize) -> Result<Measured, CompareError>,
) -> Result<Pair, CompareError> {
    let mut noted = [Noted::default(); 2];
    let rounds = rounds::measure(names.len(), rounds, |nth| {
        let measured = one(nth)?;
        noted[nth].add(&measured);
        Ok::<_, CompareError>(measured.rate)
    })?;
    let side = |nth: usize| Side {
        name: names[nth],
        rate: rounds.rates[nth].clone(),
        noted: noted[nth],
    };
    Ok(Pair {
        case: case.name(),
        depth: work.depth,
        size: work.size,
        base: side(0),
        other: side(1),
        ratio: rounds.ratios[1].clone(),
        ratio_spread: rounds.ratios[1].spread(),
        steady: rounds.is_steady(1),
    })
}
