//! The host end and the device end of a queue, step by step, with a hostile device beside them.

use std::ops::Range;
use std::sync::atomic::Ordering;

use vyre_ioq::abi::{GROUP_SLOTS, HEADER_BYTES, header_word, status, word};
use vyre_ioq::test_utils::{Adversary, GuardedMemory};
use vyre_ioq::{DeviceQueue, Errno, HostQueue, NotOwed, QueueLayout, Request, Ticket};

const WORD: usize = size_of::<u32>();

/// A queue between guard pages, and a model of what the host end must do with it.
#[derive(Debug)]
pub struct Ends {
    memory: GuardedMemory,
    host: HostQueue,
    device: DeviceQueue,
    adversary: Adversary,
    tickets: Vec<Ticket>,
    owed: Vec<bool>,
    /// Those that the host has announced.
    told: Vec<bool>,
    in_use: Vec<bool>,
    first: usize,
    stride: usize,
    /// Requests claimed so far.
    pub claims: u64,
    /// Outcomes stored so far.
    pub outcomes: u64,
}

impl Ends {
    /// Makes a queue of one of a few geometries, chosen by `kind` modulo their number. Bare queues lie
    /// at the start or at the end of their page, so that a guard page is next to a slot.
    ///
    /// # Panics
    /// If memory cannot be allocated.
    pub fn new(kind: u8, seed: u64) -> Self {
        let (layout, at_end) = match kind % 6 {
            0 => (QueueLayout::with_slots(8), false),
            1 => (QueueLayout::with_slots(128), false),
            2 => (QueueLayout::bare(64), false),
            3 => (QueueLayout::bare(64), true),
            4 => (QueueLayout::bare(3).with_counts(), true),
            _ => (QueueLayout::with_slots(65), false),
        };
        let make = if at_end {
            GuardedMemory::at_end
        } else {
            GuardedMemory::new
        };
        let memory = make(layout.bytes()).expect("memory");
        let host = HostQueue::create(memory.region(), &layout).expect("fit");
        let geometry = *host.geometry();
        let device = match (geometry.is_bare(), host.carries_counts()) {
            (true, true) => DeviceQueue::attach_bare_with_counts(memory.region()),
            (true, false) => DeviceQueue::attach_bare(memory.region()),
            (false, _) => DeviceQueue::attach(memory.region()),
        };
        let slots = geometry.slots() as usize;
        let mut in_use = vec![false; slots.div_ceil(GROUP_SLOTS as usize)];
        in_use[0] = true;
        Self {
            adversary: Adversary::new(memory.region(), &layout, seed).expect("fit"),
            device: device.expect("just made"),
            host,
            tickets: Vec::new(),
            owed: vec![false; slots],
            told: vec![false; slots],
            in_use,
            first: if geometry.is_bare() {
                0
            } else {
                HEADER_BYTES / WORD
            },
            stride: geometry.stride() / WORD,
            claims: 0,
            outcomes: 0,
            memory,
        }
    }

    /// Returns the number of slots.
    pub const fn slots(&self) -> u32 {
        self.host.geometry().slots()
    }

    /// Returns the hostile device.
    pub const fn adversary(&mut self) -> &mut Adversary {
        &mut self.adversary
    }

    /// Publishes a request, if there is a free slot.
    pub fn submit(&mut self, request: Request) {
        self.tickets.extend(self.device.submit(request));
    }

    /// Takes an outcome, if there is one. The hostile device may have stored it.
    pub fn take(&mut self, which: u32) {
        if !self.tickets.is_empty() {
            let which = which as usize % self.tickets.len();
            let ticket = self.tickets.swap_remove(which);
            self.tickets.extend(self.device.take(ticket).err());
        }
    }

    /// Stores to any word of the memory.
    pub fn store(&mut self, word: u32, value: u32) {
        let words = self.memory.len() / WORD;
        self.memory
            .store(word as usize % words, value, Ordering::Release);
    }

    /// Has the host claim what is published.
    ///
    /// # Panics
    /// If it claims anything else, claims anything twice, or leaves anything out.
    pub fn sweep(&mut self, range: Range<u32>) {
        let expected = self.published(&range);
        let mut statuses = self.statuses();
        let bare = self.host.geometry().is_bare();
        let (owed, told) = (&mut self.owed, &mut self.told);
        let claimed = self.host.claim_published(range.clone(), |claim| {
            let owed = &mut owed[claim.slot as usize];
            assert!(!*owed, "slot {} was claimed twice", claim.slot);
            assert!(
                range.contains(&claim.slot),
                "slot {} of {range:?}",
                claim.slot
            );
            assert_eq!(claim.image.status, status::PUBLISHED);
            *owed = true;
            told[claim.slot as usize] = bare;
            if bare {
                statuses[claim.slot as usize] = status::CLAIMED;
            }
        });
        assert_eq!(claimed, expected, "claims of {range:?}");
        assert_eq!(
            self.statuses(),
            statuses,
            "a claim with a header stores nothing"
        );
        self.claims += u64::from(claimed);
        self.check();
    }

