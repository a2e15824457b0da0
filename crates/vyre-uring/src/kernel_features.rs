//! Features of the kernel that a transport uses where they exist.

use std::fmt;

use bitflags::bitflags;

bitflags! {
    /// Features of the kernel without which a transport works, less well. A transport can be built as if the kernel
    /// lacked some of them: see [`TransportBuilder::withhold`](crate::TransportBuilder::withhold).
    ///
    /// ```
    /// use vyre_uring::{KernelFeatures, Ring};
    ///
    /// // A ring as on Linux 5.15, to test a program on what its users have.
    /// let old = Ring::builder().withhold(KernelFeatures::newer_than(5, 15));
    /// // A ring that leaves one feature alone, because a kernel has a fault in it.
    /// let without = Ring::builder().withhold(KernelFeatures::DEFER_TASKRUN);
    /// # let _ = (old, without);
    /// ```
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct KernelFeatures: u32 {
        /// The set-up flag `SINGLE_ISSUER` of a ring (Linux 6.0).
        const SINGLE_ISSUER = 1;
        /// The set-up flag `DEFER_TASKRUN` of a ring (Linux 6.1).
        const DEFER_TASKRUN = 1 << 1;
        /// The set-up flag `COOP_TASKRUN` of a ring (Linux 5.19).
        const COOP_TASKRUN = 1 << 2;
        /// The set-up flag `TASKRUN_FLAG` of a ring (Linux 5.19).
        const TASKRUN_FLAG = 1 << 3;
        /// The set-up flag `SUBMIT_ALL` of a ring (Linux 5.18).
        const SUBMIT_ALL = 1 << 4;
        /// The set-up flag `NO_SQARRAY` of a ring (Linux 6.6).
        const NO_SQARRAY = 1 << 5;
        /// Registration of a ring's own descriptor (Linux 5.18).
        const RING_FD = 1 << 6;
        /// Registration of an empty file table with a ring (Linux 5.19).
        const FILES = 1 << 7;
        /// Registration of an empty buffer table with a ring (Linux 5.19).
        const BUFFERS = 1 << 8;
        /// Limits of the number of a ring's workers (Linux 5.15).
        const WORKER_BOUNDS = 1 << 9;
        /// Cores of a ring's workers (Linux 5.14).
        const WORKER_CORES = 1 << 10;
        /// Cancellation of everything in a ring by one call (Linux 6.0).
        const SYNC_CANCEL = 1 << 11;
        /// The question which operations a ring has (Linux 5.6).
        const PROBE = 1 << 12;
        /// Waits on a ring with a time limit, in one call (Linux 5.11).
        const EXT_ARG = 1 << 13;
        /// The operation `FUTEX_WAIT` of a ring (Linux 6.7).
        const FUTEX_WAIT = 1 << 14;
        /// The system call `futex_waitv` (Linux 5.16).
        const FUTEX_WAITV = 1 << 15;
    }
}

/// The first version of Linux with each feature.
const SINCE: [(KernelFeatures, (u32, u32)); 16] = [
    (KernelFeatures::SINGLE_ISSUER, (6, 0)),
    (KernelFeatures::DEFER_TASKRUN, (6, 1)),
    (KernelFeatures::COOP_TASKRUN, (5, 19)),
    (KernelFeatures::TASKRUN_FLAG, (5, 19)),
    (KernelFeatures::SUBMIT_ALL, (5, 18)),
    (KernelFeatures::NO_SQARRAY, (6, 6)),
    (KernelFeatures::RING_FD, (5, 18)),
    (KernelFeatures::FILES, (5, 19)),
    (KernelFeatures::BUFFERS, (5, 19)),
    (KernelFeatures::WORKER_BOUNDS, (5, 15)),
    (KernelFeatures::WORKER_CORES, (5, 14)),
    (KernelFeatures::SYNC_CANCEL, (6, 0)),
    (KernelFeatures::PROBE, (5, 6)),
    (KernelFeatures::EXT_ARG, (5, 11)),
    (KernelFeatures::FUTEX_WAIT, (6, 7)),
    (KernelFeatures::FUTEX_WAITV, (5, 16)),
];

impl KernelFeatures {
    /// Returns the features that this version of Linux lacks, as released by its authors. Distributions may have added
    /// some of them to an older version.
    pub fn newer_than(major: u32, minor: u32) -> Self {
        SINCE
            .into_iter()
            .filter(|&(_, since)| since > (major, minor))
            .map(|(feature, _)| feature)
            .collect()
    }

    /// Returns the first version of Linux with all of these features, or `None` if there are none in the set.
    pub fn since(self) -> Option<(u32, u32)> {
        SINCE
            .into_iter()
            .filter(|&(feature, _)| self.contains(feature))
            .map(|(_, since)| since)
            .max()
    }

    /// Writes the line of a report that names the features, if there are any.
    pub(crate) fn fmt_line(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_empty() {
            true => Ok(()),
            false => write!(f, "\nwithheld: {}", self.names().join(" ")),
        }
    }

    /// Returns the kernel's names, or names like those, in a fixed order.
    pub fn names(self) -> Vec<&'static str> {
        self.iter_names().map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_a_version() {
        let listed: KernelFeatures = SINCE.iter().map(|&(feature, _)| feature).collect();
        assert_eq!(listed, KernelFeatures::all());
        assert_eq!(SINCE.len(), KernelFeatures::all().iter().count());
        assert_eq!(KernelFeatures::all().since(), Some((6, 7)));
        assert_eq!(KernelFeatures::empty().since(), None);
    }

    #[test]
    fn a_kernel_lacks_what_came_after_it() {
        assert_eq!(KernelFeatures::newer_than(6, 7), KernelFeatures::empty());
        assert_eq!(KernelFeatures::newer_than(6, 6), KernelFeatures::FUTEX_WAIT);
        assert_eq!(KernelFeatures::newer_than(5, 5), KernelFeatures::all());
        assert_eq!(
            KernelFeatures::newer_than(6, 0).names(),
            ["DEFER_TASKRUN", "NO_SQARRAY", "FUTEX_WAIT"]
        );
    }
}
