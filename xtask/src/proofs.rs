//! Tools that look at `vyre-ioq` harder than a plain run: loom, Miri and ThreadSanitizer. What each
//! finds is in `crates/vyre-ioq/ORDERINGS.md`.

use std::process::Command;

use crate::steps::Report;
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Result, sh, tools};

const PACKAGE: &str = "vyre-ioq";
/// The one target of the crate's tests that is built for loom.
pub(crate) const MODELS: &str = "loom_models";
/// Tests with threads, for ThreadSanitizer. It does not understand fences, and need not here: no test
/// has plain memory that a fence alone orders.
const THREADED: &[&str] = &["threads", "ordering", "doorbell"];
/// The standard library has to be built with it; the target has to be named for that.
const TSAN_TARGET: &str = "x86_64-unknown-linux-gnu";

/// What Miri holds references to. Neither accepts all that the other does.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Model {
    /// Stacked Borrows
    Stacked,
    /// Tree Borrows
    Tree,
}

/// `cargo test` for tests of `target`, as the tool runs it. Each has a target directory of its own,
/// since it builds everything anew.
pub(crate) fn loom_tests(ws: &Workspace) -> Command {
    let mut command = sh::cargo(ws, &["test", "--release", "-p", PACKAGE, "--test", MODELS]);
    command
        .args(["--target-dir", "target/loom"])
        .env("RUSTFLAGS", "--cfg loom")
        // The models take less time than it would to link them that way.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    command
}

/// `cargo miri test` for the package.
pub(crate) fn miri_tests(ws: &Workspace, model: Model) -> Command {
    let mut command = sh::cargo(ws, &["+nightly", "miri", "test", "-p", PACKAGE]);
    // Properties read the environment and the clock.
    let mut flags = "-Zmiri-strict-provenance -Zmiri-disable-isolation".to_owned();
    if model == Model::Tree {
        flags.push_str(" -Zmiri-tree-borrows");
    }
    command
        .args(["--target-dir", "target/miri"])
        .env("MIRIFLAGS", flags)
        .env("PROPTEST_CASES", "8");
    command
}

/// `cargo test` for the package, with ThreadSanitizer in everything.
pub(crate) fn tsan_tests(ws: &Workspace) -> Command {
    let mut command = sh::cargo(ws, &["+nightly", "test", "-p", PACKAGE]);
    command
        .args(["-Zbuild-std", "--target", TSAN_TARGET])
        .args(["--target-dir", "target/tsan"])
        .env("RUSTFLAGS", "-Zsanitizer=thread");
    command
}

/// Every model; how many there are.
pub(crate) fn loom(ws: &Workspace) -> Result<Tally> {
    let mut command = loom_tests(ws);
    // The output tells how many executions each took.
    command.env("RUSTFLAGS", "--cfg loom -D warnings").args([
        "--",
        "--nocapture",
        "--test-threads",
        "1",
    ]);
    counted(command)
}

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    report.tests = loom(ws)?;
    report.note = format!("{} models", report.tests.passed);
    Ok(())
}

pub(crate) fn miri(ws: &Workspace, model: Option<Model>) -> Result<()> {
    tools::nightly(ws, &["miri", "rust-src"])?;
    for each in [Model::Stacked, Model::Tree] {
        if model.is_none_or(|only| only == each) {
            counted(miri_tests(ws, each))?;
        }
    }
    Ok(())
}

pub(crate) fn tsan(ws: &Workspace) -> Result<()> {
    tools::nightly(ws, &["rust-src"])?;
    let mut command = tsan_tests(ws);
    for target in THREADED {
        command.args(["--test", target]);
    }
    counted(command).map(drop)
}

/// Runs a command that must succeed and run a test.
fn counted(mut command: Command) -> Result<Tally> {
    let mut tally = Tally::default();
    let status = sh::stream(&mut command, |line| {
        tally += Tally::parse(line).unwrap_or_default();
    })?;
    sh::check(&command, status)?;
    if tally.passed == 0 {
        return Err(format!("`{}` ran no test", sh::shown(&command)).into());
    }
    Ok(tally)
}
