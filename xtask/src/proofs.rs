//! Tools that look harder than a plain run: loom, Miri and ThreadSanitizer. What each finds in `vyre-ioq` is
//! in `crates/vyre-ioq/ORDERINGS.md`. Of page-cache reads, they run what they can: Miri maps no files and runs
//! no assembly, and ThreadSanitizer does not look into assembly.

use xshell::Cmd;

use crate::report::{Report, counted};
use crate::tools;
use crate::workspace::{Result, Workspace, cmd};

const PACKAGE: &str = "vyre-ioq";
/// The one target of the crate's tests that is built for loom.
const MODELS: &str = "loom_models";
/// Tests with threads, for ThreadSanitizer. It does not understand fences, and need not here: no test
/// has plain memory that a fence alone orders.
const THREADED: &[&str] = &["--test=threads", "--test=ordering", "--test=doorbell", "--test=wake", "--test=futures"];
/// Tests of queues that come and go while threads use them, for ThreadSanitizer.
const LIVE_QUEUES: &[&str] = &["-p", "vyre-ioloop", "--test=queues_threads"];
/// The crate whose copies are page-cache reads.
const MAPPED: &str = "vyre-mapped";
/// Tests of page-cache reads, for ThreadSanitizer. Those of signals are not among them: they allocate in
/// handlers and end processes, which it reports or delays.
const PAGE_CACHE: &[&[&str]] = &[
    &["-p", MAPPED, "--lib", "--test=copy", "--test=residency"],
    &["-p", "vyre-uring", "--features=sim", "--lib", "--", "page_cache::"],
    &["-p", "vyre-ioloop", "--test=page_cache"],
];
/// ThreadSanitizer needs a standard library built for it, and the target named for that.
const TSAN_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Aliasing model by which Miri judges references. Neither accepts all that the other does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    Stacked,
    Tree,
}

/// `cargo test` for tests of `target`, as the tool runs it. Each has a target directory of its own,
/// since it builds everything anew.
pub(crate) fn loom_tests(ws: &Workspace) -> Cmd<'_> {
    cmd!(ws, "cargo test --release -p {PACKAGE} --test {MODELS} --target-dir target/loom")
        .env("RUSTFLAGS", "--cfg loom -D warnings")
        // The models take less time than it would to link them that way.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
}

/// `cargo miri test` for the package.
pub(crate) fn miri_tests(ws: &Workspace, model: Model) -> Cmd<'_> {
    miri_of(ws, PACKAGE, model)
}

fn miri_of<'a>(ws: &'a Workspace, package: &str, model: Model) -> Cmd<'a> {
    // Properties read the environment and the clock.
    let mut flags = "-Zmiri-strict-provenance -Zmiri-disable-isolation".to_owned();
    if model == Model::Tree {
        flags.push_str(" -Zmiri-tree-borrows");
    }
    cmd!(ws, "cargo +nightly miri test -p {package} --target-dir target/miri")
        .env("MIRIFLAGS", flags)
        .env("PROPTEST_CASES", "8")
}

/// `cargo test` for the package, with ThreadSanitizer in everything.
pub(crate) fn tsan_tests(ws: &Workspace) -> Cmd<'_> {
    tsan(ws).args(["-p", PACKAGE])
}

fn tsan(ws: &Workspace) -> Cmd<'_> {
    let build = ["-Zbuild-std", "--target", TSAN_TARGET, "--target-dir", "target/tsan"];
    cmd!(ws, "cargo +nightly test {build...}").env("RUSTFLAGS", "-Zsanitizer=thread")
}

/// Runs every model. The output says how many executions each took.
pub(crate) fn loom(ws: &Workspace, report: &mut Report) -> Result<()> {
    let show = ["--", "--nocapture", "--test-threads", "1"];
    counted(loom_tests(ws).args(show), &mut report.tests)?;
    report.note = format!("{} models", report.tests.passed);
    Ok(())
}

pub(crate) fn miri(ws: &Workspace, report: &mut Report) -> Result<()> {
    miri_step(ws, report, Model::Stacked)
}

pub(crate) fn miri_tree(ws: &Workspace, report: &mut Report) -> Result<()> {
    miri_step(ws, report, Model::Tree)
}

fn miri_step(ws: &Workspace, report: &mut Report, model: Model) -> Result<()> {
    tools::nightly(ws, &["miri", "rust-src"])?;
    counted(miri_tests(ws, model), &mut report.tests)?;
    counted(miri_of(ws, MAPPED, model).arg("--lib"), &mut report.tests)
}

pub(crate) fn tsan_step(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::nightly(ws, &["rust-src"])?;
    counted(tsan_tests(ws).args(THREADED), &mut report.tests)?;
    for tests in PAGE_CACHE.iter().chain([&LIVE_QUEUES]) {
        counted(tsan(ws).args(*tests), &mut report.tests)?;
    }
    Ok(())
}
