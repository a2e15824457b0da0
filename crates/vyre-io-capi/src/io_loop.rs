//! A running loop.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::task::Waker;
use std::time::Duration;

use vyre_io::{BufferHandle, FileHandle, IoLoop, QueueId};

use crate::active_guard::ActiveGuard;
use crate::buffer::Buffer;
use crate::code::Code;
use crate::counters::{LoopCounters, QueueCounters, no_queue};
use crate::error::{Error, Place, answer, free, given, guard};
use crate::memory::{store_last, store_sized, store_text};
use crate::queue::{Queue, add_queue, limits};
use crate::ranges::{ANY_QUEUE, Part, insert_buffer, insert_file};
use crate::report::Report;
use crate::running::Running;

/// A thread that serves queues.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_loop_free. A stop
/// or an abort fails with BUSY while another thread inserts, adds, revokes or removes, and with ENDED once the loop was stopped.
///
/// Forks: in a forked child, the loop has ended, and vyre_io_loop_free only frees the object.
pub struct Loop {
    running: Running<IoLoop>,
    waker: Option<Waker>,
}

impl Loop {
    pub(crate) fn new(io: IoLoop) -> Self {
        let waker = io.waker();
        Self {
            running: Running::new(io),
            waker,
        }
    }
}

/// Shuts the loop down in order: claimed requests are finished, and unclaimed ones get ECANCELED. What has not ended after
/// the drain timeout is cancelled, for which the kernel has the abort timeout. It returns after at most these times and 5
/// seconds, whatever the kernel does. After success, the kernel can access no buffer any more.
///
/// The object must still be freed.
///
/// @return BUSY or ENDED if there was nothing to stop yet or any more; RING_FAILED, LOOP_PANICKED, STUCK, UNRESPONSIVE or
///         FORKED if the loop did not end in order. `held` of the error says how many operations the kernel still has.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_stop(
    io: Option<&Loop>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || Ok(given(io, "io")?.running.take()?.stop()?))
}

/// Shuts the loop down at once: every request is cancelled and gets ECANCELED. The rest is as for vyre_io_loop_stop.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_abort(
    io: Option<&Loop>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || Ok(given(io, "io")?.running.take()?.abort()?))
}

/// Frees the object. A loop that was not stopped is stopped first, which may take as long as vyre_io_loop_stop does. Does
/// nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_free(io: Option<Box<Loop>>) {
    free(io);
}

/// Returns whether the loop serves. It ends by itself only if the ring fails or the thread panics; vyre_io_loop_stop then
/// returns the reason.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_is_running(io: Option<&Loop>) -> bool {
    answer(false, || io?.running.quick(IoLoop::is_running).ok())
}

/// Returns the kernel's ID of the loop's thread, or 0 once the loop was stopped.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_thread_id(io: Option<&Loop>) -> u32 {
    answer(0, || io?.running.quick(IoLoop::thread_id).ok())
}

/// Adds the bytes `start` to `end` of a file while the loop runs. The descriptor stays the caller's. It has no time limit:
/// it waits for the loop's thread.
///
/// @param end   One past the last byte, or VYRE_IO_TO_THE_END.
/// @param flags VYRE_IO_RIGHT_... bits, and VYRE_IO_PAGE_CACHE_READS.
/// @param[out] handle What devices name the range by.
/// @return As for vyre_io_file_table_insert_range, or NO_ROOM, REGISTER or ENDED.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_insert_file(
    io: Option<&Loop>,
    fd: c_int,
    start: u64,
    end: u64,
    flags: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_loop_insert_file_for(io, ANY_QUEUE, fd, start, end, flags, handle, error)
}

/// Adds a range of a file as vyre_io_loop_insert_file does, for one queue: requests of other queues that name the handle get
/// EBADF.
///
/// @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_insert_file_for(
    io: Option<&Loop>,
    only_for: u64,
    fd: c_int,
    start: u64,
    end: u64,
    flags: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        let part = Part::new(start..end, flags, only_for);
        insert_file(fd, &part, handle, |file, range, options| {
            io.insert_file(file, range, options)
        })
    })
}

/// Adds the bytes `start` to `end` of a buffer while the loop runs. The calling thread first provides all pages of the
/// buffer, which takes seconds for gigabytes of untouched memory.
///
/// @param end    One past the last byte, or VYRE_IO_TO_THE_END.
/// @param rights VYRE_IO_RIGHT_READ, VYRE_IO_RIGHT_WRITE or both.
/// @param[out] handle What devices name the range by.
/// @return As for vyre_io_buffer_table_insert_range, or NO_ROOM, REGISTER or ENDED.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_insert_buffer(
    io: Option<&Loop>,
    buffer: Option<&Buffer>,
    start: u64,
    end: u64,
    rights: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    vyre_io_loop_insert_buffer_for(io, ANY_QUEUE, buffer, start, end, rights, handle, error)
}

