//! Results of a step, and the counting of tests.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;

use xshell::Cmd;

use crate::workspace::{Result, stream};

/// Results of a step, which are kept even if the step fails.
#[derive(Default)]
pub(crate) struct Report {
    /// One short line for the closing table.
    pub(crate) note: String,
    pub(crate) tests: Tally,
}

/// Reason why a step, or a part of it, cannot run on this machine. It is not a failure, but it is always
/// reported.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::error::Error for Skip {}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Numbers of tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Tests that did not run, or said that this machine lacks what they need.
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Tally {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`; `None` for any other line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut tally = Self::default();
        for part in counts.split(';') {
            let (count, word) = part.trim().split_once(' ').unwrap_or_default();
            let field = match word {
                "passed" => &mut tally.passed,
                "failed" => &mut tally.failed,
                "ignored" => &mut tally.skipped,
                _ => continue,
            };
            *field = count.parse().ok()?;
        }
        Some(tally)
    }
}

/// The name of the test in a line `SKIPPED: name_of_the_test: why`. A test that cannot run prints it and
/// passes; a harness may have begun the line with the name of a test.
pub(crate) fn skipped_test(line: &str) -> Option<&str> {
    let (_, skipped) = line.split_once("SKIPPED: ")?;
    Some(skipped.split_once(": ").map_or(skipped, |(test, _)| test))
}

/// Counts tests in the output of `cargo test`.
#[derive(Default)]
pub(crate) struct Counter {
    /// Tests that the current executable has skipped so far.
    skipping: BTreeSet<String>,
    pub(crate) total: Tally,
}

impl Counter {
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(test) = skipped_test(line) {
            self.skipping.insert(test.to_owned());
        } else if let Some(mut tally) = Tally::parse(line.trim_start()) {
            // A test that failed after it had skipped a part is a failure, and no more than those that
            // passed were skipped.
            let skipped = tally.passed.min(self.skipping.len() as u64);
            tally.passed -= skipped;
            tally.skipped += skipped;
            self.skipping.clear();
            self.total += tally;
        }
    }
}

/// Runs `cargo test` or the like, which must succeed and run a test. What was counted stays counted
/// when it fails.
pub(crate) fn counted(cmd: Cmd<'_>, tally: &mut Tally) -> Result<()> {
    let shown = cmd.to_string();
    let mut counter = Counter::default();
    let outcome = stream(cmd, |line| counter.line(line));
    *tally += counter.total;
    outcome?;
    match counter.total.passed {
        0 => Err(format!("`{shown}` ran no test").into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u64, failed: u64, skipped: u64) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn result_lines_are_read() {
        let ok = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 4 filtered out; \
                  finished in 0.01s";
        assert_eq!(Tally::parse(ok), Some(tally(12, 0, 3)));
        let bad = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        assert_eq!(Tally::parse(bad), Some(tally(1, 2, 0)));
        for other in ["running 3 tests", "test result: x", "test a ... ok", "12 passed; 0 failed"] {
            assert_eq!(Tally::parse(other), None, "{other}");
        }
    }

    #[test]
    fn skipped_tests_are_not_passed() {
        let mut counter = Counter::default();
        for line in [
            "     Running tests/gpu.rs (/t/gpu-1)",
            "SKIPPED: a_kernel_reads: there is no CUDA driver (libcuda.so.1): install it",
            "test a_kernel_writes ... SKIPPED: a_kernel_writes: there is no CUDA driver",
            "SKIPPED: a_kernel_writes: it would have looked twice",
            "test result: ok. 5 passed; 0 failed; 0 ignored",
            "   Doc-tests vyre_a",
            "test result: ok. 1 passed; 0 failed; 2 ignored",
            "     Running tests/gpu.rs (/t/gpu-1)",
            "SKIPPED: a_part: and then it failed",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored",
        ] {
            counter.line(line);
        }
        assert_eq!(counter.total, tally(4, 1, 4));
    }
}
