//! Operations that begin together, and those of them that the calling thread performs.

use std::sync::Arc;

use crate::batch::Batch;
use crate::engine::place::Registration;
use crate::memory::{Export, Span};
use crate::op::{Kind, Op, Place};
use crate::open_file::{MOST_AT_ONCE, OpenFile};
use crate::pages::Copier;

/// The bytes that a batch reads at once at most, where they are in memory: some 0.5 ms.
const MOST_OF_BATCH: usize = 4 << 20;
/// The reads of a file for which copies out of a mapping are worth their preparation of some system calls.
const WORTH_COPIES: usize = 8;
/// The bytes of the next read that are loaded into the processor's cache during a copy.
const BYTES_AHEAD: usize = 1024;
/// The reads ahead of a copy of which one line is loaded, so that the processor translates several addresses at once.
const READS_AHEAD: usize = 4;

/// A part of a file, and where its bytes are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// Operations of one kind on one file, and the memory that they share.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) file: Arc<OpenFile>,
    /// All of the memory, in which every part is. `None` for operations without.
    pub(crate) memory: Option<Span>,
    /// The registration by which the loop knows the memory, if there is one.
    pub(crate) registration: Option<Arc<Registration>>,
    pub(crate) parts: Vec<Part>,
}

/// Performs the reads of bytes that are in memory, as far as that does not take long, and returns the other operations. Each
/// run has the index of its first operation in the batch.
pub(crate) fn begin(runs: Vec<(usize, Run)>, batch: &Arc<Batch>) -> Vec<Op> {
    let (mut ops, mut ended) = (Vec::new(), 0);
    let mut left = MOST_OF_BATCH;
    for (first, run) in runs {
        let copier = (run.kind == Kind::Read && run.parts.len() >= WORTH_COPIES)
            .then(|| run.file.copier())
            .flatten();
        for nth in 0..run.parts.len() {
            match run.perform(nth, copier.as_ref(), &mut left) {
                Some(count) => {
                    batch.record(first + nth, Ok(count));
                    ended += 1;
                }
                None => ops.push(run.op(nth, (Arc::clone(batch), first + nth))),
            }
        }
        // Here the last of the memory goes, before anybody learns of an end.
    }
    batch.ended(ended);
    ops
}

impl Run {
    /// Returns whether the operations are on this memory.
    pub(crate) fn is_on(&self, export: Option<&Arc<Export>>) -> bool {
        match (&self.memory, export) {
            (Some(memory), Some(export)) => memory.is_of(export),
            (None, None) => true,
            _ => false,
        }
    }

    /// Performs an operation if it does not wait. Returns the number of bytes.
    fn perform(&self, nth: usize, copier: Option<&Copier>, left: &mut usize) -> Option<usize> {
        let (memory, part) = (self.memory.as_ref()?, self.parts[nth]);
        if part.len == 0 {
            return Some(0);
        }
        if self.kind != Kind::Read || part.len > *left {
            return None;
        }
        let copied = copier.is_some_and(|copier| {
            self.load_ahead(nth, copier);
            copy(memory, part, copier)
        });
        let count = match copied {
            true => part.len,
            false => {
                let span = memory.part(part.at, part.len);
                self.file.read_at_once(&span, part.offset)?
            }
        };
        *left -= count;
        Some(count)
    }

    /// Loads bytes of the next reads into the processor's cache.
    fn load_ahead(&self, nth: usize, copier: &Copier) {
        let mapping = copier.residency.mapping();
        if let Some(next) = self.parts.get(nth + 1) {
            mapping
                .hint(next.offset)
                .prefetch(next.len.min(BYTES_AHEAD));
        }
        if let Some(later) = self.parts.get(nth + READS_AHEAD) {
            mapping.hint(later.offset).prefetch(1);
        }
    }

    /// Returns the operation for the engine.
    fn op(&self, nth: usize, place: (Arc<Batch>, usize)) -> Op {
        let Part { offset, at, len } = self.parts[nth];
        let span = self.memory.as_ref().map(|memory| memory.part(at, len));
        let mut op = Op::new(self.kind, (Arc::clone(&self.file), offset), span, place);
        op.place = self
            .registration
            .clone()
            .map(|registration| Place::Registered { registration, at });
        op
    }
}

/// Copies a part out of the mapping of its file. Returns whether all of it was copied.
fn copy(memory: &Span, part: Part, copier: &Copier) -> bool {
    let Copier {
        residency,
        recovery,
        size,
    } = copier;
    let Some(end) = part.offset.checked_add(part.len as u64) else {
        return false;
    };
    let range = part.offset..end;
    if part.len > MOST_AT_ONCE || end > *size || !residency.contains(range.clone()) {
        return false;
    }
    let copied = memory.copy_mapped(part.at, residency.mapping(), recovery, range.clone());
    if !copied {
        residency.forget(range);
    }
    copied
}
