//! A running group of loops.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::task::Waker;
use std::time::Duration;

use vyre_io::{BufferHandle, FileHandle, LoopGroup, QueueId};

use crate::active_guard::ActiveGuard;
use crate::buffer::Buffer;
use crate::code::Code;
use crate::counters::{LoopCounters, QueueCounters, no_loop, no_queue};
use crate::error::{Error, Place, answer, free, given, guard};
use crate::failure::Failure;
use crate::memory::{store_last, store_sized, store_text};
use crate::queue::{Queue, add_queue, limits};
use crate::ranges::{ANY_QUEUE, Part, insert_buffer, insert_file};
use crate::report::Report;
use crate::running::Running;

/// Several threads that serve queues. A handle means the same file or buffer in all of them.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_group_free. A stop
/// or an abort fails with BUSY while another thread inserts, adds, revokes or removes, and with ENDED once the group was stopped.
///
/// Forks: as for a loop.
pub struct Group {
    running: Running<LoopGroup>,
    wakers: Vec<Option<Waker>>,
}

impl Group {
    pub(crate) fn new(group: LoopGroup) -> Self {
        let wakers = (0..group.loops()).map(|index| group.waker(index));
        Self {
            wakers: wakers.collect(),
            running: Running::new(group),
        }
    }

    /// Asks one of the loops.
    fn one<A>(
        &self,
        index: u32,
        ask: impl FnOnce(&LoopGroup, usize) -> Option<A>,
    ) -> Result<A, Failure> {
        let answer = self.running.quick(|group| ask(group, index as usize))?;
        answer.ok_or_else(|| no_loop(index))
    }
}

/// Shuts all loops down at once and in order: claimed requests are finished, and unclaimed ones get ECANCELED. What has not ended after
/// the drain timeout is cancelled, for which the kernel has the abort timeout. It returns after at most these times and 5
/// seconds, whatever the kernel does. After success, the kernel can access no buffer any more.
///
/// The object must still be freed.
///
/// @return BUSY or ENDED if there was nothing to stop yet or any more; RING_FAILED, LOOP_PANICKED, STUCK, UNRESPONSIVE or
///         FORKED if a loop did not end in order: the reason of the first one. The
///         message names all. `held` of the error says how many operations the kernel still has.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_stop(
    group: Option<&Group>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        Ok(given(group, "group")?.running.take()?.stop()?)
    })
}

/// Shuts all loops down: every request is cancelled and gets ECANCELED. The rest is as for vyre_io_group_stop.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_abort(
    group: Option<&Group>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        Ok(given(group, "group")?.running.take()?.abort()?)
    })
}

/// Frees the object. A group that was not stopped is stopped first, which may take as long as vyre_io_group_stop does. Does
/// nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_free(group: Option<Box<Group>>) {
    free(group);
}

/// Returns the number of loops, including those that have ended, or 0 once the group was stopped.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_loops(group: Option<&Group>) -> u32 {
    answer(0, || {
        group?.running.quick(|group| group.loops() as u32).ok()
    })
}

/// Finds out which loop serves a queue.
///
/// @param queue      Its number: in the order in which the builder got the queues, or of an addition.
/// @param[out] index The number of the loop.
/// @return UNKNOWN_QUEUE if there is no such queue; ENDED after a stop.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_loop_of(
    group: Option<&Group>,
    queue: u64,
    index: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = &given(group, "group")?.running;
        let index = given(index, "index")?.write(0);
        let found = group.quick(|group| group.loop_of(QueueId::from_raw(queue)))?;
        *index = found.ok_or_else(|| no_queue(queue))? as u32;
        Ok(())
    })
}

/// Returns whether a loop of the group serves. A loop that ends by itself does not affect the others.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_is_running(group: Option<&Group>, index: u32) -> bool {
    answer(false, || group?.one(index, LoopGroup::is_running).ok())
}

/// Returns the kernel's ID of a loop's thread, or 0 if there is none or the group was stopped.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_thread_id(group: Option<&Group>, index: u32) -> u32 {
    answer(0, || group?.one(index, LoopGroup::thread_id).ok())
}

/// Adds the bytes `start` to `end` of a file while the loops run. The descriptor stays the caller's. It has no time limit:
/// it waits for the threads.
///
/// @param end   One past the last byte, or VYRE_IO_TO_THE_END.
/// @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
/// @param[out] handle What devices name the range by.
/// @return As for vyre_io_file_table_insert_range, or NO_ROOM, REGISTER or ENDED.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_insert_file(
    group: Option<&Group>,
    fd: c_int,
    start: u64,
    end: u64,
    flags: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_group_insert_file_for(group, ANY_QUEUE, fd, start, end, flags, handle, error)
}

/// Adds a range of a file as vyre_io_group_insert_file does, for one queue: requests of other queues that name the handle get
/// EBADF.
///
/// @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_insert_file_for(
    group: Option<&Group>,
    only_for: u64,
    fd: c_int,
    start: u64,
    end: u64,
    flags: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        let part = Part::new(start..end, flags, only_for);
        insert_file(fd, &part, handle, |file, range, options| {
            group.insert_file(file, range, options)
        })
    })
}

