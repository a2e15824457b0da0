//! The hostile device, one step at a time.

use core::ops::Range;
use core::sync::atomic::Ordering;
use std::vec::Vec;

use super::attack::{Attack, Weights};
use super::random::Random;
use crate::abi::{GROUP_SLOTS, header_word, op, status, word};
use crate::error::AttachError;
use crate::layout::{Geometry, QueueLayout};
use crate::region::Region;

/// Number of past requests that are kept for replays.
const HISTORY: usize = 16;
/// Number of slots that are searched for one in the right state.
const SEARCHED: u32 = 8;
/// Numbers near which a computation may wrap or change its sign.
const EDGES: [u32; 8] = [
    0x0fff,
    0x1000,
    0x7fff_ffff,
    0x8000_0000,
    0x7fff_f000,
    0x000f_ffff,
    0xffff_f000,
    u32::MAX,
];
const STATUSES: [u32; 5] = [
    status::EMPTY,
    status::PUBLISHED,
    status::CLAIMED,
    status::OK,
    status::ERROR,
];

/// Seeded device that follows no rule of the protocol.
///
/// Equal seeds, settings and calls against an equal host store the same words. The adversary knows where the
/// words of the queue are and nothing that a device could not know. It accesses no memory outside its
/// [`Region`].
///
/// Create one with [`new`](Self::new) and set it up. Then call [`step`](Self::step),
/// [`attack`](Self::attack) for a chosen attack, or [`spawn`](Self::spawn).
#[derive(Debug)]
pub struct Adversary {
    region: Region,
    geometry: Geometry,
    random: Random,
    weights: Weights,
    slots: Range<u32>,
    /// True if it may store in `slots` only.
    confined: bool,
    handles: Vec<u32>,
    spared: Vec<u32>,
    history: Vec<[u32; 16]>,
    silent: u32,
    steps: u64,
    words: u64,
    counts: [u64; Attack::KINDS],
}

impl Adversary {
    /// Returns a device of the queue at the start of `region` that has this layout. The queue need not exist
    /// yet.
    ///
    /// # Errors
    /// [`AttachError::BadSlotCount`] if the layout has no slots or too many;
    /// [`AttachError::Misaligned`] or [`AttachError::TooShort`] if `region` cannot hold the queue.
    pub fn new(region: Region, layout: &QueueLayout, seed: u64) -> Result<Self, AttachError> {
        let geometry = layout.check()?.check_region(&region)?;
        Ok(Self {
            region,
            geometry,
            random: Random::new(seed),
            weights: Weights::all(),
            slots: 0..geometry.slots(),
            confined: false,
            handles: Vec::new(),
            spared: Vec::new(),
            history: Vec::new(),
            silent: 0,
            steps: 0,
            words: 0,
            counts: [0; Attack::KINDS],
        })
    }

