//! Submit: reads of cached bytes are performed, and all other operations are handed to the threads.

use rustix::io::Errno;

use super::perform::{Job, Task, encode, read_cached};
use super::work::Lane;
use super::{Queued, ThreadPool};
use crate::operation::Operation;

impl ThreadPool {
    /// Performs or hands over what was pushed. Returns the number of these operations.
    #[inline]
    pub(super) fn submit_queued(&mut self) -> u32 {
        let count = (self.attempts.len() + self.queued.len()) as u32;
        if count == 0 {
            return 0;
        }
        // First, so that the threads work while this one copies.
        self.hand_over();
        while let Some(attempt) = self.attempts.pop_front() {
            if let Some(result) = self.attempt(attempt) {
                self.done.push_back((attempt.token, result));
            }
        }
        self.hand_over();
        count
    }

    /// Reads what is in memory. Returns the result as the kernel encodes it, or `None` if a thread is to
    /// do the rest.
    #[inline]
    fn attempt(&mut self, queued: Queued) -> Option<i32> {
        if self.is_cancelled(queued) {
            return Some(encode(Err(Errno::CANCELED)));
        }
        let Operation::Read {
            file,
            offset,
            buffer,
            buffer_offset,
            len,
        } = queued.operation
        else {
            return None;
        };
        let state = self.files.get(file.index() as usize)?;
        // Both were checked when the operation was pushed, and stay as long as it is in flight.
        let (place, file) = (state.place(offset), state.file.as_ref()?);
        let span = self.span(buffer, buffer_offset, len).ok()?;
        let moved = match read_cached(file, span, place) {
            Ok(count) if count == span.len() || (count > 0 && !state.has_offsets) => {
                return Some(encode(Ok(count)));
            }
            // Linux 5.9 and 5.10 return zero where they should return EAGAIN.
            Ok(count) => count,
            Err(Errno::AGAIN) => 0,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.files[queued.operation.file().index() as usize].stop_trying_reads();
                0
            }
            Err(errno) => return Some(encode(Err(errno))),
        };
        self.queued.push_back(Queued { moved, ..queued });
        None
    }

    /// Hands the queued operations to the threads.
    fn hand_over(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        let mut state = shared.lock();
        while let Some(queued) = self.queued.pop_front() {
            let job = match self.is_cancelled(queued) {
                true => None,
                false => self.job(queued),
            };
            match job {
                None => {
                    let cancelled = encode(Err(Errno::CANCELED));
                    self.done.push_back((queued.token, cancelled));
                }
                Some((lane, job)) => {
                    let file = queued.operation.file().index();
                    state.work.add(queued.token, file, lane, job);
                    if Lane::POLLED.contains(&lane) && !state.has_poller {
                        state.has_poller = true;
                        state.wants_poller = true;
                    }
                }
            }
        }
        shared.unlock(state);
    }

    fn is_cancelled(&mut self, queued: Queued) -> bool {
        let operation = self.tokens.get_mut(queued.token);
        operation.is_some_and(|operation| operation.cancelling)
    }

    /// Returns all that a thread needs to perform an operation.
    fn job(&self, queued: Queued) -> Option<(Lane, Job)> {
        let state = self.files.get(queued.operation.file().index() as usize)?;
        let (lane, task) = match queued.operation {
            Operation::Read {
                offset,
                buffer,
                buffer_offset,
                len,
                ..
            } => {
                let memory = self.span(buffer, buffer_offset, len).ok()?.to_memory();
                let (place, moved) = (state.place(offset), queued.moved);
                let task = Task::Read {
                    memory,
                    place,
                    moved,
                };
                (state.lane(true, false), task)
            }
            Operation::Write {
                offset,
                buffer,
                buffer_offset,
                len,
                durable,
                ..
            } => {
                let memory = self.span(buffer, buffer_offset, len).ok()?.to_memory();
                let place = state.place(offset);
                let task = Task::Write {
                    memory,
                    place,
                    durable,
                };
                (state.lane(false, durable), task)
            }
            Operation::Sync { data_only, .. } => (Lane::Any, Task::Sync { data_only }),
            Operation::Prefetch { offset, len, .. } => (Lane::Any, Task::Prefetch { offset, len }),
            // `push` refuses it.
            Operation::Map { .. } => return None,
        };
        let file = state.file.clone()?;
        Some((lane, Job { file, task }))
    }
}
