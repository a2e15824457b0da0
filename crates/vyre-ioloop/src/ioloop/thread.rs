//! A loop's thread as its owner sees it: the result of its service, and waits that end whatever the
//! kernel does.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::StopError;
use crate::signals::block_signals;

/// The deadline of a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    begun: Instant,
    /// The time of the deadline. `None` is a time too far away to be represented.
    at: Option<Instant>,
}

impl Deadline {
    /// Returns the deadline that is `limit` from now.
    pub(crate) fn after(limit: Duration) -> Self {
        let begun = Instant::now();
        let at = begun.checked_add(limit);
        Self { begun, at }
    }

    pub(crate) fn left(self) -> Duration {
        self.at.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }
}

/// The result of the service, shared by the loop's thread and its owner.
#[derive(Debug, Default)]
pub(crate) struct End {
    how: Mutex<Option<Result<(), StopError>>>,
    known: Condvar,
}

impl End {
    /// Stores the result. An error stays, whatever is stored later.
    pub(crate) fn set(&self, how: Result<(), StopError>) {
        let mut known = self.lock();
        if !matches!(*known, Some(Err(_))) {
            *known = Some(how);
        }
        self.known.notify_all();
    }

    /// Returns the result, if service has ended.
    pub(crate) fn get(&self) -> Option<Result<(), StopError>> {
        self.lock().clone()
    }

    /// Waits until service has ended, or until the deadline.
    fn wait_until(&self, deadline: Deadline) -> Option<Result<(), StopError>> {
        let mut known = self.lock();
        while known.is_none() {
            let left = deadline.left();
            if left.is_zero() {
                break;
            }
            let waited = self.known.wait_timeout(known, left);
            known = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        known.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<(), StopError>>> {
        self.how.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that reports its result through an [`End`].
#[derive(Debug)]
pub(crate) struct Thread {
    handle: Option<JoinHandle<()>>,
    end: Arc<End>,
    /// The process that has the thread. A fork of it does not.
    process: u32,
}

impl Thread {
    pub(crate) fn new(handle: JoinHandle<()>, end: Arc<End>) -> Self {
        Self {
            handle: Some(handle),
            end,
            process: std::process::id(),
        }
    }

    pub(crate) fn end(&self) -> &End {
        &self.end
    }

    /// Returns whether the thread serves.
    pub(crate) fn is_running(&self) -> bool {
        !self.is_elsewhere() && self.handle.is_some() && self.end.get().is_none()
    }

    /// Returns whether this process is a fork of the one that has the thread.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.process != std::process::id()
    }

    /// Waits until service has ended and the thread has exited, or until the deadline. A thread that
    /// has not exited by then is detached. So is one whose operations the kernel holds, because the
    /// kernel waits for them at its exit without a limit.
    pub(crate) fn join(&mut self, deadline: Deadline) -> Result<(), StopError> {
        let Some(handle) = self.handle.take() else {
            return Ok(());
        };
        if self.is_elsewhere() {
            // There is no such thread here, and even to detach it takes one.
            std::mem::forget(handle);
            return Err(StopError::Forked);
        }
        let Some(how) = self.end.wait_until(deadline) else {
            let waited = deadline.begun.elapsed();
            return Err(StopError::Unresponsive { waited });
        };
        if how.as_ref().is_err_and(|error| error.kept() > 0) {
            return how;
        }
        join_until(handle, deadline);
        // The thread may have panicked since.
        self.end.get().unwrap_or(how)
    }
}

/// Waits until a thread has exited, or until the deadline. If nothing can wait for it, it is detached
/// at once.
fn join_until(handle: JoinHandle<()>, deadline: Deadline) {
    // A thread cannot be joined within a time; but another can join it, and be left to itself.
    let (joined, gone) = mpsc::sync_channel(1);
    let join = move || {
        let _ = block_signals();
        let _ = handle.join();
        let _ = joined.send(());
    };
    if Builder::new()
        .name("vyre-io-join".into())
        .spawn(join)
        .is_ok()
    {
        let _ = gone.recv_timeout(deadline.left());
    }
}
