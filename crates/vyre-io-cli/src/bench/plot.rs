//! Plot of a run.

use std::fs;
use std::path::Path;

use vyre_io_cli::measure::plot::{self, Axis, Chart, Scale, Series};
use vyre_io_cli::measure::units;

use super::report::Report;
use super::text;
use crate::failure::Failure;

/// Writes an SVG file with the distribution of latencies and the rates of the rounds.
pub(super) fn write(report: &Report, path: &Path) -> Result<(), Failure> {
    let title = text::title(report).replace("\n ", ",");
    let recorded = [("vyre-io".to_owned(), &report.recorded)];
    let charts = [
        plot::latencies(format!("Latency of {title}"), recorded),
        rates(report),
    ];
    fs::write(path, plot::svg(&charts)?).map_err(|error| Failure::file("write", path, error))
}

fn rates(report: &Report) -> Chart {
    let raw = report.baseline.as_ref();
    let raw = raw.map(|raw| (raw.baseline, &raw.baseline_round_iops));
    let series = [("vyre-io", &report.round_iops)].into_iter().chain(raw);
    let series = series.map(|(name, rates)| Series {
        name: name.into(),
        points: (1..).map(f64::from).zip(rates.iter().copied()).collect(),
    });
    Chart {
        title: "Rate of each round".into(),
        x: Axis {
            name: "round".into(),
            scale: Scale::Linear,
            label: |round| match round.fract() {
                0.0 => round.to_string(),
                _ => String::new(),
            },
        },
        y: Axis {
            name: "operations per second".into(),
            scale: Scale::Linear,
            label: units::rate,
        },
        marked: true,
        series: series.collect(),
    }
}
