//! A transport, built as the loop builds its own, and the set-up that it reached.

use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use vyre_io::uring::{
    self, AnyTransport, BufferSlot, FileSlot, FutexMeans, FutexWord, Opcode, Operation, SetupError,
    SetupReport, Transport,
};
use vyre_io::{Buffer, KernelFeatures};

use super::host::seccomp_advice;
use super::report::{Finding, Memlock, Ring, Rung, StepReport};
use super::units::words;

/// The memory that is registered as a trial: well below the lowest limit that distributions set.
const TRIAL_BUFFER: usize = 1 << 20;

/// The time limit for a trial read. A slower file system is reported as not answering.
const READ_LIMIT: Duration = Duration::from_secs(5);

const BUFFER: BufferSlot = BufferSlot::new(0);

/// The maximum number of files to try in one run. A file whose read is late keeps its slot.
const FILES: u32 = 256;

/// The time that the transport waits for late reads when it is dropped.
const LATE: Duration = Duration::from_millis(100);

/// A transport for trials.
pub(super) struct Trial {
    transport: AnyTransport,
    /// Report on the registration of the trial buffer with a ring.
    buffers: StepReport,
    /// The time limit for a read.
    pub(super) read_limit: Duration,
    /// The slot of the next file.
    next: u32,
}

/// The failure of a trial read.
pub(super) enum ReadError {
    Failed(Errno),
    /// No answer in time. The transport still waits for it.
    Late,
    /// The read could not be tried, for this reason, which is not a fault of the file.
    Untried(String),
}

impl Trial {
    /// The largest number of bytes in a trial read.
    pub(super) const MOST: u32 = TRIAL_BUFFER as u32;

    pub(super) fn start() -> Result<Self, SetupError> {
        let mut transport = AnyTransport::builder()
            .files(FILES)
            .drop_deadline(LATE)
            .build()?;
        let buffers = match Buffer::anonymous(TRIAL_BUFFER) {
            Err(error) => StepReport::not(error),
            Ok(buffer) => match (transport.set_buffer(BUFFER, Some(buffer)), &transport) {
                (Err(error), _) => StepReport::not(error),
                (Ok(()), AnyTransport::ThreadPool(_)) => {
                    StepReport::not("threads need no registration")
                }
                (Ok(()), AnyTransport::Ring(ring)) => registration(ring),
            },
        };
        Ok(Self {
            transport,
            buffers,
            read_limit: READ_LIMIT,
            next: 0,
        })
    }

