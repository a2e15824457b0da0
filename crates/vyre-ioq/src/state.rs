//! The states of a slot and the steps between them: pure, and total over every `u32`.
//!
//! ```text
//!              publish, device                 complete, host
//!   EMPTY ─────────────────────▶ PUBLISHED ─────────────────────▶ OK | ERROR
//!     ▲                           ▲  │ announce, host              ▲ │ │
//!     │                           │  └──────────▶ CLAIMED ─────────┘ │ │
//!     │                           │                complete, host    │ │
//!     │                           └──────────────────────────────────┘ │
//!     │                                   publish, device              │
//!     └────────────────────────────────────────────────────────────────┘
//!                               recycle, device
//! ```
//!
//! A request takes two steps, publish and complete, because each store to a slot takes its cache line away
//! from the other side. The other two steps are optional. The host claims a request in its own ledger, which
//! no word of the slot shows; later it may announce the claim of a long request by CLAIMED. The device may
//! set a slot to EMPTY after it has taken the outcome, or leave the outcome for the next publication to
//! replace.
//!
//! Exactly one side may leave each state. So no word ever has two writers, and no read-modify-write crosses
//! the boundary. [`observe`] judges the status that the host finds, given what its ledger says: the host end
//! calls it at each completion and at each fault. The claim judges eight words at once, by shorter forms that
//! are proved equal to it. [`step`] judges a change by either side: tests, models and mock peers check both
//! ends with it.

use crate::abi::status;

/// One end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Publishes requests and takes their outcomes: a GPU, another process, host threads.
    Device,
    /// Claims requests and completes them.
    Host,
}

/// State of a slot: word 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum State {
    /// Free.
    Empty = status::EMPTY,
    /// Holds a request, which the host may be serving.
    Published = status::PUBLISHED,
    /// Holds a request that the host is serving and has announced.
    Claimed = status::CLAIMED,
    /// Holds the outcome of a request that succeeded. The count word holds the bytes moved.
    Ok = status::OK,
    /// Holds the outcome of a request that failed. The count word holds the errno.
    Error = status::ERROR,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Empty,
        Self::Published,
        Self::Claimed,
        Self::Ok,
        Self::Error,
    ];

    /// Returns the state that a status word names, or `None` if it names none.
    #[inline]
    pub const fn from_word(word: u32) -> Option<Self> {
        Some(match word {
            status::EMPTY => Self::Empty,
            status::PUBLISHED => Self::Published,
            status::CLAIMED => Self::Claimed,
            status::OK => Self::Ok,
            status::ERROR => Self::Error,
            _ => return None,
        })
    }

    /// Returns the status word of this state.
    #[inline]
    pub const fn word(self) -> u32 {
        self as u32
    }

    /// Returns the side that may leave this state.
    pub const fn mover(self) -> Side {
        match self {
            Self::Empty | Self::Ok | Self::Error => Side::Device,
            Self::Published | Self::Claimed => Side::Host,
        }
    }

    /// Returns whether the slot holds an outcome.
    #[inline]
    pub const fn is_outcome(self) -> bool {
        matches!(self, Self::Ok | Self::Error)
    }
}

/// Legal change of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// EMPTY, OK or ERROR to PUBLISHED, by the device.
    Publish,
    /// PUBLISHED to CLAIMED, by the host. It announces a claim and is optional.
    Announce,
    /// PUBLISHED or CLAIMED to OK, by the host.
    CompleteOk,
    /// PUBLISHED or CLAIMED to ERROR, by the host.
    CompleteError,
    /// OK or ERROR to EMPTY, by the device. It is optional.
    Recycle,
}

/// Rule of the protocol that a change of state breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StepFault {
    /// The word to leave names no state.
    #[error("status word {0:#x} names no state to leave")]
    UnknownFrom(u32),
    /// The word to enter names no state.
    #[error("status word {0:#x} names no state to enter")]
    UnknownTo(u32),
    /// Only the other side may leave that state.
    #[error("a slot in state {0:?} is the other side's to move")]
    NotYours(State),
    /// No step leads from the first state to the second.
    #[error("no step leads from {0:?} to {1:?}")]
    NoStep(State, State),
}

