//! Set-up of a pool.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::file_slot::FileSlotState;
use super::shared::{Settings, Shared};
use super::work::Work;
use super::{ThreadPool, worker};
use crate::error::SetupError;
use crate::kernel_features::KernelFeatures;
use crate::settings::CommonSettings;
use crate::thread_pool_report::ThreadPoolReport;
use crate::token_table::TokenTable;

/// The largest number of workers by default.
const WORKERS: u32 = 64;

/// The largest number of workers at all.
const MAX_WORKERS: u32 = 4096;

/// Configures and builds a [`ThreadPool`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until built"]
pub struct ThreadPoolBuilder {
    common: CommonSettings,
    workers: u32,
}

impl Default for ThreadPoolBuilder {
    fn default() -> Self {
        Self {
            common: CommonSettings::default(),
            workers: WORKERS,
        }
    }
}

impl ThreadPool {
    /// Starts the set-up of a pool.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::default()
    }
}

impl ThreadPoolBuilder {
    /// Starts with settings that were made for any transport.
    pub(crate) fn with(common: CommonSettings) -> Self {
        Self {
            common,
            ..Self::default()
        }
    }

    /// Sets how many operations may be in flight at once, 1 to 32768, rounded up to a power of two as
    /// for a ring. Default: 256.
    pub fn entries(mut self, entries: u32) -> Self {
        self.common.entries = entries;
        self
    }

    /// Sets the number of slots of the file table, at most 1048576. Default: 256.
    pub fn files(mut self, files: u32) -> Self {
        self.common.files = files;
        self
    }

    /// Sets the number of slots of the buffer table, at most 16384. Default: 256.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.common.buffers = buffers;
        self
    }

    /// Sets the largest number of workers, 2 to 4096. A worker is started when all others are busy.
    /// Direct I/O and reads from a drive keep one occupied each, so this limits their depth: to half of
    /// it for one file. Default: 64.
    pub fn workers(mut self, most: u32) -> Self {
        self.workers = most;
        self
    }

    /// Sets the cores on which the pool's threads may run. By default they inherit the cores of the
    /// thread that builds the pool. An empty set leaves the cores as they are.
    pub fn worker_cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.common.worker_cores = cores.into_iter().collect();
        self
    }

    /// Sets how long a dropped pool waits for the operations that it cancels. After that it leaves
    /// their threads behind, with the memory that they may yet write to. It does not wait if
    /// [`quiesce`](crate::Transport::quiesce) has already waited for the same operations in vain.
    /// Default: 5 seconds.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.common.drop_deadline = deadline;
        self
    }

    /// Builds the pool as if the kernel lacked these features: see
    /// [`TransportBuilder::withhold`](crate::TransportBuilder::withhold). Default: none.
    pub fn withhold(mut self, features: KernelFeatures) -> Self {
        self.common.withheld = features;
        self
    }

    /// Builds the pool and starts its first thread.
    ///
    /// # Errors
    /// A [`SetupError`] if a number is out of range, or if the kernel gives no thread or no descriptor.
    pub fn build(self) -> Result<ThreadPool, SetupError> {
        self.common.check()?;
        if !(2..=MAX_WORKERS).contains(&self.workers) {
            return Err(SetupError::Workers(self.workers));
        }
        let entries = self.common.entries.next_power_of_two();
        let settings = Settings {
            most: self.workers,
            cores: self.common.worker_cores,
        };
        let work = Work::new(entries, self.common.files, self.workers);
        let shared = Shared::new(work, settings).map_err(|_| SetupError::NoDescriptors)?;
        let shared = Arc::new(shared);
        let mut state = shared.lock();
        state.workers = 1;
        worker::start(&shared, &mut state).map_err(SetupError::NoThread)?;
        drop(state);
        let room = entries as usize;
        Ok(ThreadPool {
            tokens: TokenTable::with_capacity(entries),
            files: (0..self.common.files)
                .map(|_| FileSlotState::EMPTY)
                .collect(),
            buffers: (0..self.common.buffers).map(|_| None).collect(),
            attempts: VecDeque::with_capacity(room),
            queued: VecDeque::with_capacity(room),
            done: VecDeque::with_capacity(room),
            shared,
            waits: None,
            relays: None,
            report: ThreadPoolReport {
                entries,
                workers: self.workers,
                refused: None,
                withheld: self.common.withheld,
                futexes: None,
            },
            drop_deadline: self.common.drop_deadline,
            pushed: 0,
            given_up: None,
        })
    }
}
