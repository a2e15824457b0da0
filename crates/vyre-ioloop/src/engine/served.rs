//! One queue and what the host knows of it.

use vyre_ioq::{Claim, Errno, HostQueue, Op};

use crate::counters::QueueCounters;
use crate::order::Order;
use crate::record::{Record, Work};
use crate::tables::FileIdentity;

/// A queue being served. All its memory is allocated at the start.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) host: HostQueue,
    pub(crate) records: Box<[Record]>,
    pub(crate) order: Order,
    pub(crate) counters: QueueCounters,
    /// Claims of the current pass.
    pub(crate) claims: Vec<Claim>,
    /// Slots of SYNC requests that wait for writes.
    syncs: Vec<u32>,
    /// WRITE requests claimed and not completed.
    writes: u32,
    sequence: u64,
}

impl Served {
    pub(crate) fn new(host: HostQueue) -> Self {
        let slots = host.geometry().slots();
        Self {
            records: vec![Record::IDLE; slots as usize].into(),
            order: Order::new(slots),
            counters: QueueCounters::default(),
            claims: Vec::with_capacity(slots as usize),
            syncs: Vec::with_capacity(slots as usize),
            writes: 0,
            sequence: 0,
            host,
        }
    }

    /// Claims what is published into `claims`. Where that includes a fence or a sync, the slots
    /// that were looked at before it are looked at once more: a request published before the
    /// fence, but after the sweep came by, is among them, and visible by now. A fence or a sync
    /// that turns up in such a second look is owed one of its own. This ends, since each look but
    /// the last claims a slot.
    #[inline]
    pub(crate) fn sweep(&mut self) -> bool {
        let mut end = u32::MAX;
        let mut any_ordered = false;
        loop {
            let mut last_ordered = None;
            let claims = &mut self.claims;
            self.host.claim_published(0..end, |claim| {
                if is_ordered(&claim) {
                    last_ordered = Some(claim.slot);
                }
                claims.push(claim);
            });
            let Some(slot) = last_ordered else { break };
            any_ordered = true;
            // What comes after `slot` was looked at since, if this look went to the end.
            end = if end == u32::MAX { slot } else { u32::MAX };
        }
        if any_ordered {
            // Fences last: they wait for everything else of the pass.
            self.claims.sort_unstable_by_key(rank);
        }
        !self.claims.is_empty()
    }

    /// Takes a claimed request in; it is outstanding from here on.
    #[inline]
    pub(crate) fn admit(&mut self, slot: u32, mut record: Record) {
        self.sequence += 1;
        record.sequence = self.sequence;
        match &mut record.work {
            Work::Fence => {
                record.epoch = self.order.fence(slot);
                self.records[slot as usize] = record;
                return;
            }
            Work::Write { .. } => self.writes += 1,
            Work::None | Work::Read(_) | Work::Sync { .. } | Work::Prefetch { .. } => {}
        }
        record.epoch = self.order.admit();
        self.records[slot as usize] = record;
    }

    /// Makes an admitted SYNC wait for the writes to its file that are still out. Whether there
    /// are any.
    pub(crate) fn hold_sync(
        &mut self,
        slot: u32,
        same: impl Fn(u32, FileIdentity) -> bool,
    ) -> bool {
        let Work::Sync { identity, .. } = self.records[slot as usize].work else {
            return false;
        };
        if self.writes == 0 {
            return false;
        }
        let earlier = self
            .records
            .iter()
            .filter(|record| match record.work {
                Work::Write { transfer, .. } => same(transfer.file, identity),
                _ => false,
            })
            .count() as u32;
        if let Work::Sync { writes, .. } = &mut self.records[slot as usize].work {
            *writes = earlier;
        }
        if earlier > 0 {
            self.syncs.push(slot);
        }
        earlier > 0
    }

    /// Counts a finished write out of the SYNCs that wait for it; hands each that is due to `due`.
    #[inline]
    pub(crate) fn write_finished(
        &mut self,
        sequence: u64,
        is_on: impl Fn(FileIdentity) -> bool,
        mut due: impl FnMut(u32),
    ) {
        self.writes -= 1;
        if self.syncs.is_empty() {
            return;
        }
        let records = &mut self.records;
        self.syncs.retain(|&slot| {
            let record = &mut records[slot as usize];
            let Work::Sync {
                identity, writes, ..
            } = &mut record.work
            else {
                return false;
            };
            if record.sequence > sequence && is_on(*identity) {
                *writes -= 1;
            }
            let waits = *writes > 0;
            if !waits {
                due(slot);
            }
            waits
        });
    }

    /// Takes a SYNC that will not wait any longer off the list. Whether it was on it.
    pub(crate) fn forget_sync(&mut self, slot: u32) -> bool {
        let before = self.syncs.len();
        self.syncs.retain(|&waiting| waiting != slot);
        self.syncs.len() != before
    }

    /// The queue's counters, as of now.
    pub(crate) fn counters(&self) -> QueueCounters {
        QueueCounters {
            device_faults: self.host.faults().total(),
            ..self.counters
        }
    }

    /// Writes an outcome into a slot that is owed one.
    #[inline]
    pub(crate) fn answer(&mut self, slot: u32, result: Result<u32, Errno>) {
        let answered = self.host.complete(slot, result);
        debug_assert!(answered.is_ok(), "slot {slot} was not owed an outcome");
        match result {
            Ok(_) => self.counters.succeeded += 1,
            Err(_) => self.counters.failed += 1,
        }
    }
}

fn is_ordered(claim: &Claim) -> bool {
    Op::from_word(claim.image.op).is_some_and(Op::is_ordered)
}

/// Requests that wait for nothing, then SYNCs, then fences.
fn rank(claim: &Claim) -> u8 {
    match Op::from_word(claim.image.op) {
        Some(Op::Fence) => 2,
        Some(Op::Sync) => 1,
        _ => 0,
    }
}
