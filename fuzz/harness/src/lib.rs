//! Attacks on the queue, the loop and the handshake, and reads of files that change.
//!
//! - [`targets`]: the bodies of the fuzz targets. `fuzz/fuzz_targets` passes them to libFuzzer; a test
//!   replays the seeds without it.
//! - [`volume`]: a given number of hostile words against the host end and the engine.
//! - [`soak`]: a given number of requests of honest producers, each with a checksum.
//! - [`handshake`]: both sides of the handshake, with hostile packets between them.
//!
//! All of them panic at the first violation.

pub mod ends;
pub mod engine;
pub mod handshake;
pub mod page_cache;
pub mod soak;
pub mod targets;
pub mod volume;
mod watch;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Random numbers, the same for a seed on every machine.
#[derive(Clone, Debug)]
pub struct Random(SplitMix64);

impl Random {
    /// Returns the generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self(SplitMix64::seed_from_u64(seed))
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a number below `bound`, or zero if `bound` is zero.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.bits() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// Mixes the bits of a number, for patterns and checksums.
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
