//! Tests of `vyre-io bench`: complete, consistent reports, and bytes that were checked.

mod common;

use std::fs;

use serde_json::Value;

use common::{place, run, skipped, stderr};

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

fn list(report: &Value, field: &str) -> Vec<f64> {
    let list = report[field].as_array().into_iter().flatten();
    list.map(|value| value.as_f64().expect("a number"))
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
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
    let (iops, rates) = (number(&report, "iops"), list(&report, "round_iops"));
    assert_eq!(rates.len() as f64, number(&report, "rounds"));
    assert_eq!(iops, median(&rates));
    let (least, most) = (number(&report, "iops_min"), number(&report, "iops_max"));
    assert!(least <= iops && iops <= most, "{report}");
    let mean = ops / seconds;
    assert!(least <= mean * 1.001 && mean <= most * 1.001, "{report}");
    assert!((number(&report, "bytes_per_second") - 8192.0 * iops).abs() < 8192.0);
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
        return skipped(&stderr(&probe));
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
    let (ours, raw) = (
        list(&report, "round_iops"),
        list(&report, "baseline_round_iops"),
    );
    assert_eq!(ours.len(), raw.len());
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&raw)
        .map(|(ours, raw)| ours / raw)
        .collect();
    assert_close(number(&report, "baseline_iops"), median(&raw));
    assert_close(number(&report, "ratio"), median(&ratios));
    assert!(number(&report, "ratio_min") <= number(&report, "ratio"));
    assert!(number(&report, "ratio") <= number(&report, "ratio_max"));
    let apart = |values: &[f64]| {
        let most = values.iter().copied().fold(f64::MIN, f64::max);
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        (most - least, 0.2 * median(values))
    };
    let ranges = [apart(&ours), apart(&raw), apart(&ratios)];
    // The numbers were rounded on their way through JSON: a range at the bound may be on either side.
    if ranges.iter().all(|&(range, bound)| !is_close(range, bound)) {
        let unsteady = ranges.iter().any(|(range, bound)| range > bound);
        assert_eq!(report["unsteady"], unsteady, "{report}");
    }
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn assert_close(a: f64, b: f64) {
    assert!(is_close(a, b), "{a} and {b}");
}

