//! Errors of the client.

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use vyre_ioq::AttachError;

use crate::protocol::{Code, Refused, ReplyError, TextError};

/// A range of bytes is not inside shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} bytes at {offset} are not inside memory of {len}: check offset and length")]
pub struct OutOfRange {
    /// The offset at which the range begins.
    pub offset: usize,
    /// The number of bytes in the range.
    pub count: usize,
    /// The number of bytes in the memory.
    pub len: usize,
}

/// Reason why a descriptor is not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The descriptor is not one of a memfd.
    #[error("the server sent a descriptor that is no memfd: {0}")]
    NotMemfd(Errno),
    /// The memfd does not carry the seal `F_SEAL_SHRINK`: whoever has it could end this process by SIGBUS.
    #[error("the server sent memory that can shrink: it lacks the seal F_SEAL_SHRINK")]
    CanShrink,
    /// The memfd does not have the bytes that the message said, or they do not fit the address space.
    #[error("the server sent memory of {have} bytes and said {need}")]
    WrongLength {
        /// Bytes that the message said.
        need: u64,
        /// Bytes of the memfd.
        have: u64,
    },
    /// The kernel refuses the mapping.
    #[error("the memory of the server cannot be mapped: {0}")]
    Map(Errno),
}

/// Reason why a client could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody can be reached at the path.
    #[error("no server can be reached at {}: {errno}", .path.display())]
    Connect {
        /// Path of the socket.
        path: PathBuf,
        /// The error of the system.
        errno: Errno,
    },
    /// The name of the client or of a file cannot be in a message.
    #[error("a name that cannot be sent: {0}")]
    Name(#[from] TextError),
    /// The server refused the request. The connection goes on.
    #[error("the server refused: {0}")]
    Refused(Box<Refused>),
    /// The server ended the connection, and said why.
    #[error("the server ended the connection: {0}")]
    CutOff(Box<Refused>),
    /// The server has gone: it ended, was killed, or closed the connection.
    #[error("host gone: the server has closed the connection")]
    HostGone,
    /// The server did not answer in time. The connection is of no further use.
    #[error("the server did not answer in {limit:?}")]
    TimedOut {
        /// Time limit of an answer.
        limit: Duration,
    },
    /// The server does not keep to the protocol. The connection is of no further use.
    #[error(transparent)]
    Protocol(ReplyError),
    /// The socket failed. The connection is of no further use.
    #[error("the socket of the server failed: {0}")]
    Socket(Errno),
    /// The server sent memory that cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The memory that the server sent holds no queue.
    #[error("the server sent memory without a good queue: {0}")]
    Attach(#[from] AttachError),
    /// An earlier failure has made the connection useless: connect anew.
    #[error("the connection failed before: connect anew")]
    Broken,
    /// The queue, the file or the buffer belongs to another connection, or to another queue.
    #[error("the queue or the handle belongs to another connection or queue")]
    Foreign,
}

impl ClientError {
    /// Returns the cause of a refusal, if the server refused or ended the connection.
    pub fn refusal(&self) -> Option<Code> {
        match self {
            Self::Refused(refused) | Self::CutOff(refused) => Some(refused.cause()),
            _ => None,
        }
    }
}

impl From<ReplyError> for ClientError {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Refused(refused) => Self::Refused(refused),
            ReplyError::CutOff(refused) => Self::CutOff(refused),
            other => Self::Protocol(other),
        }
    }
}
