//! A simulated transport that misbehaves on purpose, reproducibly for each seed.

mod script;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, fadvise, fdatasync, fsync};
use rustix::io::{Errno, pread, pwrite};

use crate::buffer::Buffer;
use crate::completion::{Completion, Token};
use crate::error::{Busy, EnterError, PushError, RegisterError};
use crate::futex_word::FutexWord;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::token_table::{NO_BUFFER, TokenTable};
use crate::transport::Transport;

use script::Random;
pub use script::SimBuilder;

/// A [`Transport`] without a ring, for tests of the code that drives a transport. It copies real
/// bytes between real files and buffers, but delays, shortens, fails and withholds operations as its
/// [builder](SimBuilder) specifies.
///
/// Its clock counts the calls of [`reap`](Transport::reap). [`wait`](Transport::wait) advances the
/// clock and never sleeps, even if no operation will ever complete.
#[derive(Debug)]
pub struct SimTransport {
    script: SimBuilder,
    random: Random,
    tokens: TokenTable,
    files: Vec<Option<Arc<OwnedFd>>>,
    buffers: Vec<Option<Buffer>>,
    queued: VecDeque<Scheduled>,
    submitted: Vec<Scheduled>,
    /// Results that wait to be reaped.
    results: VecDeque<(Token, i32)>,
    fail_next: VecDeque<Errno>,
    /// For each file slot, whether its first operation is still to be refused.
    refuses: Vec<bool>,
    /// The number of cancel requests that are still to be missed.
    misses: u32,
    /// The number of reaps so far.
    now: u64,
    submits: u64,
    poisoned: Option<Errno>,
}

/// The script's decision for an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It is performed on at most this many bytes.
    Perform(u32),
    Fail(Errno),
    /// It completes only once cancelled.
    Stuck,
    /// It never completes.
    Hung,
}

/// An operation and the reap at which it completes.
#[derive(Debug, Clone, Copy)]
struct Scheduled {
    token: Token,
    operation: Operation,
    due: u64,
    fate: Fate,
}

impl SimBuilder {
    /// Builds the transport.
    pub fn build(self) -> SimTransport {
        SimTransport::new(self)
    }
}

impl SimTransport {
    fn new(script: SimBuilder) -> Self {
        Self {
            random: Random::new(script.seed),
            tokens: TokenTable::with_capacity(script.capacity),
            files: vec![None; script.files as usize],
            buffers: vec![None; script.buffers as usize],
            queued: VecDeque::with_capacity(script.capacity as usize),
            submitted: Vec::with_capacity(script.capacity as usize),
            results: VecDeque::with_capacity(script.capacity as usize),
            fail_next: VecDeque::new(),
            refuses: vec![false; script.files as usize],
            misses: script.missed_cancels,
            now: 0,
            submits: 0,
            poisoned: None,
            script,
        }
    }

    /// Starts a script. The same seed and the same calls give the same behaviour.
    pub fn builder(seed: u64) -> SimBuilder {
        SimBuilder::new(seed)
    }

    /// Makes the next operation pushed fail with this errno. Several calls add up: each applies to one
    /// operation.
    pub fn fail_next(&mut self, errno: Errno) {
        self.fail_next.push_back(errno);
    }

    /// Checks the operands of an operation. Returns the length asked for.
    fn check(&self, operation: Operation) -> Result<u32, PushError> {
        let file = operation.file();
        if !matches!(self.files.get(file.index() as usize), Some(Some(_))) {
            return Err(PushError::UnknownFile(file));
        }
        let (offset, len) = match operation {
            Operation::Sync { .. } => return Ok(0),
            Operation::Map { .. } => return Err(PushError::Unsupported),
            Operation::Prefetch { offset, len, .. } => (offset, len),
            Operation::Read {
                offset,
                buffer,
                buffer_offset,
                len,
                ..
            }
            | Operation::Write {
                offset,
                buffer,
                buffer_offset,
                len,
                ..
            } => {
                let Some(Some(memory)) = self.buffers.get(buffer.index() as usize) else {
                    return Err(PushError::UnknownBuffer(buffer));
                };
                match buffer_offset.checked_add(len.into()) {
                    Some(end) if end <= memory.len() as u64 => (offset, len),
                    _ => return Err(PushError::OutOfRange),
                }
            }
        };
        match offset.checked_add(len.into()) {
            Some(end) if i64::try_from(end).is_ok() => Ok(len),
            _ => Err(PushError::OutOfRange),
        }
    }

