//! The words of the header that change while a queue is in use.

use crate::abi::{self, HeaderImage, header_word, loop_state};
use crate::layout::{Geometry, QueueLayout};
use crate::region::{Region, Words};
use crate::sync::Ordering;

/// State of the loop that serves a queue, as the host publishes it in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum LoopState {
    /// The queue exists, and no loop serves it yet.
    Starting = loop_state::STARTING,
    /// The loop serves requests.
    Running = loop_state::RUNNING,
    /// The loop finishes the requests that it has claimed, and completes new ones with ECANCELED.
    Draining = loop_state::DRAINING,
    /// The loop has ended in order. No request will be served any more.
    Stopped = loop_state::STOPPED,
    /// The host has failed. No request will be served any more.
    Failed = loop_state::FAILED,
}

impl LoopState {
    /// Returns the state that a header word names.
    ///
    /// A word that names no state reads as [`Failed`](Self::Failed): a host that stores it cannot be
    /// trusted to serve.
    pub const fn from_word(word: u32) -> Self {
        match word {
            loop_state::STARTING => Self::Starting,
            loop_state::RUNNING => Self::Running,
            loop_state::DRAINING => Self::Draining,
            loop_state::STOPPED => Self::Stopped,
            _ => Self::Failed,
        }
    }

    /// Returns the header word of this state.
    pub const fn word(self) -> u32 {
        self as u32
    }

    /// Returns whether no request will be served any more.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// All waiters on a futex.
#[cfg(all(feature = "std", target_os = "linux"))]
pub(crate) const EVERYBODY: u32 = i32::MAX.unsigned_abs();

const GROUPS: usize = header_word::END - header_word::IN_USE;
const HEADER_WORDS: usize = abi::HEADER_BYTES / size_of::<u32>();

/// Zeroes the slots of a new queue and writes its header.
pub(crate) fn initialise(region: &Region, layout: &QueueLayout) {
    let geometry = layout.geometry();
    for slot in 0..geometry.slots() {
        let first = geometry.slot_word(slot);
        for word in first..first + geometry.stride() / size_of::<u32>() {
            region.words::<1>(word).store(0, 0, Ordering::Relaxed);
        }
    }
    if geometry.is_bare() {
        return;
    }
    let words = region.words::<HEADER_WORDS>(0);
    for word in header_word::STATE..HEADER_WORDS {
        words.store(word, 0, Ordering::Relaxed);
    }
    let id = layout.id();
    let image: [u32; 16] = bytemuck::cast(HeaderImage {
        magic: abi::MAGIC,
        major: abi::ABI_MAJOR,
        minor: abi::ABI_MINOR,
        stride: abi::SLOT_BYTES as u32,
        slots: geometry.slots(),
        slots_offset: abi::HEADER_BYTES as u32,
        features: layout.features().bits(),
        queue_id: [id as u32, (id >> 32) as u32],
        reserved: [0; 6],
    });
    // The magic comes last, with release: it pairs with the acquire in `attach::read_header`.
    for (word, &value) in image.iter().enumerate().skip(1) {
        words.store(word, value, Ordering::Relaxed);
    }
    words.store(header_word::MAGIC, image[0], Ordering::Release);
}

/// Access to the header of a queue. It does nothing in a bare queue, which has none.
#[derive(Clone, Copy)]
pub(crate) struct Header<'r>(Option<Words<'r, { header_word::END }>>);

impl<'r> Header<'r> {
    #[inline]
    pub(crate) fn of(region: &'r Region, geometry: &Geometry) -> Self {
        Self((!geometry.is_bare()).then(|| region.words(0)))
    }

    /// Host end: publishes its state. Release, paired with the acquire in [`state`](Self::state): a
    /// device that sees STOPPED or FAILED also sees every outcome that was stored before it.
    pub(crate) fn set_state(self, state: LoopState) {
        if let Some(words) = self.0 {
            words.store(header_word::STATE, state.word(), Ordering::Release);
        }
    }

    /// Device end: returns the state of the host, or `None` for a bare queue.
    pub(crate) fn state(self) -> Option<LoopState> {
        let words = self.0?;
        // Acquire, paired with the release in `set_state`.
        Some(LoopState::from_word(
            words.load(header_word::STATE, Ordering::Acquire),
        ))
    }

