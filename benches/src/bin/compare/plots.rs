//! Plots of the results.

use vyre_io_cli::measure::plot::{self, Axis, Chart, PlotError, Scale, Series};
use vyre_io_cli::measure::units;

use crate::results::{Cell, Distribution, Results};

/// Returns names of files, and their contents.
pub(crate) fn draw(results: &Results) -> Result<Vec<(&'static str, String)>, PlotError> {
    let cells = &results.rates;
    let (depth, size) = (
        most_common(cells, |cell| cell.depth),
        most_common(cells, |cell| cell.size),
    );
    let iops = Chart {
        title: format!("Cached random reads of {}", bytes(size.into())),
        x: axis("requests in flight", Scale::Log(2.0), |depth| {
            format!("{depth:.0}")
        }),
        y: axis("reads per second", Scale::Linear, units::rate),
        marked: true,
        series: lines(cells, |cell| (cell.size == size).then_some((cell.depth, 1))),
    };
    let throughput = Chart {
        title: format!("Cached random reads, {depth} in flight"),
        x: axis("size of a block", Scale::Log(2.0), bytes),
        y: axis("bytes per second", Scale::Linear, |rate| {
            format!("{:.0} GB/s", rate / 1e9)
        }),
        marked: true,
        series: lines(cells, |cell| {
            (cell.depth == depth).then_some((cell.size, cell.size))
        }),
    };
    let mut latencies: Vec<Chart> = Vec::new();
    for group in results
        .latencies
        .chunk_by(|one, next| one.depth == next.depth)
    {
        let title = format!(
            "Latency of a cached read of {}, {} in flight",
            bytes(group[0].size.into()),
            group[0].depth
        );
        let recorded = group
            .iter()
            .map(|one: &Distribution| (one.name.to_owned(), &one.recorded));
        latencies.push(plot::latencies(title, recorded));
    }
    Ok(vec![
        ("iops.svg", plot::svg(&[iops])?),
        ("bytes.svg", plot::svg(&[throughput])?),
        ("latency.svg", plot::svg(&latencies)?),
    ])
}

fn axis(name: &str, scale: Scale, label: fn(f64) -> String) -> Axis {
    Axis {
        name: name.into(),
        scale,
        label,
    }
}

/// Returns the value that most cells have.
pub(crate) fn most_common(cells: &[Cell], value: fn(&Cell) -> u32) -> u32 {
    let count = |cell: &&Cell| {
        cells
            .iter()
            .filter(|other| value(other) == value(cell))
            .count()
    };
    cells.iter().max_by_key(count).map_or(0, value)
}

/// Returns a line for each contestant: the place of each chosen cell, and the rate times a factor.
fn lines(cells: &[Cell], choose: impl Fn(&Cell) -> Option<(u32, u32)>) -> Vec<Series> {
    let names = cells.first().map_or(&[][..], |cell| &cell.rows);
    let line = |(nth, row): (usize, &crate::results::Row)| {
        let point = |cell: &Cell| {
            let (place, factor) = choose(cell)?;
            Some((
                f64::from(place),
                cell.rows[nth].rate.median * f64::from(factor),
            ))
        };
        let mut points: Vec<_> = cells.iter().filter_map(point).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        Series {
            name: row.name.into(),
            points,
        }
    };
    names.iter().enumerate().map(line).collect()
}

/// Formats a number of bytes, which is a power of two.
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes as u64 {
        bytes if bytes >= 1 << 30 => format!("{} GiB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes => format!("{} KiB", bytes >> 10),
    }
}
