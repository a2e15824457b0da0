//! The hostile device, step by step.

use core::ops::Range;
use core::sync::atomic::Ordering;
use std::vec::Vec;

use super::{Attack, HostileThread, Random, Weights};
use crate::abi::{GROUP_SLOTS, header_word, op, status, word};
use crate::error::AttachError;
use crate::layout::{Geometry, QueueLayout};
use crate::region::Region;

/// Requests of the past that are kept to be replayed.
const HISTORY: usize = 16;
/// Slots that are looked at for one in the right state.
const LOOKS: u32 = 8;
/// Numbers at which something may wrap, or change its sign.
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

/// A device that keeps to no rule, by seed: equal seeds, settings and calls against an equal host
/// store the same words.
///
/// It knows where the words of the queue are and nothing that a device could not know. The host's
/// memory is safe from it as long as the [`Region`] was honest.
///
/// Make one with [`new`](Self::new), set it up, then call [`step`](Self::step), or
/// [`attack`](Self::attack) for an attack of one's own choice, or [`spawn`](Self::spawn).
#[derive(Debug)]
pub struct Adversary {
    region: Region,
    geometry: Geometry,
    random: Random,
    weights: Weights,
    slots: Range<u32>,
    /// Whether the slots are all that it may touch.
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
    /// A device of the queue that begins with `region` and looks as `layout` says. Whether there is
    /// a queue yet does not matter to it.
    ///
    /// # Errors
    /// [`AttachError`] if the layout or the region is unfit.
    pub fn new(region: Region, layout: &QueueLayout, seed: u64) -> Result<Self, AttachError> {
        let geometry = layout.check()?.check_region(&region)?;
        Ok(Self {
            region,
            geometry,
            random: Random(seed),
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

    /// What it does how often: [`Weights::all`] unless said otherwise.
    #[must_use]
    pub const fn weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }

    /// Confines it to some slots, so that others of the same queue can be put to good use. It then
    /// leaves the header alone, but for the marks that its own publications need.
    ///
    /// # Panics
    /// If there is no such slot.
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

    /// Handles, of files or buffers, that the host gave out: requests then name these, or forgeries
    /// of them, and some get through to the transport. Without any, all are made up.
    #[must_use]
    pub fn handles(mut self, handles: impl IntoIterator<Item = u32>) -> Self {
        self.handles = handles.into_iter().collect();
        self
    }

    /// Values that it never stores anywhere: handles of others on the same loop, say, which it
    /// could guess, and whose files and buffers it could then use by right.
    #[must_use]
    pub fn sparing(mut self, values: impl IntoIterator<Item = u32>) -> Self {
        self.spared = values.into_iter().collect();
        self
    }

    /// Steps so far, silent ones too.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Words stored so far.
    pub const fn words(&self) -> u64 {
        self.words
    }

    /// How often it did one thing. A silence counts once.
    pub const fn count(&self, attack: Attack) -> u64 {
        self.counts[attack.number()]
    }

    /// Does something, and says what.
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

    /// Does this now, whatever the weights, and ends a silence. Where it cannot be done (no slot is
    /// being served, there is no header), nothing is stored.
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

    /// Steps on a thread of its own until it is [stopped](HostileThread::stop).
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
    pub fn spawn(self) -> std::io::Result<HostileThread> {
        HostileThread::new(self)
    }

    /// Words of a slot that the layout has.
    fn slot_words(&self) -> usize {
        self.geometry.stride() / size_of::<u32>()
    }

    fn any_slot(&mut self) -> u32 {
        self.slots.start + self.random.below(self.slots.len() as u32)
    }

    /// A slot in a state that fits, if one turns up.
    fn slot_where(&mut self, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let (start, len) = (self.slots.start, self.slots.len() as u32);
        let first = self.random.below(len);
        (0..LOOKS.min(len))
            .map(|next| start + (first + next) % len)
            .find(|&slot| fits(self.load(slot, word::STATUS)))
    }

    /// Acquire, where it is a status: pairs with the release in `HostQueue::complete`, as a
    /// device's must that is to reuse the slot.
    fn load(&self, slot: u32, word: usize) -> u32 {
        self.region
            .words::<1>(self.geometry.slot_word(slot) + word)
            .load(0, Ordering::Acquire)
    }

    fn store(&mut self, slot: u32, word: usize, value: u32) {
        self.put(self.geometry.slot_word(slot) + word, value);
    }

    /// Release, whatever the word: where it publishes, it pairs with the acquire in
    /// `HostQueue::claim_published`, and elsewhere it does no harm.
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
            // Another generation of the same entry; an entry beside it; one bit.
            0 => known.wrapping_add(1 << 20),
            1 => known.wrapping_add(1),
            2 => known ^ 1 << self.random.below(u32::BITS),
            _ => known,
        }
    }

    /// Mostly `usual`, else any value.
    fn mostly(&mut self, usual: u32) -> u32 {
        if self.random.one_in(8) {
            self.value()
        } else {
            usual
        }
    }

    /// The words of a request, most of which could be right.
    fn request(&mut self) -> [u32; 16] {
        let small = |random: &mut Random| {
            let bound = 1 << random.below(13);
            random.below(bound)
        };
        let mut words = [0; 16];
        let operation = op::READ + self.random.below(op::PREFETCH);
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

    /// Stores a request, the status last, as a device should, but for the state of the slot.
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
        // A device may recycle a slot first, or publish over the outcome.
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
        // A slot that is served may say either.
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
