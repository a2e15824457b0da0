//! Queues whose device is a kernel of a GPU.

use std::io;
use std::sync::{Mutex, PoisonError};

use vyre_io::cuda::{CudaError, Gpu, GpuMemory, GpuQueue, MappedMemory};
use vyre_io::{
    Buffer, BufferTable, FileTable, IoLoop, LoopOptions, QueueLayout, SpawnError, StopError,
    TableError, WaitPolicy,
};

use crate::fork;
use crate::given_back::{GivenBack, is_exiting};
use crate::open_file::OpenFile;

/// Settings of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The number of the GPU.
    pub(crate) ordinal: u32,
    pub(crate) slots: u32,
    /// The bytes of the memory that requests name.
    pub(crate) bytes: usize,
    pub(crate) policy: WaitPolicy,
}

/// Reason that there is no queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error("a file or the memory cannot be registered: {0}")]
    Table(#[from] TableError),
    #[error("a file cannot be duplicated: {0}")]
    File(#[from] io::Error),
    #[error("the loop did not start: {0}")]
    Spawn(#[from] SpawnError),
}

/// The memory that kernels use.
#[derive(Debug)]
struct Used {
    _queue: GpuQueue,
    _view: GpuMemory,
    _buffer: Buffer,
}

/// A loop that serves the requests that kernels of a GPU make for some files.
#[derive(Debug)]
pub(crate) struct Served {
    /// `None` once it was closed.
    live: Mutex<Option<Live>>,
    born: u32,
    pub(crate) addresses: Addresses,
}

#[derive(Debug)]
struct Live {
    // Before the memory, which is given back once no kernel runs: they find out that the loop is gone.
    io: IoLoop,
    used: GivenBack<Used>,
}

/// Numbers that a kernel needs.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    /// The address of the queue's view, in memory of the GPU.
    pub(crate) queue: u64,
    /// The address for kernels of the memory that requests name, its length, and its handle.
    pub(crate) buffer: u64,
    pub(crate) bytes: usize,
    pub(crate) pool: u32,
    /// The handles of the files.
    pub(crate) files: Vec<u32>,
}

impl Served {
    /// Starts the loop.
    pub(crate) fn start<'a>(
        files: impl IntoIterator<Item = &'a OpenFile>,
        settings: Settings,
    ) -> Result<Self, QueueError> {
        let gpu = Gpu::open(settings.ordinal)?;
        let (host, queue) = GpuQueue::new(&gpu, QueueLayout::with_slots(settings.slots))?;
        let view = GpuMemory::of(&gpu, &queue.view().to_bytes())?;
        let memory = MappedMemory::anonymous(&gpu, settings.bytes)?;
        let address = memory.device_ptr();
        let buffer = memory.into_buffer()?;
        let (mut table, mut buffers) = (FileTable::new(), BufferTable::new());
        let mut handles = Vec::new();
        for file in files {
            let handle = table.insert_range(file.file.try_clone()?, .., file.rights())?;
            handles.push(handle.raw());
        }
        let addresses = Addresses {
            queue: view.device_ptr(),
            buffer: address,
            bytes: settings.bytes,
            pool: buffers.insert(buffer.clone())?.raw(),
            files: handles,
        };
        let options = LoopOptions::new().wait_policy(settings.policy);
        let builder = IoLoop::builder().files(table).buffers(buffers).queue(host);
        let io = builder.options(options).spawn()?;
        let used = GivenBack::new(Used {
            _queue: queue,
            _view: view,
            _buffer: buffer,
        });
        Ok(Self {
            live: Mutex::new(Some(Live { io, used })),
            born: fork::generation(),
            addresses,
        })
    }

    /// Returns whether this process was forked from the queue's.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.born != fork::generation()
    }

    pub(crate) fn is_closed(&self) -> bool {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.is_none()
    }

    /// Ends the loop, and has a thread give the memory back. Does nothing the second time.
    pub(crate) fn close(&self) -> Result<(), StopError> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Live { io, used }) = live.take() else {
            return Ok(());
        };
        let ended = io.stop();
        drop(used);
        ended
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.is_elsewhere() || is_exiting() {
            // The loop is another process's, or ends with this one.
            let live = self.live.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(live.take());
        } else {
            // Nobody is left to be told what the loop could not do.
            let _ = self.close();
        }
    }
}
