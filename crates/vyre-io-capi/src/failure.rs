//! Reasons of failed calls: the errors of the other crates as codes.

use std::any::Any;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};

use vyre_io::uring::{OutOfRange, RegisterError, SetupError};
use vyre_io::{
    AttachError, BufferError, GroupSpawnError, GroupStopError, QueueError, SharedQueueError,
    SpawnError, StopError, TableError,
};

use crate::code::Code;

/// The reason of a failed call.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// The errno of the system, or zero.
    pub(crate) os_errno: i32,
    /// The operations or requests that the kernel holds.
    pub(crate) held: u32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Display) -> Self {
        Self {
            code,
            os_errno: 0,
            held: 0,
            message: message.to_string(),
        }
    }

    pub(crate) fn argument(message: impl Display) -> Self {
        Self::new(Code::BadArgument, message)
    }

    /// The call came after `stop`.
    pub(crate) fn ended() -> Self {
        Self::from(TableError::Ended)
    }

    pub(crate) fn errno(self, errno: i32) -> Self {
        Self {
            os_errno: errno,
            ..self
        }
    }

    /// There is no room for another descriptor.
    pub(crate) fn descriptor(error: &std::io::Error) -> Self {
        let errno = errno_of(error);
        let message = format!("no descriptor could be made ({error}): raise RLIMIT_NOFILE");
        Self::new(Code::Descriptor, message).errno(errno)
    }

    fn held(self, held: u32) -> Self {
        Self { held, ..self }
    }

    /// Takes the payload of a panic, whose drop may panic itself.
    pub(crate) fn panic(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = format!("the library panicked: {}", text.unwrap_or("no message"));
        if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(second);
        }
        Self::new(Code::Panic, message)
    }
}

/// Returns the errno of an I/O error, or zero.
fn errno_of(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

impl From<BufferError> for Failure {
    fn from(error: BufferError) -> Self {
        let (code, errno) = match error {
            BufferError::Empty => (Code::Empty, 0),
            BufferError::TooLong(_) => (Code::TooLong, 0),
            BufferError::Map { errno, .. } => (Code::Map, errno.raw_os_error()),
            BufferError::DontFork(errno) => (Code::DontFork, errno.raw_os_error()),
            BufferError::Memfd(errno) => (Code::Memfd, errno.raw_os_error()),
            BufferError::Resize { errno, .. } => (Code::Resize, errno.raw_os_error()),
            BufferError::NotMemfd(errno) => (Code::NotMemfd, errno.raw_os_error()),
            BufferError::CanShrink => (Code::CanShrink, 0),
            BufferError::Seal(errno) => (Code::Seal, errno.raw_os_error()),
            _ => (Code::Other, 0),
        };
        Self::new(code, error).errno(errno)
    }
}

impl From<OutOfRange> for Failure {
    fn from(error: OutOfRange) -> Self {
        Self::new(Code::OutOfRange, error)
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        let code = match error {
            AttachError::Misaligned { .. } => Code::Misaligned,
            AttachError::TooShort { .. } => Code::TooShort,
            AttachError::BadSlotCount { .. } => Code::BadSlotCount,
            AttachError::BareLength { .. } => Code::BareLength,
            AttachError::OutOfMemory { .. } => Code::OutOfMemory,
            // The rules of a header that another process made: no host end reads one.
            _ => Code::Other,
        };
        Self::new(code, error)
    }
}

impl From<SharedQueueError> for Failure {
    fn from(error: SharedQueueError) -> Self {
        match error {
            SharedQueueError::Layout(error) => error.into(),
            SharedQueueError::Memory(error) => error.into(),
            error => Self::new(Code::Other, error),
        }
    }
}

/// Returns the code and the errno of a set-up that failed.
fn of_setup(error: SetupError) -> (Code, i32) {
    let code = match error {
        SetupError::Entries(_) => Code::Entries,
        SetupError::TableSize { .. } => Code::TableSize,
        SetupError::Workers(_) => Code::Workers,
        SetupError::NoThread(_) => Code::NoWorker,
        SetupError::Forbidden => Code::Forbidden,
        SetupError::Unavailable => Code::Unavailable,
        SetupError::NoMemory => Code::NoMemory,
        SetupError::NoDescriptors => Code::NoDescriptors,
        SetupError::TooOld => Code::TooOld,
        SetupError::Trial(_) => Code::Trial,
        SetupError::MissingOperation(_) => Code::MissingOperation,
        SetupError::Kernel(_) => Code::Setup,
        _ => Code::Other,
    };
    let errno = match error {
        SetupError::NoThread(errno) | SetupError::Trial(errno) | SetupError::Kernel(errno) => {
            errno.raw_os_error()
        }
        _ => 0,
    };
    (code, errno)
}

fn of_registration(error: RegisterError) -> i32 {
    match error {
        RegisterError::Kernel(errno) | RegisterError::Emptied(errno) => errno.raw_os_error(),
        _ => 0,
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        let (code, errno, held) = of_table(&error);
        Self::new(code, error).errno(errno).held(held)
    }
}

/// Returns the code, the errno and the number of requests that the kernel holds.
fn of_table(error: &TableError) -> (Code, i32, u32) {
    let code = match error {
        TableError::NotReadable => Code::NotReadable,
        TableError::NotWritable => Code::NotWritable,
        TableError::Appending => Code::Appending,
        TableError::PathOnly => Code::PathOnly,
        TableError::Directory => Code::Directory,
        TableError::BadRange { .. } => Code::BadRange,
        TableError::BadPage { .. } => Code::BadPage,
        TableError::Taken { .. } => Code::HandleTaken,
        TableError::Full => Code::TableFull,
        TableError::Examine(error) => return (Code::Examine, errno_of(error), 0),
        TableError::PageCache(_) => Code::PageCache,
        TableError::NoRoom { .. } => Code::NoRoom,
        TableError::Register(error) => return (Code::Register, of_registration(*error), 0),
        TableError::Unknown { .. } => Code::UnknownHandle,
        TableError::InFlight { requests, .. } => return (Code::InFlight, 0, *requests),
        TableError::Unresponsive { .. } => Code::Unresponsive,
        TableError::Held { operations } => return (Code::Held, 0, *operations),
        TableError::Ended => Code::Ended,
        // The text names the loop.
        TableError::Loop { reason, .. } => return of_table(reason),
        _ => Code::Other,
    };
    (code, 0, 0)
}

/// Returns the code, and the number of requests that the kernel holds.
const fn of_queue(error: &QueueError) -> (Code, u32) {
    match *error {
        QueueError::Unknown { .. } => (Code::UnknownQueue, 0),
        QueueError::NoSuchLoop { .. } => (Code::NoSuchLoop, 0),
        QueueError::Full { .. } => (Code::QueuesFull, 0),
        QueueError::Overlaps { .. } => (Code::QueueOverlaps, 0),
        QueueError::Claimed { .. } | QueueError::Gone { .. } => (Code::QueueSpent, 0),
        QueueError::InFlight { requests, .. } => (Code::InFlight, requests),
        QueueError::Unresponsive { .. } => (Code::Unresponsive, 0),
        QueueError::Held { operations } => (Code::Held, operations),
        QueueError::Ended => (Code::Ended, 0),
        _ => (Code::Other, 0),
    }
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let (code, held) = of_queue(&error);
        Self::new(code, error).held(held)
    }
}

