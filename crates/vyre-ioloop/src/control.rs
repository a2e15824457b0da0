//! What other threads may ask of a running loop.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc;

use vyre_ioq::{BufferHandle, FileHandle};
use vyre_uring::{Buffer, Transport};

use crate::engine::{ChangeError, Engine, Revocation};
use crate::rights::Rights;

/// A change to the tables, and where its answer goes. Nobody may be waiting for it any more.
#[derive(Debug)]
pub(crate) enum Command {
    InsertFile {
        file: OwnedFd,
        range: Range<u64>,
        rights: Rights,
        reply: mpsc::SyncSender<Result<FileHandle, ChangeError>>,
    },
    InsertBuffer {
        buffer: Buffer,
        range: Range<u64>,
        rights: Rights,
        reply: mpsc::SyncSender<Result<BufferHandle, ChangeError>>,
    },
    RevokeFile {
        handle: FileHandle,
        reply: mpsc::SyncSender<Result<(), ChangeError>>,
    },
    RevokeBuffer {
        handle: BufferHandle,
        reply: mpsc::SyncSender<Result<(), ChangeError>>,
    },
}

/// How a loop is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Ending {
    None = 0,
    Drain = 1,
    Abort = 2,
}

/// Words that the loop's thread looks at on every pass: loads alone, no lock.
#[derive(Debug)]
pub(crate) struct Signals {
    ending: AtomicU8,
    commands: AtomicBool,
}

impl Signals {
    pub(crate) const fn new() -> Self {
        Self {
            ending: AtomicU8::new(Ending::None as u8),
            commands: AtomicBool::new(false),
        }
    }

    /// Asks the loop to end. A stronger wish replaces a weaker one. Relaxed: it orders nothing.
    pub(crate) fn end(&self, ending: Ending) {
        self.ending.fetch_max(ending as u8, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Relaxed) {
            0 => Ending::None,
            1 => Ending::Drain,
            _ => Ending::Abort,
        }
    }

    /// Announces a command that was sent. Release, paired with the acquire in `take_commands`.
    pub(crate) fn announce(&self) {
        self.commands.store(true, Ordering::Release);
    }

    /// Whether commands were announced since the last call. A plain load in the common case.
    #[inline]
    pub(crate) fn take_commands(&self) -> bool {
        self.commands.load(Ordering::Relaxed) && self.commands.swap(false, Ordering::Acquire)
    }
}

/// Commands as the loop's thread carries them out.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: mpsc::Receiver<Command>,
    /// Revocations that wait for what is in flight.
    revoking: Vec<(Revocation, mpsc::SyncSender<Result<(), ChangeError>>)>,
}

impl Inbox {
    pub(crate) const fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self {
            commands,
            revoking: Vec::new(),
        }
    }

    /// Carries out every command sent so far.
    #[cold]
    pub(crate) fn serve<T: Transport>(&mut self, engine: &mut Engine<T>) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::InsertFile {
                    file,
                    range,
                    rights,
                    reply,
                } => drop(reply.try_send(engine.insert_file(file, range, rights))),
                Command::InsertBuffer {
                    buffer,
                    range,
                    rights,
                    reply,
                } => drop(reply.try_send(engine.insert_buffer(buffer, range, rights))),
                Command::RevokeFile { handle, reply } => {
                    self.revoking(engine.revoke_file(handle), reply);
                }
                Command::RevokeBuffer { handle, reply } => {
                    self.revoking(engine.revoke_buffer(handle), reply);
                }
            }
        }
    }

    fn revoking(
        &mut self,
        begun: Result<Revocation, ChangeError>,
        reply: mpsc::SyncSender<Result<(), ChangeError>>,
    ) {
        match begun {
            Ok(revocation) => self.revoking.push((revocation, reply)),
            Err(error) => drop(reply.try_send(Err(error))),
        }
    }

    /// Answers revocations that have come to an end.
    #[inline]
    pub(crate) fn settle<T: Transport>(&mut self, engine: &Engine<T>) {
        if self.revoking.is_empty() {
            return;
        }
        self.revoking.retain(|(revocation, reply)| {
            let over = engine.is_revoked(*revocation);
            if over {
                let _ = reply.try_send(Ok(()));
            }
            !over
        });
    }
}
