//! Tests of faults of the real kernel. Some need privileges; those that cannot run are counted.

use crate::steps::Report;
use crate::tally::Tally;
use crate::workspace::Workspace;
use crate::{Result, sh};

/// Name of the package. The step that runs all tests leaves it out.
pub(crate) const PACKAGE: &str = "vyre-faults";

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    let mut command = sh::cargo(ws, &["test", "-p", PACKAGE]);
    let status = sh::stream(&mut command, |line| {
        if let Some(tally) = Tally::parse(line) {
            // What its harness calls ignored could not run on this machine.
            report.tests += Tally {
                skipped: tally.ignored,
                ignored: 0,
                ..tally
            };
        } else if let Some(summary) = line.strip_prefix("faults: ") {
            summary.clone_into(&mut report.note);
        }
    })?;
    sh::check(&command, status)?;
    if report.note.is_empty() {
        return Err("it ended without its figures".into());
    }
    if report.tests.passed == 0 {
        return Err("no test ran".into());
    }
    Ok(())
}
