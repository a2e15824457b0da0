//! A transport that misbehaves on purpose, the same way for the same seed.

mod script;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Advice, fadvise, fdatasync, fsync};
use rustix::io::{Errno, pread, pwrite};

use crate::buffer::Buffer;
use crate::error::{Busy, EnterError, PushError, RegisterError};
use crate::operation::{BufferSlot, Completion, FileSlot, Operation, Token};
use crate::token_table::{NO_BUFFER, Slab};
use crate::transport::Transport;

pub use script::SimBuilder;
use script::SplitMix;

/// A [`Transport`] without a ring, for tests of what drives one. It moves real bytes between real
/// files and buffers, but delays, cuts, fails and withholds operations as its builder says.
///
/// Its clock is the number of calls of [`reap`](Transport::reap); [`wait`](Transport::wait) moves
/// the clock and never sleeps, not even when nothing will ever complete.
#[derive(Debug)]
pub struct SimTransport {
    script: SimBuilder,
    random: SplitMix,
    slab: Slab,
    /// Each slot with its count of operations in flight.
    files: Vec<(Option<Arc<OwnedFd>>, u32)>,
    buffers: Vec<(Option<Buffer>, u32)>,
    queued: VecDeque<Flight>,
    flying: Vec<Flight>,
    done: VecDeque<(Token, i32)>,
    fail_next: VecDeque<Errno>,
    /// Flag for each file slot: set if its first operation is still to be refused.
    refuses: Vec<bool>,
    /// Number of requests to cancel that are still to be missed.
    misses: u32,
    now: u64,
    submits: u64,
    poisoned: Option<Errno>,
}

/// What will become of an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It is performed, on at most so many bytes.
    Perform(u32),
    Fail(Errno),
    Stuck,
    Hung,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    token: Token,
    op: Operation,
    due: u64,
    fate: Fate,
}

impl SimTransport {
    fn new(script: SimBuilder) -> Self {
        Self {
            random: SplitMix(script.seed),
            slab: Slab::with_capacity(script.capacity),
            files: (0..script.files).map(|_| (None, 0)).collect(),
            buffers: (0..script.buffers).map(|_| (None, 0)).collect(),
            queued: VecDeque::with_capacity(script.capacity as usize),
            flying: Vec::with_capacity(script.capacity as usize),
            done: VecDeque::with_capacity(script.capacity as usize),
            fail_next: VecDeque::new(),
            refuses: vec![false; script.files as usize],
            misses: script.missed_cancels,
            now: 0,
            submits: 0,
            poisoned: None,
            script,
        }
    }

    /// Starts a script; equal seeds and equal calls give equal behaviour.
    pub fn builder(seed: u64) -> SimBuilder {
        SimBuilder::new(seed)
    }

    /// Makes the next operation pushed fail with this errno. Several calls queue up.
    pub fn fail_next(&mut self, errno: Errno) {
        self.fail_next.push_back(errno);
    }

