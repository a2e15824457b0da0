//! Writes the results: tables as Markdown, plots, and JSON.

mod cases;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use vyre_io_cli::measure::figure::Figure;
use vyre_io_cli::measure::units;

use crate::contestant::Contestant;
use crate::error::CompareError;
use crate::machine::Machine;
use crate::ours::Path as OurPath;
use crate::plots::{self, bytes, most_common};
use crate::quiet::Noise;
use crate::results::{Cell, Distribution, Results, Row};
use crate::rounds::STEADY;

/// Writes all files, and the tables to standard output too.
pub(crate) fn write(results: &Results, out: &Path) -> Result<(), CompareError> {
    fs::create_dir_all(out).map_err(CompareError::file("create", out))?;
    let tables = tables(results);
    let mut files = Vec::new();
    if !results.rates.is_empty() {
        files = plots::draw(results)?;
    }
    files.push(("results.json", serde_json::to_string_pretty(results)?));
    files.push(("compare.md", tables.clone()));
    for (name, contents) in files {
        let path = out.join(name);
        fs::write(&path, contents).map_err(CompareError::file("write", &path))?;
    }
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(tables.as_bytes())
        .map_err(CompareError::Output)?;
    let cells = results.rates.iter().map(|cell| cell.rows.len());
    eprintln!(
        "compare: measured {} rates, {} distributions and {} special cases; {} has the tables, plots and \
         results.json",
        cells.sum::<usize>(),
        results.latencies.len(),
        results.cases.pairs.len() + usize::from(results.cases.flood.is_some()),
        out.display()
    );
    Ok(())
}

fn tables(results: &Results) -> String {
    let mut text = String::from("# Cached random reads\n\n");
    table(&mut text, &["", ""], head(results));
    let _ = writeln!(
        text,
        "\nMedians of the rounds, and their ranges. A ratio is that of two rates of the same round. † marks figures\n\
         whose rounds do not agree: their quartiles are more than {:.0} % apart.",
        100.0 * STEADY
    );
    if !results.rates.is_empty() {
        compared(&mut text, results);
    }
    cases::write(&mut text, &results.cases);
    text
}

/// Writes the comparison of rates and latencies.
fn compared(text: &mut String, results: &Results) {
    let cells = &results.rates;
    let size = most_common(cells, |cell| cell.size);
    let depth = most_common(cells, |cell| cell.depth);
    let by_depth: Vec<&Cell> = cells.iter().filter(|cell| cell.size == size).collect();
    let by_size: Vec<&Cell> = cells.iter().filter(|cell| cell.depth == depth).collect();
    let depths: fn(&Cell) -> String = |cell| format!("depth {}", cell.depth);
    let sizes: fn(&Cell) -> String = |cell| bytes(cell.size.into());
    let _ = write!(
        text,
        "\n## Reads per second, blocks of {}\n\n",
        bytes(size.into())
    );
    grid(text, &by_depth, depths, |row, _| rate(&row.rate));
    ratios(text, &by_depth, depths);
    text.push_str("\n![Reads per second by depth](iops.svg)\n");
    let _ = write!(text, "\n## Bytes per second, depth {depth}\n\n");
    grid(text, &by_size, sizes, |row, cell| {
        figure(&row.rate, f64::from(cell.size) / 1e9, " GB/s")
    });
    ratios(text, &by_size, sizes);
    text.push_str("\n![Bytes per second by the size of a block](bytes.svg)\n");
    text.push_str("\n## Latency\n\n");
    let columns = ["", "depth", "p50", "p90", "p99", "p99.9", "max", "requests"];
    table(text, &columns, results.latencies.iter().map(latency));
    text.push_str("\n![Distribution of latencies](latency.svg)\n");
    text.push_str("\n## What was compared\n\n");
    let compared = results.rates.first().map_or(&[][..], |cell| &cell.rows);
    let compared = compared
        .iter()
        .map(|row| vec![row.name.into(), row.who.about().into()]);
    let left_out = results.left_out.iter();
    let left_out = left_out.map(|(who, why)| vec![(*who).into(), format!("left out: {why}")]);
    table(text, &["", ""], compared.chain(left_out));
}

/// Returns the rows that say on what, when and how it was measured.
fn head(results: &Results) -> Vec<Vec<String>> {
    let machine = &results.machine;
    let noise = &machine.noise;
    let cells = || results.rates.iter().flat_map(|cell| &cell.rows);
    let pairs = || results.cases.pairs.iter();
    let of_cases = pairs().map(|pair| &pair.ratio);
    let of_cases = of_cases.chain(results.cases.flood.iter().map(|flood| &flood.share));
    let rounds = cells().map(|row| &row.rate).chain(of_cases);
    let rounds: Vec<usize> = rounds.map(|figure| figure.rounds.len()).collect();
    let (least, most) = (rounds.iter().min(), rounds.iter().max());
    let (least, most) = (least.unwrap_or(&0), most.unwrap_or(&0));
    let sides = pairs().flat_map(|pair| [&pair.base, &pair.other]);
    let verified = cells().map(|row| row.noted.verified);
    let verified = verified.chain(sides.map(|side| side.noted.verified));
    let verified = verified.chain(results.cases.flood.iter().map(|flood| flood.verified));
    let verified: u64 = verified.sum();
    let mut rows = vec![
        (
            "machine",
            format!(
                "{}, {} cores, {} GiB",
                machine.processor, machine.cores, machine.memory_gib
            ),
        ),
        ("kernel", machine.kernel.clone()),
        (
            "file",
            format!(
                "{}, {}, cached",
                bytes(machine.file_bytes as f64),
                machine.file_system
            ),
        ),
        (
            "date, commit",
            format!("{}, {}", machine.date, machine.commit),
        ),
        ("command", format!("`{}`", machine.command)),
        ("cores", bound(machine)),
        (
            "rounds",
            format!("{least} to {most}, each of {} s", results.seconds),
        ),
        ("quiet before", quiet(noise)),
        (
            "noise before",
            format!(
                "load {}, others {}, stolen {}, spread of equal spins {}",
                noise.load,
                percent(noise.busy),
                percent(noise.stolen),
                percent(noise.spread)
            ),
        ),
        ("stolen while measuring", percent(machine.stolen)),
        (
            "verified",
            format!("{} blocks, none wrong", units::count(verified)),
        ),
    ];
    if let Some(version) = &machine.fio {
        rows.push(("fio", version.clone()));
    }
    if results.quick {
        rows.push(("quick", "**these figures mean nothing**".into()));
    }
    rows.into_iter()
        .map(|(name, value)| vec![name.into(), value])
        .collect()
}

