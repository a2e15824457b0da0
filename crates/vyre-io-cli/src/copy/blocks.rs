//! Division of a file into blocks.

use crate::failure::Failure;

/// Largest block: counts of requests are 32 bits, and a last block may be rounded up.
const MAX_BLOCK: u64 = 1 << 30;

/// Default size of blocks.
const DEFAULT: u64 = 1 << 20;
/// Smallest size of blocks that is chosen by default.
const SMALLEST: u64 = 128 << 10;
/// Number of blocks that the data has at least, unless they would be too small.
const ENOUGH: u64 = 128;

/// Returns the size of the blocks of a buffered copy of `data` bytes. Little data takes small blocks:
/// to zero and to register the memory of large ones would take a large part of the copy's time.
pub(super) const fn size_for(data: Option<u64>) -> u64 {
    let Some(data) = data else { return DEFAULT };
    let size = match (data / ENOUGH).checked_next_power_of_two() {
        Some(size) if size < DEFAULT => size,
        _ => return DEFAULT,
    };
    if size < SMALLEST { SMALLEST } else { size }
}

/// Division of a file into blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    len: u64,
    size: u64,
    granularity: u64,
}

/// One block of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) offset: u64,
    /// Bytes of the file.
    pub(super) len: u32,
    /// Number of bytes to request: `len`, rounded up for direct I/O.
    pub(super) ask: u32,
}

impl Blocks {
    pub(super) fn new(len: u64, size: u64, granularity: u64) -> Result<Self, Failure> {
        if size == 0 || size > MAX_BLOCK {
            return Err(Failure::Usage(format!(
                "--block-size must be 1 to {MAX_BLOCK} bytes"
            )));
        }
        if !size.is_multiple_of(granularity) {
            return Err(Failure::Usage(format!(
                "--block-size must be a multiple of {granularity} for direct I/O on these files"
            )));
        }
        // A small file needs no large buffer.
        let size = size.min(len.next_multiple_of(granularity).max(granularity));
        Ok(Self {
            len,
            size,
            granularity,
        })
    }

    /// Returns the blocks of a file of unknown length. They are read one after another to the end
    /// of the file.
    pub(super) fn unknown(size: u64) -> Result<Self, Failure> {
        Self::new(size, size, 1)
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn granularity(&self) -> u64 {
        self.granularity
    }

    pub(super) const fn count(&self) -> u64 {
        self.len.div_ceil(self.size)
    }

    /// Returns the block that begins at `offset`, in a range that ends at `end`.
    pub(super) fn piece(&self, offset: u64, end: u64) -> Option<Block> {
        let len = end.min(self.len).checked_sub(offset)?.min(self.size);
        (len > 0).then(|| Block {
            offset,
            len: len as u32,
            ask: len.next_multiple_of(self.granularity) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_data_takes_small_blocks() {
        const M: u64 = 1 << 20;
        let kib = |data| size_for(Some(data)) >> 10;
        assert_eq!([0, 1, M, 16 * M].map(kib), [128; 4]);
        assert_eq!([16 * M + 128, 32 * M, 64 * M].map(kib), [256, 256, 512]);
        assert_eq!([128 * M, 1 << 40, u64::MAX].map(kib), [1024; 3]);
        assert_eq!(size_for(None), M);
    }

    #[test]
    fn a_block_size_that_cannot_be_used_is_a_usage_error() {
        for (size, granularity) in [(0, 1), (4095, 512), (MAX_BLOCK + 1, 1)] {
            let refused = Blocks::new(1, size, granularity).expect_err("unfit");
            assert_eq!(refused.status(), 2, "{refused}");
        }
    }
}