    fn draw_fate(&mut self, file: FileSlot, len: u32) -> Fate {
        if std::mem::take(&mut self.refuses[file.index() as usize]) {
            return Fate::Fail(Errno::AGAIN);
        }
        if let Some(errno) = self.fail_next.pop_front() {
            return Fate::Fail(errno);
        }
        if self.random.chance(self.script.hung) {
            return Fate::Hung;
        }
        if self.random.chance(self.script.stuck) {
            return Fate::Stuck;
        }
        if self.random.chance(self.script.interrupted) {
            let errno = if self.random.chance(0.5) {
                Errno::INTR
            } else {
                Errno::AGAIN
            };
            return Fate::Fail(errno);
        }
        for &(errno, probability) in &self.script.errnos {
            if self.random.chance(probability) {
                return Fate::Fail(errno);
            }
        }
        if len > 1 && self.random.chance(self.script.short) {
            let share = 1 + self.random.below(u64::from(len) - 1) as u32;
            return Fate::Perform(share.min(self.script.at_most));
        }
        Fate::Perform(len.min(self.script.at_most))
    }

    /// Performs an operation on at most `most` bytes. Returns the result as the kernel encodes it.
    fn perform(&self, operation: Operation, most: u32) -> i32 {
        let Some(Some(file)) = self.files.get(operation.file().index() as usize) else {
            return -Errno::BADF.raw_os_error();
        };
        let memory = |slot: BufferSlot| match self.buffers.get(slot.index() as usize) {
            Some(Some(memory)) => Ok(memory),
            _ => Err(Errno::FAULT),
        };
        let transferred = match operation {
            Operation::Read {
                offset,
                buffer,
                buffer_offset,
                ..
            } => memory(buffer).and_then(|memory| {
                let mut bytes = vec![0; most as usize];
                let count = pread(file.as_fd(), &mut bytes, offset)?;
                let put = memory.write_at(buffer_offset as usize, &bytes[..count]);
                put.map(|()| count).map_err(|_| Errno::FAULT)
            }),
            Operation::Write {
                offset,
                buffer,
                buffer_offset,
                durable,
                ..
            } => memory(buffer).and_then(|memory| {
                let mut bytes = vec![0; most as usize];
                let taken = memory.read_at(buffer_offset as usize, &mut bytes);
                taken.map_err(|_| Errno::FAULT)?;
                let count = pwrite(file.as_fd(), &bytes, offset)?;
                if durable {
                    fdatasync(file.as_fd()).map(|()| count)
                } else {
                    Ok(count)
                }
            }),
            Operation::Sync {
                data_only: true, ..
            } => fdatasync(file.as_fd()).map(|()| 0),
            Operation::Sync {
                data_only: false, ..
            } => fsync(file.as_fd()).map(|()| 0),
            Operation::Prefetch { offset, len, .. } => {
                match std::num::NonZeroU64::new(len.into()) {
                    None => Ok(0),
                    len => fadvise(file.as_fd(), offset, len, Advice::WillNeed).map(|()| 0),
                }
            }
            // `check` refuses it.
            Operation::Map { .. } => Err(Errno::OPNOTSUPP),
        };
        transferred.map_or_else(|errno| -errno.raw_os_error(), |count| count as i32)
    }

    /// Completes what is due.
    fn complete_due(&mut self) {
        let mut first = self.results.len();
        let mut index = 0;
        while let Some(&Scheduled {
            token,
            operation,
            due,
            fate,
        }) = self.submitted.get(index)
        {
            let res = match fate {
                Fate::Perform(most) if due <= self.now => self.perform(operation, most),
                Fate::Fail(errno) if due <= self.now => -errno.raw_os_error(),
                _ => {
                    index += 1;
                    continue;
                }
            };
            self.submitted.remove(index);
            self.results.push_back((token, res));
        }
        while self.script.reorder && first + 1 < self.results.len() {
            let rest = (self.results.len() - first) as u64;
            let other = first + self.random.below(rest) as usize;
            self.results.swap(first, other);
            first += 1;
        }
    }
}

impl Transport for SimTransport {
    fn capacity(&self) -> u32 {
        self.tokens.capacity()
    }

