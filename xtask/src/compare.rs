//! Builds and starts the program that compares vyre-io with others.

use crate::report::Report;
use crate::workspace::{Result, Workspace, cmd, stream};

/// Builds the program in `benches`, and the one in `consumers` that hosts the original loop, and starts it.
pub(crate) fn run(ws: &Workspace, profile: &str, options: &[String], on_line: impl FnMut(&str)) -> Result<()> {
    let at = ["--manifest-path", "consumers/Cargo.toml", "-p", "consumer-original"];
    let to = &[format!("--profile={profile}"), format!("--target-dir={}", ws.target.display())];
    cmd!(ws, "cargo build {at...} {to...}").run()?;
    cmd!(ws, "cargo build -p vyre-benches --bin compare {to...}").run()?;
    let built = ws.target.join(if profile == "dev" { "debug" } else { profile });
    let original = format!("--original={}", built.join("consumer-original").display());
    let program = built.join("compare");
    stream(cmd!(ws, "{program} {original} {options...}"), on_line)
}

/// A short comparison, whose figures mean nothing.
pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    let options = ["--quick", "--out", "target/compare-quick"].map(str::to_owned);
    run(ws, "dev", &options, |line| {
        if let Some(count) = line.strip_prefix("compare: measured ") {
            count.clone_into(&mut report.note);
        }
    })?;
    if report.note.is_empty() { Err("it ended without its figures".into()) } else { Ok(()) }
}
