//! The report of a guest, read line by line.

use crate::report::{Counter, Tally};

/// Results of one kernel.
pub(crate) struct Results {
    /// The kernel's release.
    pub(crate) release: String,
    /// The report of `vyre-io doctor` on the machine.
    pub(crate) machine: serde_json::Value,
    pub(crate) file_systems: Vec<FileSystem>,
    pub(crate) tests: Vec<TestRun>,
    /// Other faults: a file system that could not be mounted, a guest that did not end.
    pub(crate) broken: Vec<String>,
    part: Part,
    done: bool,
}

/// A file system, with the checks that ran on it.
pub(crate) struct FileSystem {
    pub(crate) name: String,
    pub(crate) checks: Vec<Check>,
    /// The report of `vyre-io doctor` on it.
    pub(crate) path: serde_json::Value,
}

pub(crate) struct Check {
    pub(crate) transport: String,
    pub(crate) name: String,
    /// `pass`, `refused` or `FAIL`.
    pub(crate) result: String,
    pub(crate) text: String,
}

/// A run of one test program.
pub(crate) struct TestRun {
    pub(crate) name: String,
    pub(crate) tally: Tally,
    pub(crate) failed: Vec<String>,
}

/// Part that the lines that arrive belong to.
enum Part {
    Nothing,
    Doctor { of: String, json: String },
    Checks,
    Tests(Counter),
}

impl Results {
    /// Reads what a guest said.
    pub(crate) fn of(lines: &str) -> Self {
        let mut results = Self {
            release: String::new(),
            machine: serde_json::Value::Null,
            file_systems: Vec::new(),
            tests: Vec::new(),
            broken: Vec::new(),
            part: Part::Nothing,
            done: false,
        };
        lines.lines().for_each(|line| results.line(line));
        if !results.done {
            results.broken("the guest ended early");
        }
        results
    }

    fn broken(&mut self, what: &str) {
        self.broken.push(what.to_owned());
    }

    /// Takes a line of the guest.
    fn line(&mut self, line: &str) {
        let Some((_, said)) = line.split_once("@@ ") else {
            return self.text(line);
        };
        let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
        match word {
            "doctor" => self.part = Part::Doctor { of: rest.to_owned(), json: String::new() },
            "fs" => {
                let (name, checks) = (rest.to_owned(), Vec::new());
                self.file_systems.push(FileSystem { name, checks, path: serde_json::Value::Null });
                self.part = Part::Checks;
            }
            "test" => {
                self.tests.push(TestRun { name: rest.to_owned(), tally: Tally::default(), failed: Vec::new() });
                self.part = Part::Tests(Counter::default());
            }
            "end" => self.end(rest),
            "done" => self.done = true,
            "kernel" => rest.clone_into(&mut self.release),
            _ => self.broken(said),
        }
    }

    /// Takes a line of a program.
    fn text(&mut self, line: &str) {
        match &mut self.part {
            Part::Nothing => {}
            Part::Doctor { json, .. } => {
                json.push_str(line);
                json.push('\n');
            }
            Part::Checks => {
                // The tab before an empty text is lost on the way.
                let mut fields = line.split('\t').map(str::to_owned);
                let fields = (fields.next(), fields.next(), fields.next(), fields.next());
                if let (Some(transport), Some(name), Some(result), text) = fields
                    && let Some(system) = self.file_systems.last_mut()
                {
                    system.checks.push(Check { transport, name, result, text: text.unwrap_or_default() });
                }
            }
            Part::Tests(counter) => {
                counter.line(line);
                if let (Some(name), Some(run)) = (failed_test(line), self.tests.last_mut()) {
                    run.failed.push(name.to_owned());
                }
            }
        }
    }

    /// Takes the status of a program.
    fn end(&mut self, status: &str) {
        match std::mem::replace(&mut self.part, Part::Nothing) {
            Part::Nothing => {}
            Part::Doctor { of, json } => match serde_json::from_str::<serde_json::Value>(&json) {
                Err(error) => self.broken(&format!("doctor on {of:?}: {error}: {json}")),
                Ok(report) if of.is_empty() => self.machine = report,
                Ok(mut report) => {
                    if let Some(system) = self.file_systems.last_mut() {
                        system.path = report["paths"][0].take();
                    }
                }
            },
            Part::Checks => {
                let Some(FileSystem { name, checks, .. }) = self.file_systems.last() else {
                    return;
                };
                // A check that failed is reported by itself.
                let failed = checks.iter().any(|check| check.result == "FAIL");
                if checks.is_empty() || (status != "0" && !failed) {
                    self.broken.push(format!("the checks on {name} ended with status {status}"));
                }
            }
            Part::Tests(counter) => {
                if let Some(run) = self.tests.last_mut() {
                    run.tally = counter.total;
                    let (name, failed) = (run.name.clone(), run.failed.len());
                    if status != "0" && failed == 0 {
                        self.broken.push(format!("{name} ended with status {status}"));
                    }
                }
            }
        }
    }

    /// The checks that failed, with their file systems.
    pub(crate) fn failed_checks(&self) -> impl Iterator<Item = (&str, &Check)> {
        self.file_systems
            .iter()
            .flat_map(|system| system.checks.iter().map(|check| (system.name.as_str(), check)))
            .filter(|(_, check)| check.result == "FAIL")
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        self.tests.iter().for_each(|run| sum += run.tally);
        sum
    }

    /// `true` if nothing failed, and something ran.
    pub(crate) fn passed(&self) -> bool {
        let tests = self.tests.iter().all(|run| run.failed.is_empty() && run.tally.failed == 0);
        self.done
            && tests
            && self.broken.is_empty()
            && self.failed_checks().next().is_none()
            && (!self.file_systems.is_empty() || !self.tests.is_empty())
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        let Tally { passed, failed, skipped } = self.tally();
        let checks: usize = self.file_systems.iter().map(|system| system.checks.len()).sum();
        format!(
            "{}: {checks} checks on {} file systems, {} failed; {passed} tests passed, {failed} failed, {skipped} skipped; {} other faults",
            self.release,
            self.file_systems.len(),
            self.failed_checks().count(),
            self.broken.len()
        )
    }
}

/// The name in a line `test name ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.trim_end())
}
