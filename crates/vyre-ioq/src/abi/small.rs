//! Sizes under loom, which keeps a history of every word: a queue of two groups of two slots.

/// Room for the words in use.
pub const HEADER_BYTES: usize = 320;
/// Two groups.
pub const MAX_SLOTS: u32 = 2 * GROUP_SLOTS;
/// One group, as ever.
pub const MAX_BARE_SLOTS: u32 = GROUP_SLOTS;
/// Enough for a slot to have a neighbour.
pub const GROUP_SLOTS: u32 = 2;
/// After the words of two groups.
pub const END: usize = super::header_word::IN_USE + 2;