    /// Sets how often it makes each attack. The default is [`Weights::all`].
    #[must_use]
    pub const fn weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }

    /// Confines it to some slots, so that an honest device can use the others. It then does not store in the
    /// header, except for the IN_USE marks that its own publications need.
    ///
    /// # Panics
    /// If `slots` is empty or past the end of the queue.
    #[must_use]
    pub fn slots(mut self, slots: Range<u32>) -> Self {
        let end = self.geometry.slots();
        assert!(
            slots.start < slots.end && slots.end <= end,
            "slots {slots:?} of a queue of {end}"
        );
        self.slots = slots;
        self.confined = true;
        self
    }

    /// Sets handles of files or buffers that the host has given out. Its requests then name these or forgeries
    /// of them, so that some reach the transport. By default, all handles are made up.
    #[must_use]
    pub fn handles(mut self, handles: impl IntoIterator<Item = u32>) -> Self {
        self.handles = handles.into_iter().collect();
        self
    }

    /// Sets values that it never stores, for example handles of other devices on the same loop. It could guess
    /// such a handle and would then be allowed to use it.
    #[must_use]
    pub fn sparing(mut self, values: impl IntoIterator<Item = u32>) -> Self {
        self.spared = values.into_iter().collect();
        self
    }

    /// Returns the number of steps so far, silent ones included.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Returns the number of words stored so far.
    pub const fn words(&self) -> u64 {
        self.words
    }

    /// Returns how often it made one kind of attack. A silence counts once.
    pub const fn count(&self, attack: Attack) -> u64 {
        self.counts[attack.number()]
    }

    /// Makes one attack, chosen at random, and returns its kind.
    pub fn step(&mut self) -> Attack {
        if self.silent > 0 {
            self.steps += 1;
            self.silent -= 1;
            return Attack::Silence;
        }
        let attack = self.weights.pick(&mut self.random);
        self.attack(attack);
        attack
    }

    /// Makes one attack now, whatever the weights, and ends a silence. Stores nothing if the attack is not
    /// possible, for example because no slot is being served or there is no header.
    pub fn attack(&mut self, attack: Attack) {
        self.steps += 1;
        self.counts[attack.number()] += 1;
        self.silent = 0;
        match attack {
            Attack::BadRequest => self.bad_request(),
            Attack::HalfWritten => self.half_written(),
            Attack::Replay => self.replay(),
            Attack::Overwrite => self.overwrite(),
            Attack::Forge => self.forge(),
            Attack::Status => self.status(),
            Attack::Word => self.word(),
            Attack::Header => self.header(),
            Attack::InUse => self.in_use(),
            Attack::Silence => self.silent = self.random.below(64),
        }
    }

    /// Returns the number of words of a slot in this layout.
    fn slot_words(&self) -> usize {
        self.geometry.stride() / size_of::<u32>()
    }

    fn any_slot(&mut self) -> u32 {
        self.slots.start + self.random.below(self.slots.len() as u32)
    }

    /// Returns a slot whose status fits, if it finds one.
    fn slot_where(&mut self, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let (start, len) = (self.slots.start, self.slots.len() as u32);
        let first = self.random.below(len);
        (0..SEARCHED.min(len))
            .map(|next| start + (first + next) % len)
            .find(|&slot| fits(self.load(slot, word::STATUS)))
    }

    /// Loads a word. Acquire: the load of a status pairs with the release in `HostQueue::complete`,
    /// as it must in any device that reuses the slot.
    fn load(&self, slot: u32, word: usize) -> u32 {
        self.region
            .words::<1>(self.geometry.slot_word(slot) + word)
            .load(0, Ordering::Acquire)
    }

    fn store(&mut self, slot: u32, word: usize, value: u32) {
        self.put(self.geometry.slot_word(slot) + word, value);
    }

    /// Stores a word. Release: the store of a status pairs with the acquire in `HostQueue::claim`.
    /// For other words, it does no harm.
    fn put(&mut self, word: usize, mut value: u32) {
        while self.spared.contains(&value) {
            value = value.wrapping_add(EDGES[0]);
        }
        self.region
            .words::<1>(word)
            .store(0, value, Ordering::Release);
        self.words += 1;
    }

    fn value(&mut self) -> u32 {
        let drawn = self.random.next();
        let bits = (drawn >> 32) as u32;
        match drawn % 8 {
            0 | 1 => bits % 0x20,
            2 => 1 << (bits % u32::BITS),
            3 => !(1 << (bits % u32::BITS)),
            4 => EDGES[bits as usize % EDGES.len()],
            _ => bits,
        }
    }

    fn handle(&mut self) -> u32 {
        if self.handles.is_empty() || self.random.one_in(8) {
            return self.value();
        }
        let known = self.handles[self.random.below(self.handles.len() as u32) as usize];
        match self.random.below(8) {
            // Another generation of the same entry, a neighbouring entry, or one bit that differs.
            0 => known.wrapping_add(1 << 20),
            1 => known.wrapping_add(1),
            2 => known ^ 1 << self.random.below(u32::BITS),
            _ => known,
        }
    }

    /// Returns `usual` most of the time, and any value otherwise.
    fn mostly(&mut self, usual: u32) -> u32 {
        if self.random.one_in(8) {
            self.value()
        } else {
            usual
        }
    }

    /// Returns the words of a request, most of which are plausible.
    fn request(&mut self) -> [u32; 16] {
        let small = |random: &mut Random| {
            let bound = 1 << random.below(13);
            random.below(bound)
        };
        let mut words = [0; 16];
        let operation = op::READ + self.random.below(op::MAP);
        words[word::OP] = self.mostly(operation);
        words[word::SOURCE] = self.handle();
        words[word::DESTINATION] = self.handle();
        for low in [word::FILE_OFFSET_LOW, word::BUFFER_OFFSET_LOW] {
            let usual = small(&mut self.random);
            words[low] = self.mostly(usual);
            if self.random.one_in(8) {
                words[low + 1] = self.value();
            }
        }
        let usual = small(&mut self.random);
        words[word::COUNT] = self.mostly(usual);
        words[word::TAG] = self.value();
        if self.random.one_in(4) {
            let usual = self.random.below(4);
            words[word::FLAGS] = self.mostly(usual);
        }
        if self.random.one_in(32) {
            words[word::DEADLINE] = self.value();
        }
        if self.random.one_in(32) {
            let reserved = word::RESERVED + self.random.below(4) as usize;
            words[reserved] = self.value();
        }
        words
    }

    fn remember(&mut self, words: [u32; 16]) {
        if self.history.len() < HISTORY {
            self.history.push(words);
        } else {
            self.history[self.random.below(HISTORY as u32) as usize] = words;
        }
    }

    /// Stores a request with its status last, as a device should, whatever the state of the slot.
    fn publish(&mut self, slot: u32, words: &[u32; 16]) {
        for (number, &value) in words.iter().enumerate().take(self.slot_words()) {
            if number != word::STATUS {
                self.store(slot, number, value);
            }
        }
        self.mark(slot);
        self.store(slot, word::STATUS, status::PUBLISHED);
    }

    fn mark(&mut self, slot: u32) {
        if slot >= GROUP_SLOTS {
            self.put(header_word::IN_USE + (slot / GROUP_SLOTS) as usize, 1);
        }
    }

    fn bad_request(&mut self) {
        let words = self.request();
        let free = |found| matches!(found, status::EMPTY | status::OK | status::ERROR);
        let Some(slot) = self.slot_where(free) else {
            return;
        };
        // A device may recycle a slot first or publish over the outcome.
        if self.load(slot, word::STATUS) != status::EMPTY && self.random.one_in(2) {
            self.store(slot, word::STATUS, status::EMPTY);
        }
        self.publish(slot, &words);
        self.remember(words);
    }

    fn half_written(&mut self) {
        let (slot, words) = (self.any_slot(), self.request());
        self.mark(slot);
        self.store(slot, word::STATUS, status::PUBLISHED);
        let from = self.random.below(16) as usize;
        for (number, &value) in words.iter().enumerate().take(self.slot_words()).skip(from) {
            if number != word::STATUS {
                self.store(slot, number, value);
            }
        }
    }

    fn replay(&mut self) {
        let slot = self.any_slot();
        let words = match self.history.len() as u32 {
            0 => self.request(),
            kept => self.history[self.random.below(kept) as usize],
        };
        self.publish(slot, &words);
    }

    fn overwrite(&mut self) {
        // A slot that is being served may hold either.
        let served = |found| matches!(found, status::PUBLISHED | status::CLAIMED);
        let Some(slot) = self.slot_where(served) else {
            return;
        };
        if self.random.one_in(4) {
            for word in 0..self.slot_words() {
                let value = self.value();
                self.store(slot, word, value);
            }
        } else {
            let word = self.random.below(self.slot_words() as u32) as usize;
            let value = self.value();
            self.store(slot, word, value);
        }
    }

    fn forge(&mut self) {
        let slot = self.any_slot();
        let count = self.value();
        let outcome = status::OK + self.random.below(2);
        self.store(slot, word::COUNT, count);
        self.store(slot, word::STATUS, outcome);
    }

    fn status(&mut self) {
        let slot = self.any_slot();
        let named = STATUSES[self.random.below(STATUSES.len() as u32) as usize];
        let found = self.mostly(named);
        self.store(slot, word::STATUS, found);
    }

    fn word(&mut self) {
        let value = self.value();
        if !self.confined && self.random.one_in(4) {
            let word = self
                .random
                .below((self.geometry.bytes() / size_of::<u32>()) as u32);
            self.put(word as usize, value);
            return;
        }
        let (slot, word) = (self.any_slot(), self.random.below(self.slot_words() as u32));
        self.store(slot, word as usize, value);
    }

    fn header(&mut self) {
        if !self.confined && !self.geometry.is_bare() {
            let word = self.random.below(header_word::END as u32);
            let value = self.value();
            self.put(word as usize, value);
        }
    }

    fn in_use(&mut self) {
        if self.confined || self.geometry.is_bare() {
            return;
        }
        let groups = (header_word::END - header_word::IN_USE) as u32;
        let word = header_word::IN_USE + self.random.below(groups) as usize;
        let value = if self.random.one_in(2) {
            0
        } else {
            self.value()
        };
        self.put(word, value);
    }
}
