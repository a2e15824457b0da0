//! Push: an operation is checked and becomes an entry of the submission queue.

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, Fixed, FsyncFlags};
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;

use super::Ring;
use super::slots::PIECE_SHIFT;
use crate::completion::Token;
use crate::error::{EnterError, PushError};
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::settings::{MAX_RW, check_offset};
use crate::token_table::NO_BUFFER;

/// A file as an entry names it.
#[derive(Clone, Copy)]
enum Target {
    /// By its index in the kernel's file table.
    Fixed(u32, Flags),
    /// By its descriptor.
    Plain(i32, Flags),
}

/// The part of a buffer that one entry can transfer.
pub(super) struct Span {
    address: *mut u8,
    pub(super) len: u32,
    buf_index: Option<u16>,
}

/// Builds an entry on either kind of target, which the builders take as different types, and
/// enqueues it. Each arm builds the entry in place.
macro_rules! send {
    ($ring:expr, $token:expr, $target:expr, $fd:ident => $build:expr) => {
        match $target {
            Target::Fixed(index, flags) => {
                let $fd = Fixed(index);
                $ring.enqueue($build.flags(flags), $token);
            }
            Target::Plain(raw, flags) => {
                let $fd = Fd(raw);
                $ring.enqueue($build.flags(flags), $token);
            }
        }
    };
}

/// Sends a transfer by the opcode for registered buffers or by the one for plain memory.
macro_rules! send_transfer {
    ($ring:expr, $token:expr, $target:expr, $span:expr, $fixed:ident | $plain:ident,
     $($field:ident: $value:expr),+) => {
        match $span.buf_index {
            Some(index) => send!($ring, $token, $target, fd => {
                opcode::$fixed::new(fd, $span.address, $span.len, index)$(.$field($value))+.build()
            }),
            None => send!($ring, $token, $target, fd => {
                opcode::$plain::new(fd, $span.address, $span.len)$(.$field($value))+.build()
            }),
        }
    };
}

