//! The report on the set-up of a ring: what it was built with, and why not with more.

use std::fmt;

use rustix::io::Errno;

use crate::futex_means::FutexMeans;
use crate::kernel_features::KernelFeatures;

/// The result of an optional step of a set-up, which makes a ring faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupStep {
    /// The step was taken.
    InUse,
    /// The step was not requested.
    Off,
    /// The kernel refused the step with this errno. The ring works without it.
    Refused(Errno),
}

impl SetupStep {
    /// Returns whether the step was taken.
    pub const fn in_use(self) -> bool {
        matches!(self, Self::InUse)
    }
}

impl From<Result<(), Errno>> for SetupStep {
    fn from(result: Result<(), Errno>) -> Self {
        match result {
            Ok(()) => Self::InUse,
            Err(errno) => Self::Refused(errno),
        }
    }
}

impl fmt::Display for SetupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("yes"),
            Self::Off => f.write_str("no (not asked for)"),
            Self::Refused(Errno::NOMEM) => f.write_str("no (ENOMEM: raise RLIMIT_MEMLOCK)"),
            Self::Refused(Errno::MFILE) => f.write_str("no (EMFILE: raise RLIMIT_NOFILE)"),
            Self::Refused(Errno::INVAL) => f.write_str("no (EINVAL: the kernel is too old)"),
            Self::Refused(errno) => write!(f, "no ({errno})"),
        }
    }
}

/// A set of set-up flags that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedFlags {
    /// The flags, by the kernel's names without their prefix.
    pub flags: Vec<&'static str>,
    /// The errno of the kernel.
    pub errno: Errno,
}

/// The opcodes that a ring submits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opcode {
    /// `READ_FIXED`: into a registered buffer.
    ReadFixed,
    /// `WRITE_FIXED`: from a registered buffer.
    WriteFixed,
    /// `READ`: into any memory.
    Read,
    /// `WRITE`: from any memory.
    Write,
    /// `FSYNC`.
    Sync,
    /// `FADVISE`.
    Prefetch,
    /// `ASYNC_CANCEL`.
    Cancel,
    /// `FUTEX_WAIT`, by which devices can end a sleep. Linux 6.7 has it.
    FutexWait,
}

impl Opcode {
    /// All opcodes.
    pub const ALL: [Self; 8] = [
        Self::ReadFixed,
        Self::WriteFixed,
        Self::Read,
        Self::Write,
        Self::Sync,
        Self::Prefetch,
        Self::Cancel,
        Self::FutexWait,
    ];

    /// Returns the kernel's name, without its prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReadFixed => "READ_FIXED",
            Self::WriteFixed => "WRITE_FIXED",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Sync => "FSYNC",
            Self::Prefetch => "FADVISE",
            Self::Cancel => "ASYNC_CANCEL",
            Self::FutexWait => "FUTEX_WAIT",
        }
    }
}

/// The features that the kernel states for its io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RingFeatures {
    /// `EXT_ARG`: waits with a timeout in one call.
    pub ext_arg: bool,
    /// `NODROP`: completions that overflow the queue are kept.
    pub nodrop: bool,
    /// `NATIVE_WORKERS`: blocking operations run in threads of this process.
    pub native_workers: bool,
    /// `FAST_POLL`: pipes and sockets need no worker thread to wait on.
    pub fast_poll: bool,
    /// `RSRC_TAGS`: the tables can be changed while in use.
    pub rsrc_tags: bool,
    /// `MIN_TIMEOUT`: a wait for a batch can have a shorter time limit for a part of it.
    pub min_timeout: bool,
}

/// Says what a [`Ring`](crate::Ring) was built with, and why not with more. `Display` formats it in a
/// few lines.
#[derive(Debug, Clone)]
pub struct RingReport {
    pub(crate) flags: Vec<&'static str>,
    pub(crate) refused: Vec<RefusedFlags>,
    pub(crate) sq_entries: u32,
    pub(crate) cq_entries: u32,
    pub(crate) ring_fd: SetupStep,
    pub(crate) files: SetupStep,
    pub(crate) buffers: SetupStep,
    pub(crate) plain_buffers: u32,
    pub(crate) plain_errno: Option<Errno>,
    pub(crate) workers: SetupStep,
    pub(crate) worker_bounds: Option<[u32; 2]>,
    pub(crate) ops: Option<[bool; Opcode::ALL.len()]>,
    pub(crate) features: RingFeatures,
    pub(crate) withheld: KernelFeatures,
    pub(crate) futexes: Option<FutexMeans>,
}

