//! The thread around an engine.

mod builder;
mod run;
mod settings;

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use vyre_ioq::{BufferHandle, FileHandle};
use vyre_uring::{Buffer, RegisterError, SetupError, SetupReport};

use crate::control::{Command, Ending, Reply, Signals};
use crate::counters::{LoopCounters, QueueCounters, SharedCounters};
use crate::engine::ChangeError;
use crate::engine::replica::Named;
use crate::rights::Rights;

pub use builder::IoLoopBuilder;
pub(crate) use builder::Starting;
pub(crate) use settings::{Settings, setters};

/// Why a loop did not start. Devices of its queues see FAILED.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// There is no queue to serve.
    #[error("a loop needs at least one queue: give it one with `queue`")]
    NoQueue,
    /// The operating system gave no thread.
    #[error("no thread for the loop: {0}")]
    Thread(#[source] std::io::Error),
    /// The thread could not be bound to the core asked for.
    #[error("the loop cannot be pinned to core {core}: {source}; choose one of this process's")]
    Pin {
        /// The core asked for.
        core: usize,
        /// Why not.
        source: std::io::Error,
    },
    /// The ring could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A file or a buffer of the tables was refused.
    #[error("an entry of the tables was refused: {0}")]
    Register(#[from] RegisterError),
    /// The thread ended before it could say more.
    #[error("the loop's thread ended while it started; its panic message says why")]
    Died,
}

/// Why a loop did not end as it should. It has ended all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The kernel did not give operations back in time. The memory that they may still write to
    /// was leaked on purpose.
    #[error(
        "the kernel still holds {operations} operations; their buffers were leaked, since it may \
         write to them yet"
    )]
    Stuck {
        /// How many.
        operations: u32,
    },
    /// The ring became unusable. Every request was answered with that errno or ECANCELED.
    #[error("the ring failed: {0}")]
    Ring(vyre_ioq::Errno),
    /// The loop's thread panicked: a bug in this crate. Every request was answered.
    #[error("the loop's thread panicked; please report its message")]
    Panicked,
}

/// A change asked of a loop that cannot make it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The loop has ended.
    #[error("the loop has ended")]
    Ended,
    /// The loop refused.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A thread that serves queues by io_uring.
///
/// ```
/// use std::io::Write;
/// use vyre_ioloop::{BufferTable, FileTable, IoLoop, Rights};
/// use vyre_ioq::{Queue, QueueLayout, Request};
/// use vyre_uring::Buffer;
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"weights")?;
///
/// let mut files = FileTable::new();
/// let mut buffers = BufferTable::new();
/// let weights = files.insert(file, Rights::READ)?;
/// let memory = Buffer::anonymous(1 << 16)?;
/// let pool = buffers.insert(memory.clone())?;
/// let (host, device) = Queue::anonymous(QueueLayout::with_slots(64))?;
///
/// let io = IoLoop::builder().files(files).buffers(buffers).queue(host).spawn()?;
///
/// let ticket = device.submit(Request::read(weights, 0, 4096).into(pool, 0))?;
/// let moved = device.wait(ticket)?.bytes()?; // errno becomes a typed error
/// assert_eq!(moved, 7);
///
/// io.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it drains, as [`stop`](Self::stop) does, and drops the error.
#[derive(Debug)]
#[must_use = "dropping it stops the loop"]
pub struct IoLoop {
    signals: Arc<Signals>,
    commands: mpsc::Sender<Command>,
    counters: Arc<SharedCounters>,
    report: SetupReport,
    thread_id: u32,
    thread: Option<JoinHandle<Result<(), StopError>>>,
}

impl IoLoop {
    /// What a loop is made of.
    pub fn builder() -> IoLoopBuilder {
        IoLoopBuilder::new()
    }

    /// Finishes what is claimed, answers what is not with ECANCELED, and ends. Returns only when
    /// the kernel can touch no buffer any more. What has not ended by the builder's
    /// [`drain_timeout`](IoLoopBuilder::drain_timeout) is cancelled, as by
    /// [`abort`](Self::abort).
    ///
    /// # Errors
    /// [`StopError`].
    pub fn stop(mut self) -> Result<(), StopError> {
        self.end(Ending::Drain)
    }

