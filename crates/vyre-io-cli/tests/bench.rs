//! What `vyre-io bench` promises: complete, consistent reports, and bytes that were checked.

mod common;

use std::fs;
use std::io::Write;

use serde_json::Value;

use common::{place, run, stderr};

fn report(args: &[&str]) -> Value {
    let args = [&["bench", "--format", "json", "--seconds", "0.2"], args].concat();
    let output = run(&args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn number(report: &Value, field: &str) -> f64 {
    report[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} in {report}"))
}

#[test]
fn reports_have_every_field_and_add_up() {
    let dir = place();
    let path = dir.path().join("stamped");
    let path = path.to_str().expect("UTF-8");
    let report = report(&[
        "--create",
        "8MiB",
        path,
        "--lanes",
        "3",
        "--depth",
        "7",
        "--queues",
        "2",
        "--block-size",
        "8k",
    ]);
    assert_eq!(report["op"], "read");
    assert_eq!(report["pattern"], "random");
    assert_eq!(report["policy"], "adaptive");
    assert_eq!(report["direct"], false);
    assert_eq!(report["device"], "threads");
    assert!(report["gpu"].is_null());
    assert!(report["gpu_wait_fraction"].is_null());
    assert_eq!(report["landing"], "none");
    for (field, value) in [
        ("block_size", 8192.0),
        ("lanes", 3.0),
        ("depth", 7.0),
        ("queues", 2.0),
        ("loops", 1.0),
    ] {
        assert_eq!(number(&report, field), value, "{field}");
    }
    assert_eq!(number(&report, "errors"), 0.0);
    assert!(
        number(&report, "verified") >= 1024.0,
        "each block once, at least"
    );
    let (ops, seconds) = (number(&report, "ops"), number(&report, "seconds"));
    assert!(ops > 0.0);
    assert!((number(&report, "iops") - ops / seconds).abs() < 1.0);
    assert!((number(&report, "bytes_per_second") - 8192.0 * ops / seconds).abs() < 8192.0);
    let latency: Vec<f64> = ["p50", "p90", "p99", "p999", "max"]
        .iter()
        .map(|name| number(&report["latency_ns"], name))
        .collect();
    assert!(latency.is_sorted() && latency[0] > 0.0, "{latency:?}");
    assert!((0.0..=1.1).contains(&number(&report, "loop_cpu_fraction")));
    assert!(report.get("ratio").is_none(), "no baseline was asked for");
}

#[test]
fn several_loops_share_the_lanes() {
    let dir = place();
    let path = dir.path().join("stamped");
    let path = path.to_str().expect("UTF-8");
    for (queues, more) in [(2.0, &[][..]), (3.0, &["--queues", "3"])] {
        let args = ["--create", "4MiB", path, "--loops", "2", "--lanes", "3"];
        let report = report(&[&args[..], more].concat());
        assert_eq!(number(&report, "loops"), 2.0);
        assert_eq!(number(&report, "queues"), queues);
        assert_eq!(number(&report, "errors"), 0.0);
        assert!(number(&report, "ops") > 0.0);
        assert!((0.0..=1.1).contains(&number(&report, "loop_cpu_fraction")));
    }
}

/// Also on a machine that has GPUs: none has so many.
#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let device = format!("cuda:{}", u32::MAX);
    let output = run(&["bench", "--op", "fence", "--device", &device]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty());
    let words = stderr(&output);
    assert!(
        words.contains("CUDA driver") || words.contains("no GPU"),
        "{words}"
    );
}

/// On a machine with a GPU; elsewhere it says that it did nothing.
#[test]
fn a_gpu_reads_and_writes() {
    let probe = run(&[
        "bench",
        "--op",
        "fence",
        "--device",
        "cuda",
        "--seconds",
        "0.2",
    ]);
    if !probe.status.success() {
        assert_eq!(probe.status.code(), Some(1));
        let line = format!("SKIPPED: a_gpu_reads_and_writes: {}\n", stderr(&probe));
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let dir = place();
    let path = dir.path().join("stamped");
    let path = path.to_str().expect("UTF-8");
    for (op, landing) in [
        ("write", "none"),
        ("read", "none"),
        ("read", "kernel"),
        ("read", "loop"),
    ] {
        let args = ["--create", "16MiB", path, "--device", "cuda", "--op", op];
        let more = [
            "--lanes",
            "64",
            "--loops",
            "2",
            "--consume",
            "--land",
            landing,
        ];
        let report = report(&[&args[..], &more[..]].concat());
        assert_eq!(report["device"], "cuda");
        assert_eq!(report["landing"], landing);
        let waited = number(&report, "gpu_wait_fraction");
        assert!(waited > 0.0 && waited <= 1.0, "{report}");
        assert!(report["gpu"]["name"].is_string());
        assert_eq!(number(&report, "errors"), 0.0);
        assert!(number(&report, "verified") >= 4096.0, "{report}");
    }
}

#[test]
fn the_baseline_takes_turns() {
    let dir = place();
    let path = dir.path().join("stamped");
    let path = path.to_str().expect("UTF-8");
    let report = report(&["--create", "8MiB", path, "--baseline", "--depth", "8"]);
    assert!(number(&report, "rounds") >= 5.0);
    assert!(number(&report, "baseline_iops") > 0.0);
    assert!(number(&report, "ratio") > 0.0);
}

#[test]
fn written_blocks_can_be_verified_by_reading_them() {
    let dir = place();
    let path = dir.path().join("stamped");
    let path = path.to_str().expect("UTF-8");
    for direct in [&[][..], &["--direct"]] {
        let written = report(&[&["--create", "4MiB", path, "--op", "write"], direct].concat());
        assert_eq!(number(&written, "verified"), 1024.0);
        let read = report(&[&["--file", path, "--pattern", "sequential"], direct].concat());
        assert!(number(&read, "verified") >= 1024.0);
    }
}

#[test]
fn a_damaged_block_is_found() {
    let dir = place();
    let path = dir.path().join("stamped");
    let name = path.to_str().expect("UTF-8");
    report(&["--create", "1MiB", name]);
    let mut bytes = fs::read(&path).expect("stamped");
    bytes[777_777] ^= 1;
    fs::write(&path, bytes).expect("damaged");
    let output = run(&["bench", "--file", name, "--seconds", "0.2"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("byte 774144"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn fences_and_idling_need_no_file() {
    let fences = report(&[
        "--op", "fence", "--lanes", "2", "--depth", "4", "--policy", "spin",
    ]);
    assert!(number(&fences, "ops") > 0.0);
    let idle = report(&["--op", "idle"]);
    assert_eq!(number(&idle, "ops"), 0.0);
    assert!(number(&idle, "loop_cpu_fraction") < 0.9, "{idle}");
}

#[test]
fn usage_errors_have_status_2() {
    for args in [
        &["bench"][..],
        &["bench", "--op", "fence", "--baseline"],
        &["bench", "--op", "fence", "--lanes", "4", "--depth", "2"],
        &["bench", "--op", "fence", "--queues", "2"],
        &["bench", "--op", "fence", "--loops", "2"],
        &[
            "bench", "--op", "fence", "--loops", "2", "--lanes", "2", "--queues", "1",
        ],
        &["bench", "--op", "fence", "--device", "gpu"],
        &["bench", "--op", "fence", "--consume"],
        &["bench", "--file", "a", "--land", "loop"],
        &[
            "bench", "--op", "fence", "--device", "cuda", "--land", "loop",
        ],
        &["bench", "--op", "fence", "--device", "cuda", "--depth", "2"],
        &[
            "bench",
            "--create",
            "1MiB",
            "/dev/null",
            "--loops",
            "2",
            "--lanes",
            "2",
            "--baseline",
        ],
        &["bench", "--op", "fence", "--depth", "64", "--slots", "8"],
        &["bench", "--op", "fence", "--seconds", "0"],
        &[
            "bench", "--op", "fence", "--file", "a", "--create", "1k", "b",
        ],
        &["bench", "--create", "100", "/dev/null"],
    ] {
        let output = run(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
