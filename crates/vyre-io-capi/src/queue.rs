//! Queues: the host end for a loop, and the memory for a device.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::ptr;

use vyre_io::ioq::WakeNotOffered;
use vyre_io::{
    Features, HostQueue, OutcomeEvent, QueueError, QueueId, QueueLayout, QueueLimits, QueueOptions,
    Region,
};

use crate::code::Code;
use crate::error::{Error, Place, answer, free, given, guard};
use crate::failure::Failure;
use crate::memory::{self, Foreign, region_of};

/// The queue offers the doorbell: its device may wake a loop that sleeps. See vyre_ioq_ring_and_wake.
pub const QUEUE_DOORBELL: u32 = 1;
/// The queue has the bare layout of vyre 0.7: no header, and slots of 32 bytes.
pub const QUEUE_BARE: u32 = 2;
/// With VYRE_IO_QUEUE_BARE: the host stores byte counts and errnos, as in a queue with a header. Its device must attach
/// by vyre_ioq_attach_bare_with_counts.
pub const QUEUE_COUNTS: u32 = 4;

/// The queue offers wake-ups: its host may wake a device that sleeps. See vyre_ioq_wait, vyre_ioq_arm and
/// vyre_io_queue_event.
pub const QUEUE_WAKE: u32 = 8;

/// A queue. Its host end goes to a loop, once. Its device end is in vyre_ioq.h, or in vyre_ioq.cuh for CUDA: attach it to
/// the memory that vyre_io_queue_memory returns, or that another process maps.
///
/// The object keeps the memory mapped in this process. Free it after the device ends of this process; the loop keeps the
/// memory for itself.
///
/// Threads: all functions may be called from several threads at once, but none beside or after vyre_io_queue_free. A
/// queue is given to one builder, by one thread.
pub struct Queue {
    host: std::sync::Mutex<Option<Host>>,
    region: Region,
    bytes: usize,
}

/// The host end until a loop has it.
struct Host {
    queue: HostQueue,
    limits: QueueLimits,
}

impl Queue {
    fn new(host: HostQueue, region: Region) -> Self {
        let bytes = host.geometry().bytes();
        let host = Host {
            queue: host,
            limits: QueueLimits::NONE,
        };
        Self {
            host: Some(host).into(),
            region,
            bytes,
        }
    }

    fn create(region: Region, layout: &QueueLayout) -> Result<Self, Failure> {
        let host = HostQueue::create(region.clone(), layout)?;
        Ok(Self::new(host, region))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Host>> {
        self.host
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Gives the host end away.
    pub(crate) fn take(&self) -> Result<QueueOptions, Failure> {
        let host = self.lock().take().ok_or_else(used)?;
        Ok(QueueOptions::new(host.queue).limits(host.limits))
    }
}

fn used() -> Failure {
    Failure::new(Code::QueueUsed, "the queue was given to a builder already")
}

/// Gives a host end to a running loop or group, and stores the number of the queue.
pub(crate) fn add_queue(
    queue: Option<&Queue>,
    number: Option<&mut MaybeUninit<u64>>,
    add: impl FnOnce(QueueOptions) -> Result<QueueId, QueueError>,
) -> Result<(), Failure> {
    let queue = given(queue, "queue")?;
    let number = given(number, "number")?.write(0);
    *number = add(queue.take()?)?.raw();
    Ok(())
}

fn layout(slots: u32, flags: u32, id: u64) -> Result<QueueLayout, Failure> {
    let unknown = flags & !(QUEUE_DOORBELL | QUEUE_BARE | QUEUE_COUNTS | QUEUE_WAKE);
    if unknown != 0 {
        let message = format!("{unknown:#x} has bits that are no flags of a queue");
        return Err(Failure::argument(message));
    }
    if flags & QUEUE_BARE == 0 {
        let mut features = Features::empty();
        features.set(Features::DOORBELL, flags & QUEUE_DOORBELL != 0);
        features.set(Features::WAKE, flags & QUEUE_WAKE != 0);
        return Ok(QueueLayout::with_slots(slots)
            .with_id(id)
            .with_features(features));
    }
    if flags & (QUEUE_DOORBELL | QUEUE_WAKE) != 0 || id != 0 {
        let message =
            "a bare queue has no header for a doorbell, wake-ups or an identifier: leave them out";
        return Err(Failure::argument(message));
    }
    let layout = QueueLayout::bare(slots);
    Ok(match flags & QUEUE_COUNTS {
        0 => layout,
        _ => layout.with_counts(),
    })
}

/// Makes an empty queue in memory of this process, for devices that are its threads.
///
/// @param slots 1 to VYRE_IOQ_MAX_SLOTS, or to VYRE_IOQ_MAX_BARE_SLOTS.
/// @param flags VYRE_IO_QUEUE_... bits.
/// @param id    An identifier for logs, which the header stores; 0 for a bare queue.
/// @param[out] queue The queue, or NULL after an error. Free it with vyre_io_queue_free.
/// @return BAD_SLOT_COUNT, OUT_OF_MEMORY or BAD_ARGUMENT after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_new(
    slots: u32,
    flags: u32,
    id: u64,
    queue: Option<&mut MaybeUninit<Option<Box<Queue>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(queue, "queue")?;
        let layout = layout(slots, flags, id)?;
        // A layout that cannot be is refused below, and not for want of memory.
        let bytes = layout.bytes().min(MOST_BYTES);
        place.put(Queue::create(Region::allocate(bytes)?, &layout)?);
        Ok(())
    })
}

