//! The commands where io_uring is refused, and the choice of the transport.

mod common;

use std::fs;
use std::process::Output;

use common::process::{Denied, output_denied};
use common::{copy, file, place, run, skipped, stderr, vyre_io};
use serde_json::Value;

/// The ways in which io_uring is refused, and the errno that the line about it names.
const REFUSALS: [(Denied, &str); 2] = [
    (Denied::IoUring, "EPERM"),
    (Denied::IoUringUnknown, "ENOSYS"),
];

fn denied(args: &[&str], how: Denied) -> Output {
    output_denied(vyre_io().args(args), &[how])
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_copy_by_threads_says_so_in_its_line() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 3_000_001), dir.path().join("dst"));
    let [from, to] = [&src, &dst].map(|path| path.to_str().expect("UTF-8"));
    for (how, errno) in REFUSALS {
        for more in [&["--verify"][..], &["--direct"]] {
            let output = denied(&[&["copy", from, to], more].concat(), how);
            assert!(output.status.success(), "{}", stderr(&output));
            assert!(fs::read(&src).expect("src") == fs::read(&dst).expect("dst"));
            let said = text(&output);
            assert_eq!(said.lines().count(), 1, "{said}");
            let (_, by) = said.split_once(", by threads, since ").expect(&said);
            assert!(by.contains("io_uring") && by.contains(errno), "{said}");
        }
    }
}

#[test]
fn a_copy_by_choice_of_threads_gives_no_reason() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 10_000), dir.path().join("dst"));
    let output = copy(&src, &dst, &["--transport", "threads"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(text(&output).ends_with(", by threads\n"), "{output:?}");
}

#[test]
fn who_insists_on_the_ring_gets_it_or_an_error() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 10_000), dir.path().join("dst"));
    let [from, to] = [&src, &dst].map(|path| path.to_str().expect("UTF-8"));
    let args = ["copy", from, to, "--transport", "ring"];
    for (how, errno) in REFUSALS {
        let output = denied(&args, how);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(errno), "{output:?}");
        assert!(!dst.exists());
    }
    let output = run(&args);
    if !output.status.success() {
        return skipped(&stderr(&output));
    }
    assert!(text(&output).ends_with(", by io_uring\n"), "{output:?}");
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn bench_compares_threads_with_a_bare_pool() {
    let dir = place();
    let path = dir.path().join("stamped");
    let path = path.to_str().expect("UTF-8");
    let common = [
        "bench",
        "--create",
        "4MiB",
        path,
        "--seconds",
        "0.2",
        "--depth",
        "8",
    ];
    for more in [&["--op", "read"][..], &["--op", "write"], &["--direct"]] {
        let args = [&common[..], more, &["--baseline", "--format", "json"]].concat();
        let report = json(&denied(&args, Denied::IoUring));
        assert_eq!(report["transport"], "threads");
        assert!(report["baseline_iops"].as_f64() > Some(0.0), "{report}");
        assert_eq!(report["errors"], 0);
    }
    let args = [&common[..], &["--baseline", "--pool-threads", "2"]].concat();
    let said = text(&denied(&args, Denied::IoUring));
    assert!(said.contains("\n  bare pool     "), "{said}");
    let line = "\n  transport: threads, since io_uring is forbidden (EPERM or EACCES)\n";
    assert!(said.contains(line), "{said}");
}

#[test]
fn doctor_says_that_threads_take_over_and_what_forbids_the_ring() {
    let dir = place();
    let path = dir.path().to_str().expect("UTF-8");
    for (how, _) in REFUSALS {
        let report = json(&denied(&["doctor", path, "--format", "json"], how));
        assert_eq!(report["transport"], "threads");
        assert_eq!(report["io_uring"]["allowed"], false);
        assert_eq!(report["ring"], Value::Null);
        let data_path = report["paths"][0]["data_path"].as_str().expect("tried");
        assert!(data_path.ends_with(" threads"), "{data_path}");
        let findings = report["findings"].as_array().expect("a list");
        let found = findings.iter().find(|finding| {
            finding["what"]
                .as_str()
                .is_some_and(|what| what.contains("threads"))
        });
        let found = found.expect("a finding");
        assert_eq!(found["level"], "cost", "{found}");
        let advice = found["advice"].as_str().expect("advice");
        assert!(advice.contains("io_uring_setup"), "{advice}");
        let said = text(&denied(&["doctor", path], how));
        assert!(said.contains("\ntransport         threads\n"), "{said}");
    }
}
