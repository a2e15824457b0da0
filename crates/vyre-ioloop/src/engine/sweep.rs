//! The sweep: claims what is published in one queue.
//!
//! Requests are admitted as they are found; barriers are deferred. [`barriers`](super::barriers) states
//! the rule by which a second sweep covers the barriers of the first.

use std::ops::Range;

use vyre_ioq::{Claim, Claims, Errno, Op, Request};
use vyre_uring::Transport;

use super::Engine;
use super::barriers::{DeferredSync, FenceSet};
use super::engine_state::EngineState;
use super::slot_id::SlotId;

/// Results of a sweep.
#[derive(Clone, Copy, Debug, Default)]
struct Swept {
    claimed: u32,
    /// Highest slot in which the sweep found a barrier.
    last_barrier: Option<u32>,
}

impl<T: Transport> Engine<T> {
    /// Claims what is published in one queue, and admits or rejects it. Returns the number of
    /// requests.
    ///
    /// Sweeps twice at most. A pass that begins with deferred barriers sweeps once, which covers
    /// them. Another one sweeps again if the first sweep finds a barrier. Barriers of that second
    /// round wait for the next pass: a device could publish one in every sweep.
    #[inline]
    pub(super) fn sweep_queue(&mut self, queue: usize) -> u32 {
        let barriers = &mut self.state.queues[queue].barriers;
        let had_deferred = barriers.has_deferred();
        barriers.begin_round();
        let first = self.sweep(queue, 0..u32::MAX);
        let mut claimed = first.claimed;
        if !had_deferred && let Some(last) = first.last_barrier {
            self.state.queues[queue].barriers.begin_round();
            let second = self.sweep(queue, 0..last);
            claimed += second.claimed;
            if second.last_barrier.is_some() {
                // The next round covers these, so this one has to be whole.
                claimed += self.sweep(queue, last..u32::MAX).claimed;
            }
        }
        if claimed == 0 && !had_deferred {
            return 0;
        }
        self.admit_covered(queue);
        let state = &mut self.state.queues[queue];
        state.counters.claimed += u64::from(claimed);
        // Also for fences that a pass ended which claimed nothing.
        state.has_counted = true;
        self.state.publish_outcomes(queue);
        claimed
    }

    /// Sweeps a range of slots: admits the requests that are published there, and defers the barriers.
    #[inline]
    fn sweep(&mut self, queue: usize, slots: Range<u32>) -> Swept {
        let mut swept = Swept::default();
        let mut cursor = self.state.queues[queue].host.sweep(slots);
        while let Some(group) = cursor.next() {
            let end = group.end;
            let claims = self.state.queues[queue].host.claim(group);
            if !claims.slots().is_empty() {
                swept.claimed += claims.slots().len();
                let last_barrier = if self.state.queues[queue].draining {
                    // Here, and not later: what was claimed before the drain is finished.
                    self.reject_claims(queue, &claims);
                    None
                } else {
                    self.admit_claims(queue, claims)
                };
                if last_barrier.is_some() {
                    swept.last_barrier = last_barrier;
                    // A group may have come into use after the sweep began and before the barrier was
                    // published.
                    self.state.queues[queue].host.refresh(&mut cursor);
                }
            }
            if self.state.queues[queue].barriers.has_earlier_fences() {
                // A fence may have to wait for them.
                self.copy_bundle(queue);
                if self.state.queues[queue].barriers.pass(end) {
                    self.state.publish_outcomes(queue);
                }
            }
        }
        self.copy_bundle(queue);
        swept
    }