/// Adds the bytes `start` to `end` of a buffer while the loops run. The calling thread first provides all pages of the
/// buffer, which takes seconds for gigabytes of untouched memory.
///
/// @param end    One past the last byte, or VYRE_IO_TO_THE_END.
/// @param rights VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
/// @param[out] handle What devices name the range by.
/// @return As for vyre_io_buffer_table_insert_range, or NO_ROOM, REGISTER or ENDED.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_insert_buffer(
    group: Option<&Group>,
    buffer: Option<&Buffer>,
    start: u64,
    end: u64,
    rights: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_group_insert_buffer_for(group, ANY_QUEUE, buffer, start, end, rights, handle, error)
}

/// Adds a range of a buffer as vyre_io_group_insert_buffer does, for one queue.
///
/// @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_insert_buffer_for(
    group: Option<&Group>,
    only_for: u64,
    buffer: Option<&Buffer>,
    start: u64,
    end: u64,
    rights: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        let part = Part::new(start..end, rights, only_for);
        insert_buffer(buffer, &part, handle, |buffer, range, options| {
            group.insert_buffer(buffer, range, options)
        })
    })
}

/// Revokes a file handle: requests claimed from now on get EBADF. Returns when nothing is in flight on it. Requests on it
/// have the drain timeout to end; then they are cancelled and get ECANCELED.
///
/// @return UNKNOWN_HANDLE or ENDED if there is nothing to revoke; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
///         returned everything. The handle is revoked even so.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_revoke_file(
    group: Option<&Group>,
    handle: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        Ok(group.revoke_file(FileHandle::from_raw(handle))?)
    })
}

/// Revokes a file handle as vyre_io_group_revoke_file does, with a time limit in place of the drain timeout. A limit of 0 cancels at once.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_revoke_file_within(
    group: Option<&Group>,
    handle: u32,
    timeout_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        let timeout = Duration::from_nanos(timeout_ns);
        Ok(group.revoke_file_within(FileHandle::from_raw(handle), timeout)?)
    })
}

/// Revokes a buffer handle, as vyre_io_group_revoke_file does a file's. After success, the bytes are the caller's again.
/// After IN_FLIGHT, UNRESPONSIVE or HELD, the kernel may still write to them.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_revoke_buffer(
    group: Option<&Group>,
    handle: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        Ok(group.revoke_buffer(BufferHandle::from_raw(handle))?)
    })
}

/// Revokes a buffer handle as vyre_io_group_revoke_buffer does, with a time limit in place of the drain timeout.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_revoke_buffer_within(
    group: Option<&Group>,
    handle: u32,
    timeout_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        let timeout = Duration::from_nanos(timeout_ns);
        Ok(group.revoke_buffer_within(BufferHandle::from_raw(handle), timeout)?)
    })
}

/// Adds a queue while the loops run: to the one that has the fewest, and takes its host end. When it returns, devices of the queue see
/// RUNNING. Other queues are served meanwhile.
///
/// @param[out] number The number of the queue. No other queue of the group has it, ever.
/// @return QUEUE_USED, QUEUES_FULL, QUEUE_OVERLAPS or ENDED after an error. Devices of the queue then see FAILED.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_add_queue(
    group: Option<&Group>,
    queue: Option<&Queue>,
    number: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        add_queue(queue, number, |queue| group.add_queue(queue))
    })
}

/// Adds a queue to a certain loop: see vyre_io_group_add_queue.
///
/// @param index The number of the loop.
/// @return As for vyre_io_group_add_queue, or NO_SUCH_LOOP.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_add_queue_on(
    group: Option<&Group>,
    index: u32,
    queue: Option<&Queue>,
    number: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        add_queue(queue, number, |queue| {
            group.add_queue_on(index as usize, queue)
        })
    })
}

/// Removes a queue while its loop runs, as a stop ends a loop: claimed requests have the drain timeout to end, and
/// unclaimed ones get ECANCELED. Then devices see STOPPED, and nothing accesses the queue's memory but its devices.
///
/// @param number The number of the queue, in the order in which the builder got the queues, or of an addition.
/// @return UNKNOWN_QUEUE or ENDED if there is nothing to remove; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
///         returned everything: it may still write to the buffers of these requests.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_remove_queue(
    group: Option<&Group>,
    number: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        group.remove_queue(QueueId::from_raw(number))?;
        Ok(())
    })
}

/// Removes a queue as vyre_io_group_remove_queue does, with a time limit of its own in place of the drain timeout, and copies
/// its last counters. A limit of 0 cancels at once.
///
/// @param[out] counters A struct of `size` bytes, or NULL.
/// @param size          sizeof(struct vyre_io_queue_counters), as the program knows it.
///
/// # Safety
/// `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_remove_queue_within(
    group: Option<&Group>,
    number: u64,
    timeout_ns: u64,
    counters: *mut QueueCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        let timeout = Duration::from_nanos(timeout_ns);
        let remove = || {
            let removed = group.remove_queue_within(QueueId::from_raw(number), timeout)?;
            Ok(removed.counters.into())
        };
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_last(remove, counters, size) }
    })
}

