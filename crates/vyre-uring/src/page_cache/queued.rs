//! The copies of a transport that were pushed and not yet reaped.

use crate::completion::{Completion, Token};
use crate::operation::{BufferSlot, FileSlot, Operation};

/// The operands of a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) file: FileSlot,
    pub(super) offset: u64,
    pub(super) buffer: BufferSlot,
    pub(super) buffer_offset: u64,
    pub(super) len: u32,
}

impl Read {
    /// Returns the operands of an operation, if it is a read.
    #[inline]
    pub(super) const fn of(operation: &Operation) -> Option<Self> {
        match *operation {
            Operation::Read {
                file,
                offset,
                buffer,
                buffer_offset,
                len,
            } => Some(Self {
                file,
                offset,
                buffer,
                buffer_offset,
                len,
            }),
            _ => None,
        }
    }
}

/// A read that the next submission copies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queued {
    pub(super) read: Read,
    pub(super) token: Token,
    pub(super) user: u64,
}

/// A completion that the next reap passes on, and the slots that its operation was on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) completion: Completion,
    pub(super) file: FileSlot,
    pub(super) buffer: BufferSlot,
}