/// The bytes of the largest queue.
const MOST_BYTES: usize = QueueLayout::with_slots(vyre_io::ioq::abi::MAX_SLOTS).bytes();

/// Makes an empty queue in memory that another process can map. Whoever has the descriptor is the device, and may be
/// hostile: it can spoil its own requests and nothing else.
///
/// The parameters are those of vyre_io_queue_new, and:
///
/// @param[out] memfd A descriptor of the memory, to send to the other process, or -1 after an error. The caller closes
///                   it. It is closed on exec.
/// @return BAD_SLOT_COUNT, BAD_ARGUMENT, MEMFD, RESIZE, SEAL or MAP after an error.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_shared(
    slots: u32,
    flags: u32,
    id: u64,
    queue: Option<&mut MaybeUninit<Option<Box<Queue>>>>,
    memfd: Option<&mut MaybeUninit<c_int>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(queue, "queue")?;
        let memfd = given(memfd, "memfd")?.write(-1);
        let (made, descriptor) = shared(&layout(slots, flags, id)?)?;
        place.put(made);
        *memfd = descriptor.into_raw_fd();
        Ok(())
    })
}

fn shared(layout: &QueueLayout) -> Result<(Queue, OwnedFd), Failure> {
    let (buffer, memfd) = vyre_io::Buffer::memfd(layout.bytes().clamp(1, MOST_BYTES))?;
    Ok((Queue::create(region_of(buffer)?, layout)?, memfd))
}

/// Makes an empty queue at the start of memory that the program allocated, such as memory that a GPU maps. What it held is
/// lost.
///
/// The memory must be readable and writable until `release` is called, and without a `release` until the process ends.
/// The call takes the memory over, even if it fails: `release` is called once in any case, with `context`, on whichever
/// thread uses the memory last, such as that of a loop. It must not throw, and must not wait for a loop. Meanwhile the
/// process accesses the memory through device ends only.
///
/// The parameters are those of vyre_io_queue_new, and:
///
/// @param memory  Aligned to VYRE_IOQ_HEADER_ALIGN bytes, or to 4 for a bare queue.
/// @param len     At least vyre_io_queue_layout_bytes.
/// @param release May be NULL.
/// @return NULL_POINTER, MISALIGNED, TOO_SHORT, BAD_SLOT_COUNT or BAD_ARGUMENT after an error.
///
/// # Safety
/// `release` is NULL or can be called so, and the `len` bytes at `memory` are usable as said above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_queue_in_memory(
    memory: *mut c_void,
    len: usize,
    slots: u32,
    flags: u32,
    id: u64,
    release: Option<extern "C" fn(context: *mut c_void)>,
    context: *mut c_void,
    queue: Option<&mut MaybeUninit<Option<Box<Queue>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    // SAFETY: the caller's promises.
    let memory = unsafe { Foreign::new(memory, len, release, context) };
    guard(error, || {
        let place = Place::of(queue, "queue")?;
        let layout = layout(slots, flags, id)?;
        place.put(Queue::create(memory.into_region()?, &layout)?);
        Ok(())
    })
}

/// Takes over a bare queue that a device has created and that fills memory of the program's. Requests that are already
/// published are kept.
///
/// @param flags  VYRE_IO_QUEUE_COUNTS, if the device stores COUNT with each request and expects counts and errnos, or 0.
/// @param memory As for vyre_io_queue_in_memory, also for what follows.
/// @return NULL_POINTER, MISALIGNED, BARE_LENGTH, BAD_SLOT_COUNT or BAD_ARGUMENT after an error.
///
/// # Safety
/// `release` is NULL or can be called so, and the `len` bytes at `memory` are usable as said above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vyre_io_queue_attach_bare(
    memory: *mut c_void,
    len: usize,
    flags: u32,
    release: Option<extern "C" fn(context: *mut c_void)>,
    context: *mut c_void,
    queue: Option<&mut MaybeUninit<Option<Box<Queue>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    // SAFETY: the caller's promises.
    let memory = unsafe { Foreign::new(memory, len, release, context) };
    guard(error, || {
        let place = Place::of(queue, "queue")?;
        let region = memory.into_region()?;
        let host = match flags {
            0 => HostQueue::attach_bare(region.clone())?,
            QUEUE_COUNTS => HostQueue::attach_bare_with_counts(region.clone())?,
            _ => {
                return Err(Failure::argument(
                    "the flag is VYRE_IO_QUEUE_COUNTS or none",
                ));
            }
        };
        place.put(Queue::new(host, region));
        Ok(())
    })
}

