//! A reference model of a queue, and a world that runs the model beside a real queue.
//!
//! The model is written from the text of the protocol, with plain collections and literal numbers. It shares no
//! code with the crate. After every action the world compares each shared word, the ledger, the fault counters
//! and the outcomes.

use std::collections::{BTreeMap, BTreeSet};

use vyre_ioq::{Op, Request};

mod world;
pub(crate) use world::{Action, Pick, World};

pub(crate) const EMPTY: u32 = 0;
pub(crate) const PUBLISHED: u32 = 1;
pub(crate) const CLAIMED: u32 = 2;
pub(crate) const OK: u32 = 16;
pub(crate) const ERROR: u32 = 17;
pub(crate) const EIO: u32 = 5;

pub(crate) const COUNT_WORD: usize = 5;
pub(crate) const STATUS_WORD: usize = 6;
pub(crate) const TAG_WORD: usize = 7;

/// Outcome of a request, as the two words that carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u32,
    pub(crate) count: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) unknown: u64,
    pub(crate) forged: u64,
    pub(crate) overwritten: u64,
}

pub(crate) struct Model {
    pub(crate) bare: bool,
    /// Set if outcomes carry COUNT.
    pub(crate) counts: bool,
    /// The shared words of each slot: sixteen, of which the bare layout uses eight.
    pub(crate) slots: Vec<[u32; 16]>,
    /// Host: slots that are owed an outcome, with their words at the claim.
    pub(crate) owed: BTreeMap<u32, [u32; 16]>,
    /// Host: owed slots whose claim it has announced.
    announced: BTreeSet<u32>,
    /// Host: slots that were owed at the last announcement of lasting claims.
    lasts: BTreeSet<u32>,
    pub(crate) faults: Faults,
    counted: BTreeSet<u32>,
    /// Device: slots in use.
    pub(crate) locked: BTreeSet<u32>,
    /// Reserved slots whose requests are abandoned.
    abandoned: BTreeSet<u32>,
}

impl Model {
    pub(crate) fn new(slots: u32, bare: bool, counts: bool) -> Self {
        Self {
            bare,
            counts,
            slots: vec![[0; 16]; slots as usize],
            owed: BTreeMap::new(),
            announced: BTreeSet::new(),
            lasts: BTreeSet::new(),
            faults: Faults::default(),
            counted: BTreeSet::new(),
            locked: BTreeSet::new(),
            abandoned: BTreeSet::new(),
        }
    }

    pub(crate) fn status(&self, slot: u32) -> u32 {
        self.slots[slot as usize][STATUS_WORD]
    }

    fn set_status(&mut self, slot: u32, status: u32) {
        self.slots[slot as usize][STATUS_WORD] = status;
    }

    pub(crate) fn reserve(&mut self) -> Option<u32> {
        let is_over = |slot: &u32| ![PUBLISHED, CLAIMED].contains(&self.status(*slot));
        let mut free = (0..self.slots.len() as u32).filter(|slot| !self.locked.contains(slot));
        let reserved = free
            .find(is_over)
            .or_else(|| self.abandoned.iter().copied().find(is_over))?;
        self.abandoned.remove(&reserved);
        self.locked.insert(reserved);
        Some(reserved)
    }

    pub(crate) fn abandon(&mut self, slot: u32) {
        self.abandoned.insert(slot);
    }

    pub(crate) fn unreserve(&mut self, slot: u32) {
        self.locked.remove(&slot);
    }

    pub(crate) fn publish(&mut self, slot: u32, request: &Request) {
        let words = words_of(request);
        let carried = if self.bare { 8 } else { 16 };
        self.slots[slot as usize][..carried].copy_from_slice(&words[..carried]);
        self.set_status(slot, PUBLISHED);
    }

