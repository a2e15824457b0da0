//! Building a ring: a ladder of features, tried from the top.

use std::time::Duration;

use io_uring::{IoUring, Parameters, opcode};
use rustix::io::Errno;

use crate::error::SetupError;
use crate::kernel_ring::{Raw, errno_of};
use crate::ring::Ring;
use crate::setup_report::{Opcode, RefusedFlags, RingFeatures, SetupReport, SetupStep};

/// What the kernel allows (`IORING_MAX_ENTRIES`).
const MAX_ENTRIES: u32 = 32_768;

/// What the kernel allows (`IORING_MAX_FIXED_FILES`).
const MAX_FILES: u32 = 1 << 20;

/// What the kernel allows (`IORING_MAX_REG_BUFFERS`).
pub(crate) const MAX_BUFFERS: u32 = 1 << 14;

/// Places of the kernel's buffer table beyond one for each slot: for the pieces of buffers that are
/// larger than one place can hold.
const EXTRA_BUFFERS: u32 = 1024;

/// Largest number of worker threads that a ring asks for by itself, however many entries it has.
const MAX_WORKERS: u32 = 512;

/// A set-up flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetupFlag {
    SingleIssuer,
    DeferTaskrun,
    CoopTaskrun,
    TaskrunFlag,
    NoSqarray,
    SubmitAll,
}

use SetupFlag::{CoopTaskrun, DeferTaskrun, NoSqarray, SingleIssuer, SubmitAll, TaskrunFlag};

/// The rungs, best first. Each comment names the kernel that took the one above it first.
const LADDER: [&[SetupFlag]; 6] = [
    &[
        SingleIssuer,
        DeferTaskrun,
        TaskrunFlag,
        SubmitAll,
        NoSqarray,
    ],
    // 6.6
    &[SingleIssuer, DeferTaskrun, TaskrunFlag, SubmitAll],
    // 6.1
    &[SingleIssuer, CoopTaskrun, TaskrunFlag, SubmitAll],
    // 6.0
    &[CoopTaskrun, TaskrunFlag, SubmitAll],
    // 5.19
    &[SubmitAll],
    // 5.18
    &[],
];

impl SetupFlag {
    const fn name(self) -> &'static str {
        match self {
            SingleIssuer => "SINGLE_ISSUER",
            DeferTaskrun => "DEFER_TASKRUN",
            CoopTaskrun => "COOP_TASKRUN",
            TaskrunFlag => "TASKRUN_FLAG",
            NoSqarray => "NO_SQARRAY",
            SubmitAll => "SUBMIT_ALL",
        }
    }

    fn set(self, builder: &mut io_uring::Builder) {
        match self {
            SingleIssuer => builder.setup_single_issuer(),
            DeferTaskrun => builder.setup_defer_taskrun(),
            CoopTaskrun => builder.setup_coop_taskrun(),
            TaskrunFlag => builder.setup_taskrun_flag(),
            NoSqarray => builder.setup_no_sqarray(),
            SubmitAll => builder.setup_submit_all(),
        };
    }
}

