//! A peer to test against: the hostile device of the threat model, and memory that faults where a
//! queue ends. Feature `test-utils`.
//!
//! [`Adversary`] stores into a queue what no device should, by seed: any word at any time, in the
//! host's own lines too. Drive it step by step where a failure has to be repeated, or let it
//! [loose](Adversary::spawn) on a loop that runs. [`GuardedMemory`] lies between two pages that
//! cannot be accessed. Both work on a [`Region`](crate::Region), so that they serve to test any
//! end of a queue: this crate's, or one of your own.
//!
//! ```
//! use vyre_ioq::test_utils::{Adversary, Attack, GuardedMemory};
//! use vyre_ioq::{HostQueue, QueueLayout};
//!
//! let layout = QueueLayout::with_slots(64);
//! let memory = GuardedMemory::new(layout.bytes())?;
//! let mut host = HostQueue::create(memory.region(), &layout)?;
//! let mut device = Adversary::new(memory.region(), &layout, 7)?;
//!
//! let mut owed = vec![false; 64];
//! for _ in 0..1000 {
//!     device.step();
//!     host.claim_published(0..64, |claim| {
//!         let twice = std::mem::replace(&mut owed[claim.slot as usize], true);
//!         assert!(!twice, "slot {} was claimed twice", claim.slot);
//!     });
//!     device.step(); // while the host serves what it claimed
//!     for slot in 0..64 {
//!         let was_owed = std::mem::take(&mut owed[slot as usize]);
//!         assert_eq!(host.complete(slot, Ok(0)).is_ok(), was_owed);
//!     }
//! }
//! assert!(device.count(Attack::Forge) > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adversary;
mod attack;
mod guard;
#[cfg(test)]
mod tests;
mod thread;

pub use adversary::Adversary;
pub use attack::{Attack, Weights};
pub use guard::GuardedMemory;
pub use thread::HostileThread;

/// The generator known as splitmix64: small, fast, and the same on every machine.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    #[inline]
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or zero.
    #[inline]
    const fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * bound as u64) >> 32) as u32
    }

    /// True once in so many times.
    #[inline]
    const fn one_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }
}
