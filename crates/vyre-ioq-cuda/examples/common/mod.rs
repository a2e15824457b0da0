//! The parts that the examples share: the device that runs a kernel, the loops that serve it, and
//! the errors.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

pub(crate) mod threads;

use std::any::Any;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::{NoUninit, Pod, Zeroable};
use clap::ValueEnum;
use vyre_ioloop::{BufferTable, FileTable, IoLoop, Rights, SpawnError, StopError, TableError};
use vyre_ioq::{Errno, HostQueue, QueueLayout, abi};
use vyre_ioq_cuda::view::{DeviceView, View, ViewError};
use vyre_ioq_cuda::{
    CudaError, Gpu, GpuMemory, GpuQueue, Kernel, LaunchConfig, MappedMemory, QueueView,
};
use vyre_uring::{Buffer, OutOfRange};

use threads::{Program, Threads, ThreadsError};

/// Device code that precedes each kernel, after `vyre_ioq.cuh`.
pub(crate) const GRID: &str = include_str!("grid.cuh");
const WARP: u32 = 32;
/// Largest number of warps in a block: a multiprocessor may lack registers for more.
const MOST_WARPS_OF_BLOCK: u32 = 8;
/// Number of slots in a group: queues have whole groups.
const GROUP: u32 = abi::GROUP_SLOTS;

/// Reason why an example failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: io::Error },
    #[error("{0}")]
    Unfit(String),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error(transparent)]
    Stop(#[from] StopError),
    #[error(transparent)]
    Range(#[from] OutOfRange),
    #[error("warp {warp} gave up at {item}: {}", why(*.end, *.errno))]
    GaveUp {
        warp: u64,
        item: u64,
        end: u32,
        errno: u32,
    },
    #[error("WRONG: {0}")]
    Wrong(String),
}

impl Error {
    /// Wraps an error of the operating system about a file.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::File { path, reason }
    }
}

/// Describes a value of the kernel's `End`.
fn why(end: u32, errno: u32) -> String {
    match end {
        1 => format!("its request failed with {}", Errno::from_raw(errno)),
        2 => "it found no free slot".to_owned(),
        3 => "the loop has ended".to_owned(),
        _ => "nothing came in time".to_owned(),
    }
}

/// The device that runs the kernel.
#[derive(Debug)]
pub(crate) enum Device {
    Gpu {
        gpu: Gpu,
        /// All memory that kernels may access.
        kept: Vec<Box<dyn Any + Send>>,
    },
    Threads(Threads),
}

/// The way of a file's bytes to a kernel.
#[allow(
    dead_code,
    reason = "not every program with this file reads files in a view"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// A view where there is one, the queue elsewhere.
    Auto,
    /// The kernel loads the pages of the file by itself.
    View,
    /// The kernel makes requests that the loops serve.
    Queue,
}

/// Memory of the device.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) address: u64,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    Gpu(GpuMemory),
    Threads(Buffer),
}

/// A kernel's text and name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub(crate) text: &'static str,
    pub(crate) name: &'static str,
}

impl Code {
    /// Returns the text to compile after `vyre_ioq.cuh`.
    pub(crate) fn source(self) -> String {
        [GRID, self.text].concat()
    }
}

impl Device {
    /// Opens the GPU with this number.
    pub(crate) fn gpu(ordinal: u32) -> Result<Self, Error> {
        let gpu = Gpu::open(ordinal)?;
        let kept = Vec::new();
        Ok(Self::Gpu { gpu, kept })
    }

    /// Creates threads that stand in for a GPU.
    pub(crate) fn threads() -> Result<Self, Error> {
        Ok(Self::Threads(Threads::new()?))
    }