impl RingReport {
    /// Returns the set-up flags in use: the best set that the kernel took.
    pub fn flags(&self) -> &[&'static str] {
        &self.flags
    }

    /// Returns the better sets of flags that the kernel refused, best first.
    pub fn refused(&self) -> &[RefusedFlags] {
        &self.refused
    }

    /// Returns the number of entries of the submission queue.
    pub fn sq_entries(&self) -> u32 {
        self.sq_entries
    }

    /// Returns the number of entries of the completion queue.
    pub fn cq_entries(&self) -> u32 {
        self.cq_entries
    }

    /// Returns whether the ring's own descriptor is registered with the thread.
    pub fn ring_fd(&self) -> SetupStep {
        self.ring_fd
    }

    /// Returns whether files are registered with the ring.
    pub fn files(&self) -> SetupStep {
        self.files
    }

    /// Returns whether buffers can be registered with the ring.
    pub fn buffers(&self) -> SetupStep {
        self.buffers
    }

    /// Returns how many buffers the kernel has refused to register so far, with the latest errno. They
    /// are served by plain reads and writes.
    pub fn plain_buffers(&self) -> (u32, Option<Errno>) {
        (self.plain_buffers, self.plain_errno)
    }

    /// Returns whether the number of the kernel's worker threads is limited as
    /// [requested](crate::RingBuilder::workers), which needs Linux 5.15.
    pub fn workers(&self) -> SetupStep {
        self.workers
    }

    /// Returns the largest numbers of worker threads for files with offsets and for other files, or
    /// `None` if the kernel did not state them.
    pub fn worker_bounds(&self) -> Option<[u32; 2]> {
        self.worker_bounds
    }

    /// Returns whether the kernel has this opcode, or `None` if it cannot be asked. An operation that
    /// it lacks completes with `EINVAL`.
    pub fn supports(&self, opcode: Opcode) -> Option<bool> {
        let index = Opcode::ALL.iter().position(|&other| other == opcode)?;
        self.ops.map(|ops| ops[index])
    }

    /// Returns the features of the kernel's io_uring.
    pub fn features(&self) -> RingFeatures {
        self.features
    }

    /// Returns how the ring notices futexes, once [`set_futexes`](crate::Transport::set_futexes) was called.
    pub fn futexes(&self) -> Option<FutexMeans> {
        self.futexes
    }

    /// Returns the features that were [withheld](crate::TransportBuilder::withhold). The report treats them as lacking.
    pub fn withheld(&self) -> KernelFeatures {
        self.withheld
    }
}

impl fmt::Display for RingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |flags: &[&str]| match flags {
            [] => "none".to_owned(),
            flags => flags.join(" | "),
        };
        writeln!(f, "set-up flags: {}", name(&self.flags))?;
        for refused in &self.refused {
            writeln!(f, "  refused: {} ({})", name(&refused.flags), refused.errno)?;
        }
        writeln!(
            f,
            "entries: {} submission, {} completion",
            self.sq_entries, self.cq_entries
        )?;
        writeln!(f, "registered ring descriptor: {}", self.ring_fd)?;
        writeln!(f, "registered files: {}", self.files)?;
        write!(f, "registered buffers: {}", self.buffers)?;
        if let (count @ 1.., Some(errno)) = self.plain_buffers() {
            write!(
                f,
                ", but {count} given could not be ({errno}) and take plain transfers"
            )?;
        }
        write!(f, "\nworker threads bounded: {}", self.workers)?;
        if let Some([files, others]) = self.worker_bounds {
            write!(f, ", {files} for files and {others} for others")?;
        }
        write!(f, "\noperations:")?;
        for kind in Opcode::ALL {
            let mark = match self.supports(kind) {
                Some(true) => "",
                Some(false) => " (missing)",
                None => " (unknown)",
            };
            write!(f, " {}{mark}", kind.name())?;
        }
        let RingFeatures {
            ext_arg,
            nodrop,
            native_workers,
            fast_poll,
            rsrc_tags,
            min_timeout,
        } = self.features;
        write!(f, "\nkernel features:")?;
        for (present, name) in [
            (ext_arg, "EXT_ARG"),
            (nodrop, "NODROP"),
            (native_workers, "NATIVE_WORKERS"),
            (fast_poll, "FAST_POLL"),
            (rsrc_tags, "RSRC_TAGS"),
            (min_timeout, "MIN_TIMEOUT"),
        ] {
            write!(f, " {name}{}", if present { "" } else { " (missing)" })?;
        }
        FutexMeans::fmt_line(self.futexes, f)?;
        self.withheld.fmt_line(f)
    }
}
