//! The persistent kernel behind `vyre-io bench --device cuda`: lanes on the GPU that keep asking for
//! blocks of a file, and what they counted. Also a worked example of a kernel and its host side.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use vyre_ioq::{BufferHandle, Errno, FileHandle, HostQueue, QueueLayout, abi};
use vyre_uring::Buffer;

use crate::code::Ptx;
use crate::driver::DeviceMemory;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::kernel::Launch;
use crate::landing::{Landing, LandingBuffer};
use crate::launch_config::{LaunchConfig, WARP};
use crate::memory::MappedMemory;
use crate::program::{Loaded, Program};
use crate::queue::{GpuQueue, QueueView};

/// The device code; [`Ptx::compile`] puts `vyre_ioq.cuh` before it.
pub const KERNEL: &str = include_str!("../kernels/bench.cuh");

pub(crate) const PROGRAM: Program = Program {
    source: KERNEL,
    name: "vyre_ioq_bench",
    prebuilt: include_str!("../ptx/bench.ptx"),
};

/// Unit in bytes in which blocks are stamped, looked at and landed; the kernel's `SECTOR`.
pub(crate) const SECTOR: u32 = 512;
/// As the kernel's `SUB_BUCKETS` and `BUCKETS`.
const SUB_BUCKETS: u64 = 32;
const BUCKETS: usize = 1056;
/// With more lanes, blocks hold several: a multiprocessor runs few blocks at once.
const LANES_ALONE: u32 = 1024;
const LANES_OF_BLOCK: u32 = 4;
/// A page, of which the stop word is the first.
const STOP_BYTES: usize = 4096;
/// How often the end of the kernel is looked for.
const LOOK: Duration = Duration::from_millis(1);

/// As the kernel's `LaneQueue`.
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

/// As the kernel's `Args`.
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
    patience: u64,
    standstill: u64,
    operations: u64,
    seed: u64,
    queue_count: u32,
    lane_count: u32,
    block_size: u32,
    op: u32,
    random: u32,
    stamped: u32,
    look_each: u32,
    lands: u32,
}

/// As the kernel's `Lane`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Lane {
    ops: u64,
    bytes: u64,
    failed: u64,
    verified: u64,
    bad: u64,
    bad_offset: u64,
    began: u64,
    ended: u64,
    ticks: u64,
    waited: u64,
    sum: u64,
    first_error: u32,
    end: u32,
}

/// What lanes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Blocks of the file.
    Read,
    /// Blocks of the file, which the lanes stamp first.
    Write,
    /// Nothing: the cost of the queue alone.
    Fence,
}

/// One run of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// What to ask for.
    pub op: Op,
    /// Any block, each as likely, rather than one after the other.
    pub random: bool,
    /// Whole blocks in the file; not used by fences.
    pub blocks: u64,
    /// Whether blocks that are read hold stamps, to be verified where they are looked at.
    pub stamped: bool,
    /// READ: one block in so many is read whole by its warp. 0 is none.
    pub look_each: u32,
    /// How long the lanes go on.
    pub time: Duration,
    /// Operations of each lane; 0: until the time is over.
    pub operations: u64,
    /// How long a lane waits for one outcome before it gives up.
    pub patience: Duration,
    /// How long the host's heartbeat may stand still before lanes give up; none: they wait on.
    pub standstill: Option<Duration>,
    /// Set if lanes access slots in words: see [`QueueView::in_words`].
    pub words: bool,
}

/// The kernel, loaded.
#[derive(Clone, Debug)]
pub struct Bench {
    gpu: Gpu,
    loaded: Loaded,
}

impl Bench {
    /// Compiles and loads the kernel. Loads prebuilt PTX if there is no NVRTC, or none that suits the GPU
    /// and the driver.
    ///
    /// # Errors
    /// [`CudaError`]: what the compiler or the driver makes of the kernel.
    pub fn load(gpu: &Gpu) -> Result<Self, CudaError> {
        let loaded = PROGRAM.load(gpu)?;
        let gpu = gpu.clone();
        Ok(Self { gpu, loaded })
    }

    /// Loads PTX from a file.
    ///
    /// # Errors
    /// [`CudaError::Ptx`] if it cannot be read, or what the driver makes of it.
    pub fn from_file(gpu: &Gpu, path: &Path) -> Result<Self, CudaError> {
        let loaded = PROGRAM.load_file(gpu, path)?;
        let gpu = gpu.clone();
        Ok(Self { gpu, loaded })
    }

    /// Compiles the kernel to PTX for as many GPUs as NVRTC supports: NVRTC 12 for every GPU that the
    /// queue works with, NVRTC 13 from compute capability 7.5 on. Needs no GPU.
    ///
    /// # Errors
    /// As for [`Ptx::compile`].
    pub fn portable_ptx() -> Result<Ptx, CudaError> {
        PROGRAM.portable()
    }