    /// Returns how bytes are moved: `registered` or `plain` by a ring, or `threads`.
    pub(super) const fn data_path(&self) -> &'static str {
        match self.transport {
            AnyTransport::ThreadPool(_) => "threads",
            AnyTransport::Ring(_) if self.buffers.in_use => "registered",
            AnyTransport::Ring(_) => "plain",
        }
    }

    /// Returns the means by which devices end sleeps of a loop with this transport.
    pub(super) fn wakes_by(&mut self) -> String {
        let word = AtomicU32::new(0);
        // Nothing waits on it.
        self.transport
            .set_futexes(vec![FutexWord::new(word.as_ptr())]);
        let heard = self.transport.setup_report().futexes();
        self.transport.set_futexes(Vec::new());
        match heard {
            None | Some(FutexMeans::Nothing) => "eventfd".to_owned(),
            Some(heard) => format!("futex ({heard}), eventfd"),
        }
    }

    /// Returns why there is no ring.
    pub(super) fn refused(&self) -> Option<SetupError> {
        match self.transport.setup_report() {
            SetupReport::ThreadPool(report) => report.refused(),
            _ => None,
        }
    }

    /// Reads from the start of the file.
    pub(super) fn read(&mut self, file: OwnedFd, len: u32) -> Result<u32, ReadError> {
        let place = FileSlot::new(self.next);
        self.transport
            .set_file(place, Some(Arc::new(file)))
            .map_err(untried)?;
        let op = Operation::Read {
            file: place,
            offset: 0,
            buffer: BUFFER,
            buffer_offset: 0,
            len,
        };
        let token = self.transport.push(op, 0).map_err(untried)?;
        let end = Instant::now() + self.read_limit;
        let mut result = None;
        // The completion of an earlier read that was late may come first.
        while result.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            self.transport.wait(Some(left)).map_err(untried)?;
            self.transport.reap(|completion| {
                if completion.token == token {
                    result = Some(completion.result);
                }
            });
            if left.is_zero() {
                break;
            }
        }
        let Some(result) = result else {
            // Sent with the next submit, or when the transport is dropped. The read keeps its place.
            self.transport.cancel(token);
            self.next += 1;
            return Err(ReadError::Late);
        };
        // Nothing is in flight, so this cannot fail; it closes the descriptor.
        let _ = self.transport.set_file(place, None);
        result.map_err(ReadError::Failed)
    }

    /// Returns the set-up that the ring reached, if there is one.
    pub(super) fn report(&self) -> Option<Ring> {
        let report = self.transport.setup_report();
        let report = report.ring()?;
        let rung = |refused: &uring::RefusedFlags| Rung {
            flags: refused.flags.clone(),
            why: words(refused.errno),
        };
        // What the kernel lacks makes requests fail, except for the wait on a futex.
        let missing =
            |kind: &Opcode| *kind != Opcode::FutexWait && report.supports(*kind) == Some(false);
        Some(Ring {
            flags: report.flags().to_vec(),
            refused: report.refused().iter().map(rung).collect(),
            sq_entries: report.sq_entries(),
            cq_entries: report.cq_entries(),
            registered_ring_fd: report.ring_fd().into(),
            registered_files: report.files().into(),
            registered_buffers: self.buffers.clone(),
            missing_operations: Opcode::ALL
                .into_iter()
                .filter(missing)
                .map(Opcode::name)
                .collect(),
            data_path: self.data_path(),
        })
    }
}

/// Returns whether the trial buffer is registered.
fn registration(ring: &uring::Ring) -> StepReport {
    if ring.is_buffer_registered(BUFFER) {
        return StepReport::in_use();
    }
    match ring.setup_report().plain_buffers() {
        (_, Some(errno)) => StepReport::refused(errno),
        _ => ring.setup_report().buffers().into(),
    }
}

fn untried(error: impl Display) -> ReadError {
    ReadError::Untried(error.to_string())
}

impl From<uring::SetupStep> for StepReport {
    fn from(step: uring::SetupStep) -> Self {
        match step {
            uring::SetupStep::InUse => Self::in_use(),
            uring::SetupStep::Refused(errno) => Self::refused(errno),
            other => Self::not(other),
        }
    }
}

/// Returns the remedy for a refused step. `scarce` is the remedy if a resource was exhausted.
fn remedy(step: &StepReport, since: &str, scarce: &str) -> String {
    match step.errno {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => seccomp_advice(),
        Some(Errno::INVAL) => format!("run Linux {since} or later"),
        _ => scarce.to_owned(),
    }
}

impl Ring {
    pub(super) fn findings(&self, memlock: &Memlock) -> Vec<Finding> {
        let mut findings = vec![Finding::ok(format!(
            "io_uring works; buffers take {} transfers",
            self.data_path
        ))];
        findings.extend(self.lost_flags());
        let nofile = "raise RLIMIT_NOFILE (ulimit -n)";
        for (step, what, since, scarce) in [
            (
                &self.registered_ring_fd,
                "the ring's descriptor cannot be registered, and is looked up at each call",
                "5.18",
                nofile,
            ),
            (
                &self.registered_files,
                "files cannot be registered, and are looked up at each request",
                "5.19",
                nofile,
            ),
            (
                &self.registered_buffers,
                "buffers cannot be registered, and are pinned at each request",
                "5.19",
                &memlock.advice(),
            ),
        ] {
            if let Some(why) = &step.why {
                let what = format!("{what} ({why})");
                findings.push(Finding::cost(what, remedy(step, since, scarce)));
            }
        }
        if !self.missing_operations.is_empty() {
            findings.push(Finding::cost(
                format!(
                    "the kernel lacks {}, and fails requests that need it with EINVAL",
                    self.missing_operations.join(", ")
                ),
                "run Linux 5.10 or later, and lift restrictions on io_uring operations",
            ));
        }
        findings
    }

