//! The kernel behind `vyre-io copy --device cuda`: lanes on the GPU that read the blocks of a file and
//! write them to another.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

#[cfg(test)]
mod on_gpu;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use vyre_io::{Buffer, BufferHandle, Errno, FileHandle, HostQueue, QueueLayout};
use vyre_ioq_cuda::{
    CudaError, Gpu, GpuMemory, GpuQueue, Launch, LaunchConfig, LoadedProgram, MappedMemory,
    Program, QueueView,
};

/// The device code. `Ptx::compile` prepends `vyre_ioq.cuh`.
const SOURCE: &str = include_str!("../../kernels/copy.cuh");

pub(crate) const PROGRAM: Program<'_> =
    Program::new(SOURCE, NAME, include_str!("../../ptx/copy.ptx"));

/// Name of the kernel.
const NAME: &str = "vyre_ioq_copy";
/// Threads of a warp.
const WARP: u32 = 32;

/// Layout of the kernel's `Args`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    queue: QueueView,
    data: u64,
    copied: u64,
    shared: u64,
    faults: u64,
    bytes: u64,
    from: u32,
    to: u32,
    pool: u32,
    lane_count: u32,
    block_size: u32,
    granularity: u32,
    fence: u32,
    sync: u32,
}

/// Bytes of the kernel's `Shared`.
const SHARED_BYTES: usize = 24;

/// Layout of the kernel's `Fault`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Fault {
    offset: u64,
    purpose: u32,
    end: u32,
    error: u32,
    expected: u32,
    found: u32,
    spare: u32,
}

/// Purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Reading a block of the source.
    Read,
    /// Writing a block to the destination.
    Write,
    /// Waiting for the writes, at the end.
    Fence,
    /// Bringing the destination to stable storage.
    Sync,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reading the source",
            Self::Write => "writing the copy",
            Self::Fence => "waiting for the writes",
            Self::Sync => "syncing the copy",
        })
    }
}

/// Reason for which lanes failed. All of them have ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GpuCopyError {
    /// An operation on the GPU failed.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// A request came back with an errno.
    #[error("{purpose} failed at byte {offset}: {errno}")]
    Refused {
        /// Purpose of the request.
        purpose: Purpose,
        /// Offset in the file; 0 for the steps at the end.
        offset: u64,
        /// Error of the request.
        errno: Errno,
    },
    /// The source ended early.
    #[error(
        "the source has {found} bytes instead of {expected} at byte {offset}: copy it when nobody \
         writes to it"
    )]
    Short {
        /// Offset in the file.
        offset: u64,
        /// Bytes that should be there.
        expected: u32,
        /// Bytes that are.
        found: u32,
    },
    /// There was no outcome.
    #[error(
        "{purpose} has no outcome at byte {offset}: look at why the loop ended, or had no slot"
    )]
    NoOutcome {
        /// Purpose of the request.
        purpose: Purpose,
        /// Offset in the file; 0 for the steps at the end.
        offset: u64,
    },
}

impl Fault {
    fn into_result(self) -> Result<(), GpuCopyError> {
        /// `WaitStatus::COMPLETED`.
        const ANSWERED: u32 = 1;
        let purpose = match self.purpose {
            0 => return Ok(()),
            1 => Purpose::Read,
            2 => Purpose::Write,
            3 => Purpose::Fence,
            _ => Purpose::Sync,
        };
        let offset = self.offset;
        Err(if self.end != ANSWERED {
            GpuCopyError::NoOutcome { purpose, offset }
        } else if self.error != 0 {
            let errno = Errno::from_raw(self.error);
            GpuCopyError::Refused {
                purpose,
                offset,
                errno,
            }
        } else {
            GpuCopyError::Short {
                offset,
                expected: self.expected,
                found: self.found,
            }
        })
    }
}

/// Task of the lanes. The queue's host has given out the handles.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// Copies every block, and fences the writes.
    Copy {
        /// The source.
        from: FileHandle,
        /// The destination.
        to: FileHandle,
        /// The room's [`buffer`](Room::buffer).
        pool: BufferHandle,
        /// Bytes of the file.
        bytes: u64,
        /// Number of bytes that the length of each request must be a multiple of: 1 without direct
        /// I/O. The last block is padded with zeros to such a length, and the padding is cut off
        /// when the task is done.
        granularity: u32,
    },
    /// Brings a file to stable storage.
    Sync {
        /// The file.
        file: FileHandle,
    },
}

impl Task {
    /// All but the addresses.
    fn args(&self, lanes: u32, block_size: u32) -> Args {
        assert!(lanes > 0 && block_size > 0, "no lane, or no block");
        let base = Args {
            lane_count: lanes,
            block_size,
            granularity: 1,
            ..Args::zeroed()
        };
        match *self {
            Self::Copy {
                from,
                to,
                pool,
                bytes,
                granularity,
            } => {
                assert!(
                    granularity > 0 && block_size.is_multiple_of(granularity),
                    "blocks of {block_size} bytes are no multiple of {granularity}"
                );
                Args {
                    from: from.raw(),
                    to: to.raw(),
                    pool: pool.raw(),
                    bytes,
                    granularity,
                    fence: 1,
                    ..base
                }
            }
            Self::Sync { file } => Args {
                to: file.raw(),
                lane_count: 1,
                sync: 1,
                ..base
            },
        }
    }
}

