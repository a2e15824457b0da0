//! The reads of a transport from their completion to the end of their moves.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use vyre_uring::{Buffer, BufferSlot, Completion, Errno, FileSlot, Operation, Token};

use super::mover::{MoveError, Mover};

/// The bit of the tokens of reads that are moved from a view. A ring has at most 2^15 entries, so no index of
/// a ring's token has it.
const VIEW: u64 = 1 << 30;

/// Returns whether this is the token of a read that is moved from a view.
pub(super) fn is_of_view(token: Token) -> bool {
    token.raw() & (VIEW | 1 << 31) == VIEW
}

/// The record of an operation while the inner transport holds it.
#[derive(Clone, Copy, Debug)]
struct Pushed {
    user: u64,
    /// The slot and the offset in the buffer, of a read into a buffer with a destination.
    into: Option<(BufferSlot, u64)>,
}

/// A read whose bytes are being moved.
#[derive(Clone, Copy, Debug)]
struct Moving {
    completion: Completion,
    slot: BufferSlot,
}

/// The reads that are moved, in the order in which their moves were started, and the completions that
/// are ready.
#[derive(Debug)]
pub(super) struct Moves<M> {
    mover: M,
    /// The destination behind the buffer in each slot.
    destinations: Vec<Option<u32>>,
    /// The view of the file in each slot.
    views: Vec<Option<u32>>,
    /// The number of the next token of a read that is moved from a view.
    next_token: u32,
    /// The operations of the inner transport, by the number that it has instead of the user's word.
    pushed: Vec<Pushed>,
    free: Vec<u32>,
    /// The oldest first.
    moving: VecDeque<Moving>,
    /// The number of moves in each batch, the oldest batch first.
    batches: VecDeque<u32>,
    /// The number of moves in no batch yet: the last ones of `moving`.
    unbatched: u32,
    /// Completions that are ready to be reaped.
    ready: VecDeque<Completion>,
}

impl<M: Mover> Moves<M> {
    pub(super) fn new(mover: M, capacity: u32) -> Self {
        let none = Pushed {
            user: 0,
            into: None,
        };
        let room = capacity as usize;
        Self {
            mover,
            destinations: Vec::new(),
            views: Vec::new(),
            next_token: 0,
            pushed: vec![none; room],
            free: (0..capacity).rev().collect(),
            moving: VecDeque::with_capacity(room),
            batches: VecDeque::with_capacity(room),
            unbatched: 0,
            ready: VecDeque::with_capacity(room),
        }
    }

    /// Returns the number of operations that the inner transport has given back and that were not
    /// reaped here.
    pub(super) fn held(&self) -> u32 {
        (self.moving.len() + self.ready.len()) as u32
    }

    /// Returns whether an operation with this token was not yet reaped.
    pub(super) fn holds(&self, token: Token) -> bool {
        let moving = self.moving.iter().map(|moving| &moving.completion);
        moving.chain(&self.ready).any(|held| held.token == token)
    }

    pub(super) fn is_moving(&self) -> bool {
        !self.moving.is_empty()
    }

    pub(super) fn moving(&self) -> u32 {
        self.moving.len() as u32
    }

    pub(super) fn moving_from(&self, slot: BufferSlot) -> u32 {
        let moving = self.moving.iter().filter(|moving| moving.slot == slot);
        moving.count() as u32
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn take_ready(&mut self) -> impl ExactSizeIterator<Item = Completion> + '_ {
        self.ready.drain(..)
    }

    pub(super) fn destination_of(&self, buffer: &Buffer) -> Option<u32> {
        self.mover.destination(buffer)
    }

    pub(super) fn set_destination(&mut self, slot: BufferSlot, destination: Option<u32>) {
        set(&mut self.destinations, slot.index() as usize, destination);
    }

    pub(super) fn view_of(&self, file: &OwnedFd) -> Option<u32> {
        self.mover.view_of(file)
    }

    pub(super) fn set_view(&mut self, slot: FileSlot, view: Option<u32>) {
        set(&mut self.views, slot.index() as usize, view);
    }

