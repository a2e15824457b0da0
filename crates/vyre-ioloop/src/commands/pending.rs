//! Changes that wait for requests in flight: revocations, and removals of queues. After a time limit, the requests are
//! cancelled. After another, those that the kernel still holds are reported.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use vyre_uring::Transport;

use crate::engine::Engine;
use crate::engine::queue_changes::Removal;
use crate::engine::queue_state::QueueState;
use crate::engine::table_changes::Revocation;
use crate::error::{QueueError, TableError};

/// Channel for the answer to a command.
pub(crate) type Reply<A, E = TableError> = mpsc::SyncSender<Result<A, E>>;

/// The time limits of a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndLimits {
    /// The time for requests to end by themselves.
    pub(crate) wait: Duration,
    /// The time for the kernel to return them once they are cancelled.
    pub(crate) grace: Duration,
}

impl EndLimits {
    /// Returns the sum of both.
    pub(crate) const fn total(self) -> Duration {
        self.wait.saturating_add(self.grace)
    }
}

/// A change that takes effect when its requests have ended.
#[derive(Debug)]
pub(super) enum Change {
    Revocation {
        revocation: Revocation,
        handle: u32,
        reply: Reply<()>,
    },
    Removal {
        removal: Removal,
        reply: Reply<Box<QueueState>, QueueError>,
    },
}

impl Change {
    /// Answers, if nothing is in flight any more. Returns whether that is so. Nobody may be waiting for the answer.
    fn finish<T: Transport>(&self, engine: &mut Engine<T>) -> bool {
        match self {
            Self::Revocation {
                revocation, reply, ..
            } => {
                let over = engine.is_revoked(*revocation);
                if over {
                    let _ = reply.try_send(Ok(()));
                }
                over
            }
            Self::Removal { removal, reply } => {
                let taken = engine.take_state(*removal).map(Box::new);
                taken.is_some_and(|state| {
                    let _ = reply.try_send(Ok(state));
                    true
                })
            }
        }
    }

    fn cancel<T: Transport>(&self, engine: &mut Engine<T>) {
        match self {
            Self::Revocation { revocation, .. } => engine.cancel_revoked(*revocation),
            Self::Removal { removal, .. } => engine.cancel_removed(*removal),
        }
    }

    /// Tells the caller what the kernel holds. Returns whether the change is over: an entry is reclaimed later, a queue
    /// is given up.
    fn tell<T: Transport>(&self, engine: &mut Engine<T>) -> bool {
        match self {
            Self::Revocation {
                revocation,
                handle,
                reply,
            } => {
                let requests = engine.requests_on(*revocation);
                let handle = *handle;
                let _ = reply.try_send(Err(TableError::InFlight { handle, requests }));
                false
            }
            Self::Removal { removal, reply } => {
                let requests = engine.abandon_removed(*removal).unwrap_or(0);
                let queue = removal.queue;
                let _ = reply.try_send(Err(QueueError::InFlight { queue, requests }));
                true
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Requests may end by themselves.
    Waiting,
    /// They are cancelled.
    Cancelled,
    /// The caller was told that they have not ended.
    Told,
}

#[derive(Debug)]
struct Pending {
    change: Change,
    grace: Duration,
    stage: Stage,
    /// The end of the stage. `None` is a time too far away to be represented.
    until: Option<Instant>,
}

impl Pending {
    /// Performs the actions that are due. Returns whether the change is over.
    fn advance<T: Transport>(&mut self, engine: &mut Engine<T>, now: Option<Instant>) -> bool {
        if self.change.finish(engine) {
            return true;
        }
        let due = matches!((self.until, now), (Some(until), Some(now)) if until <= now);
        if !due {
            return false;
        }
        if self.stage == Stage::Waiting {
            self.change.cancel(engine);
            self.stage = Stage::Cancelled;
            self.until = now.and_then(|now| now.checked_add(self.grace));
            return self.change.finish(engine);
        }
        self.stage = Stage::Told;
        self.until = None;
        self.change.tell(engine)
    }
}

/// Changes under way.
#[derive(Debug)]
pub(super) struct PendingList(Vec<Pending>);

impl PendingList {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn begin(&mut self, change: Change, limits: EndLimits) {
        self.0.push(Pending {
            change,
            grace: limits.grace,
            stage: Stage::Waiting,
            until: Instant::now().checked_add(limits.wait),
        });
    }

    /// Performs the actions that are due, and answers the changes that are over.
    #[cold]
    pub(super) fn advance<T: Transport>(&mut self, engine: &mut Engine<T>) {
        // Where the kernel keeps an operation for good, its revocation stays here without a time.
        let is_timed = self.0.iter().any(|pending| pending.until.is_some());
        let now = is_timed.then(Instant::now);
        self.0.retain_mut(|pending| !pending.advance(engine, now));
    }

    /// Shortens a sleep so that it ends when something is next due.
    pub(super) fn longest_sleep(&self, timeout: Duration) -> Duration {
        let next = self.0.iter().filter_map(|pending| pending.until).min();
        next.map_or(timeout, |until| {
            timeout.min(until.saturating_duration_since(Instant::now()))
        })
    }
}

#[cfg(test)]
mod tests {
    use vyre_ioq::{Errno, Queue, QueueLayout, Request};
    use vyre_uring::{Buffer, SimTransport};

    use super::*;
    use crate::Rights;
    use crate::buffer_table::BufferTable;
    use crate::file_table::FileTable;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_sleep_ends_when_a_change_needs_the_loop() {
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let disk = tempfile::tempfile().expect("a file");
        let file = files.insert(disk, Rights::READ).expect("fit");
        let memory = Buffer::anonymous(4096).expect("memory");
        let pool = buffers.insert(memory).expect("fit");
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
        let sim = SimTransport::builder(1).hung(1.0).build();
        let mut engine = Engine::new(sim, files, buffers, vec![host]).expect("an engine");
        let read = Request::read(file, 0, 1).into_buffer(pool, 0);
        let ticket = device.submit(read).expect("a slot");
        let _ = engine.step();
        let mut list = PendingList::new();
        assert_eq!(list.longest_sleep(HOUR), HOUR);
        let revocation = engine.revoke_file(file).expect("known");
        let (reply, answer) = mpsc::sync_channel(2);
        let limits = EndLimits {
            wait: HOUR / 2,
            grace: HOUR / 4,
        };
        let change = Change::Revocation {
            revocation,
            handle: file.raw(),
            reply,
        };
        list.begin(change, limits);
        list.advance(&mut engine);
        assert!(list.longest_sleep(HOUR) <= HOUR / 2);
        list.0[0].until = Some(Instant::now());
        assert_eq!(list.longest_sleep(HOUR), Duration::ZERO);
        list.advance(&mut engine);
        let left = list.longest_sleep(HOUR);
        assert!(left > Duration::ZERO && left <= HOUR / 4, "{left:?}");
        assert!(answer.try_recv().is_err());
        list.0[0].until = Some(Instant::now());
        list.advance(&mut engine);
        let told = answer.try_recv().expect("the time is over");
        let handle = file.raw();
        let expected =
            matches!(told, Err(TableError::InFlight { handle: it, requests: 1 }) if it == handle);
        assert!(expected, "{told:?}");
        assert_eq!(list.longest_sleep(HOUR), HOUR, "nothing more is due");
        assert!(!list.is_empty());
        assert!(
            device
                .poll(&ticket)
                .is_none_or(|it| it.result == Err(Errno::ECANCELED))
        );
    }
}
