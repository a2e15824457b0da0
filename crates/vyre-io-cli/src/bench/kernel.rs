//! The persistent kernel behind `vyre-io bench --device cuda`, and its host side: lanes on the GPU that
//! ask for blocks of a file until their time is over.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

mod counted;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod on_gpu;
#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use vyre_io::ioq::abi;
use vyre_io::{Buffer, BufferHandle, FileHandle, HostQueue, QueueLayout};
use vyre_ioq_cuda::landing::{Landing, LandingBuffer};
use vyre_ioq_cuda::{
    CudaError, Gpu, GpuMemory, GpuQueue, Launch, LaunchConfig, LoadedProgram, MappedMemory,
    Program, QueueView,
};

use crate::failure::Failure;
use counted::{BUCKETS, Lane};

pub(super) use counted::Counted;

/// The device code. `Ptx::compile` prepends `vyre_ioq.cuh`.
const SOURCE: &str = include_str!("../../kernels/bench.cuh");

pub(crate) const PROGRAM: Program<'_> =
    Program::new(SOURCE, NAME, include_str!("../../ptx/bench.ptx"));

/// Name of the kernel.
const NAME: &str = "vyre_ioq_bench";
/// Threads of a warp.
const WARP: u32 = 32;
/// Unit in bytes in which blocks are stamped, verified and landed. The kernel's `SECTOR`.
const SECTOR: u32 = 512;
/// With more lanes, blocks hold several: a multiprocessor runs few blocks at once.
const LANES_ALONE: u32 = 1024;
const LANES_OF_BLOCK: u32 = 4;
/// Bytes of the memory that holds the stop word at its start: one page.
const STOP_BYTES: usize = 4096;
/// Interval between checks for the end of the kernel.
const LOOK: Duration = Duration::from_millis(1);

/// Layout of the kernel's `LaneQueue`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct LaneQueue {
    queue: QueueView,
    file: u32,
    pool: u32,
}

impl LaneQueue {
    fn of(work: &Work, queue: QueueView, (file, pool): (FileHandle, BufferHandle)) -> Self {
        Self {
            queue: if work.words { queue.in_words() } else { queue },
            file: file.raw(),
            pool: pool.raw(),
        }
    }
}

/// Layout of the kernel's `Args`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    queues: u64,
    data: u64,
    lanes: u64,
    histograms: u64,
    stop: u64,
    stopped: u64,
    landed: u64,
    blocks: u64,
    nanoseconds: u64,
    timeout: u64,
    heartbeat_timeout: u64,
    operations: u64,
    seed: u64,
    queue_count: u32,
    lane_count: u32,
    block_size: u32,
    op: u32,
    random: u32,
    stamped: u32,
    read_each: u32,
    lands: u32,
}

/// Requests that lanes submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// Blocks of the file.
    Read,
    /// Blocks of the file, which the lanes stamp first.
    Write,
    /// Nothing: the cost of the queue alone.
    Fence,
}

/// One run of the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Requests to submit.
    pub(super) op: RequestKind,
    /// Set if lanes choose blocks at random instead of one after the other.
    pub(super) random: bool,
    /// Whole blocks in the file; not used by fences.
    pub(super) blocks: u64,
    /// Set if the blocks contain stamps, which lanes verify in the blocks that they read in full.
    pub(super) stamped: bool,
    /// READ: one block in this many is read in full by its warp. 0: none.
    pub(super) read_each: u32,
    /// Time for which the lanes submit requests.
    pub(super) time: Duration,
    /// Number of operations of each lane; 0: until the time is over.
    pub(super) operations: u64,
    /// Time after which a lane gives up waiting for an outcome.
    pub(super) timeout: Duration,
    /// Time for which the host's heartbeat may stand still before lanes give up. `None` is no limit.
    pub(super) heartbeat_timeout: Option<Duration>,
    /// Set if lanes access slots in words: see [`QueueView::in_words`].
    pub(super) words: bool,
}

/// The kernel, loaded.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    gpu: Gpu,
    loaded: LoadedProgram,
}

impl Bench {
    /// Compiles and loads the kernel. Loads prebuilt PTX if there is no NVRTC, or none that suits the GPU
    /// and the driver.
    ///
    /// # Errors
    /// [`CudaError`] if the compiler or the driver rejects the kernel.
    pub(super) fn load(gpu: &Gpu) -> Result<Self, CudaError> {
        let loaded = PROGRAM.load(gpu)?;
        let gpu = gpu.clone();
        Ok(Self { gpu, loaded })
    }

