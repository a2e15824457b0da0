//! Push: an operation is checked and waits for a submission.

use super::perform::Span;
use super::{Queued, ThreadPool};
use crate::completion::Token;
use crate::error::PushError;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::settings::check_offset;
use crate::token_table::NO_BUFFER;

impl ThreadPool {
    #[inline]
    pub(super) fn enqueue(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        if self.tokens.is_full() {
            return Err(PushError::Full);
        }
        let slot = operation.file();
        let tries_reads = self.check_file(slot)?;
        match operation {
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
                let span = self.span(buffer, buffer_offset, len)?;
                check_offset(offset, span.len())?;
            }
            Operation::Prefetch { offset, len, .. } => check_offset(offset, len)?,
            Operation::Sync { .. } => {}
            Operation::Map { .. } => return Err(PushError::Unsupported),
        }
        let buffer = operation.buffer().map_or(NO_BUFFER, BufferSlot::index);
        let token = self
            .tokens
            .insert(user, slot.index(), buffer)
            .ok_or(PushError::Full)?;
        self.pushed += 1;
        let queue = match operation {
            Operation::Read { .. } if tries_reads => &mut self.attempts,
            _ => &mut self.queued,
        };
        queue.push_back(Queued {
            token,
            operation,
            moved: 0,
        });
        Ok(token)
    }

    /// Checks that a slot holds a file. Returns whether its reads are tried at once.
    #[inline]
    fn check_file(&self, slot: FileSlot) -> Result<bool, PushError> {
        match self.files.get(slot.index() as usize) {
            Some(state) if state.file.is_some() => Ok(state.tries_reads),
            _ => Err(PushError::UnknownFile(slot)),
        }
    }

    /// Returns the bytes of a transfer: all that was asked for, or less if one call cannot transfer
    /// that much.
    #[inline]
    pub(super) fn span(
        &self,
        slot: BufferSlot,
        offset: u64,
        len: u32,
    ) -> Result<Span<'_>, PushError> {
        match self.buffers.get(slot.index() as usize) {
            Some(Some(buffer)) => Span::new(buffer, offset, len).ok_or(PushError::OutOfRange),
            _ => Err(PushError::UnknownBuffer(slot)),
        }
    }
}
