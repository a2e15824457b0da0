use vyre_uring::Transport;

use super::authority::Authority;
use super::places::Places;
use super::{LoopGroup, end_all, reopen};
use crate::buffer_table::BufferTable;
use crate::commands::Shutdown;
use crate::error::{GroupSpawnError, SpawnError};
use crate::file_table::FileTable;
use crate::ioloop::BaseTransport;
use crate::ioloop::builder::{IoLoopBuilder, Starting};
use crate::options::LoopOptions;
use crate::queue_id::QueueId;
use crate::queue_options::QueueOptions;

impl LoopGroup {
    /// Returns a builder for a group.
    pub fn builder() -> LoopGroupBuilder {
        LoopGroupBuilder::new()
    }
}

/// Configures and spawns a [`LoopGroup`].
#[derive(Debug)]
#[must_use = "call `spawn`"]
pub struct LoopGroupBuilder {
    files: FileTable,
    buffers: BufferTable,
    /// The core of each loop.
    cores: Vec<Option<usize>>,
    /// The queues, each with its chosen loop, if any.
    queues: Vec<(Option<usize>, QueueOptions)>,
    options: LoopOptions,
    name: String,
}

impl LoopGroupBuilder {
    pub(super) fn new() -> Self {
        Self {
            files: FileTable::new(),
            buffers: BufferTable::new(),
            cores: vec![None],
            queues: Vec::new(),
            options: LoopOptions::default(),
            name: "vyre-io".into(),
        }
    }

    /// Sets the files that the devices of all queues may name.
    pub fn files(mut self, files: FileTable) -> Self {
        self.files = files;
        self
    }

    /// Sets the buffers that the devices of all queues may name. Each is registered with every ring.
    pub fn buffers(mut self, buffers: BufferTable) -> Self {
        self.buffers = buffers;
        self
    }

    /// Sets the number of loops. The default is one. The last call of this and
    /// [`pin_to`](Self::pin_to) takes effect.
    pub fn loops(mut self, loops: usize) -> Self {
        self.cores = vec![None; loops];
        self
    }

    /// Sets one loop for each of these cores, with its thread bound to that core. The last call of
    /// this and [`loops`](Self::loops) takes effect.
    pub fn pin_to(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = cores.into_iter().map(Some).collect();
        self
    }

    /// Adds a queue and assigns it to a loop: the first goes to loop 0, the next to loop 1, and so on,
    /// in turn. A loop may start without a queue:
    /// [`LoopGroup::add_queue`] adds some while it runs.
    pub fn queue(mut self, queue: impl Into<QueueOptions>) -> Self {
        self.queues.push((None, queue.into()));
        self
    }

    /// Adds a queue for a certain loop. It does not affect the assignment of others.
    pub fn queue_on(mut self, index: usize, queue: impl Into<QueueOptions>) -> Self {
        self.queues.push((Some(index), queue.into()));
        self
    }

    /// Sets how each loop waits, how it shuts down, and how large its ring is.
    pub const fn options(mut self, options: LoopOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the prefix of the threads' names, which the loop's number follows. The default is
    /// `vyre-io`. A name with a NUL byte is an error of [`spawn`](Self::spawn).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts all loops at the same time. When it returns, every ring is set up and the devices of all
    /// queues see RUNNING.
    ///
    /// # Errors
    /// [`GroupSpawnError`] if there is no loop, if a queue's loop does not exist, or if a loop does not
    /// start. Then no loop runs.
    pub fn spawn(self) -> Result<LoopGroup, GroupSpawnError> {
        self.spawn_with(|_| |base| base)
    }

    /// Starts the loops as [`spawn`](Self::spawn) does, with a transport around that of each loop, as
    /// [`IoLoopBuilder::spawn_with`] does. `wrap(index)` returns the function that wraps the transport of
    /// the loop with that number. It runs on this thread, once for each loop, in order, before any loop
    /// starts.
    ///
    /// # Errors
    /// The same as for [`spawn`](Self::spawn).
    pub fn spawn_with<T, W>(
        self,
        wrap: impl FnMut(usize) -> W,
    ) -> Result<LoopGroup, GroupSpawnError>
    where
        T: Transport,
        W: FnOnce(BaseTransport) -> T + Send + 'static,
    {
        let Dealt { shares, places } = deal(self.queues, self.cores.len())?;
        let failed = |index| move |reason| GroupSpawnError::Loop { index, reason };
        // The caller's code, which may panic: no thread is there yet that it would leave behind.
        let wraps: Vec<W> = (0..shares.len()).map(wrap).collect();
        let authority = Authority::new(&self.files, &self.buffers, shares.len());
        let sharing = !authority.may_reopen(shares.len());
        let pinned: Vec<usize> = self.cores.iter().copied().flatten().collect();
        // All of them have begun before any is waited for, and none is left behind.
        let begin = |(index, ((share, core), wrap)): (usize, ((Share, _), W))| {
            // Replicas: the same entries under the same handles.
            let files = match index {
                0 => self.files.clone(),
                _ if sharing => self.files.clone(),
                _ => reopen::table(&self.files),
            };
            let builder = IoLoopBuilder::new()
                .files(files)
                .buffers(self.buffers.clone())
                .options(self.options)
                .cores(core, pinned.clone())
                .name(format!("{}-{index}", self.name));
            let add = |builder: IoLoopBuilder, (id, queue)| builder.queue_as(id, queue);
            let builder = share.into_iter().fold(builder, add);
            builder.begin(wrap)
        };
        let parts = shares.into_iter().zip(self.cores).zip(wraps).enumerate();
        let begun: Vec<_> = parts.map(begin).collect();
        let mut loops = Vec::with_capacity(begun.len());
        let mut failure = None;
        for (index, begun) in begun.into_iter().enumerate() {
            match begun.and_then(Starting::finish).map_err(failed(index)) {
                Ok(io) => loops.push(io),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        if let Some(error) = failure {
            let _ = end_all(&mut loops, Shutdown::Abort);
            return Err(error);
        }
        Ok(LoopGroup {
            loops,
            authority,
            places,
        })
    }
}

/// The queues of a loop, by number.
type Share = Vec<(QueueId, QueueOptions)>;

/// The queues, assigned to loops.
struct Dealt {
    /// The queues of each loop.
    shares: Vec<Share>,
    places: Places,
}

fn deal(
    queues: Vec<(Option<usize>, QueueOptions)>,
    loops: usize,
) -> Result<Dealt, GroupSpawnError> {
    if loops == 0 {
        return Err(GroupSpawnError::NoLoop);
    }
    let mut shares: Vec<Share> = (0..loops).map(|_| Vec::new()).collect();
    let places = Places::default();
    let mut turns = 0;
    for (queue, (chosen, options)) in queues.into_iter().enumerate() {
        let index = chosen.unwrap_or_else(|| {
            turns += 1;
            (turns - 1) % loops
        });
        let Some(share) = shares.get_mut(index) else {
            return Err(GroupSpawnError::NoSuchLoop {
                queue,
                index,
                loops,
            });
        };
        let placed = places.reserve(Some(index), loops, |_| true, options.host.addresses());
        let (id, _) = placed.map_err(|reason| {
            let queue = queue.into();
            let reason = SpawnError::Queue { queue, reason };
            GroupSpawnError::Loop { index, reason }
        })?;
        share.push((id, options));
    }
    Ok(Dealt { shares, places })
}
