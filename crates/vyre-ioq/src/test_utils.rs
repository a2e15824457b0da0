//! Test tools: the hostile device of the threat model, and memory between guard pages. Feature
//! `test-utils`.
//!
//! [`Adversary`] is a seeded device that breaks every rule: it stores any word at any time, even in the
//! host's own cache lines. Call it step by step if a failure must be repeated, or
//! [spawn](Adversary::spawn) it beside a running loop. [`GuardedMemory`] lies between two pages that cannot
//! be accessed. Both work on a [`Region`](crate::Region), so they can test any end of a queue: this crate's
//! or your own. [`on_each_load`] lets a test act between any two words that one of this crate's ends loads.
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
mod load_hook;
mod random;
#[cfg(test)]
mod tests;
mod thread;

pub use adversary::Adversary;
pub use attack::{Attack, Weights};
pub use guard::GuardedMemory;
pub(crate) use load_hook::before_load;
pub use load_hook::{LoadHook, on_each_load};
pub use thread::HostileThread;
