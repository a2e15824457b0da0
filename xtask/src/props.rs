//! Property tests over the states of slots and of the loop: the `props` step, and long runs.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::steps::Report;
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Result, sh};

/// Packages with a `tests/props.rs`.
const PACKAGES: &[&str] = &["vyre-ioq", "vyre-ioloop"];

/// Cases per property in `cargo xtask ci`, unless the environment says otherwise.
const CI_CASES: u32 = 4096;

/// Read by proptest itself, by every property that takes the default configuration.
const CASES: &str = "PROPTEST_CASES";

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    let cases = match std::env::var(CASES) {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{CASES}={text} is no number of cases"))?,
        Err(_) => CI_CASES,
    };
    round(ws, cases, &mut report.tests)?;
    report.note = format!("{} properties, {cases} cases each", report.tests.passed);
    Ok(())
}

/// Rounds of all properties until the time is over. Without a seed in the environment, proptest
/// takes a fresh one from the operating system in every run.
pub(crate) fn soak(ws: &Workspace, cases: u32, time: Duration) -> Result<()> {
    for package in PACKAGES {
        sh::run(props(ws, package).arg("--no-run"))?;
    }
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut rounds = 0_u64;
    while rounds == 0 || start.elapsed() < time {
        rounds += 1;
        println!(
            "\n==> round {rounds}, {} s of {} s",
            start.elapsed().as_secs(),
            time.as_secs()
        );
        round(ws, cases, &mut tally)?;
    }
    println!(
        "\n{} cases in {rounds} rounds, {} s, none failed",
        tally.passed * u64::from(cases),
        start.elapsed().as_secs()
    );
    Ok(())
}

/// Runs every property once, with that many cases. What was counted stays counted on failure.
fn round(ws: &Workspace, cases: u32, tally: &mut Tally) -> Result<()> {
    for package in PACKAGES {
        let mut here = Tally::default();
        let mut command = props(ws, package);
        command.env(CASES, cases.to_string());
        let status = sh::stream(&mut command, |line| {
            here += Tally::parse(line).unwrap_or_default();
        })?;
        *tally += here;
        sh::check(&command, status)?;
        if here.passed == 0 {
            return Err(format!("no property ran in {package}").into());
        }
    }
    Ok(())
}

fn props(ws: &Workspace, package: &str) -> Command {
    let mut command = sh::cargo(ws, &["test", "--release", "-p", package, "--test", "props"]);
    command.env_remove("PROPTEST_RNG_SEED");
    command
}
