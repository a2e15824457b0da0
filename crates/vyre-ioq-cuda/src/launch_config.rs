//! Shapes of launches.

/// The shape of a launch, and the shared memory of its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    pub(crate) blocks: [u32; 3],
    pub(crate) threads: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) cooperative: bool,
}

impl LaunchConfig {
    /// Returns a launch of `blocks` blocks of `threads` threads, in one dimension.
    pub const fn new(blocks: u32, threads: u32) -> Self {
        Self::with_dimensions([blocks, 1, 1], [threads, 1, 1])
    }

    /// Returns a launch of blocks and threads in three dimensions, x first.
    pub const fn with_dimensions(blocks: [u32; 3], threads: [u32; 3]) -> Self {
        Self {
            blocks,
            threads,
            shared_bytes: 0,
            cooperative: false,
        }
    }

    /// Sets the bytes of dynamic shared memory for each block.
    #[must_use]
    pub const fn shared_bytes(mut self, bytes: u32) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// Makes the launch cooperative: all blocks of the grid run at once, which kernels require if
    /// their blocks wait for each other. The grid starts when the GPU has room for all of it. A
    /// grid that is too large for the GPU is refused.
    #[must_use]
    pub const fn cooperative(mut self) -> Self {
        self.cooperative = true;
        self
    }

    pub(crate) fn block_count(&self) -> u64 {
        self.blocks.iter().copied().map(u64::from).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_has_the_shape_that_was_asked_for() {
        let config = LaunchConfig::with_dimensions([2, 3, 4], [8, 4, 1]).shared_bytes(5);
        assert_eq!(config.block_count(), 24);
        assert!(!config.cooperative && config.cooperative().cooperative);
        let config = LaunchConfig::new(7, 32);
        assert_eq!((config.blocks, config.threads), ([7, 1, 1], [32, 1, 1]));
    }
}
