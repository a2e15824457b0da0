//! Runs the steps, times them, and sums up.

use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;

use crate::steps::{self, Report, Step};
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Error, Result};

struct Done {
    step: &'static Step,
    took: Duration,
    report: Report,
    error: Option<Error>,
}

pub(crate) fn list() {
    for step in steps::ALL {
        println!("{:<9} {}", step.name, step.about);
    }
}

/// How to run the steps.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Go on after a step that fails, and report all of them at the end
    #[arg(long)]
    keep_going: bool,
    /// Fail where this machine cannot run a step, instead of skipping it
    #[arg(long)]
    no_skip: bool,
    /// Run this step alone (may be given more than once)
    #[arg(long = "step", value_name = "NAME", value_parser = step_names())]
    only: Vec<String>,
}

fn step_names() -> PossibleValuesParser {
    PossibleValuesParser::new(steps::ALL.iter().map(|step| step.name))
}

/// Runs the steps asked for, or all of them; `true` when every one succeeded.
pub(crate) fn run(ws: &Workspace, options: &Options) -> Result<bool> {
    let Options {
        keep_going,
        no_skip,
        only,
    } = options;
    let chosen: Vec<&Step> = steps::ALL
        .iter()
        .filter(|step| only.is_empty() || only.iter().any(|name| name == step.name))
        .collect();

    let mut done = Vec::with_capacity(chosen.len());
    for (index, step) in chosen.iter().enumerate() {
        println!(
            "\n==> {} ({}/{}): {}",
            step.name,
            index + 1,
            chosen.len(),
            step.about
        );
        let outcome = run_one(ws, step, *no_skip);
        let failed = outcome.error.is_some();
        done.push(outcome);
        if failed && !*keep_going {
            break;
        }
    }
    Ok(summarise(&done, &chosen))
}

fn run_one(ws: &Workspace, step: &'static Step, no_skip: bool) -> Done {
    let start = Instant::now();
    let mut report = Report::default();
    let mut error = (step.run)(ws, &mut report).err();
    if error.is_none() && report.skipped && no_skip {
        error = Some(report.note.clone().into());
    }
    let took = start.elapsed();
    match &error {
        None if report.skipped => println!("==> {}: SKIPPED: {}", step.name, report.note),
        None => println!("==> {}: ok in {:.1} s", step.name, took.as_secs_f64()),
        Some(error) => {
            println!(
                "==> {}: FAILED in {:.1} s: {error}",
                step.name,
                took.as_secs_f64()
            );
        }
    }
    Done {
        step,
        took,
        report,
        error,
    }
}

/// Prints the closing table. Its last line is `N passed, N failed`, followed by `, N skipped` if
/// tests were skipped. It counts tests, and other programs read it in this form.
fn summarise(done: &[Done], chosen: &[&Step]) -> bool {
    println!("\n{:<9} {:<8} {:>8}  note", "step", "result", "time");
    let mut tests = Tally::default();
    for Done {
        step,
        took,
        report,
        error,
    } in done
    {
        let result = match error {
            Some(_) => "FAILED",
            None if report.skipped => "SKIPPED",
            None => "ok",
        };
        let seconds = format!("{:.1} s", took.as_secs_f64());
        let note = error
            .as_ref()
            .map_or_else(|| report.note.clone(), ToString::to_string);
        let note = note.lines().next().unwrap_or_default();
        println!(
            "{}",
            format!("{:<9} {result:<8} {seconds:>8}  {note}", step.name).trim_end()
        );
        tests += report.tests;
    }
    for step in &chosen[done.len()..] {
        println!("{:<9} not run", step.name);
    }
    let failed = done.iter().filter(|done| done.error.is_some()).count();
    let skipped = done
        .iter()
        .filter(|done| done.error.is_none() && done.report.skipped)
        .count();
    let ok = done.len() - failed - skipped;
    println!(
        "\n{ok} of {} steps ok, {failed} failed, {skipped} skipped",
        chosen.len()
    );
    // The harness of some tests counts those that it skips itself.
    let skipped = match tests.skipped + tests.ignored {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    println!("{} passed, {} failed{skipped}", tests.passed, tests.failed);
    failed == 0
}