    /// Starts to move the bytes of a read from a view of its file. Returns the token of the read, or `None` if
    /// the inner transport has to read them.
    pub(super) fn push_from_view(&mut self, operation: Operation, user: u64) -> Option<Token> {
        let Operation::Read {
            file,
            offset,
            buffer,
            buffer_offset,
            len: len @ 1..,
        } = operation
        else {
            return None;
        };
        let view = self.views.get(file.index() as usize).copied().flatten()?;
        let to = self.destination(buffer)?;
        let started = self
            .mover
            .start_from_view(view, offset, to, buffer_offset, len);
        // A move that was refused may work by way of the buffer.
        if started != Ok(true) {
            return None;
        }
        let token = Token::from_raw(u64::from(self.next_token) << 32 | VIEW);
        self.next_token = self.next_token.wrapping_add(1);
        let completion = Completion::new(user, token, Ok(len));
        self.moving.push_back(Moving {
            completion,
            slot: buffer,
        });
        self.unbatched += 1;
        Some(token)
    }

    fn destination(&self, slot: BufferSlot) -> Option<u32> {
        let destination = self.destinations.get(slot.index() as usize);
        destination.copied().flatten()
    }

    /// Returns the number under which the inner transport will hold the next operation. Returns
    /// `None` if all numbers are in use.
    pub(super) fn next_number(&self) -> Option<u32> {
        self.free.last().copied()
    }

    /// Records that the inner transport has taken the operation under [`next_number`](Self::next_number).
    pub(super) fn record(&mut self, operation: Operation, user: u64) {
        let Some(number) = self.free.pop() else {
            return;
        };
        let into = match operation {
            Operation::Read {
                buffer,
                buffer_offset,
                ..
            } => self.destination(buffer).map(|_| (buffer, buffer_offset)),
            _ => None,
        };
        self.pushed[number as usize] = Pushed { user, into };
    }

    /// Takes a completion of the inner transport: starts the move of a read, and makes every other
    /// completion ready.
    pub(super) fn completed(&mut self, found: Completion) {
        let Some(&Pushed { user, into }) = self.pushed.get(found.user as usize) else {
            return;
        };
        self.free.push(found.user as u32);
        let completion = Completion::new(user, found.token, found.result);
        let (Some((slot, offset)), Ok(len @ 1..)) = (into, completion.result) else {
            self.ready.push_back(completion);
            return;
        };
        let started = match self.destination(slot) {
            Some(destination) => self.mover.start(destination, offset, len),
            None => Err(MoveError),
        };
        match started {
            Ok(()) => {
                self.moving.push_back(Moving { completion, slot });
                self.unbatched += 1;
            }
            Err(MoveError) => self.ready.push_back(failed(completion)),
        }
    }

    /// Makes the reads of ended batches ready.
    pub(super) fn finish_batches(&mut self) {
        while let Some(&count) = self.batches.front() {
            let ended = self.mover.has_ended();
            if ended == Ok(false) {
                return;
            }
            self.batches.pop_front();
            let moved = self.moving.drain(..count as usize);
            self.ready.extend(moved.map(|moved| match ended {
                Ok(_) => moved.completion,
                Err(MoveError) => failed(moved.completion),
            }));
        }
    }

    /// Makes a batch of the moves that were started since the last one.
    pub(super) fn close_batch(&mut self) {
        if self.unbatched == 0 {
            return;
        }
        match self.mover.close_batch() {
            Ok(true) => self.batches.push_back(self.unbatched),
            Ok(false) => return,
            Err(MoveError) => {
                let first = self.moving.len() - self.unbatched as usize;
                let lost = self.moving.drain(first..);
                self.ready
                    .extend(lost.map(|moving| failed(moving.completion)));
            }
        }
        self.unbatched = 0;
    }
}

/// Sets an entry of a table that grows as it has to.
fn set(table: &mut Vec<Option<u32>>, index: usize, entry: Option<u32>) {
    if table.len() <= index {
        table.resize(index + 1, None);
    }
    table[index] = entry;
}

/// Returns the completion of a read whose bytes did not land.
fn failed(completion: Completion) -> Completion {
    Completion::new(completion.user, completion.token, Err(Errno::IO))
}
