//! The names of results in C, found from the errors of Rust by themselves: not by the library under test.

use std::fmt::Debug;

use vyre_io::uring::SetupError;
use vyre_io::{AttachError, BufferError, GroupSpawnError, GroupStopError, QueueError};
use vyre_io::{SharedQueueError, SpawnError, StopError, TableError};

/// Returns the name of a variant as C writes it.
fn shouted(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let name = text.split([' ', '(', '{']).next().unwrap_or(&text);
    let mut shouted = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_uppercase() {
            shouted.push('_');
        }
        shouted.push(letter.to_ascii_uppercase());
    }
    shouted
}

/// An error that has a name in C.
pub(crate) trait Named {
    fn name(&self) -> String;
}

impl Named for TableError {
    fn name(&self) -> String {
        match self {
            Self::Loop { reason, .. } => reason.name(),
            Self::Taken { .. } => "HANDLE_TAKEN".into(),
            Self::Full => "TABLE_FULL".into(),
            Self::Unknown { .. } => "UNKNOWN_HANDLE".into(),
            other => shouted(other),
        }
    }
}

impl Named for QueueError {
    fn name(&self) -> String {
        match self {
            Self::Unknown { .. } => "UNKNOWN_QUEUE".into(),
            Self::Full { .. } => "QUEUES_FULL".into(),
            Self::Overlaps { .. } => "QUEUE_OVERLAPS".into(),
            Self::Claimed { .. } | Self::Gone { .. } => "QUEUE_SPENT".into(),
            other => shouted(other),
        }
    }
}

impl Named for SpawnError {
    fn name(&self) -> String {
        match self {
            Self::Queue { reason, .. } => reason.name(),
            Self::Setup(SetupError::NoThread(_)) => "NO_WORKER".into(),
            Self::Setup(SetupError::Kernel(_)) => "SETUP".into(),
            Self::Setup(error) => shouted(error),
            other => shouted(other),
        }
    }
}

impl Named for GroupSpawnError {
    fn name(&self) -> String {
        match self {
            Self::Loop { reason, .. } => reason.name(),
            other => shouted(other),
        }
    }
}

impl Named for StopError {
    fn name(&self) -> String {
        match self {
            Self::Ring { .. } => "RING_FAILED".into(),
            Self::Panicked { .. } => "LOOP_PANICKED".into(),
            other => shouted(other),
        }
    }
}

impl Named for GroupStopError {
    fn name(&self) -> String {
        self.failures()[0].1.name()
    }
}

impl Named for AttachError {
    fn name(&self) -> String {
        shouted(self)
    }
}

impl Named for BufferError {
    fn name(&self) -> String {
        shouted(self)
    }
}

impl Named for SharedQueueError {
    fn name(&self) -> String {
        match self {
            Self::Layout(error) => error.name(),
            Self::Memory(error) => error.name(),
            other => shouted(other),
        }
    }
}

/// Returns the name of a result, and what `more` says about a success.
pub(crate) fn result<T, E: Named>(result: Result<T, E>, more: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => format!("OK{}", more(value)),
        Err(error) => error.name(),
    }
}
