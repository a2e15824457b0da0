//! Numbers of C as ranges, rights and options.

use std::ops::Range;

use vyre_io::{BufferOptions, FileOptions, QueueId, Rights};

use crate::failure::Failure;

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
fn rights(bits: u32) -> Result<Rights, Failure> {
    let known = u8::try_from(bits).ok().and_then(Rights::from_bits);
    known.ok_or_else(|| Failure::argument(format!("{bits:#x} has bits that are no rights")))
}

/// Returns the rights and options of a file.
pub(crate) fn file_options(flags: u32, only_for: u64) -> Result<FileOptions, Failure> {
    let rights = rights(flags & !PAGE_CACHE_READS)?;
    let cached = flags & PAGE_CACHE_READS != 0;
    let options = FileOptions::new(rights).page_cache_reads(cached);
    Ok(match only_for {
        ANY_QUEUE => options,
        queue => options.only_for(QueueId::from_raw(queue)),
    })
}

/// Returns the rights and options of a buffer.
pub(crate) fn buffer_options(bits: u32, only_for: u64) -> Result<BufferOptions, Failure> {
    let options = BufferOptions::new(rights(bits)?);
    Ok(match only_for {
        ANY_QUEUE => options,
        queue => options.only_for(QueueId::from_raw(queue)),
    })
}

/// A range of a file, whose end may be [`TO_THE_END`], as the tables take it.
pub(crate) const fn range(start: u64, end: u64) -> Range<u64> {
    start..end
}

/// Returns a range of a buffer with `len` bytes.
pub(crate) const fn within(start: u64, end: u64, len: usize) -> Range<u64> {
    if end == TO_THE_END {
        start..len as u64
    } else {
        start..end
    }
}
