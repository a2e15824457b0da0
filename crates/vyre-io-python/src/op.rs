//! Operations.

use std::hint;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{BufferHandle, Errno};

use crate::batch::Batch;
use crate::engine::place::Registration;
use crate::memory::Span;
use crate::open_file::OpenFile;

/// The number of bytes in transfer memory for each operation. Longer operations use the caller's memory.
pub(crate) const CHUNK: usize = 64 << 10;
/// The largest number of bytes of one request.
const MOST: usize = 1 << 30;

/// Most of the time that a thread polls before it gives its processor away, and before it sleeps.
const SPIN: Duration = Duration::from_micros(20);
const YIELD: Duration = Duration::from_micros(50);
/// The longest sleep between two polls.
pub(crate) const NAP: Duration = Duration::from_millis(1);

/// Passes a moment of a wait that began then: the later, the longer. Returns false once it is `until`.
pub(crate) fn pause(began: Instant, until: Instant) -> bool {
    let now = Instant::now();
    if now >= until {
        return false;
    }
    let waited = now - began;
    if waited >= YIELD {
        thread::sleep((waited / 16).min(NAP).min(until - now));
    } else if waited >= SPIN {
        thread::yield_now();
    } else {
        hint::spin_loop();
    }
    true
}

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Sync,
}

/// The memory that a request names.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The part of the transfer memory that belongs to the request's slot.
    Transfer,
    /// Memory that was registered for this operation alone: the caller's, or a copy of it.
    Own { handle: BufferHandle },
    /// Memory that the caller registered, and the offset there.
    Registered {
        registration: Arc<Registration>,
        at: usize,
    },
}

/// An operation that has not ended.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) file: Arc<OpenFile>,
    pub(crate) offset: u64,
    pub(crate) span: Option<Span>,
    /// `None` until there is room for it.
    pub(crate) place: Option<Place>,
    /// Bytes that earlier requests of the operation have moved.
    pub(crate) moved: usize,
    batch: Arc<Batch>,
    index: usize,
}

impl Op {
    pub(crate) fn new(
        kind: Kind,
        (file, offset): (Arc<OpenFile>, u64),
        span: Option<Span>,
        (batch, index): (Arc<Batch>, usize),
    ) -> Self {
        Self {
            kind,
            file,
            offset,
            place: None,
            span,
            moved: 0,
            batch,
            index,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.span.as_ref().map_or(0, Span::len)
    }

    /// Returns whether the operation needs memory that is registered for it.
    pub(crate) fn needs_own_place(&self) -> bool {
        self.place.is_none() && self.len() > CHUNK
    }

    /// Returns the number of bytes of the next request.
    pub(crate) fn next_len(&self) -> usize {
        (self.len() - self.moved).min(MOST)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.batch.is_cancelled()
    }

    /// Records the result of the last request, and the end of the operation.
    pub(crate) fn end(self, result: Result<usize, Errno>) {
        let Self {
            file,
            span,
            place,
            moved,
            batch,
            index,
            ..
        } = self;
        // First: who finds the batch done may close the file and give the memory to others.
        drop((file, span, place));
        let result = match result {
            Ok(count) => Ok(moved + count),
            // As pread(2) has it: what was moved before is a result.
            Err(_) if moved > 0 => Ok(moved),
            Err(errno) => Err(errno),
        };
        batch.end(index, result);
    }
}
