//! Revocations that wait for requests in flight. After a time limit, the requests are cancelled. After
//! another, those that the kernel still holds are reported.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use vyre_uring::Transport;

use crate::engine::Engine;
use crate::engine::table_changes::Revocation;
use crate::error::TableError;

/// Channel for the answer to a command.
pub(crate) type Reply<A> = mpsc::SyncSender<Result<A, TableError>>;

/// The time limits of a revocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RevocationLimits {
    /// The time for requests to end by themselves.
    pub(crate) wait: Duration,
    /// The time for the kernel to return them once they are cancelled.
    pub(crate) grace: Duration,
}

impl RevocationLimits {
    /// Returns the sum of both.
    pub(crate) const fn total(self) -> Duration {
        self.wait.saturating_add(self.grace)
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
struct Revoking {
    revocation: Revocation,
    handle: u32,
    grace: Duration,
    stage: Stage,
    /// The end of the stage. `None` is a time too far away to be represented.
    until: Option<Instant>,
    reply: Reply<()>,
}

impl Revoking {
    /// Performs the actions that are due. Returns whether the revocation is over.
    fn advance<T: Transport>(&mut self, engine: &mut Engine<T>, now: Option<Instant>) -> bool {
        if let (Some(until), Some(now)) = (self.until, now)
            && until <= now
        {
            self.end_stage(engine, now);
        }
        let is_over = engine.is_revoked(self.revocation);
        if is_over {
            // Nobody may be waiting for it any more.
            let _ = self.reply.try_send(Ok(()));
        }
        is_over
    }

    fn end_stage<T: Transport>(&mut self, engine: &mut Engine<T>, now: Instant) {
        if self.stage == Stage::Waiting {
            engine.cancel_revoked(self.revocation);
            self.stage = Stage::Cancelled;
            self.until = now.checked_add(self.grace);
        } else if !engine.is_revoked(self.revocation) {
            let error = TableError::InFlight {
                handle: self.handle,
                requests: engine.requests_on(self.revocation),
            };
            let _ = self.reply.try_send(Err(error));
            self.stage = Stage::Told;
            self.until = None;
        }
    }
}

/// Revocations under way.
#[derive(Debug)]
pub(super) struct RevokingList(Vec<Revoking>);

impl RevokingList {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn begin(
        &mut self,
        handle: u32,
        revocation: Revocation,
        limits: RevocationLimits,
        reply: Reply<()>,
    ) {
        self.0.push(Revoking {
            revocation,
            handle,
            grace: limits.grace,
            stage: Stage::Waiting,
            until: Instant::now().checked_add(limits.wait),
            reply,
        });
    }

    /// Performs the actions that are due, and answers revocations that are over.
    #[cold]
    pub(super) fn advance<T: Transport>(&mut self, engine: &mut Engine<T>) {
        // Where the kernel keeps an operation for good, its revocation stays here without a time.
        let is_timed = self.0.iter().any(|revoking| revoking.until.is_some());
        let now = is_timed.then(Instant::now);
        self.0.retain_mut(|revoking| !revoking.advance(engine, now));
    }

    /// Shortens a sleep so that it ends when something is next due.
    pub(super) fn longest_sleep(&self, timeout: Duration) -> Duration {
        let next = self.0.iter().filter_map(|revoking| revoking.until).min();
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
    fn a_sleep_ends_when_a_revocation_needs_the_loop() {
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
        let mut list = RevokingList::new();
        assert_eq!(list.longest_sleep(HOUR), HOUR);
        let revocation = engine.revoke_file(file).expect("known");
        let (reply, answer) = mpsc::sync_channel(2);
        let limits = RevocationLimits {
            wait: HOUR / 2,
            grace: HOUR / 4,
        };
        list.begin(file.raw(), revocation, limits, reply);
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
