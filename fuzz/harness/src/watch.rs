//! Checks what a host did to a queue, by the words alone.

use std::sync::atomic::Ordering;

use vyre_ioq::abi::{GROUP_SLOTS, HEADER_BYTES, header_word, status, word};
use vyre_ioq::test_utils::GuardedMemory;

const WORD: usize = size_of::<u32>();
const SLOT_WORDS: usize = 16;
const FIRST: usize = HEADER_BYTES / WORD;
/// A COUNT that no outcome in these tests has.
const NO_COUNT: u32 = 0xfeed_f00d;

/// Compares the words of a queue with a header before and after the host runs. The devices rest
/// meanwhile, so every change is made by the host. Each change must follow the protocol, and every
/// claim and outcome is counted without asking the host.
#[derive(Debug)]
pub(crate) struct Watch {
    memory: GuardedMemory,
    owed: Vec<bool>,
    in_use: Vec<bool>,
    header: Vec<u32>,
    slots: Vec<[u32; SLOT_WORDS]>,
    pub(crate) claimed: u64,
    pub(crate) completed: u64,
}

impl Watch {
    pub(crate) fn new(memory: &GuardedMemory, slots: u32) -> Self {
        let mut in_use = vec![false; slots.div_ceil(GROUP_SLOTS) as usize];
        in_use[0] = true;
        Self {
            memory: memory.clone(),
            owed: vec![false; slots as usize],
            in_use,
            header: vec![0; header_word::END],
            slots: vec![[0; SLOT_WORDS]; slots as usize],
            claimed: 0,
            completed: 0,
        }
    }

    /// Slots that were claimed and have no outcome.
    pub(crate) const fn owes(&self) -> u64 {
        self.claimed - self.completed
    }

    /// Prepares for a run of the host. Stores to COUNT of the slots that await an outcome, as a
    /// careless device may, so that an outcome is visible even where the device has forged the same
    /// one.
    pub(crate) fn before(&mut self) {
        for (group, in_use) in self.in_use.iter_mut().enumerate() {
            let mark = header_word::IN_USE + group;
            *in_use |= self.memory.load(mark, Ordering::Relaxed) != 0;
        }
        for (word, copy) in self.header.iter_mut().enumerate() {
            *copy = self.memory.load(word, Ordering::Relaxed);
        }
        for (slot, copy) in self.slots.iter_mut().enumerate() {
            let first = FIRST + slot * SLOT_WORDS;
            if self.owed[slot] {
                self.memory
                    .store(first + word::COUNT, NO_COUNT, Ordering::Relaxed);
            }
            *copy = read(&self.memory, first);
        }
    }

    /// Checks after the run. The host must have claimed whatever is published, and may have announced
    /// its claims.
    ///
    /// # Panics
    /// If the host did anything that it must not do, or omitted anything that it must do.
    pub(crate) fn after(&mut self) {
        for (word, &before) in self.header.iter().enumerate() {
            // Line 1 belongs to the host.
            let own = (header_word::STATE..header_word::STATE + 16).contains(&word);
            let now = self.memory.load(word, Ordering::Relaxed);
            assert!(
                own || now == before,
                "the host stored {now:#x} in header word {word}"
            );
        }
        for slot in 0..self.slots.len() {
            let now = read(&self.memory, FIRST + slot * SLOT_WORDS);
            self.judge(slot, &self.slots[slot].clone(), &now);
        }
        assert!(self.memory.is_intact(), "a store outside the queue");
    }

    fn judge(&mut self, slot: usize, before: &[u32; SLOT_WORDS], now: &[u32; SLOT_WORDS]) {
        for word in (0..SLOT_WORDS).filter(|&word| word != word::COUNT && word != word::STATUS) {
            assert_eq!(
                now[word], before[word],
                "slot {slot}: the host stored in word {word}"
            );
        }
        let found = now[word::STATUS];
        let is_outcome = matches!(found, status::OK | status::ERROR);
        let was_owed = self.owed[slot];
        if !was_owed
            && before[word::STATUS] == status::PUBLISHED
            && self.in_use[slot / GROUP_SLOTS as usize]
        {
            // A claim stores nothing. An outcome in the same pass is visible.
            self.claimed += 1;
            self.owed[slot] = !is_outcome;
            self.completed += u64::from(is_outcome);
            if is_outcome {
                return;
            }
        }
        if was_owed && now[word::COUNT] != NO_COUNT {
            assert!(is_outcome, "slot {slot}: a count with status {found:#x}");
            self.owed[slot] = false;
            self.completed += 1;
            return;
        }
        let mut told = *before;
        if self.owed[slot] && before[word::STATUS] == status::PUBLISHED && found == status::CLAIMED
        {
            told[word::STATUS] = status::CLAIMED;
        }
        assert_eq!(
            *now, told,
            "slot {slot}: the host's only from claim to outcome"
        );
    }
}

fn read(memory: &GuardedMemory, first: usize) -> [u32; SLOT_WORDS] {
    std::array::from_fn(|word| memory.load(first + word, Ordering::Relaxed))
}