    /// Loads PTX from a file.
    ///
    /// # Errors
    /// [`CudaError::Ptx`] if the file cannot be read, or another [`CudaError`] if the driver rejects the PTX.
    pub(super) fn from_file(gpu: &Gpu, path: &Path) -> Result<Self, CudaError> {
        let loaded = PROGRAM.load_file(gpu, path)?;
        let gpu = gpu.clone();
        Ok(Self { gpu, loaded })
    }

    /// Registers that each thread uses.
    pub(super) const fn registers(&self) -> u32 {
        self.loaded.kernel().registers()
    }

    /// Returns whether the PTX was compiled beforehand.
    pub(super) const fn is_prebuilt(&self) -> bool {
        self.loaded.is_prebuilt()
    }

    /// Makes queues, and a block of memory for each lane.
    ///
    /// # Errors
    /// [`CudaError`] if the layout is invalid or there is no memory.
    pub(super) fn room(
        &self,
        layout: QueueLayout,
        queues: u32,
        lanes: u32,
        block_size: u32,
        landing: Landing,
    ) -> Result<(Vec<HostQueue>, Room), CudaError> {
        let (mut hosts, mut devices) = (Vec::new(), Vec::new());
        for id in 0..queues {
            let (host, device) = GpuQueue::new(&self.gpu, layout.with_id(id.into()))?;
            hosts.push(host);
            devices.push(device);
        }
        let data = MappedMemory::anonymous(&self.gpu, lanes as usize * block_size as usize)?;
        let room = self.room_of(devices, data, block_size, landing)?;
        Ok((hosts, room))
    }

    /// Returns a room of queues and memory that the caller provides, with a lane for each block of the
    /// memory.
    ///
    /// # Errors
    /// [`CudaError`] if there is no memory.
    ///
    /// # Panics
    /// If a block has no bytes.
    pub(super) fn room_of(
        &self,
        queues: Vec<GpuQueue>,
        data: MappedMemory,
        block_size: u32,
        landing: Landing,
    ) -> Result<Room, CudaError> {
        let stop = MappedMemory::anonymous(&self.gpu, STOP_BYTES)?;
        let lanes = (data.len() / block_size as usize) as u32;
        let data_ptr = data.device_ptr();
        let data = data.into_buffer()?;
        let landed = match landing {
            Landing::None => None,
            _ => Some(LandingBuffer::behind(&self.gpu, data.clone())?),
        };
        Ok(Room {
            queues,
            lanes,
            block_size,
            data_ptr,
            stop_ptr: stop.device_ptr(),
            data,
            stop: stop.into_buffer()?,
            landing,
            landed,
        })
    }

    /// Starts the lanes. `handles` holds one pair for each queue: the handles that the queue's host
    /// has given to the file and to the room's buffer. No other lanes may run in the room, and none
    /// may have given up there: a request could still be in flight on its block.
    ///
    /// # Errors
    /// [`Failure::GpuBlockSize`] if the kernel stamps, verifies or lands blocks, and their size is
    /// not a multiple of 512 bytes; [`Failure::Cuda`] if the GPU has no free memory, or if the
    /// driver does not launch the kernel.
    ///
    /// # Panics
    /// If `handles` does not hold one pair for each queue, or if there is no queue, no lane or no
    /// block.
    pub(super) fn start(
        &self,
        room: &Arc<Room>,
        work: &Work,
        handles: &[(FileHandle, BufferHandle)],
    ) -> Result<Run, Failure> {
        assert_eq!(handles.len(), room.queues.len(), "handles for each queue");
        if !room.suits(work) {
            return Err(Failure::GpuBlockSize(room.block_size));
        }
        let queues: Vec<LaneQueue> = room
            .queues
            .iter()
            .zip(handles)
            .map(|(queue, handles)| LaneQueue::of(work, queue.view(), *handles))
            .collect();
        let count = room.lanes as usize;
        let queues_there = GpuMemory::of(&self.gpu, bytemuck::cast_slice(&queues))?;
        let lanes = GpuMemory::zeroed(&self.gpu, count * size_of::<Lane>())?;
        let histograms = GpuMemory::zeroed(&self.gpu, count * BUCKETS * size_of::<u32>())?;
        let stopped = GpuMemory::zeroed(&self.gpu, size_of::<u32>())?;
        let args = Args {
            queues: queues_there.device_ptr(),
            data: room.data_ptr,
            lanes: lanes.device_ptr(),
            histograms: histograms.device_ptr(),
            stop: room.stop_ptr,
            stopped: stopped.device_ptr(),
            landed: room.landed.as_ref().map_or(0, LandingBuffer::device_ptr),
            lands: (room.landing == Landing::Kernel).into(),
            ..Args::of(work, queues.len() as u32, room.lanes, room.block_size)
        };
        room.set_stop(0);
        let memory = Arc::new(Results { lanes, histograms });
        let keep = (Arc::clone(&memory), queues_there, stopped, Arc::clone(room));
        let together = if room.lanes > LANES_ALONE {
            LANES_OF_BLOCK
        } else {
            1
        };
        let config = LaunchConfig::new(room.lanes.div_ceil(together), together * WARP);
        // SAFETY: `Args` has the layout of the kernel's parameter, which the tests compare. What the
        // kernel reaches is in `keep`: queues, results, and a block of the room for each lane. This
        // process reaches the room's memory as shared memory only.
        let launch = unsafe { self.loaded.kernel().launch(config, &args, keep) }?;
        Ok(Run { launch, memory })
    }
}

