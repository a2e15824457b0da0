//! A transport that keeps files in memory: reads and writes are copies, and a sync writes the file
//! back. Everything that was submitted is done at once.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use vyre_uring::{
    Buffer, BufferSlot, Busy, Completion, EnterError, Errno, FileSlot, Operation, PushError,
    RegisterError, Token, Transport,
};

/// A file while it is in memory.
#[derive(Debug)]
struct Resident {
    file: File,
    /// As many as the file may grow to; `len` of them are its own.
    bytes: Box<[u8]>,
    len: usize,
}

impl Resident {
    fn load(file: &OwnedFd, room: usize) -> io::Result<Self> {
        let file = File::from(file.try_clone()?);
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; room.max(len)].into_boxed_slice();
        file.read_exact_at(&mut bytes[..len], 0)?;
        Ok(Self { file, bytes, len })
    }

    fn write_back(&self) -> Result<u32, Errno> {
        let written = self.file.write_all_at(&self.bytes[..self.len], 0);
        let synced = written.and_then(|()| self.file.sync_all());
        synced.map_or_else(|error| Err(errno_of(&error)), |()| Ok(0))
    }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    token: Token,
    user: u64,
    op: Operation,
}

/// The transport. Its files are read when they are registered, and written by [`Operation::Sync`] and by
/// durable writes alone.
#[derive(Debug)]
pub struct MemoryTransport {
    capacity: usize,
    room: usize,
    files: Box<[Option<Resident>]>,
    buffers: Box<[Option<Buffer>]>,
    queued: VecDeque<Queued>,
    done: VecDeque<Completion>,
    tokens: u64,
}

impl MemoryTransport {
    /// A transport for as many operations at once, files and buffers, whose files may grow to
    /// `room` bytes.
    pub fn new(capacity: usize, files: usize, buffers: usize, room: usize) -> Self {
        Self {
            capacity,
            room,
            files: (0..files).map(|_| None).collect(),
            buffers: (0..buffers).map(|_| None).collect(),
            queued: VecDeque::with_capacity(capacity),
            done: VecDeque::with_capacity(capacity),
            tokens: 0,
        }
    }

    fn check(&self, op: Operation) -> Result<(), PushError> {
        let file = op.file();
        if !matches!(self.files.get(file.index() as usize), Some(Some(_))) {
            return Err(PushError::UnknownFile(file));
        }
        let (Operation::Read {
            buffer,
            buffer_offset,
            len,
            ..
        }
        | Operation::Write {
            buffer,
            buffer_offset,
            len,
            ..
        }) = op
        else {
            return Ok(());
        };
        let Some(Some(memory)) = self.buffers.get(buffer.index() as usize) else {
            return Err(PushError::UnknownBuffer(buffer));
        };
        match buffer_offset.checked_add(len.into()) {
            Some(end) if end <= memory.len() as u64 => Ok(()),
            _ => Err(PushError::OutOfRange),
        }
    }

