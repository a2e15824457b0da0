//! A queue in shared memory, with its host end here and its device end in a driver.

use vyre_ioq::abi::{BARE_SLOT_BYTES, HEADER_BYTES, SLOT_BYTES, status, word};
use vyre_ioq::{AttachError, Claim, Errno, HostQueue, QueueLayout, Region};

use crate::driver::Driver;
use crate::memory::Shared;

const WORD: usize = size_of::<u32>();

/// A request that any scenario may use: `TAG` stands for its tag.
pub(crate) fn read_tagged(tag: u32) -> String {
    format!("1 3 4096 512 5 64 0 0 {tag}")
}

/// Returns a request as `read_tagged` does, for a bare queue, which carries less.
pub(crate) fn bare_read_tagged(tag: u32) -> String {
    format!("1 3 4096 512 5 0 0 0 {tag}")
}

pub(crate) struct Rig {
    pub(crate) memory: Shared,
    pub(crate) host: HostQueue,
    /// First word of slot 0.
    first: usize,
    /// Words from one slot to the next.
    stride: usize,
    /// True if the next claim is announced before the outcome is stored.
    tells: bool,
}

impl Rig {
    /// A queue with a header, attached by the driver.
    pub(crate) fn headed(driver: &mut Driver, slots: u32) -> Self {
        let layout = QueueLayout::with_slots(slots);
        let memory = driver.fresh_memory();
        let region = memory.region(0, layout.bytes()).expect("aligned");
        let host = HostQueue::create(region, &layout).expect("a fit region");
        let rig = Self {
            memory,
            host,
            first: HEADER_BYTES / WORD,
            stride: SLOT_BYTES / WORD,
            tells: true,
        };
        rig.attach(driver);
        rig
    }

    /// A bare queue that begins at a byte of its memory, attached by the driver.
    pub(crate) fn bare(driver: &mut Driver, slots: u32, offset: usize) -> Self {
        Self::bare_by(driver, slots, offset, HostQueue::attach_bare)
    }

    /// Creates a bare queue whose outcomes carry counts.
    pub(crate) fn bare_with_counts(driver: &mut Driver, slots: u32, offset: usize) -> Self {
        Self::bare_by(driver, slots, offset, HostQueue::attach_bare_with_counts)
    }

    fn bare_by(
        driver: &mut Driver,
        slots: u32,
        offset: usize,
        attach: fn(Region) -> Result<HostQueue, AttachError>,
    ) -> Self {
        let len = QueueLayout::bare(slots).bytes();
        let memory = driver.fresh_memory();
        let region = memory.region(offset, len).expect("aligned");
        let host = attach(region).expect("a fit region");
        let rig = Self {
            memory,
            host,
            first: offset / WORD,
            stride: BARE_SLOT_BYTES / WORD,
            tells: true,
        };
        rig.attach(driver);
        rig
    }

    /// Has the driver attach a new device end.
    pub(crate) fn attach(&self, driver: &mut Driver) {
        let geometry = self.host.geometry();
        let (slots, bytes) = (geometry.slots(), geometry.bytes());
        let (offset, layout) = match (geometry.is_bare(), self.host.carries_counts()) {
            (true, false) => (self.first * WORD, "bare"),
            (true, true) => (self.first * WORD, "bare-counts"),
            (false, _) => (0, "header"),
        };
        let answer = driver.attach(offset, bytes, layout);
        assert_eq!(answer, format!("ok {slots} {} 0", self.features()));
    }

    fn features(&self) -> u32 {
        match self.host.geometry().is_bare() {
            true => 0,
            false => self.memory.load(vyre_ioq::abi::header_word::FEATURES),
        }
    }

    /// A word of a slot.
    pub(crate) fn word(&self, slot: u32, word: usize) -> u32 {
        self.memory.load(self.slot(slot) + word)
    }

    /// The first `N` words of a slot.
    pub(crate) fn words<const N: usize>(&self, slot: u32) -> [u32; N] {
        self.memory.words(self.slot(slot))
    }

    pub(crate) fn status(&self, slot: u32) -> u32 {
        self.word(slot, word::STATUS)
    }

    pub(crate) fn store_status(&self, slot: u32, value: u32) {
        self.memory.store(self.slot(slot) + word::STATUS, value);
    }

    fn slot(&self, slot: u32) -> usize {
        self.first + slot as usize * self.stride
    }

    pub(crate) fn claim(&mut self) -> Vec<Claim> {
        let mut claims = Vec::new();
        self.host
            .claim_published(0..u32::MAX, |claim| claims.push(claim));
        claims
    }

    /// Claims the request in one slot, which must be the only one, and completes it. With a header, announces
    /// every other claim; in a bare queue, every claim is announced.
    pub(crate) fn serve(&mut self, slot: u32, result: Result<u32, Errno>) {
        let claims = self.claim();
        assert_eq!(
            claims.iter().map(|claim| claim.slot).collect::<Vec<_>>(),
            [slot]
        );
        if self.host.geometry().is_bare() {
            assert_eq!(self.status(slot), status::CLAIMED);
            return self.host.complete(slot, result).expect("owed");
        }
        assert_eq!(self.status(slot), status::PUBLISHED);
        if self.tells {
            assert!(self.host.announce_claims() > 0);
            assert_eq!(self.status(slot), status::CLAIMED);
        }
        self.tells = !self.tells;
        self.host.complete(slot, result).expect("owed");
    }
}
