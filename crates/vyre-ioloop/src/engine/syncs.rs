//! SYNCs: the WRITEs that they wait for, and the flush that those of one file and pass share.

use vyre_ioq::Errno;

use super::engine_state::EngineState;
use super::queue_state::QueueState;
use super::request_state::Admitted;
use super::slot_id::SlotId;
use super::slot_lists::{SlotList, SlotLists};
use crate::file_identity::FileIdentity;

impl QueueState {
    /// Lists the files of the outstanding WRITE requests, for the SYNCs that are about to be admitted.
    /// This is done once for all SYNCs of a pass, because it visits all of those writes.
    pub(crate) fn list_writes(&mut self, identity: impl Fn(u32) -> Option<FileIdentity>) {
        self.leader = None;
        self.listed_at = self.sequence;
        self.written.clear();
        for (&word, first) in self.writes.iter().zip((0..).step_by(64)) {
            let mut left = word;
            while left != 0 {
                let slot = first + left.trailing_zeros() as usize;
                left &= left - 1;
                let file = self.requests[slot].file().and_then(&identity);
                self.written.extend(file);
            }
        }
        self.written.sort_unstable();
    }

    /// Makes an admitted SYNC wait for the listed writes to its file. Returns whether there are any.
    pub(crate) fn hold_sync(&mut self, slot: u32) -> bool {
        let request = &mut self.requests[slot as usize];
        request.sequence = self.listed_at;
        let Admitted::Sync {
            identity, writes, ..
        } = &mut request.admitted
        else {
            return false;
        };
        let before = self.written.partition_point(|file| file < identity);
        let through = self.written.partition_point(|file| file <= identity);
        *writes = (through - before) as u32;
        let waits = *writes > 0;
        if waits {
            self.lists.push(SlotList::AwaitsWrites, slot);
        }
        waits
    }

    /// Counts the end of a write for the SYNCs that wait for it, and passes each that is due to `due`.
    #[inline]
    pub(crate) fn write_finished(
        &mut self,
        slot: u32,
        sequence: u64,
        is_on: impl Fn(FileIdentity) -> bool,
        mut due: impl FnMut(&mut SlotLists, u32),
    ) {
        self.writes[slot as usize / 64] &= !(1 << (slot % 64));
        let mut next = self.lists.first(SlotList::AwaitsWrites);
        while let Some(slot) = next {
            next = self.lists.after(slot);
            let request = &mut self.requests[slot as usize];
            if let Admitted::Sync {
                identity, writes, ..
            } = &mut request.admitted
                && request.sequence >= sequence
                && is_on(*identity)
            {
                *writes -= 1;
                if *writes == 0 {
                    self.lists.remove(slot);
                    due(&mut self.lists, slot);
                }
            }
        }
    }

    /// Makes a newly admitted SYNC follow another of its pass. Returns whether there is one.
    pub(super) fn follow_sync(&mut self, slot: u32, file: u32) -> bool {
        if let Some(leader) = self.leader
            && matches!(self.requests[leader as usize].admitted, Admitted::Sync { file: of, .. } if of == file)
        {
            self.sync_groups.join(leader, slot);
            return true;
        }
        self.leader = Some(slot);
        false
    }
}

impl EngineState {
    /// Lists the files with writes in flight, for the SYNCs of a queue.
    pub(super) fn list_writes(&mut self, queue: usize) {
        let files = &self.files.entries;
        self.queues[queue].list_writes(|file| files.at(file).map(|entry| entry.identity));
    }

    /// Resumes the SYNCs that waited for a write.
    #[inline]
    pub(super) fn write_finished(&mut self, id: SlotId, file: Option<u32>, sequence: u64) {
        let identity = file
            .and_then(|file| self.files.entries.at(file))
            .map(|entry| entry.identity);
        let mut due = 0;
        let queue = &mut self.queues[id.queue as usize];
        queue.write_finished(
            id.slot,
            sequence,
            |awaited| identity == Some(awaited),
            |lists, slot| {
                lists.push(SlotList::Backlog, slot);
                due += 1;
            },
        );
        if !queue.is_held() {
            self.backlogged += due;
        }
    }

    /// Removes a SYNC that is about to end early from its ring. If it leads, the next one takes its
    /// place in `line`.
    pub(super) fn leave_sync_group(&mut self, id: SlotId, line: Option<SlotList>) {
        let queue = &mut self.queues[id.queue as usize];
        let Some(next) = queue.sync_groups.leave(id.slot) else {
            return;
        };
        let successor = SlotId { slot: next, ..id };
        if line != Some(SlotList::AwaitsWrites) {
            self.enqueue(successor);
            return;
        }
        let waits_for = match queue.requests[id.slot as usize].admitted {
            Admitted::Sync { writes, .. } => writes,
            _ => 0,
        };
        if let Admitted::Sync { writes, .. } = &mut queue.requests[next as usize].admitted {
            *writes = waits_for;
        }
        queue.lists.push(SlotList::AwaitsWrites, next);
    }

    /// Ends the SYNCs that shared a completed flush, or repeats the flush for them if it was cancelled.
    #[cold]
    pub(super) fn sync_finished(
        &mut self,
        id: SlotId,
        result: Result<u32, Errno>,
        cancelled: bool,
    ) {
        if cancelled && result.is_err() {
            self.leave_sync_group(id, None);
            return;
        }
        let sync_groups =
            |state: &mut Self, slot| state.queues[id.queue as usize].sync_groups.leave(slot);
        let mut next = sync_groups(self, id.slot);
        while let Some(slot) = next {
            next = sync_groups(self, slot);
            self.finish(SlotId { slot, ..id }, result);
        }
    }
}
