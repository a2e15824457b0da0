use hdrhistogram::Histogram;
use roxmltree::Document;

use super::*;

fn recorded(nanos: u64) -> Histogram<u64> {
    let mut recorded = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
    recorded.record_n(nanos, 99_000).expect("in range");
    recorded.record_n(100 * nanos, 1_000).expect("in range");
    recorded
}

/// Returns the texts of a drawing, and the number of its lines.
fn parsed(svg: &str) -> (Vec<String>, usize) {
    let document = Document::parse(svg).expect("well-formed");
    let of_kind = |kind: &'static str| {
        let all = document.descendants();
        all.filter(move |node| node.has_tag_name(("http://www.w3.org/2000/svg", kind)))
    };
    let texts = of_kind("text").filter_map(|node| node.text());
    let texts = texts.map(|text| text.trim().to_owned()).collect();
    (texts, of_kind("polyline").count())
}

#[test]
fn a_drawing_is_well_formed_and_names_its_series() {
    let (fast, slow) = (recorded(800), recorded(2_000));
    let names = ["raw <ring> & more", "vyre-io"].map(String::from);
    let latency = latencies("Latency", names.clone().into_iter().zip([&fast, &slow]));
    let rates = Chart {
        title: "Rates".into(),
        x: Axis {
            name: "depth".into(),
            scale: Scale::Log(2.0),
            label: |depth| format!("{depth}"),
        },
        y: Axis {
            name: "rate".into(),
            scale: Scale::Linear,
            label: units::rate,
        },
        marked: true,
        series: vec![Series {
            name: "pread".into(),
            points: vec![(1.0, 1e6), (64.0, 2e6)],
        }],
    };
    let svg = svg(&[latency, rates]).expect("drawn");
    let (texts, lines) = parsed(&svg);
    for text in [
        "Latency", "Rates", "depth", "rate", "pread", "vyre-io", &names[0],
    ] {
        assert!(texts.iter().any(|found| found == text), "{text}: {texts:?}");
    }
    // Of the axes: nines and powers of two.
    for text in ["90", "99", "99.9", "2", "32", "1.00 M/s", "10.0 µs"] {
        assert!(texts.iter().any(|found| found == text), "{text}: {texts:?}");
    }
    assert!(lines >= 3 + 3, "three series and their names: {lines}");
}

#[test]
fn quantiles_stop_where_values_are_few() {
    let points = quantiles(&recorded(1_000));
    let at = |odds: f64| {
        let point = points
            .iter()
            .find(|point| (point.0 / odds - 1.0).abs() < 1e-6);
        point.expect("a quantile").1
    };
    assert!((at(10.0) - 1_000.0).abs() < 10.0 && (at(1_000.0) - 100_000.0).abs() < 1_000.0);
    assert_eq!(points.last().expect("some").0.round(), 10_000.0);
}

#[test]
fn a_chart_without_values_is_refused() {
    let empty = Histogram::new_with_bounds(1, 1_000, 3).expect("bounds");
    let chart = latencies("Nothing", [("none".to_owned(), &empty)]);
    let error = svg(&[chart]).expect_err("nothing to draw");
    assert!(
        matches!(&error, PlotError::Empty(title) if title == "Nothing"),
        "{error}"
    );
}

#[test]
fn one_value_makes_a_chart() {
    let axis = |scale| Axis {
        name: "value".into(),
        scale,
        label: |value| format!("{value}"),
    };
    for scale in [Scale::Linear, Scale::Log(2.0)] {
        let chart = Chart {
            title: "One".into(),
            x: axis(scale),
            y: axis(scale),
            marked: true,
            series: vec![Series {
                name: "single".into(),
                points: vec![(32.0, 5.0)],
            }],
        };
        let (texts, _) = parsed(&svg(&[chart]).expect("drawn"));
        assert!(texts.iter().any(|text| text == "single"), "{texts:?}");
    }
}