    /// Returns the name of the device.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Gpu { gpu, .. } => {
                let is = gpu.capabilities();
                let (major, minor) = is.compute;
                format!("{} (compute capability {major}.{minor})", is.name)
            }
            Self::Threads(_) => "threads in place of a GPU".to_owned(),
        }
    }

    /// Returns the number of warps of a grid: as many as were asked for, or as suit a kernel that reads in a view or
    /// through the queue (BENCHMARKS.md, "Views"). A GPU has room for at least one block on each multiprocessor; a
    /// cooperative launch runs all of them at once.
    pub(crate) fn warps(&self, asked: Option<u32>, in_view: bool) -> Result<u32, Error> {
        let (suits, most) = match self {
            Self::Gpu { gpu, .. } => {
                let blocks = gpu.capabilities().multiprocessors;
                let suits = if in_view {
                    (blocks * 8).min(1024)
                } else {
                    blocks.min(128)
                };
                (suits, blocks * MOST_WARPS_OF_BLOCK)
            }
            Self::Threads(_) => (2, 16),
        };
        match asked.unwrap_or(suits) {
            warps if warps == 0 || warps > most => Err(Error::Unfit(format!(
                "{warps} warps do not run at once on {}: ask for 1 to {most}",
                self.name()
            ))),
            warps => Ok(warps),
        }
    }

    /// Allocates zeroed memory that loops and kernels access. Returns it with its address for
    /// kernels.
    pub(crate) fn mapped(&mut self, len: usize) -> Result<(Buffer, u64), Error> {
        match self {
            Self::Gpu { gpu, kept } => {
                let memory = MappedMemory::anonymous(gpu, len)?;
                let address = memory.device_ptr();
                let buffer = memory.into_buffer()?;
                kept.push(Box::new(buffer.clone()));
                Ok((buffer, address))
            }
            Self::Threads(threads) => Ok(threads.memory(len)?),
        }
    }

    /// Allocates device memory that holds a copy of `items`.
    pub(crate) fn holding<T: NoUninit>(&mut self, items: &[T]) -> Result<Memory, Error> {
        let bytes = bytemuck::cast_slice(items);
        match self {
            Self::Gpu { gpu, kept } => {
                let memory = GpuMemory::of(gpu, bytes)?;
                kept.push(Box::new(memory.clone()));
                Ok(Memory {
                    address: memory.device_ptr(),
                    backing: Backing::Gpu(memory),
                })
            }
            Self::Threads(threads) => {
                let (buffer, address) = threads.memory(bytes.len())?;
                buffer.write_at(0, bytes)?;
                let backing = Backing::Threads(buffer);
                Ok(Memory { address, backing })
            }
        }
    }

    /// Returns a view of the whole file if that is the way, or an empty one, and says which way was taken.
    #[allow(
        dead_code,
        reason = "not every program with this file reads files in a view"
    )]
    pub(crate) fn view(&mut self, file: &File, way: Way) -> Result<DeviceView, Error> {
        let view = match way {
            Way::Queue => return Ok(DeviceView::zeroed()),
            Way::Auto | Way::View => self.try_view(file),
        };
        match (view, way) {
            (Err(error), Way::View) => Err(error),
            (Err(why), _) => {
                println!("through the queue, since there is no view of the file: {why}");
                Ok(DeviceView::zeroed())
            }
            (Ok(view), _) => {
                println!("in a view of the file, so the loops have nothing to do");
                Ok(view)
            }
        }
    }

    fn try_view(&mut self, file: &File) -> Result<DeviceView, Error> {
        match self {
            Self::Gpu { gpu, kept } => {
                let view = View::new(gpu, file, 0..u64::MAX)?;
                let seen = view.device_view(gpu)?;
                kept.push(Box::new(view));
                Ok(seen)
            }
            Self::Threads(threads) => {
                let of_file = Error::file(Path::new("the file"));
                let size = file.metadata().map(|metadata| metadata.len());
                let (base, bytes) = size
                    .and_then(|bytes| Ok((threads.place_file(file)?, bytes)))
                    .map_err(of_file)?;
                Ok(bytemuck::cast([base, bytes]))
            }
        }
    }

    fn queue(&mut self, layout: QueueLayout) -> Result<(HostQueue, QueueView), Error> {
        match self {
            Self::Gpu { gpu, kept } => {
                let (host, queue) = GpuQueue::new(gpu, layout)?;
                let view = queue.view();
                kept.push(Box::new(queue));
                Ok((host, view))
            }
            Self::Threads(threads) => Ok(threads.queue(layout)?),
        }
    }

    /// Runs a kernel to its end on at least this many warps. Returns how long it took.
    ///
    /// # Safety
    /// `args` has the layout of the kernel's parameter. Everything that the kernel accesses through
    /// it is memory of this device, which nothing but the loops accesses meanwhile.
    pub(crate) unsafe fn run<A: NoUninit>(
        &mut self,
        code: Code,
        warps: u32,
        args: &A,
    ) -> Result<Duration, Error> {
        match self {
            Self::Gpu { gpu, .. } => {
                let of_block = warps.div_ceil(gpu.capabilities().multiprocessors);
                // The warps wait for each other, so that all blocks have to run at once.
                let config =
                    LaunchConfig::new(warps.div_ceil(of_block), of_block * WARP).cooperative();
                let kernel = Kernel::compile(gpu, &code.source(), code.name)?;
                let began = Instant::now();
                // SAFETY: the layout is the caller's promise. `self` holds all memory that it ever gave
                // out, and outlives the kernel, whose end is waited for before the return.
                let launch = unsafe { kernel.launch(config, args, ()) }?;
                launch.wait()?;
                Ok(began.elapsed())
            }
            Self::Threads(threads) => {
                let program = Program::compile(&code.source(), code.name)?;
                let began = Instant::now();
                threads.run(&program, (warps, WARP), bytemuck::bytes_of(args))?;
                Ok(began.elapsed())
            }
        }
    }
}

