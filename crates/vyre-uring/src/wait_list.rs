//! Waits on several futexes at once, by futex_waitv(2).

use std::ptr::without_provenance_mut;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::ClockId;
use rustix::thread::futex::{Timespec, Wait, WaitFlags, WaitPtr, WaitvFlags, waitv};

use crate::kernel_features::KernelFeatures;

/// Returns whether the kernel has futex_waitv(2): since Linux 5.16, unless a sandbox forbids it.
pub(crate) fn has_waitv(withheld: KernelFeatures) -> bool {
    // No words are an invalid argument to a kernel that has the call.
    !withheld.contains(KernelFeatures::FUTEX_WAITV)
        && waitv(&[], WaitvFlags::empty(), None, ClockId::Monotonic) == Err(Errno::INVAL)
}

/// A word of this process's own, and words that other processes wake, as the kernel takes them.
#[derive(Debug)]
pub(crate) struct WaitList(Vec<Wait>);

impl WaitList {
    /// The largest number of words beside the own one: the kernel's limit (`FUTEX_WAITV_MAX`), less that one.
    pub(crate) const MOST: usize = 127;

    /// Lists the words by their addresses. The own word lives as long as the list is waited on, and is expected to have
    /// this value.
    pub(crate) fn new(own: &AtomicU32, expected: u32, addresses: &[usize]) -> Self {
        let private = WaitFlags::SIZE_U32 | WaitFlags::PRIVATE;
        let mut own = entry(own.as_ptr(), private);
        own.val = expected.into();
        let others = addresses
            .iter()
            .map(|&address| entry(without_provenance_mut(address), WaitFlags::SIZE_U32));
        Self(std::iter::once(own).chain(others).collect())
    }

    /// Waits until a word differs from its expected value or is woken, or until the time is over. If there are fewer
    /// expected values than words, the last words are left out.
    pub(crate) fn wait(
        &mut self,
        expected: impl IntoIterator<Item = u32>,
        limit: Option<Duration>,
    ) -> Result<(), Errno> {
        let mut listed = 1;
        for (wait, expected) in self.0.iter_mut().skip(1).zip(expected) {
            wait.val = expected.into();
            listed += 1;
        }
        // The kernel takes the time of the clock, and no duration. A time too far away is no limit.
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let end = limit.and_then(|limit| now.checked_add(Timespec::try_from(limit).ok()?));
        let waits = &self.0[..listed];
        waitv(waits, WaitvFlags::empty(), end.as_ref(), ClockId::Monotonic).map(drop)
    }
}

fn entry(word: *mut u32, flags: WaitFlags) -> Wait {
    let mut wait = Wait::new();
    wait.uaddr = WaitPtr::new(word.cast());
    wait.flags = flags;
    wait
}
