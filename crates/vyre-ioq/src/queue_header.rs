//! The live words of the header: what host and device tell each other beside the slots.

use crate::abi::{self, HeaderImage, header_word};
use crate::attach::{Geometry, QueueLayout};
use crate::region::{Region, Words};
use crate::sync::Ordering;

bitflags::bitflags! {
    /// Optional parts of the protocol. The host offers, the device takes what it knows.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u32 {
        /// The host may sleep until the doorbell word changes: see `ABI.md`.
        const DOORBELL = 1;
    }
}

/// What the host says of itself in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum LoopState {
    /// The queue exists and nothing serves it yet.
    Starting = 0,
    /// Requests are served.
    Running = 1,
    /// What was claimed is being finished; new requests are completed with ECANCELED.
    Draining = 2,
    /// Nothing will be served any more: orderly end.
    Stopped = 3,
    /// Nothing will be served any more: the host failed.
    Failed = 4,
}

impl LoopState {
    /// The state that a word names. A word that names none means a host that cannot be trusted to
    /// serve, and reads as [`Failed`](Self::Failed).
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Starting,
            1 => Self::Running,
            2 => Self::Draining,
            3 => Self::Stopped,
            _ => Self::Failed,
        }
    }

    /// Whether no request will be served any more.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

const GROUPS: usize = header_word::END - header_word::IN_USE;
const HEADER_WORDS: usize = abi::HEADER_BYTES / size_of::<u32>();

/// Writes the constants of a new queue and empties its slots.
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

/// The header of a queue, if its layout has one.
#[derive(Clone, Copy)]
pub(crate) struct Header<'r>(Option<Words<'r, { header_word::END }>>);

impl<'r> Header<'r> {
    #[inline]
    pub(crate) fn of(region: &'r Region, geometry: &Geometry) -> Self {
        Self((!geometry.is_bare()).then(|| region.words(0)))
    }

    /// Host: says what it is. Release, paired with the acquire in [`state`](Self::state): whoever
    /// sees STOPPED or FAILED also sees every outcome that was written before it.
    pub(crate) fn set_state(self, state: LoopState) {
        if let Some(words) = self.0 {
            words.store(header_word::STATE, state as u32, Ordering::Release);
        }
    }

    /// Device: what the host is, or nothing for a bare queue.
    pub(crate) fn state(self) -> Option<LoopState> {
        let words = self.0?;
        // Acquire, paired with the release in `set_state`.
        Some(LoopState::from_word(
            words.load(header_word::STATE, Ordering::Acquire),
        ))
    }

    /// Host: shows that it lives. Relaxed: the value orders nothing.
    #[inline]
    pub(crate) fn set_heartbeat(self, beat: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::HEARTBEAT, beat, Ordering::Relaxed);
        }
    }

    /// Device: tells the host to look at a group of slots, from now on. Relaxed: whoever publishes
    /// in the group does so after this, with release.
    pub(crate) fn mark_in_use(self, group: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::IN_USE + group as usize, 1, Ordering::Relaxed);
        }
    }

    /// Host: which of the groups in `candidates` the device uses, a bit for each. Relaxed: the
    /// acquire of a status that was published after the mark makes the mark visible.
    #[inline]
    pub(crate) fn in_use(self, candidates: u64) -> u64 {
        let Some(words) = self.0 else { return 0 };
        let load = |group: usize| words.load(header_word::IN_USE + group, Ordering::Relaxed);
        // All of them, without a branch: the loads wait for nothing.
        let found = (0..GROUPS).fold(0, |found, group| {
            found | u64::from(load(group) != 0) << group
        });
        found & candidates
    }

    /// Host: says whether it sleeps and wants the doorbell. Relaxed: a fence comes after it.
    pub(crate) fn set_asleep(self, asleep: bool) {
        if let Some(words) = self.0 {
            words.store(header_word::ASLEEP, u32::from(asleep), Ordering::Relaxed);
        }
    }

    /// Device: whether the host wants the doorbell. Relaxed: a fence comes before it.
    pub(crate) fn is_asleep(self) -> bool {
        self.0
            .is_some_and(|words| words.load(header_word::ASLEEP, Ordering::Relaxed) == 1)
    }

    /// Device: rings. Relaxed: what was published comes before the fence that comes before this.
    pub(crate) fn set_doorbell(self, rings: u32) {
        if let Some(words) = self.0 {
            words.store(header_word::DOORBELL, rings, Ordering::Relaxed);
        }
    }

    /// The doorbell, which is zero for ever in a queue without a header. Relaxed: it is only ever
    /// compared; what the rings were for is found by a sweep, after a fence.
    pub(crate) fn doorbell(self) -> u32 {
        self.0.map_or(0, |words| {
            words.load(header_word::DOORBELL, Ordering::Relaxed)
        })
    }

    /// Device: the host's heartbeat.
    pub(crate) fn heartbeat(self) -> Option<u32> {
        self.0
            .map(|words| words.load(header_word::HEARTBEAT, Ordering::Relaxed))
    }
}
