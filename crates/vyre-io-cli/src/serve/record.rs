//! The peers and their counters, as the server shows them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vyre_io::{LoopGroup, QueueCounters, QueueId};
use vyre_io_client::protocol::{Name, Page, PeerStatus};

use super::holdings::sum;

/// The changing part of a peer.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) name: Name,
    pub(crate) queues: Vec<QueueId>,
    /// Counters of the queues that were removed.
    gone: QueueCounters,
    pub(crate) buffers: u32,
    pub(crate) buffer_bytes: u64,
    pub(crate) open_files: u32,
    pub(crate) refusals: u64,
    pub(crate) is_leaving: bool,
}

/// A peer.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) peer: u64,
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    since: Instant,
    shown: Mutex<Shown>,
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        // Every change is whole before anything can panic.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> Name {
        self.lock().name
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.lock());
    }

    /// Counts a queue that is not served any more.
    pub(crate) fn remove_queue(&self, id: QueueId, last: QueueCounters) {
        let mut shown = self.lock();
        shown.queues.retain(|known| *known != id);
        shown.gone = sum(shown.gone, last);
    }

    pub(crate) fn status(&self, loops: &LoopGroup) -> PeerStatus {
        let shown = self.lock();
        let live = shown
            .queues
            .iter()
            .filter_map(|&id| loops.queue_counters(id));
        let counters = sum(shown.gone, live.sum());
        PeerStatus {
            peer: self.peer,
            connected_ms: millis(self.since),
            buffer_bytes: shown.buffer_bytes,
            pid: self.pid,
            uid: self.uid,
            queues: shown.queues.len() as u32,
            buffers: shown.buffers,
            open_files: shown.open_files,
            leaving: shown.is_leaving.into(),
            refusals: shown.refusals,
            name: shown.name,
            ..counted(counters)
        }
    }
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

fn counted(counters: QueueCounters) -> PeerStatus {
    PeerStatus {
        claimed: counters.claimed,
        succeeded: counters.succeeded,
        failed: counters.failed,
        bytes_read: counters.bytes_read,
        bytes_written: counters.bytes_written,
        device_faults: counters.device_faults,
        ..PeerStatus::default()
    }
}

/// All peers, and the sums of those that have gone.
#[derive(Debug)]
pub(crate) struct Records {
    since: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    peers: BTreeMap<u64, Arc<Record>>,
    gone: PeerStatus,
}

impl Records {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, pid: u32, uid: u32) -> Arc<Record> {
        let mut inner = self.lock();
        inner.last += 1;
        let record = Arc::new(Record {
            peer: inner.last,
            pid,
            uid,
            since: Instant::now(),
            shown: Mutex::default(),
        });
        inner.peers.insert(record.peer, record.clone());
        record
    }

    /// Returns the number of peers of a user.
    pub(crate) fn of_user(&self, uid: u32) -> usize {
        let inner = self.lock();
        inner.peers.values().filter(|peer| peer.uid == uid).count()
    }

    /// Removes a peer that has gone, and adds its last counters to the sums.
    pub(crate) fn remove(&self, record: &Record, last: &PeerStatus) {
        let mut inner = self.lock();
        if inner.peers.remove(&record.peer).is_some() {
            let gone = &mut inner.gone;
            for (sum, more) in [
                (&mut gone.claimed, last.claimed),
                (&mut gone.succeeded, last.succeeded),
                (&mut gone.failed, last.failed),
                (&mut gone.bytes_read, last.bytes_read),
                (&mut gone.bytes_written, last.bytes_written),
                (&mut gone.device_faults, last.device_faults),
                (&mut gone.refusals, last.refusals),
            ] {
                *sum = sum.wrapping_add(more);
            }
        }
    }

    /// Returns the page that begins with a peer. Peer 0 has the sums of those that have gone.
    pub(crate) fn page(&self, cursor: u64, loops: &LoopGroup) -> Page<PeerStatus> {
        let inner = self.lock();
        let own = PeerStatus {
            connected_ms: millis(self.since),
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            name: Name::shortened("(gone)"),
            ..inner.gone
        };
        let first = (cursor == 0).then_some(own);
        let peers = inner.peers.range(cursor..);
        let mut all = first
            .into_iter()
            .chain(peers.map(|(_, peer)| peer.status(loops)));
        let entries = all.by_ref().take(Page::<PeerStatus>::MOST).collect();
        let next = all.next().map_or(0, |peer| peer.peer);
        Page::new(entries, next).unwrap_or_else(|error| unreachable!("{error}"))
    }
}
