//! The commands of other threads to a running loop.

mod pending;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::task::Waker;
use std::time::Duration;

use vyre_ioq::{BufferHandle, FileHandle};
use vyre_uring::{Buffer, Transport};

use crate::buffer_options::BufferOptions;
use crate::engine::Engine;
use crate::engine::queue_state::QueueState;
use crate::engine::table_changes::replica::{Named, NewEntry};
use crate::error::QueueError;
use crate::file_table::FileEntry;
use crate::queue_id::QueueId;
use crate::queue_options::QueueLimits;

use pending::{Change, PendingList};
pub(crate) use pending::{EndLimits, Reply};

/// A change and the channel for its answer. The receiver may be gone.
#[derive(Debug)]
pub(crate) enum Command {
    InsertFile {
        entry: FileEntry,
        reply: Reply<FileHandle>,
    },
    InsertBuffer {
        buffer: Buffer,
        range: Range<u64>,
        options: BufferOptions,
        reply: Reply<BufferHandle>,
    },
    /// Revokes an entry. It is answered when nothing is in flight on the entry, or when the time limit
    /// passes. In the latter case, it is answered once more when nothing is in flight.
    Revoke {
        named: Named,
        limits: EndLimits,
        reply: Reply<()>,
    },
    Stage {
        handle: u32,
        entry: NewEntry,
        reply: Reply<()>,
    },
    Reveal {
        named: Named,
        reply: Reply<()>,
    },
    Withdraw {
        named: Named,
        reply: Reply<()>,
    },
    AddQueue {
        id: QueueId,
        queue: Box<QueueState>,
        reply: Reply<(), QueueError>,
    },
    SetLimits {
        id: QueueId,
        limits: QueueLimits,
        reply: Reply<(), QueueError>,
    },
    /// Removes a queue. It is answered when nothing is in flight on the queue, or when the time limit passes.
    RemoveQueue {
        id: QueueId,
        limits: EndLimits,
        reply: Reply<Box<QueueState>, QueueError>,
    },
}

/// The way in which a loop shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Shutdown {
    None = 0,
    Drain = 1,
    Abort = 2,
}

/// The words that the loop's thread loads on every pass, without a lock.
#[derive(Debug)]
pub(crate) struct ControlFlags {
    shutdown: AtomicU8,
    commands: AtomicBool,
    /// The number of devices that are active and may not ring.
    active: AtomicU32,
    /// The waker that ends the thread's sleep. It is set once the thread serves, if its transport can
    /// be woken.
    waker: OnceLock<Waker>,
}

impl ControlFlags {
    pub(crate) const fn new() -> Self {
        Self {
            shutdown: AtomicU8::new(Shutdown::None as u8),
            commands: AtomicBool::new(false),
            active: AtomicU32::new(0),
            waker: OnceLock::new(),
        }
    }

    /// Tells the loop to end, and wakes it. Abort replaces drain, never the reverse. Relaxed: the store
    /// orders nothing, and the wake-up makes the loop check again.
    pub(crate) fn request_shutdown(&self, shutdown: Shutdown) {
        self.shutdown.fetch_max(shutdown as u8, Ordering::Relaxed);
        self.wake();
    }