/// Judges a change of a status word by one side.
///
/// ```
/// use vyre_ioq::abi::status::{CLAIMED, OK, PUBLISHED};
/// use vyre_ioq::state::{Side, State, Step, StepFault, step};
///
/// assert_eq!(step(Side::Host, PUBLISHED, CLAIMED), Ok(Step::Announce));
/// let fault = StepFault::NotYours(State::Published);
/// assert_eq!(step(Side::Device, PUBLISHED, CLAIMED), Err(fault));
/// assert_eq!(step(Side::Host, OK, 7), Err(StepFault::UnknownTo(7)));
/// ```
///
/// # Errors
/// [`StepFault::UnknownFrom`] or [`StepFault::UnknownTo`] if a word names no state;
/// [`StepFault::NotYours`] if only the other side may leave the first state;
/// [`StepFault::NoStep`] if no step leads from the first state to the second.
pub const fn step(side: Side, from: u32, to: u32) -> Result<Step, StepFault> {
    let Some(from_state) = State::from_word(from) else {
        return Err(StepFault::UnknownFrom(from));
    };
    let Some(to_state) = State::from_word(to) else {
        return Err(StepFault::UnknownTo(to));
    };
    if !matches!(
        (side, from_state.mover()),
        (Side::Device, Side::Device) | (Side::Host, Side::Host)
    ) {
        return Err(StepFault::NotYours(from_state));
    }
    match (from_state, to_state) {
        (State::Empty | State::Ok | State::Error, State::Published) => Ok(Step::Publish),
        (State::Published, State::Claimed) => Ok(Step::Announce),
        (State::Published | State::Claimed, State::Ok) => Ok(Step::CompleteOk),
        (State::Published | State::Claimed, State::Error) => Ok(Step::CompleteError),
        (State::Ok | State::Error, State::Empty) => Ok(Step::Recycle),
        _ => Err(StepFault::NoStep(from_state, to_state)),
    }
}

/// Meaning of a status word to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observation {
    /// The slot belongs to the device. The host has nothing to do.
    Idle,
    /// The slot holds a request that the host may claim.
    Request,
    /// The slot is being served, as the ledger says.
    Owed,
    /// The device broke the protocol. The host counts the fault and ignores the word.
    Fault(PeerFault),
}

/// Violation of the protocol by a device, as far as the host can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// The status word names no state.
    #[error("the device stored {0:#x}, which names no state")]
    UnknownStatus(u32),
    /// The device stored CLAIMED in a slot that the host has not claimed.
    #[error("the device stored CLAIMED, which the host alone may store")]
    ForgedClaim,
    /// The device stored another word over PUBLISHED or CLAIMED in a slot that the host is serving.
    #[error("the device stored {0:#x} over a slot that the host is serving")]
    Overwritten(u32),
}

/// Judges a status word that the host finds. `owed` says whether the host is serving the slot according to its
/// ledger; the word itself is never evidence of that.
#[inline]
pub const fn observe(owed: bool, word: u32) -> Observation {
    match (owed, State::from_word(word)) {
        (true, Some(State::Published | State::Claimed)) => Observation::Owed,
        (true, _) => Observation::Fault(PeerFault::Overwritten(word)),
        (false, Some(State::Published)) => Observation::Request,
        (false, Some(State::Empty | State::Ok | State::Error)) => Observation::Idle,
        (false, Some(State::Claimed)) => Observation::Fault(PeerFault::ForgedClaim),
        (false, None) => Observation::Fault(PeerFault::UnknownStatus(word)),
    }
}

/// Returns whether [`observe`] finds no fault in the status of a slot that the host does not serve. It has no
/// branches, because the sweep calls it for every slot.
#[inline]
pub(crate) const fn is_in_order(word: u32) -> bool {
    const STATES: u32 = status::EMPTY | status::PUBLISHED | status::OK | status::ERROR;
    // EMPTY, PUBLISHED, OK and ERROR are all combinations of their bits.
    word & !STATES == 0
}

/// Returns which of eight statuses are PUBLISHED, one bit for each. The statuses must be
/// [in order](is_in_order); each takes one byte, and the first is the lowest. It has no branches and no
/// loop.
#[inline]
pub(crate) const fn published_in(statuses: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    // PUBLISHED has the lowest bit set but not the fifth, which marks an outcome.
    let published = statuses & !(statuses >> 4) & LOW;
    // Moves bit 8n to bit 56 + n. No two partial products share a bit.
    published.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(kani)]
mod proofs;

#[cfg(test)]
mod tests {
    use super::*;

    /// Miri is slow, and there is no unsafe code here: under Miri every 509th word is enough.
    const STRIDE: usize = if cfg!(miri) { 509 } else { 1 };

    #[test]
    fn eight_statuses_at_once_are_judged_as_each_alone() {
        let in_order = [status::EMPTY, status::PUBLISHED, status::OK, status::ERROR];
        for number in (0..4_u32.pow(8)).step_by(STRIDE) {
            let statuses: [u32; 8] =
                std::array::from_fn(|slot| in_order[(number >> (2 * slot)) as usize % 4]);
            let bytes = statuses.map(|status| status as u8);
            let alone = (0..8).fold(0, |bits, slot| {
                bits | u64::from(statuses[slot] == status::PUBLISHED) << slot
            });
            assert_eq!(published_in(u64::from_le_bytes(bytes)), alone, "{bytes:x?}");
        }
    }

    #[test]
    fn the_short_form_is_that_of_observe() {
        let bits = |word: u32| (0..32).map(move |bit| word ^ 1 << bit);
        let near = (0..0x1_0000)
            .step_by(STRIDE)
            .chain(bits(0))
            .chain(bits(u32::MAX));
        for word in near.chain([u32::MAX, status::CLAIMED]) {
            let fault = matches!(observe(false, word), Observation::Fault(_));
            assert_eq!(is_in_order(word), !fault, "{word:#x}");
        }
    }
}
