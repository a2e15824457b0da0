//! The numbers that calls return.
#![expect(unsafe_code, reason = "exports functions")]

use std::ffi::{CStr, c_char};

use crate::error::answer;

/// Result of a call: VYRE_IO_RESULT_OK, or the reason that it failed. Later versions add numbers; none changes its
/// meaning.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// A pointer that is needed is NULL. The message names the parameter.
    NullPointer = 1,
    /// A number, a flag or a text is not one that the parameter takes.
    BadArgument = 2,
    /// The host end of the queue was given to a builder already.
    QueueUsed = 3,
    /// Another thread changes the loop or group: it cannot be stopped before that call returns.
    Busy = 4,
    /// The loop or group was stopped, or every loop of it has ended.
    Ended = 5,
    /// A bug in the library: a panic, which was stopped at the boundary. The object should not be used further.
    Panic = 6,
    /// A reason that has no number in this version. The message has it.
    Other = 7,

    /// A buffer needs at least one byte.
    Empty = 16,
    /// The length does not fit the address space.
    TooLong = 17,
    /// The kernel refused the mapping.
    Map = 18,
    /// The kernel refused to keep the memory out of forked children.
    DontFork = 19,
    /// The kernel refused a memfd.
    Memfd = 20,
    /// The kernel refused the length of the memfd.
    Resize = 21,
    /// The descriptor is not one of a memfd.
    NotMemfd = 22,
    /// The memfd is not sealed against shrinking.
    CanShrink = 23,
    /// The memfd took no seals.
    Seal = 24,
    /// The range of bytes is not inside the buffer.
    OutOfRange = 25,
    /// The descriptor could not be duplicated: it is not open, or there are too many.
    Descriptor = 26,

    /// The memory is not aligned enough for a queue.
    Misaligned = 32,
    /// The memory is shorter than the queue.
    TooShort = 33,
    /// A queue of this layout cannot have this number of slots.
    BadSlotCount = 34,
    /// The length of a bare queue is no whole number of slots.
    BareLength = 35,
    /// There is no memory for the queue.
    OutOfMemory = 36,

    /// The file is not open for reading.
    NotReadable = 48,
    /// The file is not open for writing.
    NotWritable = 49,
    /// The file is open for appending, where offsets mean nothing.
    Appending = 50,
    /// The descriptor is open with O_PATH.
    PathOnly = 51,
    /// A directory has no bytes to read.
    Directory = 52,
    /// The range is reversed, or ends past the largest file or past the buffer.
    BadRange = 53,
    /// The pages have no bytes, or the buffer is smaller than one of them.
    BadPage = 54,
    /// The chosen handle is in use.
    HandleTaken = 55,
    /// Every handle of the table is in use.
    TableFull = 56,
    /// The kernel did not say what the descriptor refers to.
    Examine = 57,
    /// The file cannot be read out of the page cache.
    PageCache = 58,
    /// The loop has no room for another file or buffer: see vyre_io_loop_options_set_live_entries.
    NoRoom = 59,
    /// The kernel refused the file or the buffer.
    Register = 60,
    /// The handle names nothing.
    UnknownHandle = 61,
    /// The handle is revoked, or the queue removed, but the kernel still holds requests of it.
    InFlight = 62,
    /// The thread of the loop did not answer in time.
    Unresponsive = 63,
    /// The loop has ended while the kernel held operations, perhaps of this handle or queue.
    Held = 64,

    /// The loop or group serves no such queue: it was removed, or is being removed.
    UnknownQueue = 80,
    /// The system created no thread.
    Thread = 81,
    /// The thread cannot block signals.
    Signals = 82,
    /// The thread cannot be bound to the core.
    Pin = 83,
    /// The thread panicked while it started.
    Died = 84,
    /// The group has no loop to serve with.
    NoLoop = 85,
    /// The queue is for a loop that the group does not have.
    NoSuchLoop = 86,
    /// A transport cannot have this number of entries.
    Entries = 87,
    /// A table of the transport cannot be this large.
    TableSize = 88,
    /// A pool cannot have this number of workers.
    Workers = 89,
    /// No thread could be started for a pool.
    NoWorker = 90,
    /// The kernel or a sandbox forbids io_uring.
    Forbidden = 91,
    /// The kernel has no io_uring.
    Unavailable = 92,
    /// There is no memory for the ring: RLIMIT_MEMLOCK.
    NoMemory = 93,
    /// There is no descriptor for the ring: RLIMIT_NOFILE.
    NoDescriptors = 94,
    /// The io_uring of this kernel is too old.
    TooOld = 95,
    /// The ring was made, but a trial operation failed.
    Trial = 96,
    /// The io_uring of this kernel lacks an operation.
    MissingOperation = 97,
    /// The set-up of the ring failed with the errno.
    Setup = 98,
    /// The loop serves as many queues as it can: see vyre_io_loop_options_set_ring_entries.
    QueuesFull = 99,
    /// The memory of the queue is in use by another queue of the loop or group.
    QueueOverlaps = 100,
    /// The host end owes requests an outcome, or has ended.
    QueueSpent = 101,

    /// The kernel did not give operations back in time. Their buffers were leaked, since it may write to them yet.
    Stuck = 112,
    /// The ring became unusable.
    RingFailed = 113,
    /// The thread of the loop panicked.
    LoopPanicked = 114,
    /// The loop runs in the process that this one was forked from.
    Forked = 115,

    /// CUDA's driver is not there, or cannot be loaded.
    NoDriver = 128,
    /// No GPU is visible, or none with this number.
    NoDevice = 129,
    /// The GPU is too old, or lacks what is needed.
    GpuUnfit = 130,
    /// The calling thread has no current CUDA context, or one that is not primary.
    NoContext = 131,
    /// A call of CUDA's driver failed. The message has its name for the error.
    Driver = 132,
    /// The file cannot be mapped: it is not regular, its file system is not one on which mappings show the file, or the range
    /// is empty.
    NotMappable = 133,
    /// The range does not consist of whole pages.
    NotPages = 134,
    /// The range begins past the end of the file.
    PastEnd = 135,
    /// The view was cancelled while its pages were read in.
    Cancelled = 136,
    /// The kernel could not read a page of the file.
    Populate = 137,
    /// The file could not be read, or ends before the range does.
    ReadFailed = 138,
    /// More bytes would be pinned than vyre_io_pin_limit allows.
    PinLimit = 139,
    /// The driver refused to pin pages of the file.
    PinRefused = 140,
    /// The queue was made without VYRE_IO_QUEUE_WAKE.
    WakeNotOffered = 141,
}