    /// Checks the operation's operands; returns the length asked for.
    fn check(&self, op: Operation) -> Result<u32, PushError> {
        let file = op.file();
        match self.files.get(file.index() as usize) {
            Some((Some(_), _)) => {}
            _ => return Err(PushError::UnknownFile(file)),
        }
        let (offset, len) = match op {
            Operation::Sync { .. } => return Ok(0),
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
                let Some((Some(memory), _)) = self.buffers.get(buffer.index() as usize) else {
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

    /// Performs an operation on at most `most` bytes; the result is worded as the kernel's.
    fn perform(&self, op: Operation, most: u32) -> i32 {
        let Some((Some(file), _)) = self.files.get(op.file().index() as usize) else {
            return -Errno::BADF.raw_os_error();
        };
        let memory = |slot: BufferSlot| match self.buffers.get(slot.index() as usize) {
            Some((Some(memory), _)) => Ok(memory),
            _ => Err(Errno::FAULT),
        };
        let moved = match op {
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
        };
        moved.map_or_else(|errno| -errno.raw_os_error(), |count| count as i32)
    }

    /// Moves what is due from in flight to done.
    fn land(&mut self) {
        let mut landed = self.done.len();
        let mut index = 0;
        while let Some(&Flight {
            token,
            op,
            due,
            fate,
        }) = self.flying.get(index)
        {
            let res = match fate {
                Fate::Perform(most) if due <= self.now => self.perform(op, most),
                Fate::Fail(errno) if due <= self.now => -errno.raw_os_error(),
                _ => {
                    index += 1;
                    continue;
                }
            };
            self.flying.remove(index);
            self.done.push_back((token, res));
        }
        while self.script.reorder && landed + 1 < self.done.len() {
            let rest = (self.done.len() - landed) as u64;
            let other = landed + self.random.below(rest) as usize;
            self.done.swap(landed, other);
            landed += 1;
        }
    }

    fn settle(&mut self, token: Token, res: i32) -> Option<Completion> {
        let entry = self.slab.remove(token)?;
        self.files[entry.file as usize].1 -= 1;
        if entry.buffer != NO_BUFFER {
            self.buffers[entry.buffer as usize].1 -= 1;
        }
        Some(Completion::from_raw(entry.user, token, res))
    }
}

impl Transport for SimTransport {
    fn capacity(&self) -> u32 {
        self.slab.capacity()
    }

    fn in_flight(&self) -> u32 {
        self.slab.live()
    }

    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        if let Some(errno) = self.poisoned {
            return Err(PushError::Poisoned(errno));
        }
        let len = self.check(op)?;
        let buffer = match op {
            Operation::Read { buffer, .. } | Operation::Write { buffer, .. } => buffer.index(),
            Operation::Sync { .. } | Operation::Prefetch { .. } => NO_BUFFER,
        };
        let token = self
            .slab
            .insert(user, op.file().index(), buffer)
            .ok_or(PushError::Full)?;
        self.files[op.file().index() as usize].1 += 1;
        if buffer != NO_BUFFER {
            self.buffers[buffer as usize].1 += 1;
        }
        let fate = self.draw_fate(op.file(), len);
        self.queued.push_back(Flight {
            token,
            op,
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
                self.done
                    .extend(untaken.map(|flight| (flight.token, -errno.raw_os_error())));
                return Err(EnterError::Fatal(errno));
            }
            _ => {}
        }
        let count = self.queued.len() as u32;
        while let Some(mut flight) = self.queued.pop_front() {
            // The first reap to come is `now + 1`.
            let latency = self.random.below(u64::from(self.script.max_latency) + 1);
            flight.due = self.now + 1 + latency;
            self.flying.push(flight);
        }
        Ok(count)
    }

    fn reap<F: FnMut(Completion)>(&mut self, mut sink: F) -> u32 {
        self.now += 1;
        self.land();
        let mut count = 0;
        while let Some((token, res)) = self.done.pop_front() {
            if let Some(completion) = self.settle(token, res) {
                count += 1;
                sink(completion);
            }
        }
        count
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> Result<(), EnterError> {
        self.submit()?;
        if self.done.is_empty() {
            let comes = |flight: &&Flight| !matches!(flight.fate, Fate::Stuck | Fate::Hung);
            let next = self
                .flying
                .iter()
                .filter(comes)
                .map(|flight| flight.due)
                .min();
            self.now = self.now.max(next.unwrap_or(0).saturating_sub(1));
        }
        Ok(())
    }

    fn cancel(&mut self, token: Token) -> bool {
        if self.slab.get_mut(token).is_none() {
            return false;
        }
        if let Some(left) = self.misses.checked_sub(1) {
            self.misses = left;
            return true;
        }
        let heads = self.random.chance(0.5);
        let mut flights = self.queued.iter_mut().chain(&mut self.flying);
        if let Some(flight) = flights.find(|flight| flight.token == token) {
            match flight.fate {
                Fate::Hung => {}
                Fate::Stuck => flight.fate = Fate::Fail(Errno::CANCELED),
                _ if heads => flight.fate = Fate::Fail(Errno::CANCELED),
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
        match self.files.get_mut(slot.index() as usize) {
            None => Err(RegisterError::UnknownFile(slot)),
            Some(&mut (_, in_flight @ 1..)) => Err(RegisterError::Busy { in_flight }),
            Some(entry) => {
                entry.0 = file;
                self.refuses[slot.index() as usize] = self.script.refuse_first;
                Ok(())
            }
        }
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        match self.buffers.get_mut(slot.index() as usize) {
            None => Err(RegisterError::UnknownBuffer(slot)),
            Some(&mut (_, in_flight @ 1..)) => Err(RegisterError::Busy { in_flight }),
            Some(_) if buffer.as_ref().is_some_and(Buffer::is_empty) => {
                Err(RegisterError::EmptyBuffer)
            }
            Some(entry) => {
                entry.0 = buffer;
                Ok(())
            }
        }
    }

    fn quiesce(&mut self, _deadline: Duration) -> Result<(), Busy> {
        // On failure the untaken operations are done, which is as quiet.
        let _ = self.submit();
        for index in 0..self.flying.len() {
            let token = self.flying[index].token;
            self.cancel(token);
            self.flying[index].due = 0;
        }
        self.land();
        match self.flying.len() as u32 {
            0 => Ok(()),
            in_flight => Err(Busy::new(in_flight)),
        }
    }
}
