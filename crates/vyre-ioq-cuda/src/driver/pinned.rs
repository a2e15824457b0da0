//! The bytes of files that are pinned, and their limit.

use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::view::ViewError;

/// The limit where the machine does not say how much memory it has.
const FALLBACK: u64 = 4 << 30;

/// Bytes that may be pinned, and how many are.
#[derive(Debug)]
pub(crate) struct PinBudget {
    pinned: AtomicU64,
    limit: AtomicU64,
}

/// A part of the budget, given back on drop.
#[derive(Debug)]
pub(super) struct PinnedBytes<'a> {
    budget: &'a PinBudget,
    bytes: u64,
}

impl PinBudget {
    const fn new(limit: u64) -> Self {
        Self {
            pinned: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
        }
    }

    /// Returns the budget of the process. Its first limit is half of the machine's memory.
    pub(crate) fn global() -> &'static Self {
        static GLOBAL: OnceLock<PinBudget> = OnceLock::new();
        GLOBAL.get_or_init(|| {
            let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
            Self::new(total_memory(&text).map_or(FALLBACK, |total| total / 2))
        })
    }

    /// Returns the bytes that are pinned. A page that is pinned twice counts twice.
    pub(crate) fn pinned(&self) -> u64 {
        // Relaxed: the numbers guard no other memory.
        self.pinned.load(Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        // Relaxed: as in `pinned`.
        self.limit.load(Relaxed)
    }

    /// Sets the limit for what is pinned from now on. Nothing is given back.
    pub(crate) fn set_limit(&self, bytes: u64) {
        // Relaxed: as in `pinned`.
        self.limit.store(bytes, Relaxed);
    }

    /// Takes this many bytes of the budget.
    pub(super) fn take(&self, bytes: u64) -> Result<PinnedBytes<'_>, ViewError> {
        let limit = self.limit();
        let within = |pinned: u64| {
            pinned
                .checked_add(bytes)
                .filter(|&together| together <= limit)
        };
        // Relaxed: as in `pinned`.
        match self.pinned.fetch_update(Relaxed, Relaxed, within) {
            Ok(_) => Ok(PinnedBytes {
                budget: self,
                bytes,
            }),
            Err(pinned) => Err(ViewError::PinLimit {
                bytes,
                pinned,
                limit,
            }),
        }
    }
}

impl Drop for PinnedBytes<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `PinBudget::pinned`.
        self.budget.pinned.fetch_sub(self.bytes, Relaxed);
    }
}

/// Returns the bytes of memory that `/proc/meminfo` names.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_stays_within_the_limit_and_is_given_back() {
        let budget = PinBudget::new(10);
        let six = budget.take(6).expect("room");
        let refused = budget.take(5).expect_err("no room");
        assert_eq!(
            refused,
            ViewError::PinLimit {
                bytes: 5,
                pinned: 6,
                limit: 10
            }
        );
        let text = refused.to_string();
        for number in ["5 bytes", "6 are", "10"] {
            assert!(text.contains(number), "{text}");
        }
        let four = budget.take(4).expect("just enough");
        assert_eq!(budget.pinned(), 10);
        drop(six);
        assert_eq!(budget.pinned(), 4);
        budget.set_limit(3);
        budget.take(0).expect_err("above the limit");
        drop(four);
        budget.take(u64::MAX).expect_err("too much");
        assert_eq!(budget.pinned(), 0);
    }

    #[test]
    fn the_sum_does_not_wrap() {
        let budget = PinBudget::new(u64::MAX);
        let _one = budget.take(1).expect("room");
        budget.take(u64::MAX).expect_err("more than there is");
    }

    #[test]
    fn the_machine_says_how_much_memory_it_has() {
        let text = "MemTotal:       24684084 kB\nMemFree:        22622076 kB\n";
        assert_eq!(total_memory(text), Some(24_684_084 << 10));
        assert_eq!(total_memory("MemTotal: much"), None);
        assert_eq!(total_memory(""), None);
        assert!(PinBudget::global().limit() > 0);
    }
}
