//! All tests and doctests of the workspace, counted.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

use crate::refuse;
use crate::report::{Report, Tally, counted, skipped_test};
use crate::tools::{self, BARE_TARGET};
use crate::workspace::{Result, Workspace, cmd, metadata, stream};

/// The tests of faults of the real kernel. They have a harness and a step of their own.
const FAULTS: &str = "vyre-faults";
/// Python tests it, in the step `python`.
const PYTHON: &str = "vyre-io-python";
/// Members that need no tests here. Each of the others must run at least one.
const UNTESTED: &[&str] = &[FAULTS, PYTHON];

/// nextest runs each test in a process of its own; it runs no doctests.
pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    // Nothing is checked without it: a failure, and no skip.
    tools::need(ws, "cargo-nextest").map_err(|error| error.to_string())?;
    let junit = ws.target.join("nextest/ci/junit.xml");
    ws.sh.remove_path(&junit)?;
    let what = ["--workspace", "--all-features", "--exclude", FAULTS];
    let outcome = cmd!(ws, "cargo-nextest nextest run {what...} --profile ci --run-ignored all").run();
    if let Ok(xml) = ws.sh.read_file(&junit) {
        let packages = packages(&xml)?;
        println!("\n  tests by package:");
        for (package, tally) in &packages {
            let Tally { passed, failed, skipped } = tally;
            println!("    {package:<18} {passed:>5} passed, {failed} failed, {skipped} skipped");
            report.tests += *tally;
        }
        let ran = |name: &str| packages.get(name).is_some_and(|tally| tally.passed > 0);
        let mut tested = ws.members.iter().map(|member| member.name.as_str());
        if let Some(name) = tested.find(|name| !UNTESTED.contains(name) && !ran(name)) {
            outcome?;
            return Err(format!("no test ran in {name}").into());
        }
    }
    outcome?;
    counted(cmd!(ws, "cargo test --doc {what...}"), &mut report.tests)?;
    report.note = format!("{} skipped for want of what they need", report.tests.skipped);
    Ok(())
}

/// The tests of each package in the report of nextest. Prints the lines of those that skipped.
fn packages(xml: &str) -> Result<BTreeMap<String, Tally>> {
    let document = Document::parse(xml)?;
    let mut packages = BTreeMap::<_, Tally>::new();
    for suite in document.descendants().filter(|node| node.has_tag_name("testsuite")) {
        // `package`, `package::file` or `package::bin/name`.
        let name = suite.attribute("name").ok_or("a suite without a name")?;
        let package = name.split("::").next().unwrap_or(name);
        for test in suite.children().filter(|node| node.has_tag_name("testcase")) {
            *packages.entry(package.to_owned()).or_default() += outcome(test);
        }
    }
    Ok(packages)
}

fn outcome(test: Node<'_, '_>) -> Tally {
    let has = |tag: &str| test.children().any(|node| node.has_tag_name(tag));
    let lines = test.descendants().filter_map(|node| node.text()).flat_map(str::lines);
    let mut skipped = lines.filter(|line| skipped_test(line).is_some()).peekable();
    if has("failure") || has("error") {
        Tally { failed: 1, ..Tally::default() }
    } else if skipped.peek().is_some() {
        skipped.for_each(|line| println!("  {}", line.trim()));
        Tally { skipped: 1, ..Tally::default() }
    } else {
        Tally { passed: 1, ..Tally::default() }
    }
}

/// The tests that must also pass where io_uring is refused: of a package, those whose file begins with
/// a word, or all.
const WITHOUT_IO_URING: [(&str, &[&str]); 3] =
    [("vyre-ioloop", &[]), ("vyre-io", &[]), ("vyre-io-cli", &["copy", "readme", "transport"])];

/// Signals that a shell ignores in its background would stay ignored, and the tests send them. nextest
/// sees to that by itself.
const DEFAULT_SIGNALS: &str = "--default-signal=HUP,INT,TERM";

/// Runs the tests of the loop and of the copy where io_uring is refused, with each errno. Loops are then
/// served by threads.
pub(crate) fn threads(ws: &Workspace, report: &mut Report) -> Result<()> {
    let mut notes = Vec::new();
    for (errno, ..) in refuse::ERRNOS {
        let mut tally = Tally::default();
        for (package, files) in WITHOUT_IO_URING {
            let mut what = vec!["-p".to_owned(), package.to_owned()];
            let tests = ws.root.join("crates").join(package).join("tests");
            for path in ws.sh.read_dir(tests)?.iter().filter(|_| !files.is_empty()) {
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
                if path.is_file() && files.iter().any(|word| name.starts_with(word)) {
                    what.extend(["--test".to_owned(), name.to_owned()]);
                }
            }
            let what = &what;
            // Built without the filter, which would hold for the compiler's wrappers, too.
            cmd!(ws, "cargo test --no-run {what...}").run()?;
            counted(cmd!(ws, "cargo xtask refuse {errno} env {DEFAULT_SIGNALS} cargo test {what...}"), &mut tally)?;
        }
        notes.push(format!("{} passed with {errno}", tally.passed));
        report.tests += tally;
    }
    report.note = notes.join(", ");
    Ok(())
}

