//! Set-up of a ring: sets of flags are tried in turn, the best first.

use std::time::Duration;

use io_uring::{IoUring, Parameters, opcode};
use rustix::io::Errno;

use crate::error::SetupError;
use crate::kernel_features::KernelFeatures;
use crate::kernel_ring::{KernelRing, errno_of};
use crate::ring::Ring;
use crate::settings::{CommonSettings, MAX_BUFFERS};
use crate::setup_report::{Opcode, RefusedFlags, RingFeatures, RingReport, SetupStep};

/// Indexes of the kernel's buffer table beyond one for each slot: for buffers that are registered in
/// several pieces.
const SPARE_INDEXES: u32 = 1024;

/// The largest number of worker threads that a ring requests by default.
const MAX_WORKERS: u32 = 512;

/// The sets of set-up flags, best first. Each comment names the first kernel that knows the set above it.
const FLAG_SETS: [KernelFeatures; 6] = [
    DEFERRED.union(KernelFeatures::NO_SQARRAY),
    // 6.6
    DEFERRED,
    // 6.1
    COOPERATIVE.union(KernelFeatures::SINGLE_ISSUER),
    // 6.0
    COOPERATIVE,
    // 5.19
    KernelFeatures::SUBMIT_ALL,
    // 5.18
    KernelFeatures::empty(),
];

const DEFERRED: KernelFeatures = KernelFeatures::SINGLE_ISSUER
    .union(KernelFeatures::DEFER_TASKRUN)
    .union(KernelFeatures::TASKRUN_FLAG)
    .union(KernelFeatures::SUBMIT_ALL);

const COOPERATIVE: KernelFeatures = KernelFeatures::COOP_TASKRUN
    .union(KernelFeatures::TASKRUN_FLAG)
    .union(KernelFeatures::SUBMIT_ALL);

fn set_flag(builder: &mut io_uring::Builder, flag: KernelFeatures) {
    match flag {
        KernelFeatures::SINGLE_ISSUER => builder.setup_single_issuer(),
        KernelFeatures::DEFER_TASKRUN => builder.setup_defer_taskrun(),
        KernelFeatures::COOP_TASKRUN => builder.setup_coop_taskrun(),
        KernelFeatures::TASKRUN_FLAG => builder.setup_taskrun_flag(),
        KernelFeatures::NO_SQARRAY => builder.setup_no_sqarray(),
        KernelFeatures::SUBMIT_ALL => builder.setup_submit_all(),
        other => unreachable!("{other:?} is no set-up flag"),
    };
}

/// The ring, its flags, and the sets that were refused before.
type Built<T> = (T, KernelFeatures, Vec<RefusedFlags>);

