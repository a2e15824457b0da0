//! Hostile words and the soak of producers: a share as a step, as much as one likes by command.

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, sh};

/// What `cargo xtask ci` runs: a few seconds.
const CI_WORDS: &str = "2e7";
const CI_OPERATIONS: &str = "1e6";

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    words(ws, CI_WORDS, None)?;
    soak(ws, CI_OPERATIONS, None)?;
    report.note = format!("{CI_WORDS} hostile words, {CI_OPERATIONS} requests of producers");
    Ok(())
}

pub(crate) fn words(ws: &Workspace, words: &str, seed: Option<u64>) -> Result<()> {
    let seed = seed.map(|seed| seed.to_string());
    run(ws, &["words", words], "--seed", seed)
}

pub(crate) fn soak(ws: &Workspace, operations: &str, producers: Option<u32>) -> Result<()> {
    let producers = producers.map(|producers| producers.to_string());
    run(ws, &["soak", operations], "--producers", producers)
}

fn run(ws: &Workspace, what: &[&str], option: &str, value: Option<String>) -> Result<()> {
    let mut command = sh::cargo(
        ws,
        &["run", "--release", "--package", "vyre-fuzz-harness", "--"],
    );
    command.args(what);
    if let Some(value) = value {
        command.args([option, &value]);
    }
    let mut said = false;
    let status = sh::stream(&mut command, |line| {
        said |= line.contains("nothing lost") || line.contains("0 lost");
    })?;
    sh::check(&command, status)?;
    if !said {
        return Err("it ended without its figures".into());
    }
    Ok(())
}