/// What a climb reached: the ring, its rung, and the rungs refused on the way.
type Reached<T> = (T, &'static [SetupFlag], Vec<RefusedFlags>);

/// Tries the rungs in turn. Only `EINVAL` means that the kernel does not know a rung; anything else
/// would befall the next one too, and hide its cause.
fn climb<T>(
    mut attempt: impl FnMut(&'static [SetupFlag]) -> Result<T, Errno>,
) -> Result<Reached<T>, SetupError> {
    let mut refused = Vec::new();
    for rung in LADDER {
        match attempt(rung) {
            Ok(ring) => return Ok((ring, rung, refused)),
            Err(errno @ Errno::INVAL) => refused.push(RefusedFlags {
                flags: names(rung),
                errno,
            }),
            Err(Errno::PERM | Errno::ACCESS) => return Err(SetupError::Forbidden),
            Err(Errno::NOSYS) => return Err(SetupError::Unavailable),
            Err(Errno::NOMEM) => return Err(SetupError::NoMemory),
            Err(Errno::MFILE | Errno::NFILE) => return Err(SetupError::NoDescriptors),
            Err(errno) => return Err(SetupError::Kernel(errno)),
        }
    }
    Err(SetupError::TooOld)
}

fn names(rung: &[SetupFlag]) -> Vec<&'static str> {
    rung.iter().map(|flag| flag.name()).collect()
}

/// Sets a [`Ring`] up.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until built"]
pub struct RingBuilder {
    entries: u32,
    files: u32,
    buffers: u32,
    register_files: bool,
    register_buffers: bool,
    workers: Option<u32>,
    worker_cores: Vec<usize>,
    drop_deadline: Duration,
}

impl Default for RingBuilder {
    fn default() -> Self {
        Self {
            entries: 256,
            files: 256,
            buffers: 256,
            register_files: true,
            register_buffers: true,
            workers: None,
            worker_cores: Vec::new(),
            drop_deadline: Duration::from_secs(5),
        }
    }
}

impl RingBuilder {
    /// The operations that may be in flight at once, 1 to 32768, rounded up to a power of two. The
    /// completion queue gets twice as many, so that each operation can also be cancelled.
    /// Default: 256.
    pub fn entries(mut self, entries: u32) -> Self {
        self.entries = entries;
        self
    }

    /// The slots of the file table. Default: 256.
    pub fn files(mut self, files: u32) -> Self {
        self.files = files;
        self
    }

    /// The slots of the buffer table, at most 16384. Default: 256.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.buffers = buffers;
        self
    }

    /// Whether to register files with the kernel. Without, each operation looks its descriptor up.
    /// Default: yes.
    pub fn register_files(mut self, register: bool) -> Self {
        self.register_files = register;
        self
    }

    /// Whether to register buffers with the kernel, which pins their memory and counts it against
    /// `RLIMIT_MEMLOCK`. Without, each operation pins its pages. Default: yes.
    pub fn register_buffers(mut self, register: bool) -> Self {
        self.register_buffers = register;
        self
    }

    /// Sets the largest number of worker threads that the kernel may have for files with offsets,
    /// and as many again for others. The kernel makes one where an operation would block and all
    /// there are do so. Once this many operations block, further ones that need a worker wait,
    /// whatever file they are on.
    ///
    /// By default the bound for files with offsets is raised to the ring's entries, 512 at most. The
    /// rings of a thread share their workers, so what another has set is never lowered by default. The
    /// kernel's own bounds are four for each processor, and `RLIMIT_NPROC`. It takes no bound above
    /// `RLIMIT_NPROC`, and makes no thread that a control group forbids. Zero leaves the bounds as they
    /// are.
    pub fn workers(mut self, most: u32) -> Self {
        self.workers = Some(most);
        self
    }

    /// Sets the cores that the kernel's workers for this thread's rings may run on. By default a
    /// worker inherits the cores of the thread that it works for: one that is bound to a core
    /// shares that core with its worker, which halves the rate of buffered writes (BENCHMARKS.md).
    /// Empty leaves them as they are, and so does a kernel before 5.14.
    pub fn worker_cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.worker_cores = cores.into_iter().collect();
        self
    }

    /// Sets how long a dropped ring waits for the operations that it cancels. Past that it leaks
    /// itself and the memory that they may yet write to. If a call of
    /// [`quiesce`](crate::Transport::quiesce) has waited for them in vain, it does not wait again.
    /// Default: 5 seconds.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.drop_deadline = deadline;
        self
    }

    /// Builds the ring for the calling thread.
    ///
    /// # Errors
    /// [`SetupError`], which says how to mend it. What merely slows the ring down is not an error
    /// but noted in the [`SetupReport`].
    pub fn build(self) -> Result<Ring, SetupError> {
        self.check()?;
        let (ring, rung, refused) = climb(|rung| {
            let mut builder = IoUring::builder();
            builder.dontfork();
            for flag in rung {
                flag.set(&mut builder);
            }
            builder
                .build(self.entries)
                .map_err(|error| errno_of(&error))
        })?;
        let mut raw = Raw::new(ring);
        raw.trial().map_err(SetupError::Trial)?;

        let ring_fd = raw.register_ring_fd().into();
        let files = match self.files {
            1.. if self.register_files => raw.register_files_sparse(self.files).into(),
            _ => SetupStep::Off,
        };
        let places = (self.buffers + EXTRA_BUFFERS).min(MAX_BUFFERS);
        let buffers = match self.buffers {
            1.. if self.register_buffers => raw.register_buffers_sparse(places).into(),
            _ => SetupStep::Off,
        };
        let (workers, worker_bounds) = bound_workers(&raw, self.workers, self.entries);
        if !self.worker_cores.is_empty() {
            // Costs speed, at the worst.
            let _ = raw.register_worker_cores(&self.worker_cores);
        }
        let report = SetupReport {
            flags: names(rung),
            refused,
            sq_entries: raw.params().sq_entries(),
            cq_entries: raw.params().cq_entries(),
            ring_fd,
            files,
            buffers,
            plain_buffers: 0,
            plain_errno: None,
            workers,
            worker_bounds,
            ops: probe(&raw),
            features: features(raw.params()),
        };
        Ok(Ring::new(
            raw,
            report,
            self.files,
            self.buffers,
            places,
            self.drop_deadline,
        ))
    }

    fn check(&self) -> Result<(), SetupError> {
        if !(1..=MAX_ENTRIES).contains(&self.entries) {
            return Err(SetupError::Entries(self.entries));
        }
        for (what, asked, max) in [
            ("files", self.files, MAX_FILES),
            ("buffers", self.buffers, MAX_BUFFERS),
        ] {
            if asked > max {
                return Err(SetupError::TableSize { what, asked, max });
            }
        }
        Ok(())
    }
}

