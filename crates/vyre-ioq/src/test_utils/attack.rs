//! Attacks of a hostile device, and their frequency.

use super::random::Random;

/// Kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attack {
    /// Publishes a request by the protocol, in a slot that belongs to the device. One or more words of the
    /// request are wrong: operation, handle, range, flag or reserved word. Sometimes all are right.
    BadRequest,
    /// Publishes first and writes a part of the request afterwards. The rest is what the slot held.
    HalfWritten,
    /// Publishes an earlier request once more, in any slot, whatever its state.
    Replay,
    /// Stores over a slot that the host is serving.
    Overwrite,
    /// Stores a forged outcome in any slot.
    Forge,
    /// Stores a status word in any slot. The word may or may not name a state.
    Status,
    /// Stores any value in any word of the queue.
    Word,
    /// Stores in the lines of the header that are in use, including the host's.
    Header,
    /// Clears the IN_USE mark of a group or sets a wrong one.
    InUse,
    /// Does nothing for a few dozen steps.
    Silence,
}

impl Attack {
    /// All kinds of attack.
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

/// Relative frequencies of the attacks.
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
    /// Returns weights of zero, for [`with`](Self::with) to add to. A device with these is silent.
    pub const fn none() -> Self {
        Self([0; Attack::KINDS])
    }

    /// Returns weights for all attacks, with more publications than anything else.
    pub const fn all() -> Self {
        Self([2; Attack::KINDS])
            .with(Attack::BadRequest, 8)
            .with(Attack::Silence, 1)
    }

    /// Returns weights for attacks that keep the protocol: bad requests, correctly published.
    pub const fn well_formed() -> Self {
        Self::none().with(Attack::BadRequest, 1)
    }

    /// Sets the weight of one kind.
    #[must_use]
    pub const fn with(mut self, attack: Attack, weight: u16) -> Self {
        self.0[attack.number()] = weight;
        self
    }

    /// Returns the weight of one kind.
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
    /// Returns [`all`](Self::all).
    fn default() -> Self {
        Self::all()
    }
}