/// Adds a range of a buffer as vyre_io_loop_insert_buffer does, for one queue.
///
/// @param only_for The number of the queue, or VYRE_IO_ANY_QUEUE.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_insert_buffer_for(
    io: Option<&Loop>,
    only_for: u64,
    buffer: Option<&Buffer>,
    start: u64,
    end: u64,
    rights: u32,
    handle: Option<&mut MaybeUninit<u32>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        let part = Part::new(start..end, rights, only_for);
        insert_buffer(buffer, &part, handle, |buffer, range, options| {
            io.insert_buffer(buffer, range, options)
        })
    })
}

/// Revokes a file handle: requests claimed from now on get EBADF. Returns when nothing is in flight on it. Requests on it
/// have the drain timeout to end; then they are cancelled and get ECANCELED.
///
/// @return UNKNOWN_HANDLE or ENDED if there is nothing to revoke; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
///         returned everything. The handle is revoked even so.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_revoke_file(
    io: Option<&Loop>,
    handle: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        Ok(io.revoke_file(FileHandle::from_raw(handle))?)
    })
}

/// Revokes a file handle as vyre_io_loop_revoke_file does, with a time limit in place of the drain timeout. A limit of 0 cancels at once.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_revoke_file_within(
    io: Option<&Loop>,
    handle: u32,
    timeout_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        let timeout = Duration::from_nanos(timeout_ns);
        Ok(io.revoke_file_within(FileHandle::from_raw(handle), timeout)?)
    })
}

/// Revokes a buffer handle, as vyre_io_loop_revoke_file does a file's. After success, the bytes are the caller's again.
/// After IN_FLIGHT, UNRESPONSIVE or HELD, the kernel may still write to them.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_revoke_buffer(
    io: Option<&Loop>,
    handle: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        Ok(io.revoke_buffer(BufferHandle::from_raw(handle))?)
    })
}

/// Revokes a buffer handle as vyre_io_loop_revoke_buffer does, with a time limit in place of the drain timeout.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_revoke_buffer_within(
    io: Option<&Loop>,
    handle: u32,
    timeout_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        let timeout = Duration::from_nanos(timeout_ns);
        Ok(io.revoke_buffer_within(BufferHandle::from_raw(handle), timeout)?)
    })
}

/// Adds a queue while the loop runs, and takes its host end. When it returns, devices of the queue see
/// RUNNING. Other queues are served meanwhile.
///
/// @param[out] number The number of the queue. No other queue of the loop has it, ever.
/// @return QUEUE_USED, QUEUES_FULL, QUEUE_OVERLAPS or ENDED after an error. Devices of the queue then see FAILED.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_add_queue(
    io: Option<&Loop>,
    queue: Option<&Queue>,
    number: Option<&mut MaybeUninit<u64>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        add_queue(queue, number, |queue| io.add_queue(queue))
    })
}

/// Removes a queue while the loop runs, as a stop ends a loop: claimed requests have the drain timeout to end, and
/// unclaimed ones get ECANCELED. Then devices see STOPPED, and nothing accesses the queue's memory but its devices.
///
/// @param number The number of the queue, in the order in which the builder got the queues, or of an addition.
/// @return UNKNOWN_QUEUE or ENDED if there is nothing to remove; IN_FLIGHT, UNRESPONSIVE or HELD if the kernel has not
///         returned everything: it may still write to the buffers of these requests.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_remove_queue(
    io: Option<&Loop>,
    number: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        io.remove_queue(QueueId::from_raw(number))?;
        Ok(())
    })
}

/// Removes a queue as vyre_io_loop_remove_queue does, with a time limit of its own in place of the drain timeout, and copies
/// its last counters. A limit of 0 cancels at once.
///
/// @param[out] counters A struct of `size` bytes, or NULL.
/// @param size          sizeof(struct vyre_io_queue_counters), as the program knows it.
///
/// # Safety
/// `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_loop_remove_queue_within(
    io: Option<&Loop>,
    number: u64,
    timeout_ns: u64,
    counters: *mut QueueCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        let timeout = Duration::from_nanos(timeout_ns);
        let remove = || {
            let removed = io.remove_queue_within(QueueId::from_raw(number), timeout)?;
            Ok(removed.counters.into())
        };
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_last(remove, counters, size) }
    })
}

