//! What attacks the queue and the loop.
//!
//! - [`targets`]: what a fuzzer calls with any bytes. `fuzz/fuzz_targets` hands them to libFuzzer; a test here
//!   replays the seeds without it.
//! - [`volume`]: so many hostile words against the host's end and the engine.
//! - [`soak`]: so many requests of honest producers, each with a checksum.
//!
//! All three panic on the first thing that is wrong.

pub mod ends;
pub mod engine;
pub mod soak;
pub mod targets;
pub mod volume;
mod watch;

/// The generator known as splitmix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, or zero.
    pub const fn below(&mut self, bound: u32) -> u32 {
        (((self.bits() >> 32) * bound as u64) >> 32) as u32
    }
}

/// A few bits of everything, for patterns and checksums.
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
