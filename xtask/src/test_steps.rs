//! All tests and doctests of the workspace, counted: a gate that ran nothing is not green.

use crate::steps::Report;
use crate::tally::Counter;
use crate::workspace::Workspace;
use crate::{Result, faults, sh};

/// Members that need no tests here. Each of the others must run at least one.
const UNTESTED: &[&str] = &["vyre-benches", faults::PACKAGE];

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    // What is left out has a step of its own.
    let what = [
        "test",
        "--workspace",
        "--all-features",
        "--exclude",
        faults::PACKAGE,
    ];
    // The first run only builds, and tells which executable belongs to which package.
    let build = ["--no-run", "--message-format=json-render-diagnostics"];
    let messages = sh::read(sh::cargo(ws, &what).args(build))?;

    let mut counter = Counter::new(&messages);
    let mut command = sh::cargo(ws, &what);
    command.arg("--no-fail-fast");
    let status = sh::stream(&mut command, |line| counter.line(line))?;
    let total = counter.total;
    report.tests = total;

    println!("\n  tests by package:");
    for (package, tally) in &counter.by_package {
        println!(
            "    {package:<16} {:>5} passed, {} failed, {} skipped",
            tally.passed, tally.failed, tally.skipped
        );
    }
    println!(
        "  in all: {} passed, {} failed, {} skipped, {} ignored",
        total.passed, total.failed, total.skipped, total.ignored
    );
    sh::check(&command, status)?;
    if total.failed > 0 {
        return Err(format!("{} tests failed", total.failed).into());
    }
    let silent: Vec<_> = ws
        .members
        .iter()
        .map(|member| member.name.as_str())
        .filter(|name| !UNTESTED.contains(name) && counter.passed_in(name) == 0)
        .collect();
    if !silent.is_empty() {
        return Err(format!("no test ran in {}", silent.join(", ")).into());
    }
    report.note = format!(
        "{} passed, {} skipped for want of what they need, {} ignored",
        total.passed, total.skipped, total.ignored
    );
    Ok(())
}