    /// Keeps the loop from sleeping for long, until [`deactivate`](Self::deactivate). Relaxed: the wake-up makes the
    /// loop look again, as for a shutdown.
    pub(crate) fn activate(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    /// Undoes an [`activate`](Self::activate).
    pub(crate) fn deactivate(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
    }

    /// Returns the waker of the loop's thread, if its transport can be woken.
    pub(crate) fn waker(&self) -> Option<Waker> {
        self.waker.get().cloned()
    }

    /// Sets the waker of the loop's thread. It must be called before any other thread can send the loop
    /// a command.
    pub(crate) fn set_waker(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// Ends the thread's sleep, or the next one if it is awake. The following pass sees everything
    /// stored before: the waker orders it (see `vyre_uring`'s `ring/wake.rs`).
    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    #[inline]
    pub(crate) fn shutdown(&self) -> Shutdown {
        match self.shutdown.load(Ordering::Relaxed) {
            0 => Shutdown::None,
            1 => Shutdown::Drain,
            _ => Shutdown::Abort,
        }
    }

    /// Announces a sent command, and wakes the loop. Release, paired with the acquire in
    /// `take_commands`.
    pub(crate) fn announce(&self) {
        self.commands.store(true, Ordering::Release);
        self.wake();
    }

    /// Returns whether commands were announced since the last call. It is a plain load in the common
    /// case.
    #[inline]
    pub(crate) fn take_commands(&self) -> bool {
        self.commands.load(Ordering::Relaxed) && self.commands.swap(false, Ordering::Acquire)
    }
}

/// The commands as the loop's thread executes them.
#[derive(Debug)]
pub(crate) struct Inbox {
    commands: mpsc::Receiver<Command>,
    /// The changes that wait for requests in flight.
    pending: PendingList,
}

impl Inbox {
    pub(crate) const fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self {
            commands,
            pending: PendingList::new(),
        }
    }

    /// Executes the next command. Returns whether there was one, and so may be more.
    ///
    /// The caller makes a pass before the next. A command can take a millisecond, such as the registration of a large
    /// buffer, and several threads may send one after another: devices are not to wait for all of them.
    #[cold]
    pub(crate) fn serve<T: Transport>(&mut self, engine: &mut Engine<T>) -> bool {
        let Ok(command) = self.commands.try_recv() else {
            return false;
        };
        match command {
            Command::InsertFile { entry, reply } => {
                drop(reply.try_send(engine.insert_entry(entry)));
            }
            Command::InsertBuffer {
                buffer,
                range,
                options,
                reply,
            } => drop(reply.try_send(engine.insert_buffer(buffer, range, options))),
            Command::Revoke {
                named,
                limits,
                reply,
            } => match engine.revoke(named) {
                Ok(revocation) => {
                    let handle = named.handle;
                    let change = Change::Revocation {
                        revocation,
                        handle,
                        reply,
                    };
                    self.pending.begin(change, limits);
                }
                Err(error) => drop(reply.try_send(Err(error))),
            },
            Command::Stage {
                handle,
                entry,
                reply,
            } => drop(reply.try_send(engine.stage(handle, entry))),
            Command::Reveal { named, reply } => drop(reply.try_send(engine.reveal(named))),
            Command::Withdraw { named, reply } => drop(reply.try_send(engine.withdraw(named))),
            Command::AddQueue { id, queue, reply } => {
                drop(reply.try_send(engine.add_state(id, *queue)));
            }
            Command::SetLimits { id, limits, reply } => {
                drop(reply.try_send(engine.set_limits(id, limits)));
            }
            Command::RemoveQueue { id, limits, reply } => match engine.remove_queue(id) {
                Ok(removal) => self
                    .pending
                    .begin(Change::Removal { removal, reply }, limits),
                Err(error) => drop(reply.try_send(Err(error))),
            },
        }
        true
    }

    /// Advances the changes that wait for requests in flight: see [`PendingList`].
    #[inline]
    pub(crate) fn advance_changes<T: Transport>(&mut self, engine: &mut Engine<T>) {
        if !self.pending.is_empty() {
            self.pending.advance(engine);
        }
    }

    /// Shortens a sleep so that it ends when a change next needs the loop.
    #[inline]
    pub(crate) fn longest_sleep(&self, timeout: Duration) -> Duration {
        self.pending.longest_sleep(timeout)
    }
}

#[cfg(test)]
mod tests {
    use vyre_ioq::{Queue, QueueLayout};
    use vyre_uring::SimTransport;

    use super::*;
    use crate::buffer_table::BufferTable;
    use crate::file_table::FileTable;

    /// Otherwise threads that send commands one after another keep devices waiting.
    #[test]
    fn one_command_is_executed_between_two_passes() {
        let (host, _device) = Queue::anonymous(QueueLayout::with_slots(8)).expect("a queue");
        let sim = SimTransport::builder(1).build();
        let (files, buffers) = (FileTable::new(), BufferTable::new());
        let mut engine = Engine::new(sim, files, buffers, vec![host]).expect("an engine");
        let (sender, commands) = mpsc::channel();
        let mut inbox = Inbox::new(commands);
        let (reply, answers) = mpsc::sync_channel(2);
        for _ in 0..2 {
            let (id, limits, reply) = (QueueId::from_raw(99), QueueLimits::NONE, reply.clone());
            let command = Command::SetLimits { id, limits, reply };
            assert!(sender.send(command).is_ok());
        }
        for _ in 0..2 {
            assert!(inbox.serve(&mut engine), "there may be more");
            assert!(answers.try_recv().is_ok());
            assert!(answers.try_recv().is_err(), "only one");
        }
        assert!(!inbox.serve(&mut engine));
    }
}