/// Changes the limits of a queue while its loop runs.
///
/// @param number The number of the queue. The other parameters are those of vyre_io_queue_set_limits.
/// @return UNKNOWN_QUEUE or ENDED if there is no such queue.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_set_queue_limits(
    group: Option<&Group>,
    number: u64,
    operations_per_second: u64,
    bytes_per_second: u64,
    operations_in_flight: u32,
    bytes_in_flight: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = given(group, "group")?.running.share()?;
        let rates = (operations_per_second, bytes_per_second);
        let limits = limits(rates, operations_in_flight, bytes_in_flight);
        Ok(group.set_queue_limits(QueueId::from_raw(number), limits)?)
    })
}

/// Keeps a loop that sleeps until a device rings from sleeping for long, until the guard is freed. Take one before a
/// kernel is launched that makes requests, since a GPU cannot ring.
///
/// @param[out] active The guard, or NULL after an error. Free it with vyre_io_active_guard_free.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_active(
    group: Option<&Group>,
    active: Option<&mut MaybeUninit<Option<Box<ActiveGuard>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(active, "active")?;
        let active = given(group, "group")?.running.quick(LoopGroup::active)?;
        place.put(ActiveGuard::new(active));
        Ok(())
    })
}

/// Ends a sleep of one loop: see vyre_io_loop_wake.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_wake(group: Option<&Group>, index: u32) {
    answer((), || {
        group?.wakers.get(index as usize)?.as_ref()?.wake_by_ref();
        Some(())
    });
}

/// Returns the eventfd of one loop, or -1: see vyre_io_loop_wake_fd.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_group_wake_fd(group: Option<&Group>, index: u32) -> c_int {
    answer(-1, || {
        let fd = |group: &LoopGroup, index| Some(group.wake_fd(index)?.as_raw_fd());
        group?.one(index, fd).ok()
    })
}

/// Copies the sum of all loops' counters, which lag the loops by at most one pass.
///
/// @param[out] counters A struct of `size` bytes.
/// @param size          sizeof(struct vyre_io_loop_counters), as the program knows it.
/// @return ENDED after a stop.
///
/// # Safety
/// `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_get_counters(
    group: Option<&Group>,
    counters: *mut LoopCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let found = given(group, "group")?.running.quick(LoopGroup::counters)?;
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_sized(&LoopCounters::from(found), counters, size) }
    })
}

/// Copies the counters of one loop.
///
/// @param index The number of the loop.
/// @return NO_SUCH_LOOP; ENDED after a stop. The rest is as for vyre_io_group_get_counters.
///
/// # Safety
/// `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_get_loop_counters(
    group: Option<&Group>,
    index: u32,
    counters: *mut LoopCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let found = given(group, "group")?.one(index, LoopGroup::loop_counters)?;
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_sized(&LoopCounters::from(found), counters, size) }
    })
}

/// Copies the counters of a queue.
///
/// @param queue         Its number: in the order in which the builder got the queues, or of an addition.
/// @param[out] counters A struct of `size` bytes.
/// @param size          sizeof(struct vyre_io_queue_counters), as the program knows it.
/// @return UNKNOWN_QUEUE if there is no such queue; ENDED after a stop.
///
/// # Safety
/// `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_get_queue_counters(
    group: Option<&Group>,
    queue: u64,
    counters: *mut QueueCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let group = &given(group, "group")?.running;
        let found = group.quick(|group| group.queue_counters(QueueId::from_raw(queue)))?;
        let found = found.ok_or_else(|| no_queue(queue))?;
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_sized(&QueueCounters::from(found), counters, size) }
    })
}

/// Copies the report on the set-up of one loop's transport.
///
/// @param index       The number of the loop.
/// @param[out] report A struct of `size` bytes.
/// @param size        sizeof(struct vyre_io_report), as the program knows it.
/// @return NO_SUCH_LOOP; ENDED after a stop.
///
/// # Safety
/// `report` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_get_report(
    group: Option<&Group>,
    index: u32,
    report: *mut Report,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let of = |group: &LoopGroup, index| group.report(index).map(Report::of);
        let found = given(group, "group")?.one(index, of)?;
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_sized(&found, report, size) }
    })
}

/// Writes the report on the set-up of one loop as a text of a few lines.
///
/// @param index    The number of the loop.
/// @param text     Room for `capacity` bytes, or NULL. A text that is too long is cut; a NUL always ends it.
/// @return The number of bytes of the whole text without its NUL, or 0 if there is no such loop, or after a stop.
///
/// # Safety
/// `text` is NULL or has room for `capacity` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_group_report_text(
    group: Option<&Group>,
    index: u32,
    text: *mut c_char,
    capacity: usize,
) -> usize {
    answer(0, || {
        let of = |group: &LoopGroup, index| group.report(index).map(ToString::to_string);
        let found = group?.one(index, of).ok()?;
        // SAFETY: the caller's promises.
        Some(unsafe { store_text(&found, text, capacity) })
    })
}
