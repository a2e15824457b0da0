//! The place of a READ's bytes when a kernel learns of its outcome: mapped memory of the host, or
//! memory of the GPU. The kernel moves them there itself, or the loop does.

mod buffer;
mod copy_engine;
mod mover;
mod moves;
mod transport;

use std::fmt;

pub use buffer::LandingBuffer;
pub use copy_engine::CopyEngine;
pub use mover::{MoveError, Mover};
pub use transport::LandingTransport;

/// The size in bytes from which the loop moves a block to the GPU. The kernel moves smaller ones.
///
/// A move by the loop takes time of the loop's thread whatever its size, and a single warp moves a
/// large block slowly. On an H200, moves by the loop were 1.6 times as fast for one warp and blocks of
/// 1 MiB, and not faster for blocks of 64 KiB. With a hundred warps or more, moves by the kernel are a
/// fifth faster even at 1 MiB (BENCHMARKS.md).
pub const LOOP_FROM: u32 = 1 << 20;

/// The way in which the bytes of a READ reach GPU memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Landing {
    /// They do not: kernels read them from mapped memory.
    #[default]
    None,
    /// The warp that requested a block copies it from mapped memory once it has the outcome.
    Kernel,
    /// The loop moves the block before it publishes the outcome, by a [`LandingTransport`].
    Loop,
}

impl Landing {
    /// Returns the faster way for blocks of this many bytes that a kernel reads more than once.
    pub const fn for_size(bytes: u32) -> Self {
        if bytes < LOOP_FROM {
            Self::Kernel
        } else {
            Self::Loop
        }
    }
}

impl fmt::Display for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Kernel => "kernel",
            Self::Loop => "loop",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_are_the_loops() {
        assert_eq!(Landing::for_size(4096), Landing::Kernel);
        assert_eq!(Landing::for_size(LOOP_FROM - 1), Landing::Kernel);
        assert_eq!(Landing::for_size(LOOP_FROM), Landing::Loop);
        assert_eq!(Landing::for_size(u32::MAX), Landing::Loop);
    }
}