/// Returns the code and the errno.
fn of_spawn(error: &SpawnError) -> (Code, i32) {
    match error {
        SpawnError::Queue { reason, .. } => (of_queue(reason).0, 0),
        SpawnError::Name { .. } => (Code::BadArgument, 0),
        SpawnError::Thread(error) => (Code::Thread, errno_of(error)),
        SpawnError::Signals(error) => (Code::Signals, errno_of(error)),
        SpawnError::Pin { reason, .. } => (Code::Pin, errno_of(reason)),
        SpawnError::Setup(error) => of_setup(*error),
        SpawnError::Register(error) => (Code::Register, of_registration(*error)),
        SpawnError::Died { .. } => (Code::Died, 0),
        _ => (Code::Other, 0),
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        let (code, errno) = of_spawn(&error);
        Self::new(code, error).errno(errno)
    }
}

impl From<GroupSpawnError> for Failure {
    fn from(error: GroupSpawnError) -> Self {
        let (code, errno) = match &error {
            GroupSpawnError::NoLoop => (Code::NoLoop, 0),
            GroupSpawnError::NoSuchLoop { .. } => (Code::NoSuchLoop, 0),
            GroupSpawnError::Loop { reason, .. } => of_spawn(reason),
            _ => (Code::Other, 0),
        };
        Self::new(code, error).errno(errno)
    }
}

/// Returns the code and the errno.
fn of_stop(error: &StopError) -> (Code, i32) {
    match error {
        StopError::Stuck { .. } => (Code::Stuck, 0),
        StopError::Ring { errno, .. } => {
            (Code::RingFailed, i32::try_from(errno.raw()).unwrap_or(0))
        }
        StopError::Panicked { .. } => (Code::LoopPanicked, 0),
        StopError::Unresponsive { .. } => (Code::Unresponsive, 0),
        StopError::Forked => (Code::Forked, 0),
        _ => (Code::Other, 0),
    }
}

impl From<StopError> for Failure {
    fn from(error: StopError) -> Self {
        let (code, errno) = of_stop(&error);
        let held = error.kept();
        Self::new(code, error).errno(errno).held(held)
    }
}

/// The code and the errno are those of the first loop that failed; the text names all.
impl From<GroupStopError> for Failure {
    fn from(error: GroupStopError) -> Self {
        let first = error.failures().first();
        let (code, errno) = first.map_or((Code::Other, 0), |(_, error)| of_stop(error));
        let held = error.failures().iter().map(|(_, error)| error.kept());
        let held = held.fold(0, u32::saturating_add);
        Self::new(code, error).errno(errno).held(held)
    }
}