    pub(crate) fn poll(&self, slot: u32) -> Option<(u32, Answer)> {
        let words = &self.slots[slot as usize];
        let (status, mut count) = (words[STATUS_WORD], words[COUNT_WORD]);
        if status == ERROR && !self.counts {
            count = EIO;
        }
        [OK, ERROR]
            .contains(&status)
            .then_some((words[TAG_WORD], Answer { status, count }))
    }

    pub(crate) fn take(&mut self, slot: u32) -> Option<(u32, Answer)> {
        let outcome = self.poll(slot)?;
        self.locked.remove(&slot);
        Some(outcome)
    }

    pub(crate) fn published(&self) -> Vec<u32> {
        (0..self.slots.len() as u32)
            .filter(|slot| !self.owed.contains_key(slot) && self.status(*slot) == PUBLISHED)
            .collect()
    }

    pub(crate) fn claim(&mut self, start: u32, end: u32) -> Vec<(u32, [u32; 16])> {
        let mut claims = Vec::new();
        for slot in start..end.min(self.slots.len() as u32) {
            if self.owed.contains_key(&slot) {
                continue;
            }
            match self.status(slot) {
                EMPTY | OK | ERROR => {}
                PUBLISHED => {
                    let mut image = self.slots[slot as usize];
                    if self.bare {
                        image[8..].fill(0);
                    }
                    self.owed.insert(slot, image);
                    self.announced.remove(&slot);
                    self.lasts.remove(&slot);
                    self.counted.remove(&slot);
                    if self.bare {
                        self.announced.insert(slot);
                        self.set_status(slot, CLAIMED);
                    }
                    claims.push((slot, image));
                }
                CLAIMED if self.counted.insert(slot) => self.faults.forged += 1,
                CLAIMED => {}
                _ if self.counted.insert(slot) => self.faults.unknown += 1,
                _ => {}
            }
        }
        claims
    }

    /// Announces each slot that is owed an outcome, once. If `lasts` is set, announces only those that were owed at
    /// the last such call. Returns the number of slots stored to.
    pub(crate) fn announce(&mut self, lasting: bool) -> u32 {
        let owed: Vec<u32> = self.owed.keys().copied().collect();
        let mut stored = 0;
        for slot in owed {
            if lasting && self.lasts.insert(slot) {
                continue;
            }
            if self.announced.insert(slot) && self.status(slot) == PUBLISHED {
                self.set_status(slot, CLAIMED);
                stored += 1;
            }
        }
        stored
    }

    /// Returns whether the slot was owed an outcome.
    pub(crate) fn complete(&mut self, slot: u32, answer: Answer) -> bool {
        if self.owed.remove(&slot).is_none() {
            return false;
        }
        if ![PUBLISHED, CLAIMED].contains(&self.status(slot)) {
            self.faults.overwritten += 1;
        }
        if self.counts {
            self.slots[slot as usize][COUNT_WORD] = answer.count;
        }
        self.set_status(slot, answer.status);
        true
    }
}

/// Returns the words of a published request by the table of the ABI.
pub(crate) fn words_of(request: &Request) -> [u32; 16] {
    let op = match request.op() {
        Op::Read => 1,
        Op::Write => 2,
        Op::Fence => 3,
        Op::Sync => 4,
        Op::Prefetch => 5,
        Op::Map => 6,
        other => panic!("{other:?} is not in the table"),
    };
    let (file, buffer) = (request.file().raw(), request.buffer().raw());
    let (source, destination) = match request.op() {
        Op::Read => (file, buffer),
        _ => (buffer, file),
    };
    let low = |wide: u64| (wide & 0xffff_ffff) as u32;
    let high = |wide: u64| (wide >> 32) as u32;
    [
        op,
        source,
        destination,
        low(request.file_offset()),
        high(request.file_offset()),
        request.count(),
        PUBLISHED,
        request.tag(),
        low(request.buffer_offset()),
        high(request.buffer_offset()),
        request.flags().bits(),
        request.deadline(),
        0,
        0,
        0,
        0,
    ]
}