/// Makes a descriptor that becomes readable when the host wakes the device, for poll, epoll and the event loops around them.
/// It takes the place of the wake-up by futex. Call it before the queue is given to a builder or a loop.
///
/// The device calls vyre_ioq_expect_wakeups once. Then, to wait: read 8 bytes from the descriptor, which is non-blocking,
/// so that it is unreadable; call vyre_ioq_arm; look once more for outcomes; and wait until it is readable.
///
/// Do not pass the descriptor to a process that you do not trust. It could fill the counter, make the descriptor a blocking
/// one, and so hang the loop.
///
/// @param[out] fd An eventfd, or -1 after an error. The caller closes it. It is closed on exec.
/// @return WAKE_NOT_OFFERED without VYRE_IO_QUEUE_WAKE, QUEUE_USED if a builder or a loop has the host end, or DESCRIPTOR.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_event(
    queue: Option<&Queue>,
    fd: Option<&mut MaybeUninit<c_int>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let fd = given(fd, "fd")?.write(-1);
        let mut host = given(queue, "queue")?.lock();
        let queue = &mut host.as_mut().ok_or_else(used)?.queue;
        if !queue.features().contains(Features::WAKE) {
            return Err(Failure::new(Code::WakeNotOffered, WakeNotOffered));
        }
        let event = OutcomeEvent::new().map_err(|error| Failure::descriptor(&error))?;
        let theirs = memory::duplicate(event.as_fd().as_raw_fd())?;
        queue.wake_device_by(event.waker());
        *fd = theirs.into_raw_fd();
        Ok(())
    })
}

/// Limits what the requests of a queue may use. Call it before the queue is given to a builder or a loop. A request beyond a
/// limit waits in the host until it is its turn; none is rejected for it.
///
/// @param operations_per_second Operations that may start in a second, or UINT64_MAX. A READ or WRITE of up to 1 MiB is one
///                              operation.
/// @param bytes_per_second      Bytes that operations may ask for in a second, or UINT64_MAX.
/// @param operations_in_flight  Operations that may be in flight at a time, or UINT32_MAX.
/// @param bytes_in_flight       Bytes of buffers that these may use, or UINT64_MAX.
/// @return QUEUE_USED if a builder or a loop has the host end: see vyre_io_loop_set_queue_limits.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_set_limits(
    queue: Option<&Queue>,
    operations_per_second: u64,
    bytes_per_second: u64,
    operations_in_flight: u32,
    bytes_in_flight: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let queue = given(queue, "queue")?;
        let rates = (operations_per_second, bytes_per_second);
        let limits = limits(rates, operations_in_flight, bytes_in_flight);
        queue.lock().as_mut().ok_or_else(used)?.limits = limits;
        Ok(())
    })
}

/// Returns limits. The rates are operations and bytes in a second.
pub(crate) const fn limits(rates: (u64, u64), operations: u32, bytes: u64) -> QueueLimits {
    let limits = QueueLimits::new().operations_per_second(rates.0);
    let limits = limits.bytes_per_second(rates.1);
    limits
        .operations_in_flight(operations)
        .bytes_in_flight(bytes)
}

/// Returns the number of bytes that a queue takes.
///
/// @param flags VYRE_IO_QUEUE_... bits.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_layout_bytes(slots: u32, flags: u32) -> usize {
    answer(0, || {
        let bare = flags & QUEUE_BARE != 0;
        let layout = if bare {
            QueueLayout::bare(slots)
        } else {
            QueueLayout::with_slots(slots)
        };
        Some(layout.bytes())
    })
}

/// Returns the address of the queue's memory in this process, for vyre_ioq_attach, or NULL for NULL. The memory has
/// vyre_io_queue_bytes bytes, and stays until the queue is freed.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_memory(queue: Option<&Queue>) -> *mut c_void {
    answer(ptr::null_mut(), || Some(queue?.region.as_ptr().cast()))
}

/// Returns the number of bytes of the queue, or 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_bytes(queue: Option<&Queue>) -> usize {
    answer(0, || Some(queue?.bytes))
}

/// Frees the object. A loop that serves the queue keeps its memory. If no loop has the queue, its devices see FAILED. Does
/// nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_queue_free(queue: Option<Box<Queue>>) {
    free(queue);
}
