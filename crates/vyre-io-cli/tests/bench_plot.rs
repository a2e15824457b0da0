//! Tests that `vyre-io bench --plot` writes an SVG file that shows the run.

mod common;

use std::fs;

use common::{place, run, stderr};

#[test]
fn a_run_is_plotted() {
    let dir = place();
    let (file, plot) = (dir.path().join("stamped"), dir.path().join("run.svg"));
    let (file, plot) = (file.to_str().expect("UTF-8"), plot.to_str().expect("UTF-8"));
    let args = ["bench", "--create", "4MiB", file, "--plot", plot];
    let output = run(&[&args[..], &["--baseline", "--seconds", "0.3"]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!output.stdout.is_empty(), "the report is still printed");
    let svg = fs::read_to_string(plot).expect("written");
    let document = roxmltree::Document::parse(&svg).expect("well-formed");
    let of_kind = |kind: &'static str| {
        let all = document.descendants();
        all.filter(move |node| node.has_tag_name(("http://www.w3.org/2000/svg", kind)))
    };
    let texts = of_kind("text").filter_map(|node| node.text());
    let texts: Vec<&str> = texts.map(str::trim).collect();
    // The series of both charts, and the chart's title.
    let of = |name: &str| texts.iter().filter(|text| **text == name).count();
    assert_eq!((of("vyre-io"), of("raw io_uring")), (2, 1), "{texts:?}");
    assert!(
        texts.iter().any(|text| text.contains("random reads of")),
        "{texts:?}"
    );
    assert_eq!(of_kind("circle").count(), 10, "five rounds of each");
}

#[test]
fn a_plot_that_cannot_be_written_fails_after_the_report() {
    let dir = place();
    let plot = dir.path().join("missing/run.svg");
    let plot = plot.to_str().expect("UTF-8");
    let output = run(&["bench", "--op", "fence", "--seconds", "0.1", "--plot", plot]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stdout.is_empty());
    assert!(
        stderr(&output).contains("cannot write"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn idling_has_nothing_to_plot() {
    let output = run(&["bench", "--op", "idle", "--plot", "run.svg"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
}