    /// Admits the claimed requests of one group, and defers the barriers. Returns the highest slot of
    /// a barrier.
    #[inline]
    fn admit_claims(&mut self, queue: usize, mut claims: Claims) -> Option<u32> {
        let mut found = FenceSet {
            fences: claims.slots().to_empty(),
            timed: claims.slots().to_empty(),
        };
        let mut last_sync = None;
        while let Some(Claim { slot, image, .. }) =
            self.state.queues[queue].host.next_claim(&mut claims)
        {
            // Decoded here, where the words are in registers, and one operation apart from the others: most requests
            // are READs.
            match Op::from_word(image.op) {
                Some(Op::Read) => match Request::decode(&image) {
                    Ok(read) => self.admit_read(queue, slot, &read),
                    Err(error) => self.reject(queue, slot, error.errno()),
                },
                // No request is made of its words.
                Some(Op::Fence) => match Request::decode(&image).map(|fence| fence.deadline()) {
                    Ok(deadline) => {
                        found.fences.insert(slot);
                        if deadline != 0 {
                            let expires = self.expiry(deadline);
                            found.timed.insert(slot);
                            let barriers = &mut self.state.queues[queue].barriers;
                            barriers.set_deadline(slot, expires);
                        }
                    }
                    Err(error) => self.reject(queue, slot, error.errno()),
                },
                _ => match Request::decode(&image) {
                    Ok(sync) if sync.op().is_barrier() => {
                        self.defer_sync(queue, slot, sync);
                        last_sync = Some(slot);
                    }
                    Ok(other) => self.admit_other(queue, slot, other),
                    Err(error) => self.reject(queue, slot, error.errno()),
                },
            }
        }
        if !found.fences.is_empty() {
            self.state.queues[queue].barriers.defer_fences(found);
        }
        found.fences.last().max(last_sync)
    }

    #[cold]
    fn reject_claims(&mut self, queue: usize, claims: &Claims) {
        for slot in claims.slots() {
            self.reject(queue, slot, Errno::ECANCELED);
        }
    }

    #[inline(always)]
    fn admit_read(&mut self, queue: usize, slot: u32, read: &Request) {
        let deadline = read.deadline();
        self.admit_or_reject(queue, slot, read, move |engine| engine.expiry(deadline));
    }

    /// Admits a request that is neither a READ nor a barrier.
    #[inline(never)]
    fn admit_other(&mut self, queue: usize, slot: u32, request: Request) {
        let deadline = request.deadline();
        self.admit_or_reject(queue, slot, &request, move |engine| engine.expiry(deadline));
    }

    #[cold]
    fn defer_sync(&mut self, queue: usize, slot: u32, request: Request) {
        let expires = self.expiry(request.deadline());
        self.state.queues[queue].barriers.defer_sync(DeferredSync {
            slot,
            request,
            expires,
        });
    }

    /// Admits the barriers that the sweeps of this pass have covered: first the SYNCs, then the
    /// fences, which wait for the SYNCs too.
    #[inline]
    fn admit_covered(&mut self, queue: usize) {
        let barriers = &mut self.state.queues[queue].barriers;
        if barriers.has_uncovered_sync() {
            return;
        }
        if barriers.has_syncs() {
            self.admit_syncs(queue);
        }
        self.state.end_round(queue);
    }

    #[cold]
    fn admit_syncs(&mut self, queue: usize) {
        let mut syncs = self.state.queues[queue].barriers.take_syncs();
        self.state.list_writes(queue);
        // Those of one file after one another: they share a flush. Among themselves they have no order.
        syncs.sort_unstable_by_key(|sync| (sync.request.file(), sync.slot));
        for sync in &syncs {
            if self.state.queues[queue].cancels {
                self.reject(queue, sync.slot, Errno::ECANCELED);
                continue;
            }
            self.admit_or_reject(queue, sync.slot, &sync.request, |_| sync.expires);
        }
        self.state.queues[queue].barriers.keep_memory(syncs);
    }
}

impl EngineState {
    /// Ends a round of sweeps: the fences that it has covered are due, or wait in an epoch.
    #[inline]
    pub(super) fn end_round(&mut self, queue: usize) {
        let deadlines = &mut self.deadlines;
        let number = queue as u32;
        self.queues[queue].barriers.end_round(|slot, expires| {
            let queue = number;
            deadlines.insert(SlotId { queue, slot }, expires);
        });
    }
}