    fn perform(&mut self, op: Operation) -> Result<u32, Errno> {
        let Some(Some(file)) = self.files.get_mut(op.file().index() as usize) else {
            return Err(Errno::BADF);
        };
        let buffers = &self.buffers;
        let memory = |slot: BufferSlot| buffers[slot.index() as usize].as_ref().ok_or(Errno::FAULT);
        match op {
            Operation::Read {
                offset,
                buffer,
                buffer_offset,
                len,
                ..
            } => {
                let start = usize::try_from(offset).map_or(file.len, |at| at.min(file.len));
                let bytes = &file.bytes[start..file.len.min(start + len as usize)];
                let put = memory(buffer)?.write_at(buffer_offset as usize, bytes);
                put.map_or(Err(Errno::FAULT), |()| Ok(bytes.len() as u32))
            }
            Operation::Write {
                offset,
                buffer,
                buffer_offset,
                len,
                durable,
                ..
            } => {
                let start = usize::try_from(offset).map_err(|_| Errno::NOSPC)?;
                let end = file.bytes.len().min(start.saturating_add(len as usize));
                let bytes = file.bytes.get_mut(start..end).ok_or(Errno::NOSPC)?;
                if bytes.is_empty() && len > 0 {
                    return Err(Errno::NOSPC);
                }
                let taken = memory(buffer)?.read_at(buffer_offset as usize, bytes);
                taken.map_err(|_| Errno::FAULT)?;
                file.len = file.len.max(end);
                if durable {
                    file.write_back()?;
                }
                Ok((end - start) as u32)
            }
            Operation::Sync { .. } => file.write_back(),
            Operation::Prefetch { .. } => Ok(0), // All of it is here.
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn busy<T: PartialEq>(
        &self,
        slot: T,
        slot_of: impl Fn(Operation) -> Option<T>,
    ) -> Option<RegisterError> {
        let here = self
            .queued
            .iter()
            .filter(|queued| slot_of(queued.op).as_ref() == Some(&slot));
        let in_flight = here.count() as u32;
        (in_flight > 0).then_some(RegisterError::Busy { in_flight })
    }
}

fn buffer_of(op: Operation) -> Option<BufferSlot> {
    match op {
        Operation::Read { buffer, .. } | Operation::Write { buffer, .. } => Some(buffer),
        _ => None,
    }
}

impl Transport for MemoryTransport {
    fn capacity(&self) -> u32 {
        self.capacity as u32
    }

    fn in_flight(&self) -> u32 {
        (self.queued.len() + self.done.len()) as u32
    }

    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        self.check(op)?;
        if self.in_flight() == self.capacity() {
            return Err(PushError::Full);
        }
        self.tokens += 1;
        let token = Token::from_raw(self.tokens);
        self.queued.push_back(Queued { token, user, op });
        Ok(token)
    }

    fn submit(&mut self) -> Result<u32, EnterError> {
        let count = self.queued.len() as u32;
        while let Some(Queued { token, user, op }) = self.queued.pop_front() {
            let result = self.perform(op);
            self.done.push_back(Completion::new(user, token, result));
        }
        Ok(count)
    }

    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        let count = self.done.len() as u32;
        self.done.drain(..).for_each(sink);
        count
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        if self.submit()? == 0 && self.done.is_empty() {
            // Nothing will come; a caller that has nothing else to do sleeps all the same.
            std::thread::sleep(timeout.unwrap_or_default());
        }
        Ok(())
    }

    fn cancel(&mut self, token: Token) -> bool {
        let Some(at) = self.queued.iter().position(|queued| queued.token == token) else {
            return self.done.iter().any(|done| done.token == token);
        };
        if let Some(Queued { token, user, .. }) = self.queued.remove(at) {
            let result = Err(Errno::CANCELED);
            self.done.push_back(Completion::new(user, token, result));
        }
        true
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        if let Some(busy) = self.busy(slot, |op| Some(op.file())) {
            return Err(busy);
        }
        let room = self.room;
        let place = self.files.get_mut(slot.index() as usize);
        let place = place.ok_or(RegisterError::UnknownFile(slot))?;
        *place = match file {
            Some(file) => {
                let loaded = Resident::load(&file, room);
                Some(loaded.map_err(|error| RegisterError::Kernel(errno_of(&error)))?)
            }
            None => None,
        };
        Ok(())
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        if let Some(busy) = self.busy(slot, buffer_of) {
            return Err(busy);
        }
        if buffer.as_ref().is_some_and(Buffer::is_empty) {
            return Err(RegisterError::EmptyBuffer);
        }
        let place = self.buffers.get_mut(slot.index() as usize);
        *place.ok_or(RegisterError::UnknownBuffer(slot))? = buffer;
        Ok(())
    }

    fn quiesce(&mut self, _deadline: Duration) -> Result<(), Busy> {
        while let Some(&Queued { token, .. }) = self.queued.front() {
            self.cancel(token);
        }
        Ok(())
    }
}