/// Changes the limits of a queue while the loop runs.
///
/// @param number The number of the queue. The other parameters are those of vyre_io_queue_set_limits.
/// @return UNKNOWN_QUEUE or ENDED if there is no such queue.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_set_queue_limits(
    io: Option<&Loop>,
    number: u64,
    operations_per_second: u64,
    bytes_per_second: u64,
    operations_in_flight: u32,
    bytes_in_flight: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = given(io, "io")?.running.share()?;
        let rates = (operations_per_second, bytes_per_second);
        let limits = limits(rates, operations_in_flight, bytes_in_flight);
        Ok(io.set_queue_limits(QueueId::from_raw(number), limits)?)
    })
}

/// Keeps a loop that sleeps until a device rings from sleeping for long, until the guard is freed. Take one before a
/// kernel is launched that makes requests, since a GPU cannot ring.
///
/// @param[out] active The guard, or NULL after an error. Free it with vyre_io_active_guard_free.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_active(
    io: Option<&Loop>,
    active: Option<&mut MaybeUninit<Option<Box<ActiveGuard>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(active, "active")?;
        let active = given(io, "io")?.running.quick(IoLoop::active)?;
        place.put(ActiveGuard::new(active));
        Ok(())
    })
}

/// Ends a sleep of the loop, if its transport can be woken. Call it when vyre_ioq_ring has returned 1, for a loop with
/// VYRE_IO_MEANS_WAKER. Does nothing for NULL, and after a stop.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_wake(io: Option<&Loop>) {
    answer((), || {
        io?.waker.as_ref()?.wake_by_ref();
        Some(())
    });
}

/// Returns the eventfd by which devices in other processes wake the loop, or -1 if there is none: it needs
/// VYRE_IO_MEANS_WAKER and io_uring. They write the number 1 to it, as 8 bytes. The descriptor is the loop's and stays
/// open until the loop is stopped.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_wake_fd(io: Option<&Loop>) -> c_int {
    answer(-1, || {
        let fd = |io: &IoLoop| io.wake_fd().map(|fd| fd.as_raw_fd());
        io?.running.quick(fd).ok()?
    })
}

/// Copies the loop's counters, which lag the loop by at most one pass.
///
/// @param[out] counters A struct of `size` bytes.
/// @param size          sizeof(struct vyre_io_loop_counters), as the program knows it.
/// @return ENDED after a stop.
///
/// # Safety
/// `counters` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_loop_get_counters(
    io: Option<&Loop>,
    counters: *mut LoopCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let found = given(io, "io")?.running.quick(IoLoop::counters)?;
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
pub unsafe extern "C" fn vyre_io_loop_get_queue_counters(
    io: Option<&Loop>,
    queue: u64,
    counters: *mut QueueCounters,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let io = &given(io, "io")?.running;
        let found = io.quick(|io| io.queue_counters(QueueId::from_raw(queue)))?;
        let found = found.ok_or_else(|| no_queue(queue))?;
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_sized(&QueueCounters::from(found), counters, size) }
    })
}

/// Copies the report on the set-up of the loop's transport.
///
/// @param[out] report A struct of `size` bytes.
/// @param size        sizeof(struct vyre_io_report), as the program knows it.
/// @return ENDED after a stop.
///
/// # Safety
/// `report` is NULL or has room for `size` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_loop_get_report(
    io: Option<&Loop>,
    report: *mut Report,
    size: usize,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let found = given(io, "io")?
            .running
            .quick(|io| Report::of(io.report()))?;
        // SAFETY: the caller's promises; the struct has no padding.
        unsafe { store_sized(&found, report, size) }
    })
}

/// Writes the report on the set-up as a text of a few lines: what the transport was built with, and why not with more.
///
/// @param text     Room for `capacity` bytes, or NULL. A text that is too long is cut; a NUL always ends it.
/// @return The number of bytes of the whole text without its NUL, or 0 after a stop.
///
/// # Safety
/// `text` is NULL or has room for `capacity` bytes, which nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_loop_report_text(
    io: Option<&Loop>,
    text: *mut c_char,
    capacity: usize,
) -> usize {
    answer(0, || {
        let found = io?.running.quick(|io| io.report().to_string()).ok()?;
        // SAFETY: the caller's promises.
        Some(unsafe { store_text(&found, text, capacity) })
    })
}
