//! Sizes under loom, which keeps a history of every word: a queue of two groups of two slots.

/// Room for the words in use.
pub const HEADER_BYTES: usize = 320;
/// Two groups.
pub const MAX_SLOTS: u32 = 2 * GROUP_SLOTS;
/// One group, as in every build.
pub const MAX_BARE_SLOTS: u32 = GROUP_SLOTS;
/// Two, so that each slot has a neighbour.
pub const GROUP_SLOTS: u32 = 2;
/// After the IN_USE words of two groups, which begin at word 64.
pub const END: usize = 64 + 2;