    /// Registers that each thread uses.
    pub const fn registers(&self) -> u32 {
        self.loaded.kernel.registers()
    }

    /// Whether the PTX was compiled beforehand.
    pub const fn is_prebuilt(&self) -> bool {
        self.loaded.prebuilt
    }

    /// Makes queues, and a block of memory for each lane.
    ///
    /// # Errors
    /// [`CudaError`]: the layout is unfit, or there is no memory.
    pub fn room(
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

    /// As [`room`](Self::room), of what the caller brings. Each block of the memory has a lane.
    ///
    /// # Errors
    /// [`CudaError`]: there is no memory.
    ///
    /// # Panics
    /// If a block has no bytes.
    pub fn room_of(
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

    /// Starts the lanes. `handles` are, for each queue, the file and the buffer of the room as the
    /// queue's host names them. No other lanes may be at work in the room, and none may have given up
    /// there: a request may still be on its way to its block.
    ///
    /// # Errors
    /// [`CudaError::BlockSize`] if blocks are to be stamped, looked at or landed by the kernel, and
    /// their size is not a multiple of 512 bytes; another [`CudaError`] if there is no memory on the GPU,
    /// or the driver does not launch the kernel.
    ///
    /// # Panics
    /// If there is not a pair of handles for each queue, and a queue, a lane and a block at least.
    pub fn start(
        &self,
        room: &Arc<Room>,
        work: &Work,
        handles: &[(FileHandle, BufferHandle)],
    ) -> Result<Run, CudaError> {
        assert_eq!(handles.len(), room.queues.len(), "handles for each queue");
        if !room.suits(work) {
            return Err(CudaError::BlockSize(room.block_size));
        }
        let queues: Vec<LaneQueue> = room
            .queues
            .iter()
            .zip(handles)
            .map(|(queue, handles)| LaneQueue::of(work, queue.view(), *handles))
            .collect();
        let context = self.gpu.context();
        let count = room.lanes as usize;
        let queues_there = DeviceMemory::of(context, bytemuck::cast_slice(&queues))?;
        let lanes = DeviceMemory::zeroed(context, count * size_of::<Lane>())?;
        let histograms = DeviceMemory::zeroed(context, count * BUCKETS * size_of::<u32>())?;
        let stopped = DeviceMemory::zeroed(context, size_of::<u32>())?;
        let args = Args {
            queues: queues_there.address(),
            data: room.data_ptr,
            lanes: lanes.address(),
            histograms: histograms.address(),
            stop: room.stop_ptr,
            stopped: stopped.address(),
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
        let launch = unsafe { self.loaded.kernel.launch(config, &args, keep) }?;
        Ok(Run {
            launch,
            memory,
            room: Arc::clone(room),
        })
    }
}

/// As kernels count time; what is longer than 584 years is as long.
fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

impl Args {
    /// All but the addresses.
    fn of(work: &Work, queue_count: u32, lane_count: u32, block_size: u32) -> Self {
        assert!(queue_count > 0 && lane_count > 0, "no queue, or no lane");
        assert!(work.op == Op::Fence || work.blocks > 0, "no block");
        Self {
            blocks: work.blocks,
            nanoseconds: nanoseconds(work.time),
            patience: nanoseconds(work.patience),
            standstill: work.standstill.map_or(0, nanoseconds),
            operations: work.operations,
            seed: 0x5eed,
            queue_count,
            lane_count,
            block_size,
            op: match work.op {
                Op::Read => abi::op::READ,
                Op::Write => abi::op::WRITE,
                Op::Fence => abi::op::FENCE,
            },
            random: work.random.into(),
            stamped: work.stamped.into(),
            look_each: work.look_each,
            ..Self::zeroed()
        }
    }
}

/// Queues, and memory for blocks.
#[derive(Debug)]
pub struct Room {
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
    /// The memory that blocks are read into and written from, for the buffer tables of the hosts.
    pub fn buffer(&self) -> Buffer {
        self.data.clone()
    }

    /// What lies behind the buffer, for the loop to move blocks to; none unless that is how they land.
    pub fn landing_by_loop(&self) -> Option<LandingBuffer> {
        let by_loop = self.landing == Landing::Loop;
        self.landed.clone().filter(|_| by_loop)
    }

    /// Returns whether the block size suits the work: the kernel handles blocks in whole sectors.
    fn suits(&self, work: &Work) -> bool {
        suits(self.block_size, self.landing, work)
    }

    fn set_stop(&self, word: u64) {
        let stored = self.stop.write_at(0, &word.to_le_bytes());
        debug_assert!(stored.is_ok(), "the buffer is a page");
    }
}

fn suits(block_size: u32, landing: Landing, work: &Work) -> bool {
    let in_sectors = match work.op {
        Op::Read => work.look_each != 0 || landing == Landing::Kernel,
        Op::Write => work.stamped,
        Op::Fence => false,
    };
    !in_sectors || block_size.is_multiple_of(SECTOR)
}

/// Where the lanes put what they counted.
#[derive(Debug)]
struct Results {
    lanes: DeviceMemory,
    histograms: DeviceMemory,
}

/// The kernel, running.
#[derive(Debug)]
pub struct Run {
    launch: Launch,
    memory: Arc<Results>,
    room: Arc<Room>,
}

impl Run {
    /// Tells the lanes to end, each within 16 requests.
    pub fn stop(&self) {
        self.room.set_stop(1);
    }

    /// Whether every lane has ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the kernel failed.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.launch.is_done()
    }

    /// Waits until every lane has ended; what they counted.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the kernel failed.
    pub fn wait(&self) -> Result<Counted, CudaError> {
        while !self.launch.is_done()? {
            thread::sleep(LOOK);
        }
        let lanes = self.memory.lanes.read()?;
        let histograms = self.memory.histograms.read()?;
        Ok(Counted::of(&lanes, &histograms))
    }
}

/// What the lanes of a run counted together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// Requests that have an outcome.
    pub ops: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// Requests whose outcome is an error.
    pub failed: u64,
    /// The errno of one of them.
    pub first_error: Option<Errno>,
    /// Blocks that were read whole and hold their stamps.
    pub verified: u64,
    /// Blocks that do not.
    pub bad: u64,
    /// Where in the file one of these is.
    pub bad_offset: u64,
    /// Lanes that gave up: the host was gone, or an outcome did not come, or there was no slot.
    pub gave_up: u32,
    /// Those of them that found the host gone.
    pub host_gone: u32,
    /// The share of a lane's time that passed in requests, the mean of the lanes.
    pub wait_fraction: f64,
    /// The sum of the 64-bit words of all blocks that were read whole, modulo 2^64.
    pub sum: u64,
    /// From the first lane's beginning to the last one's end.
    pub elapsed: Duration,
    /// Nanoseconds from before the publication until the block is where it lands, and how often.
    pub latencies: BTreeMap<u64, u64>,
}

impl Counted {
    fn of(lanes: &[u8], histograms: &[u8]) -> Self {
        let mut total = Self::default();
        let (mut began, mut ended, mut waited) = (u64::MAX, 0, 0.0);
        let lanes = lanes.chunks_exact(size_of::<Lane>());
        let count = lanes.len();
        let histograms = histograms.chunks_exact(BUCKETS * size_of::<u32>());
        for (lane, histogram) in lanes.zip(histograms) {
            let lane: Lane = bytemuck::pod_read_unaligned(lane);
            began = began.min(lane.began);
            ended = ended.max(lane.ended);
            waited += lane.waited as f64 / lane.ticks.max(1) as f64;
            total.add(&lane);
            let nanos = lane.ended.saturating_sub(lane.began);
            let each = nanos as f64 / lane.ticks.max(1) as f64;
            for (bucket, count) in histogram.chunks_exact(size_of::<u32>()).enumerate() {
                let count: u32 = bytemuck::pod_read_unaligned(count);
                if count > 0 {
                    let nanos = (middle(bucket as u64) * each) as u64;
                    *total.latencies.entry(nanos).or_default() += u64::from(count);
                }
            }
        }
        total.elapsed = Duration::from_nanos(ended.saturating_sub(began));
        total.wait_fraction = waited / count.max(1) as f64;
        total
    }

