//! The fuzz targets: built as a step, run for as long as one likes with `cargo xtask fuzz`.

use std::fs;

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, sh};

/// The manifest of the targets, which is no member of the workspace.
pub(crate) const MANIFEST: &str = "fuzz/Cargo.toml";

/// Each target with the most bytes that make a difference to it.
const TARGETS: &[(&str, u32)] = &[
    ("attach", 8192),
    ("decode", 64),
    ("ends", 512),
    ("hostile", 512),
];

/// Builds them as a user of the stable toolchain can; their seeds are run by `fuzz/harness/tests`.
pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    // libFuzzer is in C++.
    if !["c++", "g++", "clang++"]
        .iter()
        .any(|cc| sh::succeeds(sh::program(ws, cc).arg("--version")))
    {
        report.skip("no C++ compiler for libFuzzer: install g++ with your distribution");
        return Ok(());
    }
    let mut check = sh::cargo(ws, &["check", "--locked", "--target-dir", "target/fuzz"]);
    sh::run(check.args(["--manifest-path", MANIFEST]))?;
    report.note = format!("{} targets build", TARGETS.len());
    Ok(())
}

/// Checks the formatting of the targets.
pub(crate) fn fmt(ws: &Workspace) -> Result<()> {
    sh::run(&mut sh::cargo(
        ws,
        &["fmt", "--check", "--manifest-path", MANIFEST],
    ))
}

/// How to fuzz.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Sanitizer to build with, as `cargo fuzz` names it; none is the fastest
    #[arg(long, default_value = "address")]
    sanitizer: String,
    /// Targets; all, if none is named
    #[arg(value_parser = names())]
    targets: Vec<String>,
}

fn names() -> clap::builder::PossibleValuesParser {
    TARGETS.iter().map(|target| target.0).into()
}

/// Fuzzes one target after the other, each on one core, and counts executions.
pub(crate) fn run(ws: &Workspace, options: &Options) -> Result<()> {
    ensure_cargo_fuzz(ws)?;
    let named = |name: &str| options.targets.iter().any(|target| target == name);
    let mut counts = Vec::new();
    for &(target, max_len) in TARGETS {
        if options.targets.is_empty() || named(target) {
            counts.push((target, fuzz(ws, target, max_len, options)?));
        }
    }
    println!();
    for (target, executions) in &counts {
        let rate = executions / u64::from(options.seconds);
        println!("{target:<8} {executions:>12} executions, {rate} a second");
    }
    let all: u64 = counts.iter().map(|count| count.1).sum();
    println!("{:<8} {all:>12} executions, none failed", "all");
    Ok(())
}

fn fuzz(ws: &Workspace, target: &str, max_len: u32, options: &Options) -> Result<u64> {
    // What is found goes to the first directory, which git ignores.
    let (corpus, seeds) = (
        format!("fuzz/corpus/{target}"),
        format!("fuzz/seeds/{target}"),
    );
    fs::create_dir_all(ws.root.join(&corpus))?;
    let mut command = sh::cargo(ws, &["+nightly", "fuzz", "run", "--sanitizer"]);
    command.args([&options.sanitizer, target, &corpus, &seeds, "--"]);
    command.arg(format!("-max_total_time={}", options.seconds));
    command.arg(format!("-max_len={max_len}"));
    command.arg("-print_final_stats=1");
    // Set by the toolchain file for the cargo that runs this; it would win over `+nightly`.
    command.env_remove("RUSTUP_TOOLCHAIN");
    let mut executions = 0;
    let status = sh::stream(&mut command, |line| {
        executions = executed(line).unwrap_or(executions);
    })?;
    sh::check(&command, status)?;
    if executions == 0 {
        return Err(format!("{target} was never executed").into());
    }
    Ok(executions)
}

/// `stat::number_of_executed_units: 4096` → 4096.
fn executed(line: &str) -> Option<u64> {
    let count = line.strip_prefix("stat::number_of_executed_units:")?;
    count.trim().parse().ok()
}

fn ensure_cargo_fuzz(ws: &Workspace) -> Result<()> {
    let nightly = || {
        let mut cargo = sh::cargo(ws, &["+nightly"]);
        cargo.env_remove("RUSTUP_TOOLCHAIN");
        cargo
    };
    if !sh::succeeds(nightly().arg("--version")) {
        return Err(
            "no nightly Rust, which libFuzzer needs: run `rustup toolchain install nightly \
                    --profile minimal`"
                .into(),
        );
    }
    if sh::succeeds(nightly().args(["fuzz", "--version"])) {
        return Ok(());
    }
    println!("  cargo-fuzz: installing");
    sh::run(nightly().args(["install", "cargo-fuzz", "--locked"])).map_err(|error| {
        let advice = "with a network, run `cargo install cargo-fuzz --locked`";
        format!("cargo-fuzz is missing; {advice} ({error})").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read() {
        let line = "stat::number_of_executed_units: 123456";
        assert_eq!(executed(line), Some(123_456));
        for other in [
            "stat::average_exec_per_sec:     100",
            "#2\tINITED cov: 12",
            "stat::number_of_executed_units: many",
        ] {
            assert_eq!(executed(other), None, "{other}");
        }
    }

    #[test]
    fn the_targets_are_those_of_the_manifest() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        for (target, _) in TARGETS {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }
}