    /// Returns what the better flag sets would add. `NO_SQARRAY` alone makes no measurable difference.
    fn lost_flags(&self) -> Option<Finding> {
        let best = &self.refused.first()?.flags;
        let lost = best.iter().filter(|flag| !self.flags.contains(flag));
        let lost: KernelFeatures = lost
            .filter_map(|flag| KernelFeatures::from_name(flag))
            .collect();
        let (major, minor) = lost.since()?;
        let names = lost.names();
        let what = format!("the kernel refused the set-up flags {}", names.join(", "));
        let advice = format!("run Linux {major}.{minor} or later");
        Some(if names == ["NO_SQARRAY"] {
            Finding::note(what, advice)
        } else {
            Finding::cost(what, advice)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Level;

    fn ring(flags: &[&'static str], refused: &[&[&'static str]]) -> Ring {
        Ring {
            flags: flags.to_vec(),
            refused: refused
                .iter()
                .map(|flags| Rung {
                    flags: flags.to_vec(),
                    why: "Invalid argument".to_owned(),
                })
                .collect(),
            sq_entries: 256,
            cq_entries: 512,
            registered_ring_fd: StepReport::in_use(),
            registered_files: StepReport::in_use(),
            registered_buffers: StepReport::in_use(),
            missing_operations: Vec::new(),
            data_path: "registered",
        }
    }

    const LIMIT: Memlock = Memlock {
        soft: Some(65_536),
        hard: Some(65_536),
        exempt: false,
    };

    #[test]
    fn a_ring_with_everything_is_fine() {
        let findings = ring(&["SUBMIT_ALL"], &[]).findings(&LIMIT);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Ok);
    }

    #[test]
    fn a_lost_flag_names_the_kernel_that_has_it() {
        let top = ["SINGLE_ISSUER", "DEFER_TASKRUN", "NO_SQARRAY"];
        let next = ["SINGLE_ISSUER", "DEFER_TASKRUN"];
        let note = ring(&next, &[&top]).lost_flags().unwrap();
        assert_eq!(note.level, Level::Note);
        let cost = ring(&["COOP_TASKRUN"], &[&top, &next])
            .lost_flags()
            .unwrap();
        assert_eq!(cost.level, Level::Cost);
        assert!(
            cost.what
                .ends_with("SINGLE_ISSUER, DEFER_TASKRUN, NO_SQARRAY")
        );
        assert_eq!(cost.advice.as_deref(), Some("run Linux 6.6 or later"));
    }

    #[test]
    fn what_is_missing_costs_and_says_how_to_mend_it() {
        let mut ring = ring(&[], &[]);
        ring.registered_ring_fd = StepReport::refused(Errno::INVAL);
        ring.registered_files = StepReport::refused(Errno::MFILE);
        ring.registered_buffers = StepReport::refused(Errno::NOMEM);
        ring.missing_operations.push("READ_FIXED");
        let findings = ring.findings(&LIMIT);
        let costs: Vec<_> = findings
            .iter()
            .filter(|finding| finding.level == Level::Cost)
            .map(|finding| finding.advice.as_deref().unwrap())
            .collect();
        let expected = [
            "Linux 5.18",
            "RLIMIT_NOFILE",
            "RLIMIT_MEMLOCK",
            "Linux 5.10",
        ];
        assert_eq!(costs.len(), expected.len());
        for (advice, part) in costs.iter().zip(expected) {
            assert!(advice.contains(part), "{advice}");
        }
    }

    #[test]
    fn a_forbidden_registration_is_put_down_to_seccomp() {
        let mut ring = ring(&[], &[]);
        ring.registered_buffers = StepReport::refused(Errno::PERM);
        let finding = &ring.findings(&LIMIT)[1];
        let advice = finding.advice.as_deref().unwrap();
        assert!(advice.contains("io_uring_register"), "{finding:?}");
    }
}
