//! Tests that `compare` measures and verifies every contestant, and writes its results.

use std::fs;
use std::io::Write;
use std::process::Command;

use serde_json::Value;

/// The original loop needs a program that this test does not
/// build; fio is not installed everywhere.
const ALWAYS: [&str; 6] = [
    "raw ring",
    "vyre-io, ring",
    PAGE_CACHE,
    "bare server, ring",
    "bare server, mapping",
    "pread pool",
];
/// Only on file systems that it supports.
const PAGE_CACHE: &str = "vyre-io, page cache";

/// The special cases.
const CASES: [&str; 5] = ["direct", "evicted", "files", "flood", "sealed"];

const SVG: &str = "http://www.w3.org/2000/svg";

fn compare(args: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(args).output().expect("the program runs")
}

#[test]
fn a_quick_comparison_measures_everyone() {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let dir = out.path().to_str().expect("UTF-8");
    let output = compare(&["--quick", "--dir", dir, "--out", dir]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("LEFT OUT: original loop"), "{stderr}");
    assert!(stderr.contains("compare: measured "), "{stderr}");

    let left_out = |name: &str| stderr.contains(&format!("LEFT OUT: {name}"));
    let always = ALWAYS.iter().filter(|name| !left_out(name)).copied();
    let always: Vec<&str> = always.collect();
    assert!(
        always == ALWAYS || always.len() == 5 && left_out(PAGE_CACHE),
        "{stderr}"
    );
    let is_timed = |name: &&str| !name.starts_with("bare");
    let timed: Vec<&str> = always.iter().copied().filter(is_timed).collect();

    let read = |name: &str| fs::read_to_string(out.path().join(name)).expect(name);
    let results: Value = serde_json::from_str(&read("results.json")).expect("JSON");
    assert_eq!(results["quick"], true);
    let cells = results["rates"].as_array().expect("cells");
    assert_eq!(cells.len(), 3);
    for cell in cells {
        let rows = cell["rows"].as_array().expect("rows");
        for &name in &always {
            let row = rows.iter().find(|row| row["name"] == name).expect(name);
            assert!(row["rate"]["median"].as_f64() > Some(0.0), "{row}");
            assert!(row["verified"].as_u64() > Some(0), "{row}");
        }
        assert_eq!(rows[0]["ratio"]["median"], 1.0, "the first is the raw ring");
    }
    let latencies = results["latencies"].as_array().expect("distributions");
    let names: Vec<&Value> = latencies.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, timed);
    assert!(latencies.iter().all(|one| one["p50"].as_u64() > Some(0)));

    let cases = &results["cases"];
    let measured = cases["pairs"].as_array().expect("pairs");
    let mut measured: Vec<&str> = measured.iter().map(case).collect();
    if cases["flood"].is_object() {
        measured.push("flood");
    }
    let mut expected = CASES.to_vec();
    expected.retain(|name| !left_out(name));
    assert!(expected.contains(&"sealed"), "needs no file system");
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.join(" ")
    };
    assert_eq!(sorted(measured), sorted(expected));

    let tables = read("compare.md");
    assert_eq!(tables, String::from_utf8_lossy(&output.stdout));
    assert!(tables.contains("these figures mean nothing"), "{tables}");
    for (name, series) in [
        ("iops.svg", &always),
        ("bytes.svg", &always),
        ("latency.svg", &timed),
    ] {
        let svg = read(name);
        let document = roxmltree::Document::parse(&svg).expect(name);
        let texts = document
            .descendants()
            .filter(|node| node.has_tag_name((SVG, "text")));
        let texts: Vec<&str> = texts
            .filter_map(|node| node.text())
            .map(str::trim)
            .collect();
        let missing = series.iter().find(|one| !texts.contains(one));
        assert_eq!(missing, None, "{name}: {texts:?}");
    }
}

/// Returns the name of a case, whose figures must be there.
fn case(pair: &Value) -> &str {
    assert!(pair["ratio"]["median"].as_f64() > Some(0.0), "{pair}");
    for side in ["base", "other"] {
        assert!(pair[side]["verified"].as_u64() > Some(0), "{pair}");
    }
    let copied = |side: &str| pair[side]["copied"].as_f64();
    let name = pair["case"].as_str().expect("a name");
    match name {
        "sealed" => assert_eq!(copied("other"), Some(1.0), "{pair}"),
        "files" => assert!(copied("other") > Some(0.3) && copied("other") < Some(0.7)),
        // What is copied was read before.
        "evicted" => assert!(copied("other") < Some(0.5), "{pair}"),
        _ => assert_eq!(copied("other"), Some(0.0), "{pair}"),
    }
    let base = copied("base");
    assert!(base.is_none_or(|copied| copied == 0.0), "{pair}");
    name
}

#[test]
fn one_case_is_measured_alone() {
    let out = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let dir = out.path().to_str().expect("UTF-8");
    let output = compare(&["--quick", "--case", "sealed", "--dir", dir, "--out", dir]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let measured = "measured 0 rates, 0 distributions and 1 special cases";
    assert!(stderr.contains(measured), "{stderr}");
    let tables = String::from_utf8_lossy(&output.stdout);
    assert!(
        tables.contains("| sealed | 1, 4 KiB | raw ring |"),
        "{tables}"
    );
    assert!(!tables.contains("## Latency"), "{tables}");
}

#[test]
fn a_file_without_stamps_is_refused() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&[7; 4096]).expect("room");
    let path = file.path().to_str().expect("UTF-8");
    let output = compare(&["--quick", "--file", path]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("no stamps"), "{stderr}");
}
