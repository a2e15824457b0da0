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
//! A request takes two steps, publish and complete: each store to a slot takes its line away from the
//! other side. Two more steps are there for those who look. The host claims in its own ledger, and no
//! word of the slot says so; it may announce the claim of a request that takes long, later, by
//! CLAIMED. The device may set a slot whose outcome it has taken to EMPTY, or leave that to the next
//! publication.
//!
//! Each state names the one side that may leave it, so that no word ever has two writers and no
//! read-modify-write has to cross the boundary. [`observe`] judges what the host finds, given what
//! its ledger says it owes: the host end calls it on each completion and on each fault. The claim
//! judges eight words at once, by shorter forms that are proved equal to it. [`step`] judges a change
//! by either side: tests, models and mock peers hold both ends to it.

use crate::abi::status;

/// One end of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Publishes requests and takes their outcomes: a GPU, another process, host threads.
    Device,
    /// Claims requests and completes them.
    Host,
}

/// State of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum State {
    /// Free.
    Empty = status::EMPTY,
    /// Holds a request, which the host may be serving.
    Published = status::PUBLISHED,
    /// Is being served, and says so.
    Claimed = status::CLAIMED,
    /// Served; the count word holds the bytes moved.
    Ok = status::OK,
    /// Failed; the count word holds the errno.
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

    /// The state that a status word names, if it names one.
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

    /// The status word of this state.
    #[inline]
    pub const fn word(self) -> u32 {
        self as u32
    }

    /// The side that may leave this state.
    pub const fn mover(self) -> Side {
        match self {
            Self::Empty | Self::Ok | Self::Error => Side::Device,
            Self::Published | Self::Claimed => Side::Host,
        }
    }

    /// Whether the host has answered.
    #[inline]
    pub const fn is_outcome(self) -> bool {
        matches!(self, Self::Ok | Self::Error)
    }
}

/// A legal change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// EMPTY, OK or ERROR to PUBLISHED, by the device.
    Publish,
    /// PUBLISHED to CLAIMED, by the host, which may leave it out: it tells of a claim.
    Announce,
    /// PUBLISHED or CLAIMED to OK, by the host.
    CompleteOk,
    /// PUBLISHED or CLAIMED to ERROR, by the host.
    CompleteError,
    /// OK or ERROR to EMPTY, by the device, which may leave it out.
    Recycle,
}

/// Why a change of state is not one of the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StepFault {
    /// The word to leave names no state.
    #[error("status word {0:#x} names no state to leave")]
    UnknownFrom(u32),
    /// The word to enter names no state.
    #[error("status word {0:#x} names no state to enter")]
    UnknownTo(u32),
    /// The other side alone may leave that state.
    #[error("a slot in state {0:?} is the other side's to move")]
    NotYours(State),
    /// No step leads from the one state to the other.
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
/// The rule of the protocol that the change breaks.
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

/// What a status word means to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observation {
    /// Nothing for the host to do: the slot is the device's.
    Idle,
    /// A request that the host may claim.
    Request,
    /// Being served, as the ledger says.
    Owed,
    /// The device broke the protocol. The host counts it and follows nothing.
    Fault(PeerFault),
}

/// What a device did against the protocol, as far as the host can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// The status word names no state.
    #[error("the device stored {0:#x}, which names no state")]
    UnknownStatus(u32),
    /// CLAIMED on a slot that the host has not claimed.
    #[error("the device stored CLAIMED, which the host alone may store")]
    ForgedClaim,
    /// Another word over the PUBLISHED or CLAIMED of a slot that the host is serving.
    #[error("the device stored {0:#x} over a slot that the host is serving")]
    Overwritten(u32),
}

/// Judges what the host finds in a status word. `owed` is the ledger's answer to whether the host
/// is serving the slot; the word itself is never evidence of that.
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

/// Whether [`observe`] finds no fault in the status of a slot that the host does not serve, in a
/// form without branches: the sweep asks it of every slot.
#[inline]
pub(crate) const fn is_in_order(word: u32) -> bool {
    const STATES: u32 = status::EMPTY | status::PUBLISHED | status::OK | status::ERROR;
    // EMPTY, PUBLISHED, OK and ERROR are every combination of their bits.
    word & !STATES == 0
}

/// Which of eight statuses are PUBLISHED, a bit for each: statuses [in order](is_in_order), a byte for
/// each, the first one lowest. Without branches, and without a step for each of them.
#[inline]
pub(crate) const fn published_in(statuses: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    // Of the bits of a status in order, PUBLISHED has the lowest, and not the fifth, which marks an
    // outcome.
    let published = statuses & !(statuses >> 4) & LOW;
    // Moves bit 8n to bit 56 + n; no two products meet in one bit.
    published.wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(kani)]
mod proofs;

#[cfg(test)]
mod tests {
    use super::*;

    /// Miri interprets, and there is no unsafe code here: every so many words are enough for it.
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