/// Returns a time in nanoseconds, at most 584 years.
fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

impl Args {
    /// All but the addresses.
    fn of(work: &Work, queue_count: u32, lane_count: u32, block_size: u32) -> Self {
        assert!(queue_count > 0 && lane_count > 0, "no queue, or no lane");
        assert!(work.op == RequestKind::Fence || work.blocks > 0, "no block");
        Self {
            blocks: work.blocks,
            nanoseconds: nanoseconds(work.time),
            timeout: nanoseconds(work.timeout),
            heartbeat_timeout: work.heartbeat_timeout.map_or(0, nanoseconds),
            operations: work.operations,
            seed: 0x5eed,
            queue_count,
            lane_count,
            block_size,
            op: match work.op {
                RequestKind::Read => abi::op::READ,
                RequestKind::Write => abi::op::WRITE,
                RequestKind::Fence => abi::op::FENCE,
            },
            random: work.random.into(),
            stamped: work.stamped.into(),
            read_each: work.read_each,
            ..Self::zeroed()
        }
    }
}

/// Queues, and memory for blocks.
#[derive(Debug)]
pub(super) struct Room {
    queues: Vec<GpuQueue>,
    lanes: u32,
    block_size: u32,
    data: Buffer,
    data_ptr: u64,
    stop: Buffer,
    stop_ptr: u64,
    landing: Landing,
    landed: Option<LandingBuffer>,
}

impl Room {
    /// Returns the memory that blocks are read into and written from, for the buffer tables of the
    /// hosts.
    pub(super) fn buffer(&self) -> Buffer {
        self.data.clone()
    }

    /// Returns the GPU memory behind the buffer if the loop moves blocks there.
    pub(super) fn landing_by_loop(&self) -> Option<LandingBuffer> {
        let by_loop = self.landing == Landing::Loop;
        self.landed.clone().filter(|_| by_loop)
    }

    /// Returns whether the block size suits the work: the kernel handles blocks in whole sectors.
    fn suits(&self, work: &Work) -> bool {
        suits(self.block_size, self.landing, work)
    }

    /// Stores the stop word: a value other than 0 makes each lane end within 16 requests.
    fn set_stop(&self, word: u64) {
        let stored = self.stop.write_at(0, &word.to_le_bytes());
        debug_assert!(stored.is_ok(), "the buffer is a page");
    }
}

fn suits(block_size: u32, landing: Landing, work: &Work) -> bool {
    let in_sectors = match work.op {
        RequestKind::Read => work.read_each != 0 || landing == Landing::Kernel,
        RequestKind::Write => work.stamped,
        RequestKind::Fence => false,
    };
    !in_sectors || block_size.is_multiple_of(SECTOR)
}

/// Memory to which the lanes write their counts.
#[derive(Debug)]
struct Results {
    lanes: GpuMemory,
    histograms: GpuMemory,
}

/// The kernel, running.
#[derive(Debug)]
pub(super) struct Run {
    launch: Launch,
    memory: Arc<Results>,
}

impl Run {
    /// Waits until every lane has ended, and returns what they counted.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the kernel failed.
    pub(super) fn wait(&self) -> Result<Counted, CudaError> {
        while !self.launch.is_done()? {
            thread::sleep(LOOK);
        }
        let lanes = self.memory.lanes.read()?;
        let histograms = self.memory.histograms.read()?;
        Ok(Counted::of(&lanes, &histograms))
    }
}
