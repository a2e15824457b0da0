//! Operations, and the batches that they are parts of.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{BufferHandle, Errno};

use crate::engine::place::Registration;
use crate::memory::Span;
use crate::open_file::OpenFile;

/// The number of bytes in transfer memory for each operation. Longer operations use the caller's memory.
pub(crate) const CHUNK: usize = 64 << 10;
/// The largest number of bytes of one request.
const MOST: usize = 1 << 30;

/// Results of operations that were begun together: the number of bytes of each, or its errno.
#[derive(Debug)]
pub(crate) struct Batch {
    files: Box<[Arc<OpenFile>]>,
    /// A number of bytes, or the negative of an errno.
    results: Box<[AtomicI64]>,
    left: AtomicUsize,
    cancelled: AtomicBool,
}

impl Batch {
    pub(crate) fn new(files: impl IntoIterator<Item = Arc<OpenFile>>) -> Self {
        let files: Box<[_]> = files.into_iter().collect();
        Self {
            results: files.iter().map(|_| AtomicI64::new(0)).collect(),
            left: AtomicUsize::new(files.len()),
            cancelled: AtomicBool::new(false),
            files,
        }
    }

    /// Records the end of an operation, once.
    pub(crate) fn end(&self, index: usize, result: Result<usize, Errno>) {
        let word = match result {
            Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
            Err(errno) => -i64::from(errno.raw()),
        };
        // Relaxed: the release below passes it on.
        self.results[index].store(word, Ordering::Relaxed);
        // Release, paired with the acquire in `is_done`: who finds the batch done finds the results and the bytes.
        self.left.fetch_sub(1, Ordering::Release);
    }

    /// Returns whether all operations have ended.
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: as in `end`.
        self.left.load(Ordering::Acquire) == 0
    }

    /// Waits until the batch is done, but not for long after `limit`. `began` is the time of the first call for it.
    /// Returns whether it is done.
    pub(crate) fn wait(&self, began: Instant, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.is_done() {
            if !pause(began, until) {
                return false;
            }
        }
        true
    }

    /// Has nobody look at the results any more. Returns whether that is so: not if the batch was done.
    pub(crate) fn cancel(&self) -> bool {
        if !self.is_done() {
            // Relaxed: the flag guards no other memory.
            self.cancelled.store(true, Ordering::Relaxed);
        }
        self.is_cancelled()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: as in `cancel`.
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns the result of an operation, once the batch is done.
    pub(crate) fn result(&self, index: usize) -> Result<i64, i32> {
        // Relaxed: `is_done` has acquired it.
        match self.results[index].load(Ordering::Relaxed) {
            errno @ ..0 => Err(i32::try_from(-errno).unwrap_or(libc::EIO)),
            count => Ok(count),
        }
    }

    pub(crate) fn file(&self, index: usize) -> &Arc<OpenFile> {
        &self.files[index]
    }
}

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