fn quiet(noise: &Noise) -> String {
    if noise.faults.is_empty() {
        return "yes".into();
    }
    format!("**no**: {}", noise.faults.join(", "))
}

fn bound(machine: &Machine) -> String {
    match machine.bound[..] {
        [on_loop, lane, ..] => format!("loop on core {on_loop}, lane on core {lane}"),
        _ => "**nothing is bound**".into(),
    }
}

/// Writes a table of the rates, a column for each cell.
fn grid(
    text: &mut String,
    cells: &[&Cell],
    column: fn(&Cell) -> String,
    value: impl Fn(&Row, &Cell) -> String,
) {
    let rows = cells.first().map_or(&[][..], |cell| &cell.rows);
    let rows = rows.iter().enumerate().map(|(nth, row)| {
        let values = cells.iter().map(|cell| {
            let row = &cell.rows[nth];
            format!("{}{}", value(row, cell), mark(row.rate.spread()))
        });
        [row.name.to_owned()].into_iter().chain(values).collect()
    });
    columns(text, cells, column, rows);
}

/// Writes the ratios of everyone to the raw ring, and of vyre-io to everyone else.
fn ratios(text: &mut String, cells: &[&Cell], column: fn(&Cell) -> String) {
    let rows = cells.first().map_or(&[][..], |cell| &cell.rows);
    let pair = |over: usize, under: usize| {
        let name = format!("{} / {}", rows[over].name, rows[under].name);
        let values = cells.iter().map(|cell| {
            let ratio = cell.rows[over].rate.over(&cell.rows[under].rate);
            format!("{}{}", figure(&ratio, 1.0, ""), mark(ratio.spread()))
        });
        [name].into_iter().chain(values).collect()
    };
    let ours = |nth: usize| matches!(rows[nth].who, Contestant::Ours(_));
    let to_raw = (1..rows.len()).map(|over| pair(over, 0));
    // Of two paths of vyre-io, the later is compared with the earlier.
    let is_pair = |over: usize, under: usize| ours(over) && (under < over || !ours(under));
    let others = |over| (1..rows.len()).filter(move |&under| under != over);
    let of_ours = (1..rows.len()).flat_map(|over| {
        let others = others(over).filter(move |&under| is_pair(over, under));
        others.map(move |under| pair(over, under))
    });
    text.push('\n');
    columns(text, cells, column, to_raw.chain(of_ours));
    let page_cache = |row: &Row| row.who == Contestant::Ours(OurPath::PageCache);
    let copied = rows.iter().position(page_cache).map(|nth| {
        let share = |cell: &&Cell| cell.rows[nth].noted.copied.unwrap_or(0.0);
        let shares = cells.iter().map(|cell| percent(share(cell)));
        let name = "reads that were copied, in the round with the fewest".to_owned();
        [name].into_iter().chain(shares).collect()
    });
    if copied.is_some() {
        text.push('\n');
        columns(text, cells, column, copied.into_iter());
    }
}

/// Writes a table with a column for each cell.
fn columns(
    text: &mut String,
    cells: &[&Cell],
    column: fn(&Cell) -> String,
    rows: impl Iterator<Item = Vec<String>>,
) {
    let names: Vec<String> = cells.iter().map(|cell| column(cell)).collect();
    let names: Vec<&str> = [""]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    table(text, &names, rows);
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// Formats reads per second.
fn rate(rate: &Figure) -> String {
    match rate.median {
        median if median >= 1e6 => figure(rate, 1e-6, " M/s"),
        _ => figure(rate, 1e-3, " k/s"),
    }
}

const fn mark(spread: f64) -> &'static str {
    if spread <= STEADY { "" } else { " †" }
}

/// Formats a median and its range in a unit.
fn figure(figure: &Figure, factor: f64, unit: &str) -> String {
    let decimals = if figure.median * factor < 100.0 { 2 } else { 0 };
    let value = |value: f64| format!("{:.decimals$}", value * factor);
    let (median, min, max) = (value(figure.median), value(figure.min), value(figure.max));
    format!("{median}{unit} ({min} to {max})")
}

fn latency(row: &Distribution) -> Vec<String> {
    let times = [row.p50, row.p90, row.p99, row.p999, row.max].map(units::time);
    let first = [row.name.to_owned(), row.depth.to_string()];
    let last = [units::count(row.count)];
    first.into_iter().chain(times).chain(last).collect()
}

fn table(text: &mut String, columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |", columns.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(columns.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}
