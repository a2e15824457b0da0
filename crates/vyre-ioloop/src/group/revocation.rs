//! Revocations in all loops of a group, each within one timeout for all of them.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use vyre_ioq::{BufferHandle, FileHandle};

use super::LoopGroup;
use super::authority::RevocationReply;
use crate::commands::{Command, EndLimits};
use crate::engine::table_changes::replica::Named;
use crate::error::TableError;
use crate::ioloop::Deadline;

impl LoopGroup {
    /// Revokes a file handle in all loops, as [`revoke_file_within`](Self::revoke_file_within) does
    /// with the [`drain_timeout`](crate::LoopOptions::drain_timeout).
    ///
    /// # Errors
    /// The same as for [`revoke_file_within`](Self::revoke_file_within).
    pub fn revoke_file(&self, handle: FileHandle) -> Result<(), TableError> {
        self.revoke(handle.into(), self.limits(None))
    }

    /// Revokes a file handle in all loops: requests claimed from now on get EBADF. Returns when nothing
    /// is in flight on it in any loop. Other entries are served meanwhile, and may be changed.
    ///
    /// The timeout is as for [`IoLoop::revoke_file_within`](crate::IoLoop::revoke_file_within), and
    /// applies to all loops at once.
    ///
    /// # Errors
    /// - [`TableError::Unknown`] if the handle names nothing, or if another thread is revoking it.
    /// - [`TableError::InFlight`], [`TableError::Held`] or [`TableError::Unresponsive`] if a loop has
    ///   not released the entry in time. The handle is revoked even so.
    pub fn revoke_file_within(
        &self,
        handle: FileHandle,
        timeout: Duration,
    ) -> Result<(), TableError> {
        self.revoke(handle.into(), self.limits(Some(timeout)))
    }

    /// Revokes a buffer handle in all loops, as [`revoke_buffer_within`](Self::revoke_buffer_within)
    /// does with the [`drain_timeout`](crate::LoopOptions::drain_timeout).
    ///
    /// # Errors
    /// The same as for [`revoke_buffer_within`](Self::revoke_buffer_within).
    pub fn revoke_buffer(&self, handle: BufferHandle) -> Result<(), TableError> {
        self.revoke(handle.into(), self.limits(None))
    }

    /// Revokes a buffer handle in all loops: requests claimed from now on get EBADF. Returns when
    /// nothing is in flight on it in any loop, so that its bytes are the caller's again. Other entries
    /// are served meanwhile, and may be changed. The timeout is as for
    /// [`revoke_file_within`](Self::revoke_file_within).
    ///
    /// # Errors
    /// The same as for [`revoke_file_within`](Self::revoke_file_within). After any error other than
    /// [`TableError::Unknown`], the kernel may still write to the bytes.
    pub fn revoke_buffer_within(
        &self,
        handle: BufferHandle,
        timeout: Duration,
    ) -> Result<(), TableError> {
        self.revoke(handle.into(), self.limits(Some(timeout)))
    }

    /// Returns the time limits of a revocation or a removal. All loops have the same options.
    pub(super) fn limits(&self, timeout: Option<Duration>) -> EndLimits {
        self.loops[0].options().end_limits(timeout)
    }

    fn revoke(&self, named: Named, limits: EndLimits) -> Result<(), TableError> {
        self.authority.release_ended();
        let holders = self.authority.revoke(named)?;
        let limit = self.loops[0].options().longest_end(limits);
        let deadline = Deadline::after(limit);
        let send = |index: usize| {
            let answer = self.loops[index].send(|reply| Command::Revoke {
                named,
                limits,
                reply,
            });
            (index, answer)
        };
        let asked: Vec<(usize, RevocationReply)> = holders.into_iter().map(send).collect();
        let (mut late, mut first) = (Vec::new(), None);
        for (index, answer) in asked {
            let waited = answer.recv_timeout(deadline.left());
            let Some((error, may_end)) = self.what_is_left(index, limit, waited) else {
                continue;
            };
            first.get_or_insert(error);
            if may_end {
                late.push(answer);
            }
        }
        // Not before: until here an old handle may be in use in some loop, and nobody may get
        // its index.
        self.authority.release_after(named, late);
        first.map_or(Ok(()), Err)
    }

    /// Returns the error of a loop that has not released the entry.
    fn what_is_left(
        &self,
        index: usize,
        limit: Duration,
        answer: Result<Result<(), TableError>, RecvTimeoutError>,
    ) -> Option<(TableError, bool)> {
        let (error, may_end) = match answer {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => {
                let in_flight = matches!(error, TableError::InFlight { .. });
                debug_assert!(in_flight, "{error}");
                (error, in_flight)
            }
            Err(RecvTimeoutError::Timeout) => (TableError::Unresponsive { waited: limit }, true),
            Err(RecvTimeoutError::Disconnected) => {
                let operations = self.loops[index].kept()?;
                (TableError::Held { operations }, false)
            }
        };
        Some((error.in_loop(index), may_end))
    }
}