/// Tries the sets in turn. Only `EINVAL` means that the kernel does not know a flag; any other error
/// would recur with the next set, and hide its cause.
fn try_flag_sets<T>(
    mut attempt: impl FnMut(KernelFeatures) -> Result<T, Errno>,
) -> Result<Built<T>, SetupError> {
    let mut refused = Vec::new();
    for flags in FLAG_SETS {
        match attempt(flags) {
            Ok(ring) => return Ok((ring, flags, refused)),
            Err(errno @ Errno::INVAL) => refused.push(RefusedFlags {
                flags: flags.names(),
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

/// Configures and builds a [`Ring`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until built"]
pub struct RingBuilder {
    common: CommonSettings,
    register_files: bool,
    register_buffers: bool,
    workers: Option<u32>,
}

impl Default for RingBuilder {
    fn default() -> Self {
        Self {
            common: CommonSettings::default(),
            register_files: true,
            register_buffers: true,
            workers: None,
        }
    }
}

impl Ring {
    /// Starts the set-up of a ring.
    pub fn builder() -> RingBuilder {
        RingBuilder::default()
    }
}

impl RingBuilder {
    /// Starts with settings that were made for any transport.
    pub(crate) fn with(common: CommonSettings) -> Self {
        Self {
            common,
            ..Self::default()
        }
    }

    /// Sets how many operations may be in flight at once, 1 to 32768, rounded up to a power of two.
    /// The completion queue gets twice as many entries, so that each operation can also be
    /// cancelled. Default: 256.
    pub fn entries(mut self, entries: u32) -> Self {
        self.common.entries = entries;
        self
    }

    /// Sets the number of slots of the file table, at most 1048576. Default: 256.
    pub fn files(mut self, files: u32) -> Self {
        self.common.files = files;
        self
    }

    /// Sets the number of slots of the buffer table, at most 16384. Default: 256.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.common.buffers = buffers;
        self
    }

    /// Sets whether files are registered with the kernel. Without registration, the kernel looks up
    /// the descriptor of each operation. Default: yes.
    pub fn register_files(mut self, register: bool) -> Self {
        self.register_files = register;
        self
    }

    /// Sets whether buffers are registered with the kernel, which pins their memory and counts it
    /// against `RLIMIT_MEMLOCK`. Without registration, each operation pins its pages. Default: yes.
    pub fn register_buffers(mut self, register: bool) -> Self {
        self.register_buffers = register;
        self
    }

    /// Sets the largest number of worker threads that the kernel may have for files with offsets, and
    /// the same number again for other files. The kernel starts a worker when an operation would block
    /// and all existing workers are blocked. Once this many operations block, further ones that need a
    /// worker wait, whatever file they are on.
    ///
    /// By default, the limit for files with offsets is raised to the ring's entries, up to 512. The
    /// rings of a thread share their workers, so the default never lowers a limit that another ring
    /// has set. The kernel's own limits are four workers for each processor, and `RLIMIT_NPROC`. The
    /// kernel takes no limit above `RLIMIT_NPROC`, and starts no thread that a control group forbids.
    /// Zero leaves the limits as they are.
    pub fn workers(mut self, most: u32) -> Self {
        self.workers = Some(most);
        self
    }

    /// Sets the cores on which the kernel's workers for this thread's rings may run. By default a
    /// worker inherits the cores of the thread that it works for: a thread that is bound to a core
    /// shares that core with its workers, which halves the rate of buffered writes (BENCHMARKS.md).
    /// An empty set leaves the cores as they are, and so does a kernel before 5.14.
    pub fn worker_cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.common.worker_cores = cores.into_iter().collect();
        self
    }

    /// Sets how long a dropped ring waits for the operations that it cancels. After that it leaks
    /// itself and the memory that they may yet write to. It does not wait if
    /// [`quiesce`](Ring::quiesce) has already waited for the same operations in vain. Default:
    /// 5 seconds.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.common.drop_deadline = deadline;
        self
    }

    /// Builds the ring as if the kernel lacked these features: see
    /// [`TransportBuilder::withhold`](crate::TransportBuilder::withhold). Default: none.
    pub fn withhold(mut self, features: KernelFeatures) -> Self {
        self.common.withheld = features;
        self
    }

    /// Builds the ring for the calling thread.
    ///
    /// # Errors
    /// A [`SetupError`] if a number is out of range, or if the kernel makes no ring or performs no
    /// operation on it. An optional step that fails is not an error: the [`RingReport`] notes it.
    pub fn build(self) -> Result<Ring, SetupError> {
        self.common.check()?;
        let withheld = self.common.withheld;
        let (ring, flags, refused) = try_flag_sets(|flags| {
            if flags.intersects(withheld) {
                return Err(Errno::INVAL);
            }
            let mut builder = IoUring::builder();
            builder.dontfork();
            for flag in flags {
                set_flag(&mut builder, flag);
            }
            builder
                .build(self.common.entries)
                .map_err(|error| errno_of(&error))
        })?;
        let mut kernel = KernelRing::new(ring, withheld);
        kernel.trial().map_err(SetupError::Trial)?;

        let ring_fd = kernel.register_ring_fd().into();
        let files = match self.common.files {
            1.. if self.register_files => kernel.register_files_sparse(self.common.files).into(),
            _ => SetupStep::Off,
        };
        let indexes = (self.common.buffers + SPARE_INDEXES).min(MAX_BUFFERS);
        let buffers = match self.common.buffers {
            1.. if self.register_buffers => kernel.register_buffers_sparse(indexes).into(),
            _ => SetupStep::Off,
        };
        let (workers, worker_bounds) = bound_workers(&kernel, self.workers, self.common.entries);
        if !self.common.worker_cores.is_empty() {
            // A failure costs speed at worst.
            let _ = kernel.register_worker_cores(&self.common.worker_cores);
        }
        let report = RingReport {
            flags: flags.names(),
            refused,
            sq_entries: kernel.params().sq_entries(),
            cq_entries: kernel.params().cq_entries(),
            ring_fd,
            files,
            buffers,
            plain_buffers: 0,
            plain_errno: None,
            workers,
            worker_bounds,
            ops: probe(&kernel, withheld),
            features: features(kernel.params(), withheld),
            withheld,
            futexes: None,
        };
        Ok(Ring::new(kernel, report, &self.common, indexes))
    }
}

/// Limits the workers as asked, or raises the limit to `entries`. Returns the result of the step and
/// the limits that hold afterwards.
fn bound_workers(
    kernel: &KernelRing,
    asked: Option<u32>,
    entries: u32,
) -> (SetupStep, Option<[u32; 2]>) {
    let bound = || {
        let [files, _] = kernel.bound_workers([0, 0])?;
        match asked {
            Some(most) => kernel.bound_workers([most, most])?,
            None => kernel.bound_workers([entries.min(MAX_WORKERS).max(files), 0])?,
        };
        kernel.bound_workers([0, 0])
    };
    match bound() {
        Ok(bounds) if asked == Some(0) => (SetupStep::Off, Some(bounds)),
        Ok(bounds) => (SetupStep::InUse, Some(bounds)),
        Err(errno) => (SetupStep::Refused(errno), None),
    }
}

fn probe(kernel: &KernelRing, withheld: KernelFeatures) -> Option<[bool; Opcode::ALL.len()]> {
    let probe = kernel.probe().ok()?;
    Some(Opcode::ALL.map(|kind| {
        let hidden = kind == Opcode::FutexWait && withheld.contains(KernelFeatures::FUTEX_WAIT);
        let has = probe.is_supported(match kind {
            Opcode::ReadFixed => opcode::ReadFixed::CODE,
            Opcode::WriteFixed => opcode::WriteFixed::CODE,
            Opcode::Read => opcode::Read::CODE,
            Opcode::Write => opcode::Write::CODE,
            Opcode::Sync => opcode::Fsync::CODE,
            Opcode::Prefetch => opcode::Fadvise::CODE,
            Opcode::Cancel => opcode::AsyncCancel::CODE,
            Opcode::FutexWait => opcode::FutexWait::CODE,
        });
        has && !hidden
    }))
}

fn features(params: &Parameters, withheld: KernelFeatures) -> RingFeatures {
    RingFeatures {
        ext_arg: params.is_feature_ext_arg() && !withheld.contains(KernelFeatures::EXT_ARG),
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
    fn the_best_flags_are_taken_when_allowed() {
        let ((), flags, refused) = try_flag_sets(|_| Ok(())).unwrap();
        assert_eq!(flags, FLAG_SETS[0]);
        assert!(refused.is_empty());
    }

    #[test]
    fn invalid_flags_are_recorded_and_the_next_set_is_tried() {
        let (tried, flags, refused) = try_flag_sets({
            let mut tried = 0;
            move |flags| {
                tried += 1;
                if flags.contains(KernelFeatures::DEFER_TASKRUN) {
                    Err(Errno::INVAL)
                } else {
                    Ok(tried)
                }
            }
        })
        .unwrap();
        assert_eq!((tried, flags), (3, FLAG_SETS[2]));
        assert_eq!(refused.len(), 2);
        assert_eq!(refused[0].flags, FLAG_SETS[0].names());
        assert!(refused.iter().all(|refused| refused.errno == Errno::INVAL));
    }

    #[test]
    fn any_other_errno_ends_the_set_up_with_its_own_cause() {
        for (errno, expected) in [
            (Errno::PERM, SetupError::Forbidden),
            (Errno::NOSYS, SetupError::Unavailable),
            (Errno::NOMEM, SetupError::NoMemory),
            (Errno::MFILE, SetupError::NoDescriptors),
            (Errno::FAULT, SetupError::Kernel(Errno::FAULT)),
        ] {
            let mut tried = 0;
            let result = try_flag_sets(|_| {
                tried += 1;
                Err::<(), _>(errno)
            });
            assert_eq!(result.unwrap_err(), expected);
            assert_eq!(tried, 1, "{errno} must not be retried with other flags");
        }
    }

    #[test]
    fn a_kernel_that_refuses_all_is_reported() {
        let mut tried = 0;
        let result = try_flag_sets(|_| {
            tried += 1;
            Err::<(), _>(Errno::INVAL)
        });
        assert_eq!(result.unwrap_err(), SetupError::TooOld);
        assert_eq!(tried, FLAG_SETS.len());
    }
}
