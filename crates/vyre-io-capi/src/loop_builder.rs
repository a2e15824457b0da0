//! The builder of a loop.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::c_char;
use std::mem::MaybeUninit;

use vyre_io::cuda::windows::{WindowTransport, Windows};
use vyre_io::{IoLoop, IoLoopBuilder};

use crate::buffer_table::BufferTable;
use crate::building::Building;
use crate::code::Code;
use crate::error::{Error, Place, free, given, guard};
use crate::file_table::FileTable;
use crate::io_loop::Loop;
use crate::loop_options::LoopOptions;
use crate::memory;
use crate::queue::Queue;

/// Builds a loop: give it tables and queues, then call vyre_io_loop_builder_spawn.
///
/// Threads: one at a time.
pub struct LoopBuilder(Building<IoLoopBuilder>, Vec<Windows>);

/// Makes a builder without files, buffers and queues.
///
/// @param[out] builder The builder, or NULL after an error. Free it with vyre_io_loop_builder_free.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_new(
    builder: Option<&mut MaybeUninit<Option<Box<LoopBuilder>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(builder, "builder")?;
        place.put(LoopBuilder(Building::new(IoLoop::builder), Vec::new()));
        Ok(())
    })
}

/// Sets the files that devices may name: a copy of the table.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_files(
    builder: Option<&mut LoopBuilder>,
    files: Option<&FileTable>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, files) = (given(builder, "builder")?, given(files, "files")?);
        builder.0.set(|builder| builder.files(files.0.clone()))
    })
}

/// Sets the buffers that devices may name: a copy of the table.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_buffers(
    builder: Option<&mut LoopBuilder>,
    buffers: Option<&BufferTable>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, buffers) = (given(builder, "builder")?, given(buffers, "buffers")?);
        builder.0.set(|builder| builder.buffers(buffers.0.clone()))
    })
}

/// Adds a queue to serve, and takes its host end. A loop may start without one. Queues are numbered from 0, in the order of these calls.
///
/// @return QUEUE_USED if a builder has its host end already.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_queue(
    builder: Option<&mut LoopBuilder>,
    queue: Option<&Queue>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, host) = (given(builder, "builder")?, given(queue, "queue")?.take()?);
        builder.0.set(|builder| builder.queue(host))
    })
}

/// Adds windows, in which kernels of the queues map parts of a file. The loop serves MAP for them, and keeps them.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_windows(
    builder: Option<&mut LoopBuilder>,
    windows: Option<&crate::windows::Windows>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, windows) = (given(builder, "builder")?, given(windows, "windows")?);
        builder.1.push(windows.0.clone());
        Ok(())
    })
}

/// Sets the options: a copy.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_options(
    builder: Option<&mut LoopBuilder>,
    options: Option<&LoopOptions>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, options) = (given(builder, "builder")?, given(options, "options")?);
        builder.0.set(|builder| builder.options(options.0))
    })
}

/// Binds the thread of the loop to a core.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_pin_to(
    builder: Option<&mut LoopBuilder>,
    core: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let builder = given(builder, "builder")?;
        builder.0.set(|builder| builder.pin_to(core as usize))
    })
}

/// Sets the name of the loop's thread, of which Linux shows the first 15 bytes. The default is "vyre-io".
///
/// @param name UTF-8, ended by NUL.
///
/// # Safety
/// `name` is NULL or points to a text that ends with NUL, which nobody writes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_loop_builder_name(
    builder: Option<&mut LoopBuilder>,
    name: *const c_char,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let builder = given(builder, "builder")?;
        // SAFETY: the caller's promises.
        let name = unsafe { memory::text(name, "name") }?;
        builder.0.set(|builder| builder.name(name))
    })
}

/// Starts the loop. When it returns, the ring is set up and devices see RUNNING. The thread of the loop blocks signals.
///
/// Whatever the result, the builder is empty afterwards, and the queues are used up: devices of a loop that did not start
/// see FAILED. The builder must still be freed.
///
/// @param[out] io The loop, or NULL after an error. Free it with vyre_io_loop_free.
/// @return QUEUE_OVERLAPS, THREAD, SIGNALS, PIN, DIED, REGISTER, ENTRIES, TABLE_SIZE, FORBIDDEN, UNAVAILABLE, NO_MEMORY,
///         NO_DESCRIPTORS, TOO_OLD, TRIAL, MISSING_OPERATION, SETUP or NO_WORKER after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_spawn(
    builder: Option<&mut LoopBuilder>,
    io: Option<&mut MaybeUninit<Option<Box<Loop>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(io, "io")?;
        let builder = given(builder, "builder")?;
        let (built, windows) = (builder.0.take(), std::mem::take(&mut builder.1));
        place.put(Loop::new(if windows.is_empty() {
            built.spawn()?
        } else {
            built.spawn_with(move |base| WindowTransport::new(base, &windows))?
        }));
        Ok(())
    })
}

/// Frees the builder. Devices of queues that it still has see FAILED. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_builder_free(builder: Option<Box<LoopBuilder>>) {
    free(builder);
}
