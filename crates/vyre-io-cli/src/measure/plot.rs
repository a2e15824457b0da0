//! Plots as SVG text. Names and labels are text elements, so that no font is needed to draw them.

use std::io;

use hdrhistogram::Histogram;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::units;

/// Width and height of one chart, and the part of the width that its names take.
const SIZE: (u32, u32) = (860, 380);
const NAMES: u32 = 190;
/// Colours that people with any colour vision tell apart (Okabe and Ito), less the one that is too light.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
    RGBColor(128, 128, 128),
];
const FONT: (&str, i32) = ("sans-serif", 13);
/// The last quantile of a distribution is the one above which this many values lie.
const TAIL: u64 = 10;

/// Reasons why a plot cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    #[error("the chart \"{0}\" has no values: measure for longer")]
    Empty(String),
    #[error("the plot cannot be drawn: {0}")]
    Draw(#[from] DrawingAreaErrorKind<io::Error>),
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Begins at zero.
    Linear,
    /// Has this base.
    Log(f64),
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    pub name: String,
    pub scale: Scale,
    /// Formats a value for its label.
    pub label: fn(f64) -> String,
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Some series over the same axes.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    /// Set to mark each point, for series of few measurements.
    pub marked: bool,
    pub series: Vec<Series>,
}

/// Draws charts below each other.
///
/// # Errors
/// [`PlotError`] if a chart has no points.
pub fn svg(charts: &[Chart]) -> Result<String, PlotError> {
    let mut text = String::new();
    let size = (SIZE.0, SIZE.1 * charts.len() as u32);
    let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, chart) in root.split_evenly((charts.len(), 1)).iter().zip(charts) {
        chart.draw(area)?;
    }
    root.present()?;
    drop(root);
    Ok(text)
}

/// Returns a chart of latencies, in nanoseconds, by the share of requests that took no longer.
pub fn latencies<'a>(
    title: impl Into<String>,
    recorded: impl IntoIterator<Item = (String, &'a Histogram<u64>)>,
) -> Chart {
    let series = recorded.into_iter().map(|(name, latencies)| Series {
        name,
        points: quantiles(latencies),
    });
    Chart {
        title: title.into(),
        x: Axis {
            name: "share of requests, %".into(),
            scale: Scale::Log(10.0),
            label: |odds| format!("{}", 100.0 - 100.0 / odds),
        },
        y: Axis {
            name: "latency".into(),
            scale: Scale::Log(10.0),
            label: |nanos| units::time(nanos as u64),
        },
        marked: false,
        series: series.collect(),
    }
}

/// Returns the latency of each quantile. A quantile q is at 1 / (1 - q), where equal steps of a
/// logarithmic axis are nines.
fn quantiles(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let last = latencies.len() as f64 / TAIL as f64;
    let odds = (0..).map(|step| 10_f64.powf(f64::from(step) / 20.0));
    odds.take_while(|&odds| odds <= last)
        .map(|odds| (odds, latencies.value_at_quantile(1.0 - 1.0 / odds) as f64))
        .collect()
}

impl Chart {
    fn draw(&self, area: &Area<'_>) -> Result<(), PlotError> {
        let values = |of: fn(&(f64, f64)) -> f64| {
            let points = self.series.iter().flat_map(|series| &series.points);
            let values: Vec<f64> = points.map(of).collect();
            let least = values.iter().copied().min_by(f64::total_cmp)?;
            let most = values.iter().copied().max_by(f64::total_cmp)?;
            Some((least, most))
        };
        let (Some(x), Some(y)) = (values(|point| point.0), values(|point| point.1)) else {
            return Err(PlotError::Empty(self.title.clone()));
        };
        let (plot, names) = area.split_horizontally(SIZE.0 - NAMES);
        self.draw_names(&names)?;
        let ends = |(least, most): (f64, f64), room: f64| (least / room, most * room);
        match (self.x.scale, self.y.scale) {
            (Scale::Linear, Scale::Linear) => self.lines(&plot, 0.0..x.1, 0.0..y.1 * 1.1),
            (Scale::Linear, Scale::Log(base)) => {
                self.lines(&plot, 0.0..x.1, log(ends(y, 1.2), base))
            }
            (Scale::Log(base), Scale::Linear) => {
                self.lines(&plot, log(ends(x, 1.1), base), 0.0..y.1 * 1.1)
            }
            (Scale::Log(of_x), Scale::Log(of_y)) => {
                self.lines(&plot, log(ends(x, 1.02), of_x), log(ends(y, 1.2), of_y))
            }
        }
    }

    fn draw_names(&self, area: &Area<'_>) -> Result<(), PlotError> {
        for (nth, (series, colour)) in (0..).zip(self.series.iter().zip(COLOURS.iter().cycle())) {
            let y = 50 + 22 * nth;
            let line = PathElement::new([(4, y), (24, y)], colour.stroke_width(3));
            area.draw(&line)?;
            area.draw(&Text::new(series.name.clone(), (30, y - 7), FONT))?;
        }
        Ok(())
    }

    fn lines<X, Y>(&self, area: &Area<'_>, x: X, y: Y) -> Result<(), PlotError>
    where
        X: AsRangedCoord<Value = f64, CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>>,
        Y: AsRangedCoord<Value = f64, CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>>,
    {
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 16))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(80)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .x_label_formatter(&|&value| (self.x.label)(value))
            .y_label_formatter(&|&value| (self.y.label)(value))
            .draw()?;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            let line = LineSeries::new(series.points.iter().copied(), style);
            let size = if self.marked { 3 } else { 0 };
            chart.draw_series(line.point_size(size))?;
        }
        Ok(())
    }
}

fn log((least, most): (f64, f64), base: f64) -> LogCoord<f64> {
    (least.max(1e-9)..most).log_scale().base(base).into()
}

#[cfg(test)]
mod tests;