/// The kernel, loaded.
#[derive(Clone, Debug)]
pub(super) struct Copier {
    gpu: Gpu,
    loaded: LoadedProgram,
}

impl Copier {
    /// Compiles and loads the kernel. Loads prebuilt PTX where there is no suitable NVRTC.
    ///
    /// # Errors
    /// [`CudaError`].
    pub(super) fn load(gpu: &Gpu) -> Result<Self, CudaError> {
        let loaded = PROGRAM.load(gpu)?;
        let gpu = gpu.clone();
        Ok(Self { gpu, loaded })
    }

    /// Makes a queue, and a block of memory for each lane.
    ///
    /// # Errors
    /// [`CudaError`] if the layout is invalid or there is no memory.
    pub(super) fn room(
        &self,
        layout: QueueLayout,
        lanes: u32,
        block_size: u32,
    ) -> Result<(HostQueue, Room), CudaError> {
        let (host, queue) = GpuQueue::new(&self.gpu, layout)?;
        let data = MappedMemory::anonymous(&self.gpu, lanes as usize * block_size as usize)?;
        let copied = MappedMemory::anonymous(&self.gpu, lanes as usize * WORD)?;
        let room = Room {
            queue,
            lanes,
            block_size,
            data_ptr: data.device_ptr(),
            copied_ptr: copied.device_ptr(),
            data: data.into_buffer()?,
            copied: copied.into_buffer()?,
        };
        Ok((host, room))
    }

    /// Starts the lanes. No other lanes may use the room.
    ///
    /// # Errors
    /// [`CudaError`] if the GPU has no free memory, or if the driver does not launch the kernel.
    ///
    /// # Panics
    /// If the block size is not a multiple of the granularity.
    pub(super) fn start(&self, room: &Arc<Room>, task: &Task) -> Result<Run, CudaError> {
        let args = task.args(room.lanes, room.block_size);
        let shared = GpuMemory::zeroed(&self.gpu, SHARED_BYTES)?;
        let lanes = args.lane_count as usize;
        let faults = Arc::new(GpuMemory::zeroed(&self.gpu, lanes * size_of::<Fault>())?);
        let args = Args {
            queue: room.queue.view(),
            data: room.data_ptr,
            copied: room.copied_ptr,
            shared: shared.device_ptr(),
            faults: faults.device_ptr(),
            ..args
        };
        room.forget_copied();
        let config = LaunchConfig::new(args.lane_count, WARP);
        let keep = (shared, Arc::clone(&faults), Arc::clone(room));
        // SAFETY: `Args` has the layout of the kernel's parameter, which the tests compare. What the
        // kernel reaches is in `keep`: the queue, counters, and a block and a word of the room for
        // each lane. This process reaches the room's memory as shared memory only.
        let launch = unsafe { self.loaded.kernel().launch(config, &args, keep) }?;
        Ok(Run {
            launch,
            faults,
            room: Arc::clone(room),
            bytes: args.bytes,
        })
    }
}

/// Bytes of a lane's count.
const WORD: usize = size_of::<u32>();

/// A queue, and memory for blocks.
#[derive(Debug)]
pub(super) struct Room {
    queue: GpuQueue,
    lanes: u32,
    block_size: u32,
    data: Buffer,
    data_ptr: u64,
    /// A word for each lane: the number of blocks that it has copied.
    copied: Buffer,
    copied_ptr: u64,
}

impl Room {
    /// Returns the memory that blocks pass through, for the buffer table of the host.
    pub(super) fn buffer(&self) -> Buffer {
        self.data.clone()
    }

    fn forget_copied(&self) {
        let stored = self.copied.write_at(0, &vec![0; self.copied.len()]);
        debug_assert!(stored.is_ok(), "the buffer is that long");
    }

    fn blocks_copied(&self) -> u64 {
        let mut words = vec![0; self.copied.len()];
        let read = self.copied.read_at(0, &mut words);
        debug_assert!(read.is_ok(), "the buffer is that long");
        blocks_of(&words)
    }
}

fn blocks_of(copied: &[u8]) -> u64 {
    let words = copied.chunks_exact(WORD);
    words
        .map(|word| u64::from(bytemuck::pod_read_unaligned::<u32>(word)))
        .sum()
}

/// Lanes that are at work.
#[derive(Debug)]
pub(super) struct Run {
    launch: Launch,
    faults: Arc<GpuMemory>,
    room: Arc<Room>,
    bytes: u64,
}

impl Run {
    /// Returns the number of bytes copied so far, as the lanes report it. A short last block counts
    /// as a whole one until all lanes are done.
    pub(super) fn bytes_copied(&self) -> u64 {
        let bytes = self.room.blocks_copied() * u64::from(self.room.block_size);
        bytes.min(self.bytes)
    }

    /// Returns whether every lane has ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the kernel failed.
    pub(super) fn is_done(&self) -> Result<bool, CudaError> {
        self.launch.is_done()
    }

    /// Waits until every lane has ended. Of several failures, the lowest lane's is returned.
    ///
    /// # Errors
    /// [`GpuCopyError`].
    pub(super) fn wait(&self) -> Result<(), GpuCopyError> {
        self.launch.wait()?;
        first_fault(&self.faults.read()?)
    }
}

fn first_fault(faults: &[u8]) -> Result<(), GpuCopyError> {
    faults
        .chunks_exact(size_of::<Fault>())
        .map(bytemuck::pod_read_unaligned)
        .try_for_each(Fault::into_result)
}
