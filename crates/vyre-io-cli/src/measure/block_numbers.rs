//! The order in which a measurement visits the blocks of a file.

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Generator of block numbers, the same for the loop of this project and for the raw loop.
#[derive(Clone, Debug)]
pub struct BlockNumbers {
    next: u64,
    blocks: u64,
    random: Option<SplitMix64>,
}

impl BlockNumbers {
    /// Returns numbers below `blocks`: random ones with the seed `start`, or consecutive ones from `start` on.
    pub fn new(start: u64, blocks: u64, random: bool) -> Self {
        Self {
            next: start,
            blocks,
            random: random.then(|| SplitMix64::seed_from_u64(start)),
        }
    }

    #[inline]
    pub fn draw(&mut self) -> u64 {
        let Some(random) = &mut self.random else {
            let number = self.next % self.blocks;
            self.next += 1;
            return number;
        };
        // Multiplies and shifts, since a division takes longer.
        ((u128::from(random.next_u64()) * u128::from(self.blocks)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_wrap_and_random_ones_stay_below_the_bound() {
        let mut numbers = BlockNumbers::new(2, 4, false);
        assert_eq!([(); 4].map(|()| numbers.draw()), [2, 3, 0, 1]);
        let mut numbers = BlockNumbers::new(1, 8, true);
        let mut seen = [0; 8];
        for _ in 0..8000 {
            seen[numbers.draw() as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 500), "{seen:?}");
    }
}