    fn in_flight(&self) -> u32 {
        self.tokens.len()
    }

    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        if let Some(errno) = self.poisoned {
            return Err(PushError::Poisoned(errno));
        }
        let len = self.check(operation)?;
        let file = operation.file();
        let buffer = operation.buffer().map_or(NO_BUFFER, BufferSlot::index);
        let token = self
            .tokens
            .insert(user, file.index(), buffer)
            .ok_or(PushError::Full)?;
        let fate = self.draw_fate(file, len);
        self.queued.push_back(Scheduled {
            token,
            operation,
            due: 0,
            fate,
        });
        Ok(token)
    }

    fn submit(&mut self) -> Result<u32, EnterError> {
        if let Some(errno) = self.poisoned {
            return Err(EnterError::Fatal(errno));
        }
        if self.queued.is_empty() {
            return Ok(0);
        }
        let number = self.submits;
        self.submits += 1;
        match self.script.fatal {
            Some((fatal, errno)) if fatal == number => {
                self.poisoned = Some(errno);
                let untaken = self.queued.drain(..);
                self.results
                    .extend(untaken.map(|it| (it.token, -errno.raw_os_error())));
                return Err(EnterError::Fatal(errno));
            }
            _ => {}
        }
        let count = self.queued.len() as u32;
        while let Some(mut operation) = self.queued.pop_front() {
            // The next reap is `now + 1`.
            let latency = self.random.below(u64::from(self.script.max_latency) + 1);
            operation.due = self.now + 1 + latency;
            self.submitted.push(operation);
        }
        Ok(count)
    }

    fn reap<F: FnMut(Completion)>(&mut self, mut sink: F) -> u32 {
        self.now += 1;
        self.complete_due();
        let mut count = 0;
        while let Some((token, res)) = self.results.pop_front() {
            if let Some(operation) = self.tokens.remove(token) {
                count += 1;
                sink(Completion::from_raw(operation.user, token, res));
            }
        }
        count
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> Result<(), EnterError> {
        self.submit()?;
        if self.results.is_empty() {
            let ends = |it: &&Scheduled| !matches!(it.fate, Fate::Stuck | Fate::Hung);
            let next = self.submitted.iter().filter(ends).map(|it| it.due).min();
            self.now = self.now.max(next.unwrap_or(0).saturating_sub(1));
        }
        Ok(())
    }

    /// Says that it can, since its [`wait_on`](Transport::wait_on) does not sleep.
    fn set_futexes(&mut self, _words: Vec<FutexWord>) -> bool {
        true
    }

    fn cancel(&mut self, token: Token) -> bool {
        if self.tokens.get_mut(token).is_none() {
            return false;
        }
        if let Some(left) = self.misses.checked_sub(1) {
            self.misses = left;
            return true;
        }
        let heads = self.random.chance(0.5);
        let mut operations = self.queued.iter_mut().chain(&mut self.submitted);
        if let Some(operation) = operations.find(|it| it.token == token) {
            match operation.fate {
                Fate::Hung => {}
                Fate::Stuck => operation.fate = Fate::Fail(Errno::CANCELED),
                _ if heads => operation.fate = Fate::Fail(Errno::CANCELED),
                _ => {}
            }
        }
        true
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        let state = self.files.get_mut(slot.index() as usize);
        let state = state.ok_or(RegisterError::UnknownFile(slot))?;
        self.tokens.check_file_idle(slot)?;
        *state = file;
        self.refuses[slot.index() as usize] = self.script.refuse_first;
        Ok(())
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        let state = self.buffers.get_mut(slot.index() as usize);
        let state = state.ok_or(RegisterError::UnknownBuffer(slot))?;
        self.tokens.check_buffer_idle(slot)?;
        if buffer.as_ref().is_some_and(Buffer::is_empty) {
            return Err(RegisterError::EmptyBuffer);
        }
        *state = buffer;
        Ok(())
    }

    fn quiesce(&mut self, _deadline: Duration) -> Result<(), Busy> {
        // A failure completes the untaken operations, which is as quiet.
        let _ = self.submit();
        for index in 0..self.submitted.len() {
            let token = self.submitted[index].token;
            self.cancel(token);
            self.submitted[index].due = 0;
        }
        self.complete_due();
        match self.submitted.len() as u32 {
            0 => Ok(()),
            in_flight => Err(Busy::new(in_flight)),
        }
    }
}
