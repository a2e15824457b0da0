//! The builder of a group.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::c_char;
use std::mem::MaybeUninit;

use vyre_io::cuda::windows::{WindowTransport, Windows};
use vyre_io::{LoopGroup, LoopGroupBuilder};

use crate::buffer_table::BufferTable;
use crate::building::Building;
use crate::code::Code;
use crate::error::{Error, Place, free, given, guard};
use crate::failure::Failure;
use crate::file_table::FileTable;
use crate::group::Group;
use crate::loop_options::LoopOptions;
use crate::memory;
use crate::queue::Queue;

/// Builds a group of loops, which share files and buffers: give it tables and queues, then call vyre_io_group_builder_spawn.
///
/// Threads: one at a time.
pub struct GroupBuilder(Building<LoopGroupBuilder>, Vec<Windows>);

/// Makes a builder without files, buffers and queues.
///
/// @param[out] builder The builder, or NULL after an error. Free it with vyre_io_group_builder_free.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_new(
    builder: Option<&mut MaybeUninit<Option<Box<GroupBuilder>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(builder, "builder")?;
        place.put(GroupBuilder(Building::new(LoopGroup::builder), Vec::new()));
        Ok(())
    })
}

/// Sets the files that the devices of all queues may name: a copy of the table.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_files(
    builder: Option<&mut GroupBuilder>,
    files: Option<&FileTable>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, files) = (given(builder, "builder")?, given(files, "files")?);
        builder.0.set(|builder| builder.files(files.0.clone()))
    })
}

/// Sets the buffers that the devices of all queues may name: a copy of the table.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_buffers(
    builder: Option<&mut GroupBuilder>,
    buffers: Option<&BufferTable>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, buffers) = (given(builder, "builder")?, given(buffers, "buffers")?);
        builder.0.set(|builder| builder.buffers(buffers.0.clone()))
    })
}

/// Adds a queue to serve, and takes its host end. The first goes to loop 0, the next to loop 1, and so on, in turn.
/// Queues are numbered from 0, in the order in which the builder got them.
///
/// @return QUEUE_USED if a builder has its host end already.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_queue(
    builder: Option<&mut GroupBuilder>,
    queue: Option<&Queue>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, host) = (given(builder, "builder")?, given(queue, "queue")?.take()?);
        builder.0.set(|builder| builder.queue(host))
    })
}

/// Adds a queue for a certain loop, and takes its host end. It does not affect the turns of vyre_io_group_builder_queue.
///
/// @param index The number of the loop. One that the group does not have is an error of the spawn: NO_SUCH_LOOP.
/// @return QUEUE_USED if a builder has its host end already.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_queue_on(
    builder: Option<&mut GroupBuilder>,
    index: u32,
    queue: Option<&Queue>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, host) = (given(builder, "builder")?, given(queue, "queue")?.take()?);
        builder
            .0
            .set(|builder| builder.queue_on(index as usize, host))
    })
}

/// Adds windows, in which kernels of the queues map parts of a file. The loops serve MAP for them, and keep them.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_windows(
    builder: Option<&mut GroupBuilder>,
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
pub extern "C" fn vyre_io_group_builder_options(
    builder: Option<&mut GroupBuilder>,
    options: Option<&LoopOptions>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let (builder, options) = (given(builder, "builder")?, given(options, "options")?);
        builder.0.set(|builder| builder.options(options.0))
    })
}

/// Sets the number of loops. The default is one. The last call of this and of vyre_io_group_builder_pin_to takes effect.
///
/// @return BAD_ARGUMENT for more than 65536. None is an error of the spawn: NO_LOOP.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_loops(
    builder: Option<&mut GroupBuilder>,
    loops: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let builder = given(builder, "builder")?;
        if loops > MOST_LOOPS {
            return Err(Failure::argument(format!("{loops} loops are too many")));
        }
        builder.0.set(|builder| builder.loops(loops as usize))
    })
}

/// More loops than any machine has cores for.
const MOST_LOOPS: u32 = 1 << 16;

/// Sets one loop for each of `count` cores, with its thread bound to that core. The last call of this and of
/// vyre_io_group_builder_loops takes effect.
///
/// @param cores The numbers of the cores. May be NULL if `count` is 0.
///
/// # Safety
/// `cores` is NULL or points to `count` numbers, which nobody writes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_builder_pin_to(
    builder: Option<&mut GroupBuilder>,
    cores: *const u32,
    count: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let builder = given(builder, "builder")?;
        // SAFETY: the caller's promises.
        let cores = unsafe { memory::numbers(cores, count) }?;
        builder
            .0
            .set(|builder| builder.pin_to(cores.iter().map(|&core| core as usize)))
    })
}

/// Sets the prefix of the threads' names, which the number of the loop follows. The default is "vyre-io".
///
/// @param name UTF-8, ended by NUL.
///
/// # Safety
/// `name` is NULL or points to a text that ends with NUL, which nobody writes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_builder_name(
    builder: Option<&mut GroupBuilder>,
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

/// Starts all loops. When it returns, every ring is set up and devices see RUNNING. If one loop does not start, none runs.
///
/// Whatever the result, the builder is empty afterwards, and the queues are used up: devices of a group that did not start
/// see FAILED or STOPPED. The builder must still be freed.
///
/// @param[out] group The group, or NULL after an error. Free it with vyre_io_group_free.
/// @return NO_LOOP, NO_SUCH_LOOP, or as for vyre_io_loop_builder_spawn after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_spawn(
    builder: Option<&mut GroupBuilder>,
    group: Option<&mut MaybeUninit<Option<Box<Group>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(group, "group")?;
        let builder = given(builder, "builder")?;
        let (built, windows) = (builder.0.take(), std::mem::take(&mut builder.1));
        place.put(Group::new(if windows.is_empty() {
            built.spawn()?
        } else {
            built.spawn_with(|_| {
                let windows = windows.clone();
                move |base| WindowTransport::new(base, &windows)
            })?
        }));
        Ok(())
    })
}

/// Frees the builder. Devices of queues that it still has see FAILED. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_builder_free(builder: Option<Box<GroupBuilder>>) {
    free(builder);
}