impl Ring {
    /// Queues an operation. Enters the kernel only if the submission queue is full. `user` comes
    /// back with the completion.
    ///
    /// # Errors
    /// Nothing was queued.
    /// - [`PushError::Full`] if as many operations are in flight as the [capacity](Self::capacity),
    ///   or if the submission queue is full and the kernel takes nothing from it now.
    /// - [`PushError::UnknownFile`] or [`PushError::UnknownBuffer`] if the slot is empty or beyond
    ///   the table.
    /// - [`PushError::OutOfRange`] if the range leaves the buffer, or passes `i64::MAX` in the file.
    /// - [`PushError::Poisoned`] once the kernel has refused to be entered.
    #[inline]
    pub fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        if let Some(errno) = self.poisoned {
            return Err(PushError::Poisoned(errno));
        }
        if self.tokens.is_full() {
            return Err(PushError::Full);
        }
        if self.kernel.sq.is_full() {
            self.make_room()?;
        }
        match operation {
            Operation::Read {
                file,
                offset,
                buffer,
                buffer_offset,
                len,
            } => {
                let target = self.target(file)?;
                let span = self.span(buffer, buffer_offset, len)?;
                check_offset(offset, span.len)?;
                let token = self.take_token(user, file.index(), buffer.index())?;
                send_transfer!(self, token, target, span, ReadFixed | Read, offset: offset);
                Ok(token)
            }
            Operation::Write {
                file,
                offset,
                buffer,
                buffer_offset,
                len,
                durable,
            } => {
                let target = self.write_target(file, durable)?;
                let span = self.span(buffer, buffer_offset, len)?;
                check_offset(offset, span.len)?;
                let token = self.take_token(user, file.index(), buffer.index())?;
                let flags = if durable {
                    ReadWriteFlags::DSYNC.bits() as i32
                } else {
                    0
                };
                send_transfer!(self, token, target, span, WriteFixed | Write,
                    offset: offset, rw_flags: flags);
                Ok(token)
            }
            Operation::Sync { file, data_only } => self.push_sync(file, data_only, user),
            Operation::Prefetch { file, offset, len } => {
                self.push_prefetch(file, offset, len, user)
            }
            Operation::Map { .. } => Err(PushError::Unsupported),
        }
    }

    fn push_sync(
        &mut self,
        file: FileSlot,
        data_only: bool,
        user: u64,
    ) -> Result<Token, PushError> {
        let flags = if data_only {
            FsyncFlags::DATASYNC
        } else {
            FsyncFlags::empty()
        };
        let target = self.target(file)?;
        let token = self.take_token(user, file.index(), NO_BUFFER)?;
        send!(self, token, target, fd => opcode::Fsync::new(fd).flags(flags).build());
        Ok(token)
    }

    fn push_prefetch(
        &mut self,
        file: FileSlot,
        offset: u64,
        len: u32,
        user: u64,
    ) -> Result<Token, PushError> {
        let target = self.target(file)?;
        check_offset(offset, len)?;
        let token = self.take_token(user, file.index(), NO_BUFFER)?;
        if len == 0 {
            // To the kernel a length of zero means all the rest of the file.
            self.enqueue(opcode::Nop::new().build(), token);
        } else {
            let advice = Advice::WillNeed as i32;
            send!(self, token, target, fd => {
                opcode::Fadvise::new(fd, len.into(), advice).offset(offset).build()
            });
        }
        Ok(token)
    }

    /// Empties a full submission queue.
    ///
    /// # Errors
    /// Nothing more can be pushed now.
    #[cold]
    pub(super) fn make_room(&mut self) -> Result<(), PushError> {
        self.submit()
            .map_err(|EnterError::Fatal(errno)| PushError::Poisoned(errno))?;
        if self.kernel.sq.is_full() {
            Err(PushError::Full)
        } else {
            Ok(())
        }
    }

    /// Records an operation as in flight.
    #[inline(always)]
    fn take_token(&mut self, user: u64, file: u32, buffer: u32) -> Result<Token, PushError> {
        self.tokens
            .insert(user, file, buffer)
            .ok_or(PushError::Full)
    }

    #[inline]
    fn target(&self, slot: FileSlot) -> Result<Target, PushError> {
        let state = self.files.get(slot.index() as usize);
        let found = state.and_then(|state| Some((state.descriptor()?, state.flags)));
        self.target_of(slot, found)
    }

    #[inline]
    fn write_target(&self, slot: FileSlot, durable: bool) -> Result<Target, PushError> {
        let state = self.files.get(slot.index() as usize);
        let found = state.and_then(|state| Some((state.descriptor()?, state.write_flags(durable))));
        self.target_of(slot, found)
    }

    #[inline(always)]
    fn target_of(&self, slot: FileSlot, found: Option<(i32, Flags)>) -> Result<Target, PushError> {
        match found {
            Some((_, flags)) if self.fixed_files => Ok(Target::Fixed(slot.index(), flags)),
            Some((raw, flags)) => Ok(Target::Plain(raw, flags)),
            None => Err(PushError::UnknownFile(slot)),
        }
    }

    /// Returns the span of a transfer: all that was asked for, or less if one entry cannot transfer
    /// that much.
    #[inline]
    pub(super) fn span(&self, slot: BufferSlot, offset: u64, len: u32) -> Result<Span, PushError> {
        let state = match self.buffers.get(slot.index() as usize) {
            Some(state) if !state.base.is_null() => state,
            _ => return Err(PushError::UnknownBuffer(slot)),
        };
        match offset.checked_add(len.into()) {
            Some(end) if end <= state.len => {}
            _ => return Err(PushError::OutOfRange),
        }
        // In range, so it fits the address space.
        let address = state.base.wrapping_add(offset as usize);
        // The end of the buffer, where only zero bytes can be transferred, belongs to its last piece.
        let piece = (offset >> PIECE_SHIFT).min((state.len - 1) >> PIECE_SHIFT);
        let left = ((piece + 1) << PIECE_SHIFT) - offset;
        match state.buf_index {
            Some(first) if u64::from(len) <= left => Ok(Span {
                address,
                len,
                buf_index: Some(first + piece as u16),
            }),
            // A transfer across pieces uses plain memory: cut between the pieces, it could lose the
            // alignment that direct I/O needs.
            _ => Ok(Span {
                address,
                len: len.min(MAX_RW),
                buf_index: None,
            }),
        }
    }
}
