//! Settings that every transport has, and their limits: those of the kernel for a ring.

use std::time::Duration;

use crate::error::{PushError, SetupError};
use crate::kernel_features::KernelFeatures;

/// The largest number of bytes that one read or write transfers: the kernel's `MAX_RW_COUNT` with
/// pages of up to 64 KiB. The remainder then starts at a multiple of any block size.
pub(crate) const MAX_RW: u32 = 0x7fff_0000;

/// Refuses offsets that the kernel would misread: an offset of all ones means "at the file
/// position", and no file reaches beyond `i64::MAX`.
#[inline]
pub(crate) fn check_offset(offset: u64, len: u32) -> Result<(), PushError> {
    match offset.checked_add(len.into()) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(PushError::OutOfRange),
    }
}

/// The longest sleep of a transport that nobody can wake.
pub(crate) const UNHEARD: Duration = Duration::from_millis(1);

/// The kernel's limit (`IORING_MAX_ENTRIES`).
const MAX_ENTRIES: u32 = 32_768;

/// The kernel's limit (`IORING_MAX_FIXED_FILES`).
const MAX_FILES: u32 = 1 << 20;

/// The kernel's limit (`IORING_MAX_REG_BUFFERS`).
pub(crate) const MAX_BUFFERS: u32 = 1 << 14;

/// The settings of a transport's builder that do not depend on the kind of transport.
#[derive(Debug, Clone)]
pub(crate) struct CommonSettings {
    /// The number of operations that may be in flight at once.
    pub(crate) entries: u32,
    /// The numbers of slots of the tables.
    pub(crate) files: u32,
    pub(crate) buffers: u32,
    /// The cores of the threads that perform operations, if they are limited.
    pub(crate) worker_cores: Vec<usize>,
    /// Time that a dropped transport waits for what it cancels.
    pub(crate) drop_deadline: Duration,
    /// Features that the kernel is treated as lacking.
    pub(crate) withheld: KernelFeatures,
}

impl Default for CommonSettings {
    fn default() -> Self {
        Self {
            entries: 256,
            files: 256,
            buffers: 256,
            worker_cores: Vec::new(),
            drop_deadline: Duration::from_secs(5),
            withheld: KernelFeatures::empty(),
        }
    }
}

impl CommonSettings {
    /// Checks the numbers against their limits.
    pub(crate) fn check(&self) -> Result<(), SetupError> {
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
