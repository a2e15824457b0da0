//! Numbers of C as ranges, rights and options, and insertions by them.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;

use vyre_io::{BufferHandle, BufferOptions, FileHandle, FileOptions, QueueId, Rights, TableError};

use crate::buffer::Buffer;
use crate::error::given;
use crate::failure::Failure;
use crate::memory::duplicate;

/// Right to read: of a file, by READ and PREFETCH requests; of a buffer, by WRITE requests.
pub const RIGHT_READ: u32 = 1;
/// Right to write: of a file, by WRITE requests; of a buffer, by READ requests.
pub const RIGHT_WRITE: u32 = 2;
/// Right to SYNC requests and DURABLE writes. For files alone.
pub const RIGHT_SYNC: u32 = 4;
/// Beside the rights of a file: READs of bytes that are in memory are copied out of a mapping of the file, without a
/// system call. For regular files on ext4 and tmpfs; an insertion of any other fails with PAGE_CACHE. The process gets a
/// handler of SIGBUS, which passes what is not its own on to the handler before it.
pub const PAGE_CACHE_READS: u32 = 256;
/// The end of a range that covers the rest of the file, even if the file grows, or the rest of the buffer.
pub const TO_THE_END: u64 = u64::MAX;

/// The number of no queue: a handle that is inserted for it can be named by every queue.
pub const ANY_QUEUE: u64 = u64::MAX;

const _: () = assert!(RIGHT_READ == Rights::READ.bits() as u32);
const _: () = assert!(RIGHT_WRITE == Rights::WRITE.bits() as u32);
const _: () = assert!(RIGHT_SYNC == Rights::SYNC.bits() as u32);

/// Returns rights.
pub(crate) fn rights(bits: u32) -> Result<Rights, Failure> {
    let known = u8::try_from(bits).ok().and_then(Rights::from_bits);
    known.ok_or_else(|| Failure::argument(format!("{bits:#x} has bits that are no rights")))
}

/// The part of a file or buffer that is given out, the rights, and the queue that gets them.
pub(crate) struct Part {
    /// The end may be [`TO_THE_END`].
    range: Range<u64>,
    flags: u32,
    /// The number of the queue, or [`ANY_QUEUE`].
    only_for: u64,
}

impl Part {
    pub(crate) const fn new(range: Range<u64>, flags: u32, only_for: u64) -> Self {
        Self {
            range,
            flags,
            only_for,
        }
    }

    /// Returns a duplicate of the descriptor, and the range and the options of the file, as the tables take them.
    pub(crate) fn of_file(&self, fd: c_int) -> Result<(OwnedFd, Range<u64>, FileOptions), Failure> {
        let file = duplicate(fd)?;
        let cached = self.flags & PAGE_CACHE_READS != 0;
        let options = FileOptions::new(rights(self.flags & !PAGE_CACHE_READS)?);
        let options = options.page_cache_reads(cached);
        let options = match self.only_for {
            ANY_QUEUE => options,
            queue => options.only_for(QueueId::from_raw(queue)),
        };
        Ok((file, self.range.clone(), options))
    }

    /// Returns a share of the buffer, and its range and options, as the tables take them.
    pub(crate) fn of_buffer(
        &self,
        buffer: &Buffer,
    ) -> Result<(vyre_io::Buffer, Range<u64>, BufferOptions), Failure> {
        let options = BufferOptions::new(rights(self.flags)?);
        let options = match self.only_for {
            ANY_QUEUE => options,
            queue => options.only_for(QueueId::from_raw(queue)),
        };
        let end = match self.range.end {
            TO_THE_END => buffer.0.len() as u64,
            end => end,
        };
        Ok((buffer.0.clone(), self.range.start..end, options))
    }
}

/// Inserts a part of a file into a table, a loop or a group, and stores its handle.
pub(crate) fn insert_file(
    fd: c_int,
    part: &Part,
    handle: Option<&mut MaybeUninit<u32>>,
    insert: impl FnOnce(OwnedFd, Range<u64>, FileOptions) -> Result<FileHandle, TableError>,
) -> Result<(), Failure> {
    let handle = given(handle, "handle")?.write(0);
    let (file, range, options) = part.of_file(fd)?;
    *handle = insert(file, range, options)?.raw();
    Ok(())
}

/// Inserts a part of a buffer into a table, a loop or a group, and stores its handle.
pub(crate) fn insert_buffer(
    buffer: Option<&Buffer>,
    part: &Part,
    handle: Option<&mut MaybeUninit<u32>>,
    insert: impl FnOnce(vyre_io::Buffer, Range<u64>, BufferOptions) -> Result<BufferHandle, TableError>,
) -> Result<(), Failure> {
    let buffer = given(buffer, "buffer")?;
    let handle = given(handle, "handle")?.write(0);
    let (buffer, range, options) = part.of_buffer(buffer)?;
    *handle = insert(buffer, range, options)?.raw();
    Ok(())
}
