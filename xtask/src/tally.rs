//! Counting tests from what `cargo test` prints, and knowing which package each belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use serde_json::Value;

/// Numbers of tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Number of tests that did not run because the machine lacks something. They are not among
    /// `passed`.
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped += other.skipped;
    }
}

impl Tally {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`; `None` for any other line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut tally = Self::default();
        for part in counts.split(';') {
            let Some((count, word)) = part.trim().split_once(' ') else {
                continue;
            };
            let field = match word {
                "passed" => &mut tally.passed,
                "failed" => &mut tally.failed,
                "ignored" => &mut tally.ignored,
                _ => continue,
            };
            *field = count.parse().ok()?;
        }
        Some(tally)
    }
}

/// Prefix of the line that a test prints, past the harness that would hide it, when it cannot run:
/// `SKIPPED: name_of_the_test: why`. The harness counts such a test as passed.
const SKIPPED: &str = "SKIPPED: ";

/// Follows the output of `cargo test`, line by line.
#[derive(Default)]
pub(crate) struct Counter {
    /// File name of a test executable → its package.
    owners: BTreeMap<String, String>,
    current: Option<String>,
    /// Tests that the current executable has skipped so far.
    skipping: BTreeSet<String>,
    pub(crate) by_package: BTreeMap<String, Tally>,
    pub(crate) total: Tally,
}

impl Counter {
    /// `messages` is the output of `cargo test --no-run --message-format=json`.
    pub(crate) fn new(messages: &str) -> Self {
        let mut owners = BTreeMap::new();
        for line in messages.lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let (Some(path), Some(id)) = (
                message["executable"].as_str(),
                message["package_id"].as_str(),
            ) else {
                continue;
            };
            if let Some(package) = package_name(id) {
                owners.insert(file_name(path).to_owned(), package.to_owned());
            }
        }
        Self {
            owners,
            ..Self::default()
        }
    }

    pub(crate) fn line(&mut self, line: &str) {
        let text = line.trim_start();
        // The harness may have begun the line with the name of a test.
        if let Some((_, skipped)) = text.split_once(SKIPPED) {
            let test = skipped.split_once(": ").map_or(skipped, |(test, _)| test);
            self.skipping.insert(test.to_owned());
        } else if let Some(running) = text.strip_prefix("Running ") {
            self.skipping.clear();
            self.current = executable(running)
                .and_then(|file| self.owners.get(file))
                .cloned();
        } else if let Some(krate) = text.strip_prefix("Doc-tests ") {
            self.skipping.clear();
            self.current = Some(krate.replace('_', "-"));
        } else if let Some(mut tally) = Tally::parse(text) {
            // A test that failed after it had skipped a part is a failure, and no more than those
            // that passed were skipped.
            tally.skipped = tally.passed.min(self.skipping.len() as u64);
            tally.passed -= tally.skipped;
            self.skipping.clear();
            self.total += tally;
            if let Some(package) = &self.current {
                *self.by_package.entry(package.clone()).or_default() += tally;
            }
        }
    }

    pub(crate) fn passed_in(&self, package: &str) -> u64 {
        self.by_package.get(package).map_or(0, |tally| tally.passed)
    }
}

/// `tests/props.rs (target/debug/deps/props-0123)` → `props-0123`.
fn executable(running: &str) -> Option<&str> {
    let path = running.rsplit_once(" (")?.1.strip_suffix(')')?;
    Some(file_name(path))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name within a package id: `path+file:///w/vyre-ioq#0.1.0`, where the directory has the
/// name of the package, or `path+file:///w/dir#vyre-ioq@0.1.0`, where it has another.
fn package_name(id: &str) -> Option<&str> {
    let (url, fragment) = id.split_once('#')?;
    match fragment.split_once('@') {
        Some((name, _)) => Some(name),
        None => url.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let ok = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 4 filtered out; \
                  finished in 0.01s";
        assert_eq!(
            Tally::parse(ok),
            Some(Tally {
                passed: 12,
                failed: 0,
                ignored: 3,
                skipped: 0
            })
        );
        let bad = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        assert_eq!(
            Tally::parse(bad),
            Some(Tally {
                passed: 1,
                failed: 2,
                ignored: 0,
                skipped: 0
            })
        );
        for other in [
            "running 3 tests",
            "test result: x",
            "test a ... ok",
            "12 passed; 0 failed",
        ] {
            assert_eq!(Tally::parse(other), None, "{other}");
        }
    }

    #[test]
    fn counts_go_to_their_packages() {
        let messages = concat!(
            r#"{"package_id":"path+file:///w/crates/vyre-ioq#0.1.0","executable":"/t/vyre_ioq-1"}"#,
            "\n",
            r#"{"package_id":"path+file:///w/benches#vyre-b@0.1.0","executable":"/t/props-2"}"#,
            "\n",
            r#"{"package_id":"path+file:///w/crates/vyre-ioq#0.1.0","executable":null}"#,
            "\nnot json\n",
        );
        let mut counter = Counter::new(messages);
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/vyre_ioq-1)",
            "test result: ok. 2 passed; 0 failed; 0 ignored",
            "     Running tests/props.rs (/elsewhere/deps/props-2)",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored",
            "   Doc-tests vyre_ioq",
            "test result: ok. 4 passed; 0 failed; 1 ignored",
            "     Running tests/props.rs (/elsewhere/deps/unknown-3)",
            "test result: ok. 5 passed; 0 failed; 0 ignored",
        ] {
            counter.line(line);
        }
        assert_eq!(counter.passed_in("vyre-ioq"), 6);
        assert_eq!(counter.passed_in("vyre-b"), 3);
        assert_eq!(counter.passed_in("vyre-uring"), 0);
        assert_eq!(
            counter.total,
            Tally {
                passed: 14,
                failed: 1,
                ignored: 1,
                skipped: 0
            }
        );
    }

    #[test]
    fn skipped_tests_are_not_passed() {
        let mut counter =
            Counter::new(r#"{"package_id":"path+file:///w/vyre-a#0.1.0","executable":"/t/gpu-1"}"#);
        for line in [
            "     Running tests/gpu.rs (/t/gpu-1)",
            "SKIPPED: a_kernel_reads: there is no CUDA driver (libcuda.so.1): install it",
            "test a_kernel_writes ... SKIPPED: a_kernel_writes: there is no CUDA driver",
            "SKIPPED: a_kernel_writes: it would have looked twice",
            "test result: ok. 5 passed; 0 failed; 0 ignored",
            "   Doc-tests vyre_a",
            "test result: ok. 1 passed; 0 failed; 0 ignored",
            "     Running tests/gpu.rs (/t/gpu-1)",
            "SKIPPED: a_part: and then it failed",
            "test result: FAILED. 0 passed; 1 failed; 0 ignored",
        ] {
            counter.line(line);
        }
        assert_eq!(
            counter.total,
            Tally {
                passed: 4,
                failed: 1,
                ignored: 0,
                skipped: 2
            }
        );
        assert_eq!(counter.passed_in("vyre-a"), 4);
    }
}
