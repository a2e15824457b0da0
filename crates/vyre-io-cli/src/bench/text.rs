//! Text report of a benchmark.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use indicatif::{BinaryBytes, HumanCount};
use vyre_io_cli::measure::units::{rate, time};

use super::report::{Latency, Report};
use super::tally::Served;
use crate::args::{BenchOp, Pattern, PolicyArg};

/// Length of the longest bar of the histogram, in characters.
const BAR: u64 = 40;

pub(super) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", title(report))?;
    if report.op != BenchOp::Idle {
        rates(report, out)?;
        latencies(report, out)?;
    }
    if report.page_cache {
        writeln!(out, "  {}", served(report))?;
    }
    writeln!(out, "  {}", cost(report))?;
    if report.op != BenchOp::Idle {
        writeln!(out, "  transport: {}", report.transport_summary)?;
    }
    if let Some(gpu) = &report.gpu {
        writeln!(out, "  lanes are warps of {gpu}")?;
        writeln!(
            out,
            "  blocks land in memory of the GPU: {}",
            report.landing
        )?;
    }
    if let Some(fraction) = report.used.gpu_wait_fraction {
        writeln!(out, "  a lane waited {:.1} % of its time", 100.0 * fraction)?;
    }
    if report.unsteady {
        writeln!(
            out,
            "  unsteady: rounds differ by more than a fifth; measure on an idle machine"
        )?;
    }
    for note in &report.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

/// Formats the description of the measurement, in two lines.
pub(super) fn title(report: &Report) -> String {
    let pattern = match report.pattern {
        Pattern::Random => "random",
        Pattern::Sequential => "sequential",
    };
    let what = match report.op {
        BenchOp::Read => format!("{pattern} reads"),
        BenchOp::Write => format!("{pattern} writes"),
        BenchOp::Fence => "fences".into(),
        BenchOp::Idle => "idle".into(),
    };
    let block = match report.op {
        BenchOp::Read | BenchOp::Write => format!(
            " of {}, {}",
            BinaryBytes(report.block_size.into()),
            if report.direct { "direct" } else { "buffered" }
        ),
        BenchOp::Fence | BenchOp::Idle => String::new(),
    };
    let policy = match report.policy {
        PolicyArg::Spin => "spin",
        PolicyArg::Adaptive => "adaptive",
        PolicyArg::Doorbell => "doorbell",
    };
    format!(
        "{what}{block}\n  {}, depth {}, {} of {}, policy {policy}",
        count(report.lanes, "lane"),
        report.depth,
        count(report.queues, "queue"),
        count(report.slots, "slot"),
    )
}

fn rates(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let bytes = match report.op {
        BenchOp::Read | BenchOp::Write => {
            format!(", {}/s", BinaryBytes(report.bytes_per_second as u64))
        }
        BenchOp::Fence | BenchOp::Idle => String::new(),
    };
    let range = |min: f64, max: f64| format!("{} to {}", rate(min), rate(max));
    writeln!(
        out,
        "  medians of {} rounds, and their ranges:",
        report.rounds
    )?;
    writeln!(
        out,
        "  vyre-io       {} ({}){bytes}",
        rate(report.iops),
        range(report.iops_min, report.iops_max),
    )?;
    if let Some(raw) = &report.baseline {
        writeln!(
            out,
            "  {:<13} {} ({})",
            raw.baseline,
            rate(raw.baseline_iops),
            range(raw.baseline_iops_min, raw.baseline_iops_max),
        )?;
        writeln!(
            out,
            "  ratio         {:.3} ({:.3} to {:.3})",
            raw.ratio, raw.ratio_min, raw.ratio_max,
        )?;
    }
    writeln!(
        out,
        "  {} in {:.2} s, {}, {} verified",
        plural(report.ops, "operation"),
        report.seconds,
        plural(report.errors, "error"),
        plural(report.verified, "block"),
    )
}

/// Formats the ways in which the loops performed the reads.
fn served(report: &Report) -> String {
    let Served {
        page_cache_reads,
        ring_operations,
        page_cache_faults,
    } = report.served;
    let all = page_cache_reads + ring_operations;
    let percent = 100.0 * page_cache_reads as f64 / all.max(1) as f64;
    let mut text = format!(
        "{percent:.1} % copied out of the page cache, {} by {}",
        plural(ring_operations, "operation"),
        match report.transport {
            "ring" => "the ring",
            _ => "the pool",
        }
    );
    if page_cache_faults > 0 {
        text += &format!(" ({} after a copy failed)", HumanCount(page_cache_faults));
    }
    text
}

fn latencies(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Latency {
        p50,
        p90,
        p99,
        p999,
        max,
    } = report.latency_ns;
    writeln!(
        out,
        "  latency:\n    p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        time(p50),
        time(p90),
        time(p99),
        time(p999),
        time(max)
    )?;
    histogram(&report.recorded, out)
}

/// Formats a bar for each power of two in which at least one latency in a thousand lies.
fn histogram(recorded: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    let total = recorded.len();
    let mut low = 0;
    for value in recorded.iter_log(1, 2.0) {
        let (from, count) = (low, value.count_since_last_iteration());
        low = value.value_iterated_to() + 1;
        if count * 1000 < total || count == 0 {
            continue;
        }
        let bar = "#".repeat((count * BAR / total) as usize);
        let share = 100.0 * count as f64 / total as f64;
        writeln!(
            out,
            "    {:>8} to {:>8}  {share:>5.1} %  {bar}",
            time(from),
            time(low)
        )?;
    }
    Ok(())
}

fn cost(report: &Report) -> String {
    let cores = |cores: &Option<Vec<usize>>| {
        let cores = cores.iter().flatten().map(usize::to_string);
        cores.collect::<Vec<_>>().join(",")
    };
    let used = 100.0 * report.used.loop_cpu_fraction;
    let each = if report.loops == 1 { "" } else { " each" };
    let bound = match (&report.loop_cores, &report.lane_cores) {
        (Some(_), Some(_)) => format!(
            "; on core {}, lanes on core {}",
            cores(&report.loop_cores),
            cores(&report.lane_cores)
        ),
        _ => String::new(),
    };
    format!(
        "{} used {used:.1} % of a core{each}{bound}",
        count(report.loops, "loop")
    )
}

fn count(number: u32, what: &str) -> String {
    plural(number.into(), what)
}

fn plural(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {what}{s}", HumanCount(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_has_no_plural() {
        assert_eq!(
            (plural(1, "loop"), plural(1_234, "loop")),
            ("1 loop".into(), "1,234 loops".into())
        );
    }

    #[test]
    fn the_histogram_leaves_out_what_hardly_occurs() {
        let mut recorded = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        recorded.record_n(3_000, 9_999).expect("in range");
        recorded.record_n(50_000_000, 1).expect("in range");
        let mut out = Vec::new();
        histogram(&recorded, &mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("2.0 µs to   4.1 µs"), "{text}");
        assert!(text.contains("100.0 %"), "{text}");
    }
}