/// Variable with the version of Linux that the tests of the loop take theirs for, if it is an older one.
const KERNEL: &str = "VYRE_IO_KERNEL";

/// Older kernels, and the tests of the loop that are run as on them, or all. The first kernel is that of the lowest rung: a
/// ring without flags, registrations and time limits. The second one is the last without futexes in the ring.
const OLDER: [(&str, &[&str]); 2] = [("5.10", &[]), ("6.6", &["doorbell", "sleep"])];

/// Runs the tests of the loop as on older kernels, by withholding what these lack.
pub(crate) fn rungs(ws: &Workspace, report: &mut Report) -> Result<()> {
    let mut notes = Vec::new();
    for (kernel, files) in OLDER {
        let mut tally = Tally::default();
        let mut what: Vec<&str> = files.iter().flat_map(|file| ["--test", file]).collect();
        if what.is_empty() {
            what.push("--tests");
        }
        let tests = cmd!(ws, "env {DEFAULT_SIGNALS} cargo test -p vyre-ioloop {what...}");
        let counted = counted(tests.env(KERNEL, kernel), &mut tally);
        report.tests += tally;
        counted?;
        notes.push(format!("{} passed as on {kernel}", tally.passed));
    }
    report.note = notes.join(", ");
    Ok(())
}

/// Runs the tests of faults. Those that lack privileges are counted as skipped.
pub(crate) fn faults(ws: &Workspace, report: &mut Report) -> Result<()> {
    let mut note = None;
    stream(cmd!(ws, "cargo test -p {FAULTS}"), |line| {
        report.tests += Tally::parse(line).unwrap_or_default();
        note = note.take().or_else(|| line.strip_prefix("faults: ").map(str::to_owned));
    })?;
    report.note = note.ok_or("it ended without its figures")?;
    // What the guests of `cargo xtask kernels` run on each file system.
    let dir = ws.target.join("check");
    ws.sh.create_dir(&dir)?;
    cmd!(ws, "cargo run -q -p {FAULTS} --bin check -- {dir}").run()?;
    match report.tests.passed {
        0 => Err("no test ran".into()),
        _ => Ok(()),
    }
}

/// Builds and tests each program of `consumers` alone: features that one of them turns on must not help
/// another. They share the target directory, where most of what they need is built already.
pub(crate) fn consumers(ws: &Workspace, report: &mut Report) -> Result<()> {
    let at = ["--manifest-path", "consumers/Cargo.toml", "--target-dir", "target"];
    let programs = metadata(&ws.root.join(at[1]))?.packages;
    for program in &programs {
        let name = program.name.as_str();
        counted(cmd!(ws, "cargo test {at...} -p {name}"), &mut report.tests)?;
    }
    cmd!(ws, "cargo clippy {at...} --workspace --all-targets -- -D warnings").run()?;
    tools::need_target(ws, BARE_TARGET)?;
    let target = ["--target", BARE_TARGET];
    cmd!(ws, "cargo build {at...} -p consumer-firmware {target...}").run()?;
    report.note = format!("{} programs, {} tests", programs.len(), report.tests.passed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_counted_by_package() {
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites name="nextest-run"><testsuite name="vyre-a::gpu">
            <testcase name="a"/><testcase name="b"><system-err>SKIPPED: b: no GPU</system-err></testcase>
            <testcase name="c"><failure/><system-err>SKIPPED: c: a part</system-err></testcase>
            </testsuite><testsuite name="vyre-a"><testcase name="d"><system-out>SKIPPED nothing
            </system-out></testcase></testsuite>
            <testsuite name="vyre-b"><testcase name="e"><error/></testcase></testsuite></testsuites>"#;
        let tally = |passed, failed, skipped| Tally { passed, failed, skipped };
        let expected = [("vyre-a", tally(2, 1, 1)), ("vyre-b", tally(0, 1, 0))];
        let expected = expected.map(|(name, tally)| (name.to_owned(), tally));
        assert_eq!(packages(xml).unwrap(), expected.into());
        assert!(packages("<testsuites><testsuite/></testsuites>").is_err());
        assert!(packages("no XML").is_err());
    }
}
