use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use vyre_ioq::HostQueue;
use vyre_uring::{Ring, Transport};

use super::run::{self, Setup};
use super::{IoLoop, SpawnError};
use crate::control::Signals;
use crate::policy::Policy;
use crate::tables::{BufferTable, FileTable};

/// Places in the ring's tables for entries that are added while the loop runs.
const LIVE_ENTRIES: u32 = 64;

/// Makes an [`IoLoop`].
#[derive(Debug)]
#[must_use = "call `spawn`"]
pub struct IoLoopBuilder {
    setup: Setup,
    name: String,
}

impl IoLoopBuilder {
    pub(super) fn new() -> Self {
        Self {
            setup: Setup {
                files: FileTable::new(),
                buffers: BufferTable::new(),
                queues: Vec::new(),
                policy: Policy::default(),
                entries: 256,
                live_entries: LIVE_ENTRIES,
                core: None,
                drain_timeout: Duration::from_secs(30),
                abort_timeout: Duration::from_secs(5),
            },
            name: "vyre-io".into(),
        }
    }

    /// The files that devices may name.
    pub fn files(mut self, files: FileTable) -> Self {
        self.setup.files = files;
        self
    }

    /// The buffers that devices may name.
    pub fn buffers(mut self, buffers: BufferTable) -> Self {
        self.setup.buffers = buffers;
        self
    }

    /// Adds a queue to serve. Several are served in turn, a whole queue at a time.
    pub fn queue(mut self, queue: HostQueue) -> Self {
        self.setup.queues.push(queue);
        self
    }

    /// How the loop waits for work: [`Policy::ADAPTIVE`] unless said otherwise.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.setup.policy = policy;
        self
    }

    /// Entries of the ring's submission queue, rounded up to a power of two: 256 unless said
    /// otherwise. Requests beyond what the ring takes wait in the host; none is refused.
    pub fn ring_entries(mut self, entries: u32) -> Self {
        self.setup.entries = entries;
        self
    }

    /// Places for files and for buffers that are added while the loop runs, beyond those given to
    /// the builder: 64 each unless said otherwise.
    pub fn live_entries(mut self, entries: u32) -> Self {
        self.setup.live_entries = entries;
        self
    }

    /// Binds the loop's thread to a core.
    pub fn pin_to(mut self, core: usize) -> Self {
        self.setup.core = Some(core);
        self
    }

    /// How long [`IoLoop::stop`] lets claimed requests run before it cancels them: 30 seconds
    /// unless said otherwise.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.setup.drain_timeout = timeout;
        self
    }

    /// How long the loop waits for the kernel to give cancelled requests back before it leaks
    /// their buffers: 5 seconds unless said otherwise.
    pub fn abort_timeout(mut self, timeout: Duration) -> Self {
        self.setup.abort_timeout = timeout;
        self
    }

    /// Name of the loop's thread: `vyre-io` unless said otherwise.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts the loop. When this returns, the ring is set up and the devices see RUNNING.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn(self) -> Result<IoLoop, SpawnError> {
        self.spawn_with(|ring| ring)
    }

    /// As [`spawn`](Self::spawn), with a transport around the ring: one that counts, or that moves
    /// what was read to another place before a device hears of it. `wrap` runs once, on the loop's
    /// thread, which then owns what it returns; nothing is in the ring's tables yet.
    ///
    /// # Errors
    /// [`SpawnError`].
    pub fn spawn_with<T: Transport>(
        self,
        wrap: impl FnOnce(Ring) -> T + Send + 'static,
    ) -> Result<IoLoop, SpawnError> {
        if self.setup.queues.is_empty() {
            return Err(SpawnError::NoQueue);
        }
        let signals = Arc::new(Signals::new());
        let (commands, inbox) = mpsc::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let setup = self.setup;
        let seen = signals.clone();
        let thread = thread::Builder::new()
            .name(self.name)
            .spawn(move || run::thread(setup, wrap, &seen, inbox, &ready))
            .map_err(SpawnError::Thread)?;
        let start = started.recv().unwrap_or(Err(SpawnError::Died))?;
        Ok(IoLoop {
            signals,
            commands,
            counters: start.counters,
            report: start.report,
            thread_id: start.thread_id,
            thread: Some(thread),
        })
    }
}