    fn add(&mut self, lane: &Lane) {
        /// `WaitStatus::COMPLETED`.
        const ANSWERED: u32 = 1;
        /// `WaitStatus::HOST_GONE`.
        const HOST_GONE: u32 = 3;
        self.ops += lane.ops;
        self.bytes += lane.bytes;
        self.verified += lane.verified;
        self.sum = self.sum.wrapping_add(lane.sum);
        self.gave_up += u32::from(lane.end != ANSWERED);
        self.host_gone += u32::from(lane.end == HOST_GONE);
        if lane.failed > 0 {
            self.failed += lane.failed;
            let errno = Errno::from_raw(lane.first_error);
            self.first_error.get_or_insert(errno);
        }
        if lane.bad > 0 {
            if self.bad == 0 {
                self.bad_offset = lane.bad_offset;
            }
            self.bad += lane.bad;
        }
    }
}

/// The middle of what the kernel's `bucket_of` puts into a bucket, in ticks.
fn middle(bucket: u64) -> f64 {
    if bucket < SUB_BUCKETS {
        return bucket as f64;
    }
    let power = bucket / SUB_BUCKETS + 4;
    let width = 1_u64 << (power - 5);
    let low = (SUB_BUCKETS + bucket % SUB_BUCKETS) * width;
    low as f64 + (width - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests;
