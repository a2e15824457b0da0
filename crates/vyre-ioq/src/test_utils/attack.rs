//! What a hostile device does, and how often.

use super::Random;

/// One kind of hostile act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attack {
    /// Publishes a request as the protocol has it, in a slot that is the device's. The request is
    /// wrong in one word or several: operation, handle, range, flag, reserved word. Now and then
    /// it is right.
    BadRequest,
    /// Publishes first and writes a part of the request after: the rest is what the slot held.
    HalfWritten,
    /// Publishes a request of the past once more, in any slot, whatever its state.
    Replay,
    /// Stores over a slot that the host is serving.
    Overwrite,
    /// Stores an outcome that no host gave, in any slot.
    Forge,
    /// Stores a status in any slot: one of the protocol's, or none.
    Status,
    /// Stores any value in any word of the queue.
    Word,
    /// Stores in the lines of the header that are in use, those of the host among them.
    Header,
    /// Takes a group's IN_USE mark back, or makes one up.
    InUse,
    /// Does nothing, for a few dozen steps.
    Silence,
}

impl Attack {
    /// All kinds.
    pub const ALL: &[Self] = &[
        Self::BadRequest,
        Self::HalfWritten,
        Self::Replay,
        Self::Overwrite,
        Self::Forge,
        Self::Status,
        Self::Word,
        Self::Header,
        Self::InUse,
        Self::Silence,
    ];

    pub(super) const KINDS: usize = Self::ALL.len();

    pub(super) const fn number(self) -> usize {
        self as usize
    }
}

/// How often each [`Attack`] comes, in proportion to the others.
///
/// ```
/// use vyre_ioq::test_utils::{Attack, Weights};
///
/// let mostly_honest = Weights::well_formed().with(Attack::Overwrite, 1);
/// assert_eq!(mostly_honest.of(Attack::Forge), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights([u16; Attack::KINDS]);

impl Weights {
    /// None at all: to be built up by [`with`](Self::with). A device without any is silent.
    pub const fn none() -> Self {
        Self([0; Attack::KINDS])
    }

    /// All of them, publications more often than the rest.
    pub const fn all() -> Self {
        Self([2; Attack::KINDS])
            .with(Attack::BadRequest, 8)
            .with(Attack::Silence, 1)
    }

    /// Nothing against the protocol: bad requests, published as they should be.
    pub const fn well_formed() -> Self {
        Self::none().with(Attack::BadRequest, 1)
    }

    /// Sets the weight of one kind.
    #[must_use]
    pub const fn with(mut self, attack: Attack, weight: u16) -> Self {
        self.0[attack.number()] = weight;
        self
    }

    /// The weight of one kind.
    pub const fn of(&self, attack: Attack) -> u16 {
        self.0[attack.number()]
    }

    pub(super) fn pick(&self, random: &mut Random) -> Attack {
        let sum = self.0.iter().map(|&weight| u32::from(weight)).sum();
        let mut drawn = random.below(sum);
        for &attack in Attack::ALL {
            let weight = u32::from(self.of(attack));
            if drawn < weight {
                return attack;
            }
            drawn -= weight;
        }
        Attack::Silence
    }
}

impl Default for Weights {
    /// [`all`](Self::all).
    fn default() -> Self {
        Self::all()
    }
}
