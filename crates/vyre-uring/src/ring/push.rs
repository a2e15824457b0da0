//! From operations to submission queue entries.

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, Fixed, FsyncFlags};
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;

use super::Ring;
use super::slots::{FileEntry, PIECE_SHIFT};
use crate::error::PushError;
use crate::operation::{BufferSlot, FileSlot, Operation, Token};
use crate::token_table::NO_BUFFER;

/// Largest number of bytes that one read or write moves: the kernel's `MAX_RW_COUNT` with pages of
/// up to 64 KiB. So what is left is at a multiple of any block size.
const MAX_RW: u32 = 0x7fff_0000;

/// A file as an entry names it.
#[derive(Clone, Copy)]
enum Target {
    Fixed(u32, Flags),
    Plain(i32, Flags),
}

/// Builds an entry on either kind of target, which the builders take as different types, and
/// queues it. Both in one arm, so that the entry is built where it is to lie.
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

/// The part of a buffer that one entry can move.
pub(super) struct Span {
    pub(super) address: *mut u8,
    pub(super) len: u32,
    pub(super) place: Option<u16>,
}

impl Ring {
    /// Queues an operation, and enters the kernel only if the submission queue is full. `user` comes
    /// back with the completion.
    ///
    /// # Errors
    /// A [`PushError`] that names the reason; nothing was queued.
    #[inline]
    pub fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        if let Some(errno) = self.poisoned {
            return Err(PushError::Poisoned(errno));
        }
        if self.slab.is_full() {
            return Err(PushError::Full);
        }
        if self.raw.sq.is_full() {
            self.make_room()?;
        }
        match op {
            Operation::Read {
                file,
                offset,
                buffer,
                buffer_offset,
                len,
            } => {
                let target = self.target(file)?;
                let Span {
                    address,
                    len,
                    place,
                } = self.span(buffer, buffer_offset, len)?;
                check_offset(offset, len)?;
                let token = self.admit(user, file.index(), buffer.index())?;
                match place {
                    Some(place) => send!(self, token, target, fd => {
                        opcode::ReadFixed::new(fd, address, len, place).offset(offset).build()
                    }),
                    None => send!(self, token, target, fd => {
                        opcode::Read::new(fd, address, len).offset(offset).build()
                    }),
                }
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
                let target = self.target_of_write(file, durable)?;
                let Span {
                    address,
                    len,
                    place,
                } = self.span(buffer, buffer_offset, len)?;
                check_offset(offset, len)?;
                let flags = if durable {
                    ReadWriteFlags::DSYNC.bits() as i32
                } else {
                    0
                };
                let token = self.admit(user, file.index(), buffer.index())?;
                match place {
                    Some(place) => send!(self, token, target, fd => {
                        opcode::WriteFixed::new(fd, address, len, place)
                            .offset(offset)
                            .rw_flags(flags)
                            .build()
                    }),
                    None => send!(self, token, target, fd => {
                        opcode::Write::new(fd, address, len)
                            .offset(offset)
                            .rw_flags(flags)
                            .build()
                    }),
                }
                Ok(token)
            }
            Operation::Sync { file, data_only } => self.push_sync(file, data_only, user),
            Operation::Prefetch { file, offset, len } => {
                self.push_prefetch(file, offset, len, user)
            }
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
        let token = self.admit(user, file.index(), NO_BUFFER)?;
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
        let token = self.admit(user, file.index(), NO_BUFFER)?;
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

    /// Counts an operation as in flight on its slots.
    #[inline(always)]
    fn admit(&mut self, user: u64, file: u32, buffer: u32) -> Result<Token, PushError> {
        let token = self
            .slab
            .insert(user, file, buffer)
            .ok_or(PushError::Full)?;
        self.files[file as usize].in_flight += 1;
        if buffer != NO_BUFFER {
            self.buffers[buffer as usize].in_flight += 1;
        }
        Ok(token)
    }

    #[inline]
    fn target(&self, slot: FileSlot) -> Result<Target, PushError> {
        self.target_with(slot, |entry| entry.flags)
    }

    #[inline]
    fn target_of_write(&self, slot: FileSlot, durable: bool) -> Result<Target, PushError> {
        self.target_with(slot, |entry| entry.flags_of_write(durable))
    }

    #[inline(always)]
    fn target_with(
        &self,
        slot: FileSlot,
        flags: impl Fn(&FileEntry) -> Flags,
    ) -> Result<Target, PushError> {
        let entry = self.files.get(slot.index() as usize);
        match entry.and_then(|entry| Some((entry.descriptor()?, flags(entry)))) {
            Some((_, flags)) if self.fixed_files => Ok(Target::Fixed(slot.index(), flags)),
            Some((raw, flags)) => Ok(Target::Plain(raw, flags)),
            None => Err(PushError::UnknownFile(slot)),
        }
    }

    /// The span of a transfer: all that was asked for, or less if one entry cannot move that much.
    #[inline]
    pub(super) fn span(&self, slot: BufferSlot, offset: u64, len: u32) -> Result<Span, PushError> {
        let entry = match self.buffers.get(slot.index() as usize) {
            Some(entry) if !entry.base.is_null() => entry,
            _ => return Err(PushError::UnknownBuffer(slot)),
        };
        match offset.checked_add(len.into()) {
            Some(end) if end <= entry.len => {}
            _ => return Err(PushError::OutOfRange),
        }
        // In range, so it fits the address space.
        let address = entry.base.wrapping_add(offset as usize);
        // The very end of the buffer, where only nothing can be moved, belongs to its last piece.
        let piece = (offset >> PIECE_SHIFT).min((entry.len - 1) >> PIECE_SHIFT);
        let left = ((piece + 1) << PIECE_SHIFT) - offset;
        match entry.place {
            Some(first) if u64::from(len) <= left => Ok(Span {
                address,
                len,
                place: Some(first + piece as u16),
            }),
            // Across pieces it is a plain transfer: cut between them, it could lose the alignment
            // that direct I/O needs.
            _ => Ok(Span {
                address,
                len: len.min(MAX_RW),
                place: None,
            }),
        }
    }
}

/// Refuses what the kernel would take for something else: an offset of all ones means "wherever
/// the file position is", and beyond `i64::MAX` there is no file.
#[inline]
fn check_offset(offset: u64, len: u32) -> Result<(), PushError> {
    match offset.checked_add(len.into()) {
        Some(end) if end <= i64::MAX as u64 => Ok(()),
        _ => Err(PushError::OutOfRange),
    }
}
