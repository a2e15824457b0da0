//! The reasons for which the server does not start or does not go on.

use std::io;
use std::path::PathBuf;

use vyre_io_client::ClientError;

use crate::name::Shown;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("{}: {error}", Shown(.path))]
    Policy {
        path: PathBuf,
        error: toml::de::Error,
    },
    #[error("there is no user {0:?}; give a name that `getent passwd` lists, or a number")]
    NoUser(String),
    #[error("there is no group {0:?}; give a name that `getent group` lists, or a number")]
    NoGroup(String),
    #[error("users and groups cannot be looked up: {0}; give their numbers")]
    Names(io::Error),
    #[error("each [[allow]] of the policy names either a user or a group")]
    Allow,
    #[error("two files have the name {0:?}; give each a name of its own")]
    TwoFiles(String),
    #[error("there is no file to serve; give one with --file NAME=PATH or in the policy")]
    NoFile,
    #[error(
        "there is no socket; give one with --socket PATH, or start the server by a service manager that hands one over"
    )]
    NoSocket,
    #[error("another server listens at {}; stop it first, or choose another path", Shown(.0))]
    InUse(PathBuf),
    #[error("{} exists and is not a socket; choose another path", Shown(.0))]
    NotASocket(PathBuf),
    #[error(
        "the path of the socket is too long: a socket's address has room for 107 bytes; choose a shorter path"
    )]
    LongPath,
    #[error(
        "the socket that the service manager handed over cannot be used: {0}; the unit needs ListenSequentialPacket="
    )]
    Activation(io::Error),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    #[error(
        "a change of a peer did not end in time: a file may hang; the loops were left to the kernel"
    )]
    InUseAtEnd,
    #[error("the loops did not end: {0}")]
    Panicked(String),
    #[error("{0}")]
    Status(#[from] ClientError),
    #[error("the server told nothing of itself")]
    NoStatus,
    #[error("a loop ended by itself; the lines above say why")]
    LoopEnded,
}

impl ServeError {
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            what,
            source: source.into(),
        }
    }

    /// Returns whether the command line is at fault.
    pub(crate) const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoFile | Self::NoSocket | Self::TwoFiles(_) | Self::Allow | Self::Policy { .. }
        )
    }
}