    /// Host end: stores the heartbeat. Relaxed: the value orders nothing.
    #[inline]
    pub(crate) fn set_heartbeat(self, beat: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::HEARTBEAT, beat, Ordering::Relaxed);
        }
    }

    /// Device end: makes the host sweep a group of slots from now on. Relaxed: a publication in the
    /// group comes after this, with release.
    pub(crate) fn mark_in_use(self, group: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::IN_USE + group as usize, 1, Ordering::Relaxed);
        }
    }

    /// Host end: returns those of `candidates` that the device uses, one bit for each group. Relaxed:
    /// the acquire load of a status that was published after the mark makes the mark visible.
    #[inline]
    pub(crate) fn in_use(self, candidates: u64) -> u64 {
        let Some(words) = self.0 else { return 0 };
        let load = |group: usize| words.load(header_word::IN_USE + group, Ordering::Relaxed);
        // Every word is loaded, without a branch, so that the loads overlap.
        let found = (0..GROUPS).fold(0, |found, group| {
            found | u64::from(load(group) != 0) << group
        });
        found & candidates
    }

    /// Host end: stores whether it sleeps and wants the doorbell. Relaxed: a fence follows.
    pub(crate) fn set_asleep(self, asleep: bool) {
        if let Some(words) = self.0 {
            words.store(header_word::ASLEEP, u32::from(asleep), Ordering::Relaxed);
        }
    }

    /// Device end: returns whether the host wants the doorbell. Relaxed: a fence precedes this.
    pub(crate) fn is_asleep(self) -> bool {
        self.0
            .is_some_and(|words| words.load(header_word::ASLEEP, Ordering::Relaxed) == 1)
    }

    /// Device end: rings the doorbell. Relaxed: a fence between the publication and this orders both.
    pub(crate) fn set_doorbell(self, rings: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::DOORBELL, rings, Ordering::Relaxed);
        }
    }

    /// Returns the doorbell word, or zero in a queue without a header. Relaxed: the word is only
    /// compared. A sweep after a fence finds the requests that were rung for.
    pub(crate) fn doorbell(self) -> u32 {
        self.0.map_or(0, |words| {
            words.load(header_word::DOORBELL, Ordering::Relaxed)
        })
    }

    /// Device end: wakes a host that waits on the doorbell word. All waiters: another one must not get the host's
    /// wake-up.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub(crate) fn wake_host(self) {
        if let Some(words) = self.0 {
            words.wake_futex(header_word::DOORBELL, EVERYBODY);
        }
    }

    /// Device end: stores the number of a sleep. Relaxed: a fence follows, or a publication with release.
    pub(crate) fn set_armed(self, number: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::ARMED, number, Ordering::Relaxed);
        }
    }

    /// Returns the number of the last sleep, or zero if no thread of the device has slept. Relaxed: the host loads it
    /// once more after a fence.
    #[inline]
    pub(crate) fn armed(self) -> u32 {
        self.0
            .map_or(0, |words| words.load(header_word::ARMED, Ordering::Relaxed))
    }

    /// Host end: counts a wake-up of the device. Release, paired with the acquire in [`wakeups`](Self::wakeups): the number
    /// that the host has loaded from ARMED comes before every number that a thread stores there after it sees this. Else
    /// the new number could be the older one, and the thread would sleep for ever.
    pub(crate) fn set_wakeups(self, wakeups: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::WAKEUPS, wakeups, Ordering::Release);
        }
    }

    /// Returns the number of wake-ups, or zero in a queue without a header. Acquire, paired with the release in
    /// [`set_wakeups`](Self::set_wakeups): a thread that sees a new number also sees the outcomes that were stored before
    /// it, and what it stores to ARMED after this is newer than what the host has loaded there.
    pub(crate) fn wakeups(self) -> u32 {
        self.0.map_or(0, |words| {
            words.load(header_word::WAKEUPS, Ordering::Acquire)
        })
    }

    /// Wakes at most this many threads of the device.
    #[cfg(all(feature = "std", target_os = "linux"))]
    pub(crate) fn wake_device(self, most: u32) {
        if let Some(words) = self.0 {
            words.wake_futex(header_word::WAKEUPS, most);
        }
    }

    /// Device end: sleeps until the host wakes the device, unless it has since `before`, or until the time is over. May
    /// return early.
    #[cfg(all(feature = "std", target_os = "linux", not(loom)))]
    pub(crate) fn sleep(self, before: u32, limit: Option<core::time::Duration>) {
        if let Some(words) = self.0 {
            words.wait_futex(header_word::WAKEUPS, before, limit);
        }
    }

    /// Device end: returns the heartbeat of the host, or `None` for a bare queue.
    pub(crate) fn heartbeat(self) -> Option<u32> {
        self.0
            .map(|words| words.load(header_word::HEARTBEAT, Ordering::Relaxed))
    }
}
