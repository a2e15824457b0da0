//! Programs that use the crates as others would, each built alone: features that one of them turns
//! on must not help another.

use std::process::Command;

use serde_json::Value;

use crate::steps::Report;
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Result, sh, tools};

use tools::BARE_TARGET;

/// A workspace of its own.
pub(crate) const MANIFEST: &str = "consumers/Cargo.toml";

/// The one that is made for machines without `std`.
const BARE: &str = "consumer-firmware";

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    let names = members(ws)?;
    for name in &names {
        test(ws, name, &mut report.tests)?;
    }
    let lint = ["--workspace", "--all-targets", "--", "-D", "warnings"];
    sh::run(building(ws, "clippy").args(lint))?;

    if !names.iter().any(|name| name == BARE) {
        return Err(format!("{MANIFEST} has no {BARE}").into());
    }
    let tests = report.tests.passed;
    if !tools::has_target(ws, BARE_TARGET) {
        report.skip(format!("{BARE} was not built: no {BARE_TARGET}"));
        return Ok(());
    }
    sh::run(building(ws, "build").args(["-p", BARE, "--target", BARE_TARGET]))?;
    report.note = format!("{} programs, {tests} tests", names.len());
    Ok(())
}

/// Checks the formatting of the programs alone: `--all` would add the crates that they use.
pub(crate) fn fmt(ws: &Workspace) -> Result<()> {
    let mut fmt = cargo(ws, "fmt");
    for name in members(ws)? {
        fmt.args(["-p", &name]);
    }
    sh::run(fmt.arg("--check"))
}

/// Builds and tests one of them, and no other. What was counted stays counted on failure.
fn test(ws: &Workspace, name: &str, tally: &mut Tally) -> Result<()> {
    let mut here = Tally::default();
    let mut command = building(ws, "test");
    let status = sh::stream(command.args(["-p", name]), |line| {
        here += Tally::parse(line).unwrap_or_default();
    })?;
    *tally += here;
    sh::check(&command, status)?;
    if here.passed == 0 {
        return Err(format!("no test ran in {name}").into());
    }
    Ok(())
}

fn cargo(ws: &Workspace, command: &str) -> Command {
    sh::cargo(ws, &[command, "--manifest-path", MANIFEST])
}

/// In the directory of the workspace above, where most of what they need is built already.
fn building(ws: &Workspace, command: &str) -> Command {
    let mut cargo = cargo(ws, command);
    cargo.args(["--target-dir", "target"]);
    cargo
}

fn members(ws: &Workspace) -> Result<Vec<String>> {
    let mut metadata = cargo(ws, "metadata");
    names(&sh::read(metadata.args([
        "--no-deps",
        "--format-version",
        "1",
    ]))?)
}

fn names(metadata: &str) -> Result<Vec<String>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let packages = metadata["packages"].as_array();
    packages
        .into_iter()
        .flatten()
        .map(|package| {
            let name = package["name"].as_str();
            name.map(str::to_owned)
                .ok_or_else(|| "a package without a name".into())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named() {
        let metadata = r#"{"packages": [{"name": "a"}, {"name": "b"}]}"#;
        assert_eq!(names(metadata).unwrap(), ["a", "b"]);
        assert!(names(r#"{"packages": [{}]}"#).is_err());
    }
}
