//! The tables of the special cases.

use vyre_io_cli::measure::figure::Figure;
use vyre_io_cli::measure::units;

use super::{figure, mark, percent, rate, table};
use crate::plots::bytes;
use crate::results::{Cases, Flood, Pair, Side};

pub(super) fn write(text: &mut String, cases: &Cases) {
    text.push_str("\n## Special cases\n\n");
    if !cases.pairs.is_empty() {
        let columns = [
            "",
            "depth",
            "compared",
            "reads per second",
            "ratio",
            "copied",
        ];
        table(text, &columns, cases.pairs.iter().flat_map(pair));
    }
    if let Some(flood) = &cases.flood {
        let about = format!(
            "\nLatency of one lane, depth 1, blocks of {}, alone and beside a lane of the same loop that keeps {} reads \
             of {} in flight. Both are read out of the page cache; one thread drives both lanes. The limit is the lone \
             p99 and the time that the copies of one pass take.\n\n",
            bytes(flood.size.into()),
            flood.flood_depth,
            bytes(flood.flood_size.into())
        );
        text.push_str(&about);
        table(text, &["flood", ""], flooded(flood));
    }
    if !cases.left_out.is_empty() {
        text.push('\n');
        let left_out = cases.left_out.iter();
        let left_out = left_out.map(|(case, why)| vec![(*case).into(), format!("left out: {why}")]);
        table(text, &["", ""], left_out);
    }
}

/// Returns the rows of a pair: what it is compared with, then the other.
fn pair(pair: &Pair) -> [Vec<String>; 2] {
    let row = |name: &str, side: &Side, ratio| {
        let depth = format!("{}, {}", pair.depth, bytes(pair.size.into()));
        let rate = format!("{}{}", rate(&side.rate), mark(side.rate.spread()));
        let copied = side.noted.copied.map_or_else(String::new, percent);
        vec![name.into(), depth, side.name.into(), rate, ratio, copied]
    };
    let ratio = format!(
        "{}{}",
        figure(&pair.ratio, 1.0, ""),
        mark(pair.ratio_spread)
    );
    [
        row(pair.case, &pair.base, String::new()),
        row("", &pair.other, ratio),
    ]
}

fn flooded(flood: &Flood) -> Vec<Vec<String>> {
    let time = |time: &Figure| figure(time, 1e-3, " µs");
    let speed = |rate: &Figure| figure(rate, 1e-9, " GB/s");
    let within = flood.share.rounds.iter().filter(|&&share| share <= 1.0);
    let rows = [
        ("p50 alone", time(&flood.lone_p50)),
        ("p50 beside", time(&flood.beside_p50)),
        ("p99 alone", time(&flood.lone_p99)),
        ("p99 beside", time(&flood.beside_p99)),
        ("requests beside", units::count(flood.beside_count)),
        ("copied beside", speed(&flood.flood_rate)),
        ("bare copies of such blocks", speed(&flood.copy_rate)),
        (
            "budget of one pass",
            format!(
                "{}: {}",
                bytes(flood.budget_bytes as f64),
                time(&flood.budget)
            ),
        ),
        ("limit", time(&flood.limit)),
        ("p99 beside / limit", figure(&flood.share, 1.0, "")),
        (
            "rounds within the limit",
            format!("{} of {}", within.count(), flood.share.rounds.len()),
        ),
        (
            "operations that were copied, at least",
            percent(flood.copied),
        ),
    ];
    rows.into_iter()
        .map(|(name, value)| vec![name.into(), value])
        .collect()
}
