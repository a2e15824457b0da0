//! The steps of `cargo xtask ci`: runs them, times them, and sums up.

use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;

use crate::report::{Report, Skip, Tally};
use crate::workspace::{Result, Workspace};
use crate::{
    aarch64, capi, checks, compare, header, orderings, proofs, python, static_build, suites, tidy, tools, volume,
};

struct Step {
    name: &'static str,
    about: &'static str,
    run: Run,
    /// True if only `--full` runs it: it is slow, or needs what not every machine can install.
    full: bool,
}

type Run = fn(&Workspace, &mut Report) -> Result<()>;

const fn step(name: &'static str, about: &'static str, run: Run) -> Step {
    Step { name, about, run, full: false }
}

const fn full(name: &'static str, about: &'static str, run: Run) -> Step {
    Step { name, about, run, full: true }
}

/// In the order they run.
const STEPS: &[Step] = &[
    step("tools", "install what the other steps need", tools::run),
    step("fmt", "formatting, and current lock files", checks::fmt),
    step("typos", "spelling", checks::typos),
    step("links", "links within the repository", checks::links),
    step("tidy", "rules about the text of the repository", tidy::run),
    step("clippy", "lints, all targets and features", checks::clippy),
    step("docs", "documentation builds without warnings", checks::docs),
    step("no_std", "vyre-ioq where there is no std", checks::no_std),
    step("features", "each crate with every set of its features", checks::features),
    step("header", "the headers and the tables of ABI.md are those of Rust", header::step),
    step("test", "all tests and doctests", suites::step),
    step("threads", "the loop and the copy where io_uring is refused", suites::threads),
    step("rungs", "the loop as on older kernels", suites::rungs),
    step("static", "a static program for musl", static_build::step),
    step("faults", "the real kernel: what hangs, fails, is full or forbidden", suites::faults),
    step("consumers", "programs as users would write them", suites::consumers),
    step("capi", "libvyre_io: its header, its package, and C and C++ programs with it", capi::step),
    step("python", "the Python package: its wheel, and the tests of that", python::step),
    step("compare", "a short comparison with the raw ring and others", compare::step),
    step("props", "property tests, many cases", volume::props),
    step("disturb", "page-cache reads of a file that changes, a minute", volume::disturb),
    step("policies", "the tests of the loop with every policy, and many wake-ups", volume::policies),
    step("loom", "vyre-ioq in every order of its threads, within bounds", proofs::loom),
    step("hostile", "hostile words, and a soak of producers", volume::hostile),
    step("fuzz", "the fuzz targets build", volume::fuzz_build),
    step("deny", "licences, sources and layers of the dependencies", checks::deny),
    step("msrv", "builds with the oldest supported Rust", checks::msrv),
    step("publish", "the published crates package and build alone", checks::publish),
    full("aarch64", "the tests built for AArch64, in qemu-user", aarch64::step),
    full("minimal", "builds with the oldest dependencies", checks::minimal_versions),
    full("semver", "public interfaces, against an earlier commit", checks::semver),
    full("advisories", "known vulnerabilities of the dependencies", checks::advisories),
    full("weblinks", "links to other places", checks::web_links),
    full("miri", "vyre-ioq and vyre-mapped under Miri, with Stacked Borrows", proofs::miri),
    full("miri-tree", "vyre-ioq and vyre-mapped under Miri, with Tree Borrows", proofs::miri_tree),
    full("tsan", "vyre-ioq, page-cache reads and live queues under ThreadSanitizer", proofs::tsan_step),
    full("orderings", "each memory ordering weakened is caught", orderings::mutate::step),
    full("fuzz-run", "the fuzz targets, a minute each", volume::fuzz),
    full("kani", "the proofs of vyre-ioq", checks::kani),
    full("python-soak", "the Python package: many rounds that must leave nothing behind", python::soak),
    full("coverage", "the lines that the tests run", checks::coverage),
];

/// Options for a run of the steps.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run also the steps that are slow, or that not every machine can run
    #[arg(long)]
    full: bool,
    /// Go on after a step that fails, and report all of them at the end
    #[arg(long)]
    keep_going: bool,
    /// Fail where this machine cannot run a step, instead of skipping it
    #[arg(long)]
    no_skip: bool,
    /// Run this step alone (may be given more than once)
    #[arg(long = "step", value_name = "NAME", value_parser = step_names())]
    only: Vec<String>,
    /// List the steps and leave
    #[arg(long)]
    list: bool,
}

fn step_names() -> PossibleValuesParser {
    PossibleValuesParser::new(STEPS.iter().map(|step| step.name))
}

struct Done {
    step: &'static Step,
    took: Duration,
    report: Report,
    /// `ok`, `SKIPPED` or `FAILED`.
    result: &'static str,
}

/// Runs the steps asked for; `true` when every one succeeded.
pub(crate) fn run(ws: &Workspace, options: &Options) -> bool {
    let chosen: Vec<&Step> = STEPS
        .iter()
        .filter(|step| match options.only.as_slice() {
            [] => options.full || options.list || !step.full,
            only => only.iter().any(|name| name == step.name),
        })
        .collect();
    if options.list {
        for Step { name, about, full, .. } in chosen {
            println!("{name:<10} {about}{}", if *full { " (--full)" } else { "" });
        }
        return true;
    }
    let mut done = Vec::with_capacity(chosen.len());
    for (index, step) in chosen.iter().enumerate() {
        println!("\n==> {} ({}/{}): {}", step.name, index + 1, chosen.len(), step.about);
        done.push(run_one(ws, step, options.no_skip));
        if done.last().is_some_and(|done| done.result == "FAILED") && !options.keep_going {
            break;
        }
    }
    summarise(&done, &chosen)
}

fn run_one(ws: &Workspace, step: &'static Step, no_skip: bool) -> Done {
    let start = Instant::now();
    let mut report = Report::default();
    let result = match (step.run)(ws, &mut report) {
        Ok(()) => "ok",
        Err(error) => {
            report.note = error.to_string();
            if error.is::<Skip>() && !no_skip { "SKIPPED" } else { "FAILED" }
        }
    };
    let took = start.elapsed();
    let note = if report.note.is_empty() { String::new() } else { format!(": {}", report.note) };
    println!("==> {}: {result} in {:.1} s{note}", step.name, took.as_secs_f64());
    Done { step, took, report, result }
}

/// Prints the closing table. Its last line is `N passed, N failed`, followed by `, N skipped` if
/// tests were skipped. It counts tests, and other programs read it in this form.
fn summarise(done: &[Done], chosen: &[&Step]) -> bool {
    println!("\n{:<10} {:<8} {:>8}  note", "step", "result", "time");
    let mut tests = Tally::default();
    let (mut failed, mut skipped) = (0, 0);
    for Done { step, took, report, result } in done {
        failed += usize::from(*result == "FAILED");
        skipped += usize::from(*result == "SKIPPED");
        let seconds = format!("{:.1} s", took.as_secs_f64());
        let note = report.note.lines().next().unwrap_or_default();
        let line = format!("{:<10} {result:<8} {seconds:>8}  {note}", step.name);
        println!("{}", line.trim_end());
        tests += report.tests;
    }
    for step in &chosen[done.len()..] {
        println!("{:<10} not run", step.name);
    }
    let ok = done.len() - failed - skipped;
    println!("\n{ok} of {} steps ok, {failed} failed, {skipped} skipped", chosen.len());
    let skipped = match tests.skipped {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    println!("{} passed, {} failed{skipped}", tests.passed, tests.failed);
    failed == 0
}