/// The codes with their names, in ascending order.
pub(crate) const NAMES: &[(Code, &CStr)] = &[
    (Code::Ok, c"OK"),
    (Code::NullPointer, c"NULL_POINTER"),
    (Code::BadArgument, c"BAD_ARGUMENT"),
    (Code::QueueUsed, c"QUEUE_USED"),
    (Code::Busy, c"BUSY"),
    (Code::Ended, c"ENDED"),
    (Code::Panic, c"PANIC"),
    (Code::Other, c"OTHER"),
    (Code::Empty, c"EMPTY"),
    (Code::TooLong, c"TOO_LONG"),
    (Code::Map, c"MAP"),
    (Code::DontFork, c"DONT_FORK"),
    (Code::Memfd, c"MEMFD"),
    (Code::Resize, c"RESIZE"),
    (Code::NotMemfd, c"NOT_MEMFD"),
    (Code::CanShrink, c"CAN_SHRINK"),
    (Code::Seal, c"SEAL"),
    (Code::OutOfRange, c"OUT_OF_RANGE"),
    (Code::Descriptor, c"DESCRIPTOR"),
    (Code::Misaligned, c"MISALIGNED"),
    (Code::TooShort, c"TOO_SHORT"),
    (Code::BadSlotCount, c"BAD_SLOT_COUNT"),
    (Code::BareLength, c"BARE_LENGTH"),
    (Code::OutOfMemory, c"OUT_OF_MEMORY"),
    (Code::NotReadable, c"NOT_READABLE"),
    (Code::NotWritable, c"NOT_WRITABLE"),
    (Code::Appending, c"APPENDING"),
    (Code::PathOnly, c"PATH_ONLY"),
    (Code::Directory, c"DIRECTORY"),
    (Code::BadRange, c"BAD_RANGE"),
    (Code::BadPage, c"BAD_PAGE"),
    (Code::HandleTaken, c"HANDLE_TAKEN"),
    (Code::TableFull, c"TABLE_FULL"),
    (Code::Examine, c"EXAMINE"),
    (Code::PageCache, c"PAGE_CACHE"),
    (Code::NoRoom, c"NO_ROOM"),
    (Code::Register, c"REGISTER"),
    (Code::UnknownHandle, c"UNKNOWN_HANDLE"),
    (Code::InFlight, c"IN_FLIGHT"),
    (Code::Unresponsive, c"UNRESPONSIVE"),
    (Code::Held, c"HELD"),
    (Code::UnknownQueue, c"UNKNOWN_QUEUE"),
    (Code::Thread, c"THREAD"),
    (Code::Signals, c"SIGNALS"),
    (Code::Pin, c"PIN"),
    (Code::Died, c"DIED"),
    (Code::NoLoop, c"NO_LOOP"),
    (Code::NoSuchLoop, c"NO_SUCH_LOOP"),
    (Code::Entries, c"ENTRIES"),
    (Code::TableSize, c"TABLE_SIZE"),
    (Code::Workers, c"WORKERS"),
    (Code::NoWorker, c"NO_WORKER"),
    (Code::Forbidden, c"FORBIDDEN"),
    (Code::Unavailable, c"UNAVAILABLE"),
    (Code::NoMemory, c"NO_MEMORY"),
    (Code::NoDescriptors, c"NO_DESCRIPTORS"),
    (Code::TooOld, c"TOO_OLD"),
    (Code::Trial, c"TRIAL"),
    (Code::MissingOperation, c"MISSING_OPERATION"),
    (Code::Setup, c"SETUP"),
    (Code::QueuesFull, c"QUEUES_FULL"),
    (Code::QueueOverlaps, c"QUEUE_OVERLAPS"),
    (Code::QueueSpent, c"QUEUE_SPENT"),
    (Code::Stuck, c"STUCK"),
    (Code::RingFailed, c"RING_FAILED"),
    (Code::LoopPanicked, c"LOOP_PANICKED"),
    (Code::Forked, c"FORKED"),
    (Code::NoDriver, c"NO_DRIVER"),
    (Code::NoDevice, c"NO_DEVICE"),
    (Code::GpuUnfit, c"GPU_UNFIT"),
    (Code::NoContext, c"NO_CONTEXT"),
    (Code::Driver, c"DRIVER"),
    (Code::NotMappable, c"NOT_MAPPABLE"),
    (Code::NotPages, c"NOT_PAGES"),
    (Code::PastEnd, c"PAST_END"),
    (Code::Cancelled, c"CANCELLED"),
    (Code::Populate, c"POPULATE"),
    (Code::ReadFailed, c"READ_FAILED"),
    (Code::PinLimit, c"PIN_LIMIT"),
    (Code::PinRefused, c"PIN_REFUSED"),
    (Code::WakeNotOffered, c"WAKE_NOT_OFFERED"),
];

/// Returns the name of a result without its prefix, such as "NOT_READABLE", or "unknown". The text lives as long as the
/// library.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_result_name(result: u32) -> *const c_char {
    answer(c"unknown".as_ptr(), || {
        let known = NAMES.iter().find(|(code, _)| *code as u32 == result);
        Some(known?.1.as_ptr())
    })
}
