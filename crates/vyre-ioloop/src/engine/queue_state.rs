//! One queue and what the host knows of it.

use vyre_ioq::{Errno, HostQueue, Request, SlotMask};

use super::backlog::{Line, Lines};
use super::epochs::Order;
use super::request_state::{Flush, Record, Work};
use super::shares::Share;
use super::sync_groups::Rings;
use crate::counters::QueueCounters;
use crate::file_identity::FileIdentity;

/// How many sets of fences, and how many SYNCs, are claimed and not admitted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PutBy {
    pub(crate) fences: usize,
    pub(crate) syncs: usize,
}

impl PutBy {
    #[inline]
    pub(crate) const fn is_none(self) -> bool {
        self.fences | self.syncs == 0
    }
}

/// Operations that the transport still holds at the end of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    /// The operations that the records name.
    Named,
    /// Unknown operations: a panic kept them from the records.
    Unknown,
}

/// SYNC that is claimed and not admitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimedSync {
    pub(crate) slot: u32,
    pub(crate) request: Request,
    /// Time at which it expires, counted from the claim.
    pub(crate) expires: u64,
}

/// A queue being served. All its memory is allocated at the start.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) host: HostQueue,
    pub(crate) records: Box<[Record]>,
    pub(crate) order: Order,
    pub(crate) counters: QueueCounters,
    /// Set if the counters have changed since they were published.
    pub(crate) has_counted: bool,
    /// SYNCs claimed and not admitted yet, before which others have to be.
    pub(crate) claimed_syncs: Vec<ClaimedSync>,
    /// Fences, before which the SYNCs have to be, too: a set for each group of slots that a look found
    /// some in.
    pub(crate) claimed_fences: Vec<SlotMask>,
    /// Times at which these expire, by slot.
    pub(crate) fence_expires: Box<[u64]>,
    /// Lines in which its requests wait, and its use of the transport.
    pub(crate) lines: Lines,
    pub(crate) share: Share,
    /// SYNCs that share a flush, and the one that led last in this pass.
    pub(crate) rings: Rings,
    pub(crate) leader: Option<u32>,
    /// Outcomes of the current pass that the device has not been told.
    outcomes: Vec<(u32, Result<u32, Errno>)>,
    /// WRITE requests claimed and not completed.
    writes: u32,
    /// The file of each of them, in order, as of the SYNCs that were admitted last.
    written: Vec<FileIdentity>,
    /// How often all records were walked for it.
    #[cfg(test)]
    pub(crate) walks: u32,
    sequence: u64,
}

impl Served {
    pub(crate) fn new(host: HostQueue) -> Self {
        let slots = host.geometry().slots();
        Self {
            records: vec![Record::IDLE; slots as usize].into(),
            order: Order::new(slots),
            counters: QueueCounters::default(),
            has_counted: false,
            claimed_syncs: Vec::with_capacity(slots as usize),
            claimed_fences: Vec::with_capacity(slots as usize),
            fence_expires: vec![0; slots as usize].into(),
            lines: Lines::new(slots),
            share: Share::default(),
            rings: Rings::new(slots),
            leader: None,
            outcomes: Vec::with_capacity(slots as usize),
            writes: 0,
            written: Vec::with_capacity(slots as usize),
            #[cfg(test)]
            walks: 0,
            sequence: 0,
            host,
        }
    }

    /// Takes a claimed request in; it is outstanding from here on.
    #[inline(always)]
    pub(crate) fn admit(
        &mut self,
        slot: u32,
        work: Work,
        exact: bool,
        expires: u64,
    ) -> &mut Record {
        self.sequence += 1;
        let epoch = match work {
            Work::Fence => self.order.fence(slot),
            _ => self.order.admit(),
        };
        self.writes += u32::from(matches!(work, Work::Write { .. }));
        let record = &mut self.records[slot as usize];
        *record = Record {
            work,
            token: None,
            epoch,
            sequence: self.sequence,
            expires,
            moved: 0,
            retries: 0,
            flush: Flush::None,
            exact,
            cancelled: None,
        };
        record
    }

    #[inline]
    pub(crate) const fn put_by_so_far(&self) -> PutBy {
        PutBy {
            fences: self.claimed_fences.len(),
            syncs: self.claimed_syncs.len(),
        }
    }

    /// Answers what is owed an outcome at the end of service, except for what is `kept`: requests
    /// that the transport still holds, and fences that may have to wait for one of them.
    pub(crate) fn give_up(&mut self, errno: Errno, kept: Kept) {
        let holds = |record: &Record| match kept {
            Kept::Nothing => false,
            Kept::Named => record.token.is_some(),
            Kept::Unknown => record.work != Work::None,
        };
        let mut waits = vec![false; self.records.len()];
        if kept == Kept::Unknown || self.records.iter().any(holds) {
            for fence in self.claimed_fences.drain(..).flatten() {
                waits[fence as usize] = true;
            }
            for (record, waits) in self.records.iter().zip(&mut waits) {
                *waits |= holds(record) || record.work == Work::Fence;
            }
        }
        let answered = |slot: u32| !waits[slot as usize];
        self.counters.failed += u64::from(self.host.complete_owed_where(errno, answered));
        for record in self.records.iter_mut().filter(|record| !holds(record)) {
            *record = Record::IDLE;
        }
        self.lines.clear();
        self.claimed_syncs.clear();
        self.claimed_fences.clear();
        self.rings.clear();
        self.writes = 0;
    }