/// Bounds the workers as asked, or raises the bound to `entries`. Returns the step and the bounds
/// that hold then.
fn bound_workers(raw: &Raw, asked: Option<u32>, entries: u32) -> (SetupStep, Option<[u32; 2]>) {
    let bound = || {
        let [files, _] = raw.bound_workers([0, 0])?;
        match asked {
            Some(most) => raw.bound_workers([most, most])?,
            None => raw.bound_workers([entries.min(MAX_WORKERS).max(files), 0])?,
        };
        raw.bound_workers([0, 0])
    };
    match bound() {
        Ok(bounds) if asked == Some(0) => (SetupStep::Off, Some(bounds)),
        Ok(bounds) => (SetupStep::InUse, Some(bounds)),
        Err(errno) => (SetupStep::Refused(errno), None),
    }
}

fn probe(raw: &Raw) -> Option<[bool; Opcode::ALL.len()]> {
    let probe = raw.probe().ok()?;
    Some(Opcode::ALL.map(|kind| {
        probe.is_supported(match kind {
            Opcode::ReadFixed => opcode::ReadFixed::CODE,
            Opcode::WriteFixed => opcode::WriteFixed::CODE,
            Opcode::Read => opcode::Read::CODE,
            Opcode::Write => opcode::Write::CODE,
            Opcode::Sync => opcode::Fsync::CODE,
            Opcode::Prefetch => opcode::Fadvise::CODE,
            Opcode::Cancel => opcode::AsyncCancel::CODE,
        })
    }))
}

fn features(params: &Parameters) -> RingFeatures {
    RingFeatures {
        ext_arg: params.is_feature_ext_arg(),
        nodrop: params.is_feature_nodrop(),
        native_workers: params.is_feature_native_workers(),
        fast_poll: params.is_feature_fast_poll(),
        rsrc_tags: params.is_feature_resource_tagging(),
        min_timeout: params.is_feature_min_timeout(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_rung_is_taken_when_allowed() {
        let ((), rung, refused) = climb(|_| Ok(())).unwrap();
        assert_eq!(rung, LADDER[0]);
        assert!(refused.is_empty());
    }

    #[test]
    fn invalid_steps_down_and_is_recorded() {
        let (tried, rung, refused) = climb({
            let mut tried = 0;
            move |rung| {
                tried += 1;
                if rung.contains(&DeferTaskrun) {
                    Err(Errno::INVAL)
                } else {
                    Ok(tried)
                }
            }
        })
        .unwrap();
        assert_eq!((tried, rung), (3, LADDER[2]));
        assert_eq!(refused.len(), 2);
        assert_eq!(refused[0].flags, names(LADDER[0]));
        assert!(refused.iter().all(|refused| refused.errno == Errno::INVAL));
    }

    #[test]
    fn any_other_errno_ends_the_climb_with_its_own_cause() {
        for (errno, expected) in [
            (Errno::PERM, SetupError::Forbidden),
            (Errno::NOSYS, SetupError::Unavailable),
            (Errno::NOMEM, SetupError::NoMemory),
            (Errno::MFILE, SetupError::NoDescriptors),
            (Errno::FAULT, SetupError::Kernel(Errno::FAULT)),
        ] {
            let mut tried = 0;
            let result = climb(|_| {
                tried += 1;
                Err::<(), _>(errno)
            });
            assert_eq!(result.unwrap_err(), expected);
            assert_eq!(tried, 1, "{errno} must not be retried on a lower rung");
        }
    }

    #[test]
    fn a_kernel_that_refuses_all_is_reported() {
        let mut tried = 0;
        let result = climb(|_| {
            tried += 1;
            Err::<(), _>(Errno::INVAL)
        });
        assert_eq!(result.unwrap_err(), SetupError::TooOld);
        assert_eq!(tried, LADDER.len());
    }
}
