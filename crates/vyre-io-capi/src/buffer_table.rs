//! The buffers that devices may name.
#![expect(unsafe_code, reason = "exports functions")]

use std::mem::MaybeUninit;

use vyre_io::BufferHandle;

use crate::buffer::Buffer;
use crate::code::Code;
use crate::error::{Error, Place, free, given, guard};
use crate::failure::Failure;
use crate::memory::store_numbers;
use crate::ranges::{self, ANY_QUEUE, Part, RIGHT_READ, RIGHT_WRITE, TO_THE_END, insert_buffer};

/// The buffers that devices may name, each with a byte range and rights.
///
/// A loop takes a copy of the table, so the table can be changed, used again or freed afterwards. The memory itself
/// exists once.
///
/// Threads: one at a time.
pub struct BufferTable(pub(crate) vyre_io::BufferTable);

/// Makes an empty table.
///
/// @param[out] table The table, or NULL after an error. Free it with vyre_io_buffer_table_free.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_table_new(
    table: Option<&mut MaybeUninit<Option<Box<BufferTable>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(table, "table")?;
        place.put(BufferTable(vyre_io::BufferTable::new()));
        Ok(())
    })
}

/// Adds a whole buffer, for both directions.
///
/// @param[out] handle What devices name the buffer by.
/// @return TABLE_FULL after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_table_insert(
    table: Option<&mut BufferTable>,
    buffer: Option<&Buffer>,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_buffer_table_insert_range(
        table,
        buffer,
        0,
        TO_THE_END,
        RIGHT_READ | RIGHT_WRITE,
        handle,
        error,
    )
}

/// Adds the bytes `start` to `end` of a buffer. Offsets in requests count from `start`.
///
/// @param end    One past the last byte, or VYRE_IO_TO_THE_END.
/// @param rights VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
/// @param[out] handle What devices name the range by.
/// @return BAD_RANGE, TABLE_FULL or BAD_ARGUMENT after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_table_insert_range(
    table: Option<&mut BufferTable>,
    buffer: Option<&Buffer>,
    start: u64,
    end: u64,
    rights: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_buffer_table_insert_for(table, ANY_QUEUE, buffer, start, end, rights, handle, error)
}

/// Adds a range of a buffer as vyre_io_buffer_table_insert_range does, for one queue.
///
/// @param only_for The number of the queue: builders number their queues from 0. Or VYRE_IO_ANY_QUEUE.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_table_insert_for(
    table: Option<&mut BufferTable>,
    only_for: u64,
    buffer: Option<&Buffer>,
    start: u64,
    end: u64,
    rights: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let table = given(table, "table")?;
        let part = Part::new(start..end, rights, only_for);
        insert_buffer(buffer, &part, handle, |buffer, range, options| {
            table.0.insert_range(buffer, range, options)
        })
    })
}

/// Adds a range of a buffer under a handle of the caller's choice. The low 20 bits are an index; keep it small.
///
/// @return As for vyre_io_buffer_table_insert_range, or HANDLE_TAKEN.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_table_insert_at(
    table: Option<&mut BufferTable>,
    handle: u32,
    buffer: Option<&Buffer>,
    start: u64,
    end: u64,
    rights: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (table, buffer) = (given(table, "table")?, given(buffer, "buffer")?);
        let part = Part::new(start..end, rights, ANY_QUEUE);
        let (buffer, range, options) = part.of_buffer(buffer)?;
        let handle = BufferHandle::from_raw(handle);
        Ok(table.0.insert_at(handle, buffer, range, options)?)
    })
}

/// Adds a buffer as pages of equal size, each under its own handle, in order. This is for devices that cannot give a
/// buffer offset, as in the bare layout. A partial page at the end is left out.
///
/// @param page     Bytes of a page.
/// @param rights   VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
/// @param handles  Room for `capacity` handles.
/// @param capacity At least the length of the buffer divided by `page`.
/// @return BAD_PAGE, TABLE_FULL or BAD_ARGUMENT after an error. Nothing was added then.
///
/// # Safety
/// `handles` is NULL or has room for `capacity` numbers, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_buffer_table_insert_pages(
    table: Option<&mut BufferTable>,
    buffer: Option<&Buffer>,
    page: u64,
    rights: u32,
    handles: *mut u32,
    capacity: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (table, buffer) = (given(table, "table")?, given(buffer, "buffer")?);
        given((!handles.is_null()).then_some(()), "handles")?;
        let rights = ranges::rights(rights)?;
        let pages = (buffer.0.len() as u64).checked_div(page).unwrap_or(0);
        if pages > capacity as u64 {
            let message = format!("{pages} pages, and room for {capacity} handles: give more");
            return Err(Failure::argument(message));
        }
        let inserted = table.0.insert_pages(buffer.0.clone(), page, rights)?;
        let inserted: Vec<u32> = inserted.into_iter().map(BufferHandle::raw).collect();
        // SAFETY: the caller's promises.
        unsafe { store_numbers(&inserted, handles, capacity) };
        Ok(())
    })
}

/// Frees the table. Loops that took a copy keep their buffers. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_buffer_table_free(table: Option<Box<BufferTable>>) {
    free(table);
}
