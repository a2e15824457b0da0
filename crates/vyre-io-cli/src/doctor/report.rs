//! The findings, in the structure that `--format json` prints.

use std::fmt::Display;

use rustix::io::Errno;
use serde::Serialize;

use super::units::words;

/// The level of a finding. Later ones are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Nothing to improve.
    Ok,
    /// Worth knowing.
    Note,
    /// Works, but slower than it could.
    Cost,
    /// I/O does not work.
    Broken,
}

impl Level {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Cost => "cost",
            Self::Broken => "broken",
        }
    }
}

/// One statement about the machine or a path, with a remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) what: String,
    /// Always present if the level is `cost` or `broken`.
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            advice: None,
        }
    }

    pub(super) fn note(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Note, what, advice)
    }

    pub(super) fn cost(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Cost, what, advice)
    }

    pub(super) fn broken(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Broken, what, advice)
    }

    fn new(level: Level, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level,
            what: what.into(),
            advice: Some(advice.into()),
        }
    }
}

/// Everything that the command found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) kernel: String,
    pub(super) io_uring: IoUring,
    /// `ring` or `threads`: what performs the operations. Null if neither can.
    pub(super) transport: Option<&'static str>,
    /// The means by which devices can end a sleep of a loop. Null if there is no transport.
    pub(super) wakes_by: Option<String>,
    /// Null if no ring could be made.
    pub(super) ring: Option<Ring>,
    pub(super) memlock: Memlock,
    pub(super) gpu: Gpu,
    pub(super) paths: Vec<PathReport>,
    /// Worst first.
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// Returns whether I/O would fail, here or on a path.
    pub(super) fn is_broken(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.level == Level::Broken)
    }
}

/// Permission to use io_uring, and the settings that determine it.
#[derive(Debug, Serialize)]
pub(super) struct IoUring {
    pub(super) allowed: bool,
    /// The setting that forbids it.
    pub(super) by: Option<String>,
    /// The reason why no ring could be made.
    pub(super) error: Option<String>,
    /// `kernel.io_uring_disabled`; null before Linux 6.6, or if it cannot be read.
    pub(super) io_uring_disabled: Option<u32>,
    /// `kernel.io_uring_group`; null or -1 if no group is exempt.
    pub(super) io_uring_group: Option<i64>,
    pub(super) seccomp: Seccomp,
}

/// The seccomp mode of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Seccomp {
    Off,
    Strict,
    Filter,
    Unknown,
}

/// The set-up that the ring reached.
#[derive(Debug, Serialize)]
pub(super) struct Ring {
    pub(super) flags: Vec<&'static str>,
    pub(super) refused: Vec<Rung>,
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    pub(super) registered_ring_fd: StepReport,
    pub(super) registered_files: StepReport,
    pub(super) registered_buffers: StepReport,
    pub(super) missing_operations: Vec<&'static str>,
    /// `registered` if buffers could be registered, else `plain`.
    pub(super) data_path: &'static str,
}

/// A better set of flags that the kernel refused.
#[derive(Debug, Serialize)]
pub(super) struct Rung {
    pub(super) flags: Vec<&'static str>,
    pub(super) why: String,
}

/// A step that makes the ring faster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StepReport {
    pub(super) in_use: bool,
    /// The reason if the step was not taken.
    pub(super) why: Option<String>,
    /// The kernel's error, if the kernel refused it.
    #[serde(skip)]
    pub(super) errno: Option<Errno>,
}

impl StepReport {
    pub(super) const fn in_use() -> Self {
        Self {
            in_use: true,
            why: None,
            errno: None,
        }
    }

    pub(super) fn refused(errno: Errno) -> Self {
        Self {
            errno: Some(errno),
            ..Self::not(words(errno))
        }
    }

    pub(super) fn not(why: impl Display) -> Self {
        Self {
            in_use: false,
            why: Some(why.to_string()),
            errno: None,
        }
    }
}

/// `RLIMIT_MEMLOCK` in bytes; null is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Memlock {
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
    /// True if `CAP_IPC_LOCK` exempts this process from the limit.
    pub(super) exempt: bool,
}

/// The first GPU, as a device of queues.
#[derive(Debug, Default, Serialize)]
pub(super) struct Gpu {
    pub(super) usable: bool,
    /// The reason if it cannot be used. The rest is then unknown.
    pub(super) why: Option<String>,
    pub(super) name: Option<String>,
    pub(super) compute_capability: Option<String>,
    /// The CUDA version of the driver.
    pub(super) driver: Option<String>,
    /// `hostNativeAtomicSupported`.
    pub(super) host_native_atomics: Option<bool>,
    /// Way of the bytes from a file to a kernel, and the reason.
    pub(super) data_path: Option<String>,
}

/// The findings about one path.
#[derive(Debug, Default, Serialize)]
pub(super) struct PathReport {
    pub(super) path: String,
    /// The reason if it could not be opened. The rest is then unknown.
    pub(super) error: Option<String>,
    pub(super) file_system: Option<String>,
    pub(super) kind: Option<&'static str>,
    /// The size of a regular file in bytes.
    pub(super) size: Option<u64>,
    /// True if it opens with `O_DIRECT`; null if that was not tried.
    pub(super) direct_opens: Option<bool>,
    /// The alignment that direct I/O would need.
    pub(super) alignment: Option<Alignment>,
    /// `possible`, or the reason why page-cache reads are not; null if that was not tried.
    pub(super) page_cache: Option<String>,
    /// `possible`, or the reason why kernels cannot read its pages by themselves; null if that was not tried.
    pub(super) view: Option<String>,
    pub(super) data_path: Option<&'static str>,
    pub(super) reason: String,
}

/// The alignment of direct I/O, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Alignment {
    /// The alignment of the memory address.
    pub(super) memory: u32,
    /// The alignment of the file offset and the length.
    pub(super) offset: u32,
    pub(super) from: AlignmentSource,
}

/// The source of an alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AlignmentSource {
    /// The file system, through `statx` (Linux 6.1).
    Statx,
    /// A block device: its logical block size.
    BlockSize,
    /// An assumption: a multiple of every common block size.
    Fallback,
}

impl AlignmentSource {
    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::Statx => "as statx states",
            Self::BlockSize => "its logical blocks",
            Self::Fallback => "assumed, since nothing states it",
        }
    }
}
