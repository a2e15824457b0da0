//! Results, which are also the contents of `results.json`.

use hdrhistogram::Histogram;
use serde::Serialize;
use vyre_io_cli::measure::figure::Figure;

use crate::contestant::{Contestant, Measured};
use crate::lane::Work;
use crate::machine::Machine;
use crate::rounds::Rounds;

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The figures mean nothing.
    pub(crate) quick: bool,
    /// Duration of one measurement.
    pub(crate) seconds: f64,
    /// Contestants that could not be measured, each with the reason.
    pub(crate) left_out: Vec<(&'static str, String)>,
    pub(crate) rates: Vec<Cell>,
    pub(crate) latencies: Vec<Distribution>,
    pub(crate) cases: Cases,
}

/// Results of the special cases.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Cases {
    /// Cases that could not be measured, each with the reason.
    pub(crate) left_out: Vec<(&'static str, String)>,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) flood: Option<Flood>,
}

/// Two rates that were measured in turns.
#[derive(Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) case: &'static str,
    pub(crate) depth: u32,
    pub(crate) size: u32,
    pub(crate) base: Side,
    pub(crate) other: Side,
    /// The rate of `other` to that of `base` in the same round.
    pub(crate) ratio: Figure,
    pub(crate) ratio_spread: f64,
    /// Set if the rounds of the ratio agree.
    pub(crate) steady: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct Side {
    pub(crate) name: &'static str,
    /// Reads per second.
    pub(crate) rate: Figure,
    #[serde(flatten)]
    pub(crate) noted: Noted,
}

/// Latencies of a lane with one read in flight, alone and beside another lane of the same loop. Times are
/// in nanoseconds, rates in bytes per second.
#[derive(Debug, Serialize)]
pub(crate) struct Flood {
    pub(crate) size: u32,
    pub(crate) flood_size: u32,
    pub(crate) flood_depth: u32,
    pub(crate) lone_p50: Figure,
    pub(crate) lone_p99: Figure,
    pub(crate) beside_p50: Figure,
    pub(crate) beside_p99: Figure,
    /// Number of latencies beside the other lane, of all rounds.
    pub(crate) beside_count: u64,
    /// Bytes a second that the other lane read.
    pub(crate) flood_rate: Figure,
    /// Copies of blocks of the other lane's size, by a thread that does nothing else.
    pub(crate) copy_rate: Figure,
    /// Bytes that one pass copies at most, and the time of that at `copy_rate`.
    pub(crate) budget_bytes: u64,
    pub(crate) budget: Figure,
    /// The 99th percentile alone and the budget, of each round.
    pub(crate) limit: Figure,
    /// The 99th percentile beside the other lane as a share of `limit` in the same round.
    pub(crate) share: Figure,
    /// The least share of the reads that were copied.
    pub(crate) copied: f64,
    /// Blocks of the timed lane that were checked and right.
    pub(crate) verified: u64,
}

/// Rates at one depth and size.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) depth: u32,
    pub(crate) size: u32,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    #[serde(skip)]
    pub(crate) who: Contestant,
    /// Reads per second.
    pub(crate) rate: Figure,
    /// The rate to that of the raw ring in the same round.
    pub(crate) ratio: Figure,
    pub(crate) rate_spread: f64,
    pub(crate) ratio_spread: f64,
    /// Set if the rounds agree: the quartiles of rate and ratio are close to each other.
    pub(crate) steady: bool,
    #[serde(flatten)]
    pub(crate) noted: Noted,
}

/// Counts over all rounds of a row.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Noted {
    /// Blocks that were checked and right.
    pub(crate) verified: u64,
    /// The least share of reads that were copied out of the page cache. `None` for all but vyre-io.
    pub(crate) copied: Option<f64>,
}

impl Noted {
    pub(crate) fn add(&mut self, measured: &Measured) {
        self.verified += measured.verified;
        let shares = self.copied.into_iter().chain(measured.copied);
        self.copied = shares.min_by(f64::total_cmp);
    }
}

/// Latencies of one contestant at one depth, in nanoseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Distribution {
    pub(crate) depth: u32,
    pub(crate) size: u32,
    pub(crate) name: &'static str,
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    #[serde(skip)]
    pub(crate) recorded: Histogram<u64>,
}

impl Cell {
    pub(crate) fn new(
        work: &Work,
        contestants: &[Contestant],
        rounds: &Rounds,
        noted: &[Noted],
    ) -> Self {
        let row = |(nth, (&who, &noted)): (usize, (&Contestant, &Noted))| Row {
            name: who.name(),
            who,
            rate: rounds.rates[nth].clone(),
            ratio: rounds.ratios[nth].clone(),
            rate_spread: rounds.rates[nth].spread(),
            ratio_spread: rounds.ratios[nth].spread(),
            steady: rounds.is_steady(nth),
            noted,
        };
        Self {
            depth: work.depth,
            size: work.size,
            rows: contestants.iter().zip(noted).enumerate().map(row).collect(),
        }
    }
}

impl Distribution {
    pub(crate) fn new(work: &Work, who: Contestant, recorded: Histogram<u64>) -> Self {
        let at = |quantile| recorded.value_at_quantile(quantile);
        Self {
            depth: work.depth,
            size: work.size,
            name: who.name(),
            count: recorded.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: recorded.max(),
            recorded,
        }
    }
}