    /// Has the host announce its claims.
    ///
    /// # Panics
    /// If it announces anything else, announces anything twice, or stores over what the device has
    /// stored there.
    pub fn announce(&mut self) {
        let mut expected = self.statuses();
        let mut stored = 0;
        for (slot, found) in expected.iter_mut().enumerate() {
            let told = !self.owed[slot] || std::mem::replace(&mut self.told[slot], true);
            if !told && *found == status::PUBLISHED {
                *found = status::CLAIMED;
                stored += 1;
            }
        }
        assert_eq!(self.host.announce_claims(), stored);
        assert_eq!(self.statuses(), expected, "what was told");
        self.check();
    }

    /// Has the host complete any slot.
    ///
    /// # Panics
    /// If it completes a slot for which no outcome is owed, refuses one for which it is, or stores
    /// another outcome.
    pub fn complete(&mut self, slot: u32, result: Result<u32, Errno>) {
        let owed = self.owed.get_mut(slot as usize);
        let expected = owed.is_some_and(std::mem::take);
        let kept = (slot < self.slots()).then(|| self.load(slot, word::COUNT));
        let given = self.host.complete(slot, result);
        if expected {
            assert_eq!(given, Ok(()), "slot {slot} was owed an outcome");
            let (mut count, outcome) = match result {
                Ok(count) => (count, status::OK),
                Err(errno) => (errno.raw(), status::ERROR),
            };
            if !self.host.carries_counts() {
                count = kept.expect("a slot of the queue");
            }
            assert_eq!(self.load(slot, word::STATUS), outcome, "slot {slot}");
            assert_eq!(self.load(slot, word::COUNT), count, "slot {slot}");
            self.outcomes += 1;
        } else {
            assert_eq!(given, Err(NotOwed { slot }));
        }
        self.check();
    }

    /// Has the host complete every slot that it has claimed.
    ///
    /// # Panics
    /// If it completes more or fewer slots than it claimed.
    pub fn complete_owed(&mut self, errno: Errno) {
        let expected = self.owed.iter().filter(|&&owed| owed).count() as u32;
        let kept: Vec<u32> = (0..self.slots())
            .map(|slot| self.load(slot, word::COUNT))
            .collect();
        assert_eq!(self.host.complete_owed(errno), expected);
        for slot in 0..self.slots() {
            if std::mem::take(&mut self.owed[slot as usize]) {
                assert_eq!(self.load(slot, word::STATUS), status::ERROR, "slot {slot}");
                let count = match self.host.carries_counts() {
                    true => errno.raw(),
                    false => kept[slot as usize],
                };
                assert_eq!(self.load(slot, word::COUNT), count, "slot {slot}");
            }
        }
        self.outcomes += u64::from(expected);
        self.check();
    }

    /// Ends the run. Everything that was claimed gets an outcome, and nothing was stored outside the
    /// queue.
    ///
    /// # Panics
    /// If not so.
    pub fn finish(&mut self) {
        self.complete_owed(Errno::ECANCELED);
        assert_eq!(self.claims, self.outcomes, "claims and outcomes");
        assert!(self.memory.is_intact(), "a store outside the queue");
    }

    fn statuses(&self) -> Vec<u32> {
        (0..self.slots())
            .map(|slot| self.load(slot, word::STATUS))
            .collect()
    }

    fn load(&self, slot: u32, word: usize) -> u32 {
        let first = self.first + slot as usize * self.stride;
        self.memory.load(first + word, Ordering::Acquire)
    }

    /// Returns how many slots of a range hold a request that the host must claim.
    fn published(&mut self, range: &Range<u32>) -> u32 {
        for (group, in_use) in self.in_use.iter_mut().enumerate().skip(1) {
            let mark = header_word::IN_USE + group;
            *in_use |= self.memory.load(mark, Ordering::Relaxed) != 0;
        }
        let end = range.end.min(self.slots());
        let is_request = |&slot: &u32| {
            !self.owed[slot as usize]
                && self.in_use[(slot / GROUP_SLOTS) as usize]
                && self.load(slot, word::STATUS) == status::PUBLISHED
        };
        (range.start..end).filter(is_request).count() as u32
    }

    fn check(&self) {
        let owed = self.claims - self.outcomes;
        assert_eq!(u64::from(self.host.owed()), owed, "the ledger");
    }
}