impl Memory {
    /// Copies everything out.
    pub(crate) fn read<T: Pod>(&self) -> Result<Vec<T>, Error> {
        let bytes = match &self.backing {
            Backing::Gpu(memory) => memory.read()?,
            Backing::Threads(buffer) => {
                let mut bytes = vec![0; buffer.len()];
                buffer.read_at(0, &mut bytes)?;
                bytes
            }
        };
        let items = bytes.chunks_exact(size_of::<T>());
        Ok(items.map(bytemuck::pod_read_unaligned).collect())
    }
}

/// Laid out as the kernels' `Port`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Port {
    queue: QueueView,
    file: u32,
    pool: u32,
}

/// Laid out as the kernels' `Grid`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Grid {
    arrived: u32,
    failed: u32,
    end: u32,
    errno: u32,
    item: u64,
    warp: u64,
}

/// Loops that serve a kernel, each with a queue of its own. They share one file and one buffer.
#[derive(Debug)]
pub(crate) struct Service {
    loops: Vec<IoLoop>,
    ports: Memory,
    grid: Memory,
    data: u64,
}

/// Requirements of a kernel on its loops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) rights: Rights,
    pub(crate) loops: u32,
    pub(crate) warps: u32,
    /// Number of requests that a warp has in flight, and of bytes in its part of the buffer.
    pub(crate) requests: u32,
    pub(crate) bytes: usize,
}

impl Service {
    pub(crate) fn start(device: &mut Device, file: &File, demand: Demand) -> Result<Self, Error> {
        let Demand { loops, warps, .. } = demand;
        if loops == 0 || loops > warps {
            return Err(Error::Unfit(format!(
                "{loops} loops do not suit {warps} warps: ask for 1 to {warps}"
            )));
        }
        // One more, for what a warp does for all.
        let slots = (warps.div_ceil(loops) * demand.requests + 1).next_multiple_of(GROUP);
        if slots > abi::MAX_SLOTS {
            return Err(Error::Unfit(format!(
                "{warps} warps ask for too much at once for {loops} loops: give them more loops"
            )));
        }
        // A kernel without requests needs no buffer, and a buffer has at least one byte.
        let bytes = (warps as usize * demand.bytes).max(1);
        let (buffer, data) = device.mapped(bytes)?;
        let (mut running, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..loops {
            let (host, queue) = device.queue(QueueLayout::with_slots(slots))?;
            let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
            let file = file
                .try_clone()
                .map_err(Error::file(Path::new("the file")))?;
            let file = files.insert(file, demand.rights)?.raw();
            let pool = buffers.insert(buffer.clone())?.raw();
            let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
            running.push(builder.spawn()?);
            ports.push(Port { queue, file, pool });
        }
        Ok(Self {
            loops: running,
            ports: device.holding(&ports)?,
            grid: device.holding(&[Grid::default()])?,
            data,
        })
    }

    /// Returns the address of the ports, for kernels.
    pub(crate) fn ports(&self) -> u64 {
        self.ports.address
    }

    /// Returns the address of the `Grid`, for kernels.
    pub(crate) fn grid(&self) -> u64 {
        self.grid.address
    }

    /// Returns the address of the buffer, for kernels.
    pub(crate) fn data(&self) -> u64 {
        self.data
    }

    /// Stops the loops after the kernel has ended. Fails if a warp gave up, or if the loops
    /// answered another number of requests than `expected`.
    pub(crate) fn finish(self, expected: u64) -> Result<(), Error> {
        let grid = self.grid.read::<Grid>()?[0];
        let gave_up = grid.failed != 0;
        let (answered, faults) = self.answered(if gave_up { 0 } else { expected });
        for io in self.loops {
            io.stop()?;
        }
        if gave_up {
            return Err(Error::GaveUp {
                warp: grid.warp,
                item: grid.item,
                end: grid.end,
                errno: grid.errno,
            });
        }
        ensure(answered == expected && faults == 0, || {
            format!("{answered} requests were answered, not {expected}, and {faults} were faulty")
        })
    }

    /// Returns the number of requests that succeeded, and of faults of the device. The counters lag
    /// the outcomes by a pass of the loop, so this waits until `expected` requests are counted.
    fn answered(&self, expected: u64) -> (u64, u64) {
        let end = Instant::now() + TIMEOUT;
        loop {
            let counters = self.loops.iter().filter_map(|io| io.queue_counters(0));
            let (answered, faults) = counters.fold((0, 0), |(answered, faults), queue| {
                (answered + queue.succeeded, faults + queue.device_faults)
            });
            if answered >= expected || Instant::now() >= end {
                return (answered, faults);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Time that a kernel waits for one outcome, or for its other warps. It is long enough for slow
/// loops: with threads as the device, everything shares a few cores.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Fails if the CPU does not confirm the GPU's result.
pub(crate) fn ensure(right: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if right {
        Ok(())
    } else {
        Err(Error::Wrong(what()))
    }
}

/// Computes the kernels' `mix`.
pub(crate) fn mix(z: u64) -> u64 {
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
