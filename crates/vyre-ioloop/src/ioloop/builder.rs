use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread;

use vyre_uring::Transport;

use super::run::{self, Setup, Started};
use super::thread::End;
use super::{BaseTransport, IoLoop, Thread};
use crate::buffer_table::BufferTable;
use crate::commands::{Command, ControlFlags};
use crate::error::message_of;
use crate::error::{SpawnError, StopError};
use crate::file_table::FileTable;
use crate::options::LoopOptions;
use crate::queue_id::QueueId;
use crate::queue_options::QueueOptions;

impl IoLoop {
    /// Returns a builder for a loop.
    pub fn builder() -> IoLoopBuilder {
        IoLoopBuilder::new()
    }
}

/// Configures and spawns an [`IoLoop`].
#[derive(Debug)]
#[must_use = "call `spawn`"]
pub struct IoLoopBuilder {
    setup: Setup,
    name: String,
}

impl IoLoopBuilder {
    pub(crate) fn new() -> Self {
        Self {
            setup: Setup {
                files: FileTable::new(),
                buffers: BufferTable::new(),
                queues: Vec::new(),
                core: None,
                others: Vec::new(),
                options: LoopOptions::default(),
            },
            name: "vyre-io".into(),
        }
    }

    /// Sets the files that devices may name.
    pub fn files(mut self, files: FileTable) -> Self {
        self.setup.files = files;
        self
    }

    /// Sets the buffers that devices may name.
    pub fn buffers(mut self, buffers: BufferTable) -> Self {
        self.setup.buffers = buffers;
        self
    }

    /// Adds a queue to serve. Several queues are served in turn, one whole queue at a time. A loop may start without a
    /// queue: [`IoLoop::add_queue`] adds some while it runs.
    pub fn queue(self, queue: impl Into<QueueOptions>) -> Self {
        let id = QueueId::from(self.setup.queues.len());
        self.queue_as(id, queue.into())
    }

    /// Adds a queue under a number, which is above those of the queues before it.
    pub(crate) fn queue_as(mut self, id: QueueId, queue: QueueOptions) -> Self {
        self.setup.queues.push((id, queue));
        self
    }

    /// Sets how the loop waits, how it shuts down, and how large its ring is.
    pub const fn options(mut self, options: LoopOptions) -> Self {
        self.setup.options = options;
        self
    }

    /// Binds the loop's thread to a core. The kernel's workers for its ring, which perform operations
    /// that would block, run on the other cores of this process, if there are any.
    pub fn pin_to(mut self, core: usize) -> Self {
        self.setup.core = Some(core);
        self
    }

    /// Sets the name of the loop's thread: `vyre-io` by default. Linux shows the first 15 bytes. A
    /// name with a NUL byte is an error of [`spawn`](Self::spawn).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts the loop. When it returns, the ring is set up and devices see RUNNING. It has no time
    /// limit: it takes as long as the kernel needs to set up the ring and pin the buffers.
    ///
    /// The loop's thread blocks signals, as [`block_signals`](crate::block_signals) does, so that no
    /// device can end the process by one.
    ///
    /// # Errors
    /// [`SpawnError`] if the thread cannot be set up, or if the ring or the kernel refuses the tables.
    pub fn spawn(self) -> Result<IoLoop, SpawnError> {
        self.spawn_with(|base| base)
    }

    /// Starts the loop as [`spawn`](Self::spawn) does, with a transport around its own, such as one
    /// that counts, or one that moves bytes elsewhere before a device gets the outcome. `wrap` runs
    /// once, on the loop's thread, which then owns the result. The tables are still empty.
    /// Threads that `wrap` spawns inherit the blocked signals.
    ///
    /// # Errors
    /// The same as for [`spawn`](Self::spawn).
    pub fn spawn_with<T: Transport>(
        self,
        wrap: impl FnOnce(BaseTransport) -> T + Send + 'static,
    ) -> Result<IoLoop, SpawnError> {
        self.begin(wrap)?.finish()
    }

    /// Sets the loop's core, and the cores of the group's loops, which the kernel's workers avoid.
    pub(crate) fn cores(mut self, core: Option<usize>, others: Vec<usize>) -> Self {
        self.setup.core = core;
        self.setup.others = others;
        self
    }

    /// Starts the thread without waiting for it.
    pub(crate) fn begin<T: Transport>(
        self,
        wrap: impl FnOnce(BaseTransport) -> T + Send + 'static,
    ) -> Result<Starting, SpawnError> {
        // The standard library would panic.
        if self.name.contains('\0') {
            return Err(SpawnError::Name { name: self.name });
        }
        self.setup.check_queues()?;
        let flags = Arc::new(ControlFlags::new());
        let (commands, inbox) = mpsc::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let setup = self.setup;
        let end = Arc::new(End::default());
        let options = setup.options;
        let next_queue = setup.queues.last().map_or(0, |(id, _)| id.raw() + 1);
        let (seen, ended) = (flags.clone(), end.clone());
        let thread = move || {
            let thread = || run::thread(setup, wrap, &seen, &ended, inbox, &ready);
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(thread)) {
                let message = message_of(&*payload);
                let died = SpawnError::Died {
                    message: message.clone(),
                };
                // Nobody looks for it once the thread has served.
                let _ = ready.try_send(Err(died));
                ended.set(Err(StopError::Panicked { message, kept: 0 }));
            }
        };
        let thread = thread::Builder::new()
            .name(self.name)
            .spawn(thread)
            .map(|handle| Thread::new(handle, end))
            .map_err(SpawnError::Thread)?;
        Ok(Starting {
            flags,
            commands,
            started,
            thread,
            options,
            next_queue,
        })
    }
}

/// A loop whose thread is still setting up.
#[must_use = "nothing ends the thread unless `finish` is called"]
pub(crate) struct Starting {
    flags: Arc<ControlFlags>,
    commands: mpsc::Sender<Command>,
    started: mpsc::Receiver<Result<Started, SpawnError>>,
    thread: Thread,
    options: LoopOptions,
    next_queue: u64,
}

impl Starting {
    /// Waits until the loop serves.
    pub(crate) fn finish(self) -> Result<IoLoop, SpawnError> {
        let died = || SpawnError::Died {
            message: "no message".into(),
        };
        let start = self.started.recv().unwrap_or_else(|_| Err(died()))?;
        Ok(IoLoop {
            flags: self.flags,
            commands: self.commands,
            counters: start.counters,
            report: start.report,
            wake_fd: start.wake_fd,
            thread_id: start.thread_id,
            thread: self.thread,
            options: self.options,
            next_queue: AtomicU64::new(self.next_queue),
        })
    }
}