    /// Notes the writes that are out, for the SYNCs that are about to be admitted. Once for all of
    /// them: a device that publishes thousands is not to make each walk all records.
    pub(crate) fn list_writes(&mut self, identity: impl Fn(u32) -> Option<FileIdentity>) {
        self.written.clear();
        if self.writes == 0 {
            return;
        }
        #[cfg(test)]
        {
            self.walks += 1;
        }
        let files = self.records.iter().filter_map(|record| match record.work {
            Work::Write { transfer, .. } => identity(transfer.file),
            _ => None,
        });
        self.written.extend(files);
        self.written.sort_unstable();
    }

    /// Makes an admitted SYNC wait for the listed writes to its file. Whether there are any.
    pub(crate) fn hold_sync(&mut self, slot: u32) -> bool {
        let Work::Sync {
            identity, writes, ..
        } = &mut self.records[slot as usize].work
        else {
            return false;
        };
        let before = self.written.partition_point(|file| file < identity);
        let through = self.written.partition_point(|file| file <= identity);
        *writes = (through - before) as u32;
        let waits = *writes > 0;
        if waits {
            self.lines.push(Line::Writes, slot);
        }
        waits
    }

    /// Counts a finished write out of the SYNCs that wait for it; hands each that is due to `due`.
    #[inline]
    pub(crate) fn write_finished(
        &mut self,
        sequence: u64,
        is_on: impl Fn(FileIdentity) -> bool,
        mut due: impl FnMut(&mut Lines, u32),
    ) {
        self.writes -= 1;
        let mut next = self.lines.first(Line::Writes);
        while let Some(slot) = next {
            next = self.lines.after(slot);
            let record = &mut self.records[slot as usize];
            if let Work::Sync {
                identity, writes, ..
            } = &mut record.work
                && record.sequence > sequence
                && is_on(*identity)
            {
                *writes -= 1;
                if *writes == 0 {
                    self.lines.remove(slot);
                    due(&mut self.lines, slot);
                }
            }
        }
    }

    /// The queue's counters, as of now.
    pub(crate) fn counters(&self) -> QueueCounters {
        QueueCounters {
            device_faults: self.host.faults().total(),
            ..self.counters
        }
    }

    /// Decides the outcome of a claimed slot. The device sees it when it is
    /// [delivered](Self::deliver).
    #[inline]
    pub(crate) fn answer(&mut self, slot: u32, result: Result<u32, Errno>) {
        self.outcomes.push((slot, result));
        match result {
            Ok(_) => self.counters.succeeded += 1,
            Err(_) => self.counters.failed += 1,
        }
    }

    /// Answers the first `count` sets of claimed fences, before which nothing is outstanding. The device
    /// sees it at once, and all outcomes decided on before it.
    #[inline]
    pub(crate) fn answer_fences(&mut self, count: usize) {
        self.deliver();
        for fences in self.claimed_fences.drain(..count) {
            self.counters.succeeded += u64::from(fences.len());
            let delivered = self.host.complete_all(fences, Ok(0));
            debug_assert!(delivered.is_ok(), "{delivered:?}");
        }
    }

    /// Answers, of the fences that were claimed before a look at every slot began, those below the slot
    /// that it has come to. The look that found them went on to the end, and this one has come to them from
    /// the beginning: all that can have been published before them was looked at since. So no lane waits
    /// for the end of the look. Not where there is anything that they may have to wait for.
    #[inline]
    pub(crate) fn answer_fences_before(&mut self, end: u32, before: &mut PutBy) {
        if !self.claimed_syncs.is_empty() || !self.order.is_clear() {
            return;
        }
        // Each look puts them by in the order of the slots.
        let below = |fences: &&SlotMask| fences.last().is_some_and(|slot| slot < end);
        let kept = &self.claimed_fences[..before.fences];
        let due = kept.iter().take_while(below).count();
        if due > 0 {
            self.answer_fences(due);
            before.fences -= due;
        }
    }

    /// Writes the outcomes decided on into their slots.
    #[inline]
    pub(crate) fn deliver(&mut self) {
        if !self.outcomes.is_empty() {
            self.has_counted = true;
            let delivered = self.host.complete_batch(&self.outcomes);
            self.outcomes.clear();
            debug_assert!(delivered.is_ok(), "{delivered:?}");
        }
    }
}
