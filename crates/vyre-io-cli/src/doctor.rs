//! `vyre-io doctor`: reports what this machine offers, what makes it slow, and how to fix that.
//!
//! It builds the transport that the loop would build and reads from each path through it, instead of
//! guessing from versions. It changes nothing, except that it makes a nameless file in a directory that
//! it tries.

mod file_system;
mod gpu;
mod host;
mod page_cache;
mod path;
mod report;
mod ring;
mod text;
mod units;

use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::PathBuf;

use vyre_io::uring::SetupError;

use self::host::Gate;
use self::report::{Finding, IoUring, Report};
use self::ring::Trial;
use crate::args::{DoctorArgs, Format};
use crate::failure::Failure;

/// Prints the report. Afterwards, fails if I/O would not work here or on one of the paths.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let report = examine(&args.paths);
    let text = match args.format {
        Format::Text => report.to_string(),
        Format::Json => serde_json::to_string_pretty(&report).map_err(io::Error::from)? + "\n",
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    if report.is_broken() {
        return Err(Failure::Reported);
    }
    Ok(())
}

fn examine(paths: &[PathBuf]) -> Report {
    // Before the ring takes the last descriptor, if there are that few.
    let gate = Gate::read();
    let memlock = host::memlock();

    let mut io_uring = IoUring {
        allowed: true,
        by: None,
        error: None,
        io_uring_disabled: gate.disabled,
        io_uring_group: gate.group,
        seccomp: gate.seccomp,
    };
    let mut findings = Vec::new();
    let mut trial = Trial::start();
    let ring = trial.as_ref().ok().and_then(Trial::report);
    let refused = match &trial {
        Ok(trial) => trial.refused(),
        Err(error) => Some(*error),
    };
    if let Some(ring) = &ring {
        findings.extend(gate.finding());
        findings.extend(ring.findings(&memlock));
    }
    findings.extend(refused.map(|error| explain(&gate, error, trial.is_ok(), &mut io_uring)));
    // Without a ring, what it could pin is beside the point.
    findings.extend(ring.as_ref().and_then(|_| memlock.finding()));

    let (views, gpu, found) = gpu::examine();
    findings.extend(found);

    let mut reports = Vec::with_capacity(paths.len());
    for path in paths {
        let (report, found) = path::probe(path, trial.as_mut().ok(), &views);
        reports.push(report);
        findings.extend(found);
    }
    findings.sort_by_key(|finding| Reverse(finding.level));
    Report {
        kernel: host::kernel(),
        io_uring,
        transport: trial.as_ref().ok().map(|_| match ring {
            Some(_) => "ring",
            None => "threads",
        }),
        wakes_by: trial.as_mut().ok().map(Trial::wakes_by),
        ring,
        memlock,
        gpu,
        paths: reports,
        findings,
    }
}

/// Records why there is no ring. Threads may perform the operations in its place.
fn explain(gate: &Gate, error: SetupError, threads: bool, io_uring: &mut IoUring) -> Finding {
    let words = error.to_string();
    // The set-up's errors say what happened, a colon, and what to do.
    let (what, advice) = words
        .split_once(": ")
        .unwrap_or((&words, "look for io_uring in the kernel's log (dmesg)"));
    let advice = match error {
        // The set-up's advice is for a program that chooses the entries.
        SetupError::NoMemory => {
            "raise RLIMIT_MEMLOCK (ulimit -l), or the memory limit of the cgroup"
        }
        _ => advice,
    };
    let finding = match gate.forbidden_by(error) {
        Some(forbidden) => {
            io_uring.allowed = false;
            let what = format!("io_uring is forbidden by {}", forbidden.by);
            io_uring.by = Some(forbidden.by);
            (what, forbidden.advice)
        }
        None => (
            format!("io_uring cannot be used: {what}"),
            advice.to_owned(),
        ),
    };
    let finding = match threads {
        true => Finding::cost(
            format!("{}; threads perform the operations instead", finding.0),
            finding.1,
        ),
        false => Finding::broken(finding.0, finding.1),
    };
    io_uring.error = Some(words);
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_error_keeps_its_remedy() {
        let mut io_uring = examine(&[]).io_uring;
        io_uring.allowed = true;
        let finding = explain(
            &Gate::read(),
            SetupError::NoDescriptors,
            false,
            &mut io_uring,
        );
        assert!(io_uring.allowed, "{io_uring:?}");
        assert!(finding.what.contains("EMFILE"), "{finding:?}");
        assert!(
            finding
                .advice
                .is_some_and(|advice| advice.contains("RLIMIT_NOFILE"))
        );
    }

    #[test]
    fn a_ban_is_put_down_to_someone() {
        let mut io_uring = examine(&[]).io_uring;
        let finding = explain(&Gate::read(), SetupError::Forbidden, true, &mut io_uring);
        assert_eq!(finding.level, report::Level::Cost);
        assert!(!io_uring.allowed && io_uring.by.is_some(), "{io_uring:?}");
        assert!(finding.what.contains("forbidden by"), "{finding:?}");
    }
}
