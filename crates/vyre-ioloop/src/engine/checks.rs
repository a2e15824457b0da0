//! The checks of a decoded request: every handle, right and range is checked here and nowhere else.

use vyre_ioq::{Errno, FileHandle, Flags, Op, Request};
use vyre_uring::{BufferSlot, FileSlot};

use crate::buffer_table::{BufferEntry, BufferTable};
use crate::file_table::{FileEntry, FileTable};
use crate::queue_id::QueueId;
use crate::rights::Rights;

/// The bytes to move. Offsets are absolute: they include the base of the handle's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Index in the file table.
    pub(crate) file: u32,
    pub(crate) file_slot: FileSlot,
    /// Index in the buffer table.
    pub(crate) buffer: u32,
    pub(crate) slot: BufferSlot,
    pub(crate) file_offset: u64,
    pub(crate) buffer_offset: u64,
    pub(crate) len: u32,
    /// True if the write is flushed, because the request asks for it or its file is open with O_DSYNC
    /// or O_SYNC.
    pub(crate) durable: bool,
    /// True if the file has no offsets: a pipe, a socket or a terminal, which may keep the request
    /// waiting for ever.
    pub(crate) unbounded: bool,
    /// True if cached bytes of the file may be copied out of a mapping.
    pub(crate) mapped: bool,
}

/// The bytes to read ahead, in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadAhead {
    /// Index in the file table.
    pub(crate) file: u32,
    pub(crate) slot: FileSlot,
    /// Absolute offset in bytes.
    pub(crate) offset: u64,
    pub(crate) len: u32,
    /// The largest number of bytes that the kernel reads ahead for one operation.
    pub(crate) piece: u32,
}

impl ReadAhead {
    /// Returns the length of the next piece.
    #[inline]
    pub(crate) fn next(&self) -> u32 {
        self.len.min(self.piece)
    }
}

/// The bytes that a device wants to load by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Index in the file table.
    pub(crate) file: u32,
    pub(crate) slot: FileSlot,
    /// Absolute offset in bytes.
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

/// A request that has passed the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Read(Transfer),
    Write(Transfer),
    Sync { file: u32, slot: FileSlot },
    Prefetch(ReadAhead),
    Map(Extent),
}

/// Checks a request against the tables.
///
/// An error is the errno for the device: EBADF for a handle that is unknown or bound to another queue, EACCES for a right, ERANGE for a range,
/// EINVAL for the alignment of a direct-I/O file. They are checked in this order.
#[inline(always)]
pub(crate) fn resolve(
    files: &FileTable,
    buffers: &BufferTable,
    queue: QueueId,
    request: &Request,
) -> Result<Plan, Errno> {
    match request.op() {
        Op::Read => transfer(files, buffers, queue, request).map(Plan::Read),
        Op::Write => transfer(files, buffers, queue, request).map(Plan::Write),
        Op::Sync => {
            let (file, entry) = permitted_file(files, queue, request.file(), Rights::SYNC)?;
            let slot = entry.slot;
            Ok(Plan::Sync { file, slot })
        }
        Op::Prefetch => {
            let (extent, entry) = readable(files, queue, request)?;
            Ok(Plan::Prefetch(ReadAhead {
                file: extent.file,
                slot: extent.slot,
                offset: extent.offset,
                len: extent.len,
                piece: entry.traits.read_ahead,
            }))
        }
        Op::Map => readable(files, queue, request).map(|(extent, _)| Plan::Map(extent)),
        // A FENCE names nothing: the sweep defers it without a plan. There are no other operations yet.
        _ => Err(Errno::EINVAL),
    }
}

/// Returns the bytes of a request that transfers none and needs the READ right.
fn readable<'a>(
    files: &'a FileTable,
    queue: QueueId,
    request: &Request,
) -> Result<(Extent, &'a FileEntry), Errno> {
    let (file, entry) = permitted_file(files, queue, request.file(), Rights::READ)?;
    let len = request.count();
    let extent = Extent {
        file,
        slot: entry.slot,
        offset: within(request.file_offset(), len, entry.base, entry.len)?,
        len,
    };
    Ok((extent, entry))
}

#[inline(always)]
fn transfer(
    files: &FileTable,
    buffers: &BufferTable,
    queue: QueueId,
    request: &Request,
) -> Result<Transfer, Errno> {
    // What is read from the file is written to the buffer, and the other way round.
    let (mut of_file, of_buffer) = match request.op() {
        Op::Read => (Rights::READ, Rights::WRITE),
        _ => (Rights::WRITE, Rights::READ),
    };
    if request.flags().contains(Flags::DURABLE) {
        of_file |= Rights::SYNC;
    }
    let (file, from) = permitted_file(files, queue, request.file(), of_file)?;
    let (buffer, to) = buffers
        .entries
        .get(request.buffer().raw())
        .filter(|(_, entry)| finds(queue, entry.queue))
        .ok_or(Errno::EBADF)?;
    if !to.rights.contains(of_buffer) {
        return Err(Errno::EACCES);
    }
    let transfer = Transfer {
        file,
        file_slot: from.slot,
        buffer,
        slot: to.slot,
        file_offset: within(request.file_offset(), request.count(), from.base, from.len)?,
        buffer_offset: within(request.buffer_offset(), request.count(), to.base, to.len)?,
        len: request.count(),
        durable: from.flushes.always | request.flags().contains(Flags::DURABLE),
        unbounded: !from.traits.has_offsets,
        mapped: from.watched.is_some(),
    };
    check_alignment(from, to, &transfer)?;
    Ok(transfer)
}

#[inline(always)]
fn permitted_file(
    files: &FileTable,
    queue: QueueId,
    handle: FileHandle,
    rights: Rights,
) -> Result<(u32, &FileEntry), Errno> {
    let found = files.entries.get(handle.raw());
    let found = found.filter(|(_, entry)| finds(queue, entry.queue));
    let (index, entry) = found.ok_or(Errno::EBADF)?;
    if entry.rights.contains(rights) {
        Ok((index, entry))
    } else {
        Err(Errno::EACCES)
    }
}

/// Returns whether requests of a queue find an entry that is bound to `only`, or to none.
#[inline(always)]
fn finds(queue: QueueId, only: Option<QueueId>) -> bool {
    only.is_none_or(|only| only == queue)
}

/// Returns the absolute offset of `count` bytes at `offset` of a range, if they lie inside it.
#[inline(always)]
fn within(offset: u64, count: u32, base: u64, len: u64) -> Result<u64, Errno> {
    let end = offset.checked_add(u64::from(count)).ok_or(Errno::ERANGE)?;
    if end > len {
        return Err(Errno::ERANGE);
    }
    // Cannot overflow: the table holds no range past the end of the largest file or buffer.
    Ok(base + offset)
}

#[inline(always)]
fn check_alignment(file: &FileEntry, buffer: &BufferEntry, t: &Transfer) -> Result<(), Errno> {
    let Some(align) = &file.align else {
        return Ok(());
    };
    let address = buffer.address as u64 + t.buffer_offset;
    let aligned = t.file_offset.is_multiple_of(u64::from(align.offset))
        && t.len.is_multiple_of(align.offset)
        && address.is_multiple_of(u64::from(align.memory));
    if aligned { Ok(()) } else { Err(Errno::EINVAL) }
}