#[test]
fn a_file_that_no_benchmark_made_is_left_alone() {
    let dir = place();
    let path = dir.path().join("notes");
    let name = path.to_str().expect("UTF-8");
    fs::write(&path, "precious").expect("room");
    for size in ["1MiB", "4KiB"] {
        let output = run(&["bench", "--create", size, name, "--seconds", "0.05"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
        assert_eq!(fs::read(&path).expect("there"), b"precious");
    }
    let empty = dir.path().join("empty");
    fs::write(&empty, "").expect("room");
    let output = run(&["bench", "--create", "1MiB", empty.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // A benchmark that was interrupted may have made it.
    assert!(
        stderr(&output).contains("delete the file"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::metadata(&empty).expect("there").len(), 0);
}

#[test]
fn a_file_that_a_benchmark_made_is_made_anew() {
    let dir = place();
    let path = dir.path().join("stamped");
    let name = path.to_str().expect("UTF-8");
    for size in ["1MiB", "2MiB"] {
        report(&["--create", size, name]);
    }
    assert_eq!(fs::metadata(&path).expect("there").len(), 2 << 20);
}

#[test]
fn what_is_too_short_for_a_block_is_not_made() {
    let dir = place();
    let path = dir.path().join("short");
    let output = run(&["bench", "--create", "1k", path.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!path.exists());
}

/// Opening a FIFO waits for a writer, which may never come.
#[test]
fn what_is_no_file_is_refused_at_once() {
    let dir = place();
    let fifo = dir.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("mkfifo runs").success());
    let (fifo, dir) = (fifo.to_str(), dir.path().to_str());
    for path in [fifo.expect("UTF-8"), dir.expect("UTF-8"), "/dev/zero"] {
        for target in [&["--file", path][..], &["--create", "1MiB", path]] {
            for op in ["read", "write"] {
                let args = [&["bench", "--op", op, "--seconds", "0.05"], target].concat();
                let output = run(&args);
                assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
                assert!(stderr(&output).contains(path), "{}", stderr(&output));
            }
        }
    }
}

#[test]
fn writes_to_any_file_are_verified_where_they_were_written() {
    let dir = place();
    let path = dir.path().join("zeros");
    fs::write(&path, vec![0; 64 << 20]).expect("room");
    let name = path.to_str().expect("UTF-8");
    // Few of the blocks are reached, and those that are not hold nothing that could be verified.
    let more = ["--op", "write", "--file", name, "--depth", "2"];
    let written = report(&[&more[..], &["--block-size", "64k"]].concat());
    assert_eq!(number(&written, "errors"), 0.0, "{written}");
    assert!(number(&written, "verified") > 0.0, "{written}");
    // It has not become a stamped file.
    let read = report(&["--file", name]);
    assert_eq!(number(&read, "verified"), 0.0, "{read}");
}

#[test]
fn a_stamped_file_has_its_stamps_again_after_writes_and_baselines() {
    let dir = place();
    let path = dir.path().join("stamped");
    let name = path.to_str().expect("UTF-8");
    report(&["--create", "4MiB", name]);
    let before = fs::read(&path).expect("stamped");
    let written = report(&["--file", name, "--op", "write", "--baseline"]);
    assert!(number(&written, "baseline_iops") > 0.0);
    assert!(number(&written, "verified") >= 1024.0, "{written}");
    assert!(fs::read(&path).expect("there") == before);
}

#[test]
fn messages_of_bench_say_what_to_do() {
    let dir = place();
    let dir = dir.path().to_str().expect("UTF-8");
    for (args, says) in [
        (&["--file", dir][..], "is a directory; name a file"),
        (
            &["--file", "/proc/version"],
            "its file system reports no size",
        ),
        (&["--op", "fence", "--cores", "70000"], "numbers and ranges"),
        (&["--op", "fence", "--cores", "1000,1001"], "may use: 0"),
        (
            &["--op", "fence", "--lanes", "0"],
            "a whole number of at least 1",
        ),
        (&["--op", "fence", "--slots", "5000"], "from 1 to 4096"),
        (&["--op", "fence", "--loops", "4"], "--lanes 4"),
        (
            &["--op", "fence", "--lanes", "8", "--depth", "4"],
            "raise --depth",
        ),
    ] {
        let output = run(&[&["bench", "--seconds", "0.05"], args].concat());
        assert!(!output.status.success(), "{args:?}");
        assert!(
            stderr(&output).contains(says),
            "{args:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn cores_are_those_that_were_named() {
    let allowed = rustix::thread::sched_getaffinity(None).expect("known");
    let cores: Vec<usize> = (0..1024).filter(|&core| allowed.is_set(core)).collect();
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    let named = format!("{last},{first}");
    let report = report(&["--op", "fence", "--cores", &named]);
    assert_eq!(list(&report, "loop_cores"), [last as f64]);
    assert_eq!(list(&report, "lane_cores"), [first as f64]);
    let missing = (0..1024).find(|core| !cores.contains(core)).expect("fewer");
    for wrong in [format!("{first},{missing}"), first.to_string(), "x".into()] {
        let output = run(&["bench", "--op", "fence", "--cores", &wrong]);
        assert_eq!(output.status.code(), Some(2), "{wrong}: {output:?}");
    }
}

#[test]
fn text_is_for_people() {
    let dir = place();
    let path = dir.path().join("stamped");
    let name = path.to_str().expect("UTF-8");
    let args = [
        "bench",
        "--create",
        "4MiB",
        name,
        "--seconds",
        "0.2",
        "--baseline",
    ];
    let output = run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in [
        "random reads of 4.00 KiB, buffered\n",
        "1 lane, depth 64, 1 queue of 64 slots, policy adaptive\n",
        "medians of 5 rounds",
        "vyre-io ",
        "raw io_uring ",
        "ratio ",
        "0 errors",
        "latency:\n    p50 ",
        "1 loop used ",
        "#",
    ] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let idle = run(&["bench", "--op", "idle", "--seconds", "0.1"]);
    let idle = String::from_utf8(idle.stdout).expect("UTF-8");
    assert!(!idle.contains("p50") && !idle.contains("B/s"), "{idle}");
}

#[test]
fn written_blocks_can_be_verified_by_reading_them() {
    let dir = place();
    let path = dir.path().join("stamped");
    let path = path.to_str().expect("UTF-8");
    for direct in [&[][..], &["--direct"]] {
        let written = report(&[&["--create", "4MiB", path, "--op", "write"], direct].concat());
        assert!(number(&written, "verified") >= 1024.0, "{written}");
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
    let rung = report(&["--op", "fence", "--lanes", "2", "--policy", "doorbell"]);
    assert!(number(&rung, "ops") > 0.0);
    assert_eq!(rung["policy"], "doorbell");
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
        &["bench", "--op", "fence", "--file", "a"],
        &["bench", "--op", "idle", "--create", "1MiB", "a"],
        &["bench", "--op", "fence", "--device", "threads", "--words"],
        &[
            "bench",
            "--op",
            "fence",
            "--device",
            "cuda",
            "--ptx",
            "a",
            "--write-ptx",
            "b",
        ],
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
        &["bench", "--op", "fence", "--slots", "4097"],
        &["bench", "--op", "fence", "--cores", "0,0"],
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