    /// Cancels everything, answers it with ECANCELED, and ends. Returns only when the kernel can
    /// touch no buffer any more.
    ///
    /// # Errors
    /// [`StopError`].
    pub fn abort(mut self) -> Result<(), StopError> {
        self.end(Ending::Abort)
    }

    /// Whether the loop's thread still runs. It ends by itself only when the ring fails, or by a
    /// panic; [`stop`](Self::stop) then says which.
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// The loop's counters. They lag the loop by at most one pass.
    pub fn counters(&self) -> LoopCounters {
        self.counters.whole.read()
    }

    /// A queue's counters, in the order in which the queues were given to the builder.
    pub fn queue_counters(&self, queue: usize) -> Option<QueueCounters> {
        self.counters.queues.get(queue).map(|shared| shared.read())
    }

    /// What the ring came to use, and why not more.
    pub const fn report(&self) -> &SetupReport {
        &self.report
    }

    /// The kernel's number of the loop's thread, to look it up below `/proc/self/task`.
    pub const fn thread_id(&self) -> u32 {
        self.thread_id
    }

    /// Adds a byte range of a file while the loop runs.
    ///
    /// # Errors
    /// [`LiveError`].
    pub fn insert_file(
        &self,
        file: impl Into<OwnedFd>,
        range: Range<u64>,
        rights: Rights,
    ) -> Result<FileHandle, LiveError> {
        let file = file.into();
        self.ask(|reply| Command::InsertFile {
            file,
            range,
            rights,
            reply,
        })
    }

    /// Adds a byte range of a buffer while the loop runs.
    ///
    /// # Errors
    /// [`LiveError`].
    pub fn insert_buffer(
        &self,
        buffer: Buffer,
        range: Range<u64>,
        rights: Rights,
    ) -> Result<BufferHandle, LiveError> {
        self.ask(|reply| Command::InsertBuffer {
            buffer,
            range,
            rights,
            reply,
        })
    }

    /// Revokes a file handle: requests claimed from now on get EBADF. Returns when nothing is in
    /// flight on it any more. Other entries are served meanwhile.
    ///
    /// # Errors
    /// [`LiveError`].
    pub fn revoke_file(&self, handle: FileHandle) -> Result<(), LiveError> {
        self.revoke(handle.into())
    }

    /// Revokes a buffer handle: requests claimed from now on get EBADF. Returns when nothing is in
    /// flight on it any more: its bytes are the caller's again. Other entries are served meanwhile.
    ///
    /// # Errors
    /// [`LiveError`].
    pub fn revoke_buffer(&self, handle: BufferHandle) -> Result<(), LiveError> {
        self.revoke(handle.into())
    }

    fn revoke(&self, named: Named) -> Result<(), LiveError> {
        self.ask(|reply| Command::Revoke { named, reply })
    }

    fn ask<A>(&self, command: impl FnOnce(Reply<A>) -> Command) -> Result<A, LiveError> {
        let answer = self.send(command);
        Ok(answer.recv().map_err(|_| LiveError::Ended)??)
    }

    /// Gives the loop a command. Its answer comes through the channel, which closes without one if
    /// the loop has ended, or ends before it comes to the command.
    pub(crate) fn send<A>(
        &self,
        command: impl FnOnce(Reply<A>) -> Command,
    ) -> mpsc::Receiver<Result<A, ChangeError>> {
        let (reply, answer) = mpsc::sync_channel(1);
        // What a loop that is gone does not take is dropped, and the reply with it.
        let _ = self.commands.send(command(reply));
        self.signals.announce();
        answer
    }

    /// Tells the loop to end, and does not wait for it.
    pub(crate) fn begin_end(&self, ending: Ending) {
        self.signals.end(ending);
    }

    /// Operations that the kernel had not given back when the loop ended. Waits for the end, so it
    /// is to be asked only of a loop that left a command unanswered.
    pub(crate) fn kept(&self) -> Option<u32> {
        match self.signals.ended() {
            Err(StopError::Stuck { operations }) => Some(operations),
            _ => None,
        }
    }

    pub(crate) fn end(&mut self, ending: Ending) -> Result<(), StopError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.signals.end(ending);
        thread.join().unwrap_or(Err(StopError::Panicked))
    }
}

impl Drop for IoLoop {
    fn drop(&mut self) {
        let _ = self.end(Ending::Drain);
    }
}
