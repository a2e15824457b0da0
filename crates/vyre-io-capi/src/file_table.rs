//! The files that devices may name.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::c_int;
use std::mem::MaybeUninit;

use vyre_io::{FileHandle, mapped};

use crate::code::Code;
use crate::error::{Error, Place, free, given, guard};
use crate::failure::Failure;
use crate::ranges::{ANY_QUEUE, Part, TO_THE_END, insert_file};

/// The files that devices may name, each with a byte range and rights. A device names a handle, never a descriptor.
///
/// A loop takes a copy of the table, so the table can be changed, used again or freed afterwards. Descriptors stay the
/// caller's: the table keeps duplicates.
///
/// Threads: one at a time.
pub struct FileTable(pub(crate) vyre_io::FileTable);

/// Makes an empty table.
///
/// @param[out] table The table, or NULL after an error. Free it with vyre_io_file_table_free.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_new(
    table: Option<&mut MaybeUninit<Option<Box<FileTable>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(table, "table")?;
        place.put(FileTable(vyre_io::FileTable::new()));
        Ok(())
    })
}

/// Adds a whole file, even if it grows.
///
/// @param fd    A descriptor that is open for what the rights allow.
/// @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
/// @param[out] handle What devices name the file by.
/// @return DESCRIPTOR, NOT_READABLE, NOT_WRITABLE, APPENDING, PATH_ONLY, DIRECTORY, EXAMINE, PAGE_CACHE, TABLE_FULL or
///         BAD_ARGUMENT after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_insert(
    table: Option<&mut FileTable>,
    fd: c_int,
    flags: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_file_table_insert_range(table, fd, 0, TO_THE_END, flags, handle, error)
}

/// Adds the bytes `start` to `end` of a file. Offsets in requests count from `start`.
///
/// @param end   One past the last byte, or VYRE_IO_TO_THE_END.
/// @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
/// @param[out] handle What devices name the range by.
/// @return As for vyre_io_file_table_insert, or BAD_RANGE.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_insert_range(
    table: Option<&mut FileTable>,
    fd: c_int,
    start: u64,
    end: u64,
    flags: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_file_table_insert_for(table, ANY_QUEUE, fd, start, end, flags, handle, error)
}

/// Adds a range of a file as vyre_io_file_table_insert_range does, for one queue: requests of other queues that name the
/// handle get EBADF, as if it did not exist.
///
/// @param only_for The number of the queue: builders number their queues from 0. Or VYRE_IO_ANY_QUEUE.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_insert_for(
    table: Option<&mut FileTable>,
    only_for: u64,
    fd: c_int,
    start: u64,
    end: u64,
    flags: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let table = given(table, "table")?;
        let part = Part::new(start..end, flags, only_for);
        insert_file(fd, &part, handle, |file, range, options| {
            table.0.insert_range(file, range, options)
        })
    })
}

/// Adds a range of a file under a handle of the caller's choice, for devices with handles that are compiled in. The low
/// 20 bits are an index; keep it small, since the table has a place for each index up to the highest.
///
/// @return As for vyre_io_file_table_insert_range, or HANDLE_TAKEN.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_insert_at(
    table: Option<&mut FileTable>,
    handle: u32,
    fd: c_int,
    start: u64,
    end: u64,
    flags: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let table = given(table, "table")?;
        let part = Part::new(start..end, flags, ANY_QUEUE);
        let (file, range, options) = part.of_file(fd)?;
        let handle = FileHandle::from_raw(handle);
        Ok(table.0.insert_at(handle, file, range, options)?)
    })
}

/// Reads a part of a file into memory and maps it, so that its page-cache reads need no system call from the start.
/// Blocks until that is done. The file must have been added with VYRE_IO_PAGE_CACHE_READS.
///
/// A file of another user has page-cache reads only of the pages that this process has mapped so.
///
/// @param start Offset in the file, not in the range of the handle.
/// @param end   As for vyre_io_file_table_insert_range.
/// @return UNKNOWN_HANDLE if the handle has no page-cache reads; BAD_RANGE if the part is outside the handle's range or
///         past the end of the file; EXAMINE with the errno if the kernel refuses, as before Linux 5.14.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_populate(
    table: Option<&FileTable>,
    handle: u32,
    start: u64,
    end: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let table = given(table, "table")?;
        let mapping = residency(table, handle)?.mapping();
        let whole = mapping.range();
        let end = match end {
            TO_THE_END => mapping.file_size().map_err(refused)?.min(whole.end),
            end => end,
        };
        if start > end || start < whole.start || end > whole.end {
            let (first, last) = (whole.start, whole.end);
            let message = format!("range {start}..{end} is not within {first}..{last}");
            return Err(Failure::new(Code::BadRange, message));
        }
        mapping.populate(start..end).map_err(|errno| match errno {
            mapped::Errno::FAULT => {
                let message = format!("the file ends before {end}: what comes before is mapped");
                Failure::new(Code::BadRange, message)
            }
            errno => refused(errno),
        })
    })
}

fn refused(errno: mapped::Errno) -> Failure {
    let message = format!("the kernel did not read the file into memory: {errno}");
    Failure::new(Code::Examine, message).errno(errno.raw_os_error())
}

fn residency(
    table: &FileTable,
    handle: u32,
) -> Result<&std::sync::Arc<mapped::Residency>, Failure> {
    let found = table.0.residency(FileHandle::from_raw(handle));
    let message = || format!("handle {handle:#x} has no page-cache reads: insert it with them");
    found.ok_or_else(|| Failure::new(Code::UnknownHandle, message()))
}

/// Finds out how many pages of a file are in memory, as far as the last scan found. For files that were added with
/// VYRE_IO_PAGE_CACHE_READS.
///
/// @param[out] pages The number of pages of the handle's range.
/// @return UNKNOWN_HANDLE if the handle has no page-cache reads.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_resident_pages(
    table: Option<&FileTable>,
    handle: u32,
    pages: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let table = given(table, "table")?;
        let pages = given(pages, "pages")?.write(0);
        *pages = residency(table, handle)?.count() as u64;
        Ok(())
    })
}

/// Frees the table. Loops that took a copy keep their files. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_file_table_free(table: Option<Box<FileTable>>) {
    free(table);
}
