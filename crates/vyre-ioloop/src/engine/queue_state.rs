//! The state of one queue.

use std::sync::Arc;

use crossbeam_utils::CachePadded;
use vyre_ioq::{Errno, HostQueue};

use super::barriers::Barriers;
use super::limiter::Limiter;
use super::request_state::{Admitted, Flush, RequestState};
use super::shares::Share;
use super::slot_lists::SlotLists;
use super::sync_groups::SyncGroups;
use crate::counters::{QueueCounters, SharedQueueCounters};
use crate::file_identity::FileIdentity;
use crate::queue_id::QueueId;
use crate::queue_options::QueueOptions;

/// The operations that the transport still holds when service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StillHeld {
    Nothing,
    /// The operations recorded for requests.
    Named,
    /// Unrecorded operations: a panic struck before they were recorded.
    Unknown,
}

/// A queue that the engine serves. All its memory is allocated at the start.
#[derive(Debug)]
pub(crate) struct QueueState {
    pub(crate) host: HostQueue,
    pub(crate) id: QueueId,
    /// The counters as other threads read them.
    pub(crate) shared: Arc<CachePadded<SharedQueueCounters>>,
    /// Set while newly claimed requests get ECANCELED.
    pub(crate) draining: bool,
    /// Set while the queue is being removed, and once SYNCs that are still deferred get ECANCELED.
    pub(crate) removing: bool,
    pub(crate) cancels: bool,
    pub(crate) requests: Box<[RequestState]>,
    pub(crate) barriers: Barriers,
    pub(crate) counters: QueueCounters,
    /// True if the counters have changed since they were published.
    pub(crate) has_counted: bool,
    /// The lists in which requests wait, and the queue's use of the transport.
    pub(crate) lists: SlotLists,
    pub(crate) share: Share,
    /// The limits of the queue, if it has any.
    pub(crate) limiter: Option<Box<Limiter>>,
    /// The SYNCs that share a flush, and the one that led last in this pass.
    pub(crate) sync_groups: SyncGroups,
    pub(crate) leader: Option<u32>,
    /// The outcomes that are decided but not yet published.
    pub(crate) outcomes: Vec<(u32, Result<u32, Errno>)>,
    /// The admitted WRITE requests without an outcome: one bit for each slot.
    pub(crate) writes: Box<[u64]>,
    /// The sorted list of their files, as of the last admitted SYNCs.
    pub(crate) written: Vec<FileIdentity>,
    /// The number of the last admitted request, now and as of that list.
    pub(crate) sequence: u64,
    pub(crate) listed_at: u64,
}

impl QueueState {
    pub(crate) fn new(id: QueueId, options: QueueOptions) -> Self {
        let QueueOptions { host, limits } = options;
        let slots = host.geometry().slots();
        Self {
            id,
            shared: Arc::default(),
            draining: false,
            removing: false,
            cancels: false,
            requests: vec![RequestState::IDLE; slots as usize].into(),
            barriers: Barriers::new(slots),
            counters: QueueCounters::default(),
            has_counted: false,
            lists: SlotLists::new(slots),
            share: Share::default(),
            limiter: Limiter::of(limits, slots, 0),
            sync_groups: SyncGroups::new(slots),
            leader: None,
            outcomes: Vec::with_capacity(slots as usize),
            writes: vec![0; slots.div_ceil(u64::BITS) as usize].into(),
            written: Vec::with_capacity(slots as usize),
            sequence: 0,
            listed_at: 0,
            host,
        }
    }

    /// Returns the state of a place without a queue.
    pub(crate) fn vacant() -> Self {
        Self::new(QueueId::from_raw(u64::MAX), HostQueue::vacant().into())
    }

    /// Returns whether this is a place without a queue.
    pub(crate) fn is_vacant(&self) -> bool {
        self.requests.is_empty()
    }

    /// Returns whether the backlog waits for the limits of the queue, and not for the transport.
    pub(crate) fn is_held(&self) -> bool {
        self.limiter
            .as_ref()
            .is_some_and(|limiter| limiter.hold().is_some())
    }

    /// Records an admitted request, which is outstanding from here on.
    #[inline(always)]
    pub(crate) fn admit(&mut self, slot: u32, admitted: Admitted, exact: bool, expires: u64) {
        self.sequence += 1;
        let epoch = self.barriers.admit();
        if matches!(admitted, Admitted::Write { .. }) {
            self.writes[slot as usize / 64] |= 1 << (slot % 64);
        }
        self.requests[slot as usize] = RequestState {
            admitted,
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
    }

    /// Completes the requests that are owed an outcome when service ends, except those in `still_held`:
    /// requests that the transport still holds, and fences that may have to wait for one of them.
    pub(crate) fn complete_rest(&mut self, errno: Errno, still_held: StillHeld) {
        let holds = |request: &RequestState| match still_held {
            StillHeld::Nothing => false,
            StillHeld::Named => request.token.is_some(),
            StillHeld::Unknown => request.admitted != Admitted::None,
        };
        let mut waits = vec![false; self.requests.len()];
        if still_held == StillHeld::Unknown || self.requests.iter().any(holds) {
            for fence in self.barriers.fences() {
                waits[fence as usize] = true;
            }
            for (request, waits) in self.requests.iter().zip(&mut waits) {
                *waits |= holds(request);
            }
        }
        let is_safe = |slot: u32| !waits[slot as usize];
        self.counters.failed += u64::from(self.host.complete_owed_where(errno, is_safe));
        for request in self.requests.iter_mut().filter(|request| !holds(request)) {
            *request = RequestState::IDLE;
        }
        self.lists.clear();
        self.barriers.clear();
        self.sync_groups.clear();
        self.writes.fill(0);
    }

    /// Returns the current counters of the queue.
    pub(crate) fn counters(&self) -> QueueCounters {
        QueueCounters {
            device_faults: self.host.faults().total(),
            ..self.counters
        }
    }

    /// Ends an admitted request: stores its outcome, and counts it out of its epoch.
    #[inline(always)]
    pub(crate) fn end(&mut self, slot: u32, result: Result<u32, Errno>) {
        let request = &mut self.requests[slot as usize];
        // Nothing else: the next admission writes it all.
        request.admitted = Admitted::None;
        request.expires = 0;
        let epoch = request.epoch;
        self.store_outcome(slot, result);
        self.barriers.complete(epoch);
    }

    /// Stores the outcome of a claimed slot for the next
    /// [publication](super::engine_state::EngineState::publish_outcomes).
    #[inline]
    pub(crate) fn store_outcome(&mut self, slot: u32, result: Result<u32, Errno>) {
        self.outcomes.push((slot, result));
        match result {
            Ok(_) => self.counters.succeeded += 1,
            Err(_) => self.counters.failed += 1,
        }
    }
}
