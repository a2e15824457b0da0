//! The measurements of windows on demand.

use std::fs::File;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use vyre_ioloop::{BufferTable, FileTable, IoLoop, LoopOptions, Rights, WaitPolicy};
use vyre_ioq::{Errno, QueueLayout};
use vyre_ioq_cuda::windows::{DeviceWindows, WindowTransport, Windows, WindowsBuilder};
use vyre_ioq_cuda::{Gpu, GpuMemory, GpuQueue, Kernel, LaunchConfig, MappedMemory, QueueView};

use crate::Error;
use crate::file::FACTOR;
use crate::measures::mix;
use crate::table::Table;

const SOURCES: [&str; 3] = [
    include_str!("../common/grid.cuh"),
    include_str!("view_bench.cuh"),
    include_str!("windows.cuh"),
];
/// The bytes that a warp sums at once.
const BLOCK: u64 = 64 << 10;
/// The time that a kernel waits for one outcome.
const TIMEOUT: Duration = Duration::from_secs(20);
const SLOTS: u32 = 1024;

/// Laid out as `examples::Port`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Port {
    queue: QueueView,
    file: u32,
    pool: u32,
}

/// Laid out as `examples::Grid`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Grid {
    arrived: u32,
    failed: u32,
    end: u32,
    errno: u32,
    item: u64,
    warp: u64,
}

/// Laid out as the kernels' `Args`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    windows: DeviceWindows,
    ports: u64,
    grid: u64,
    data: u64,
    order: u64,
    times: u64,
    wrong: u64,
    sum: u64,
    read: u64,
    timeout_ns: u64,
    count: u64,
    seed: u64,
    block: u64,
    port_count: u32,
    warps: u32,
    factor: u32,
    passes: u32,
    looks_up: u32,
    asks_only: u32,
}

pub(crate) struct WindowBench<'a> {
    gpu: &'a Gpu,
    file: &'a File,
    bytes: u64,
    runs: usize,
    quick: bool,
    /// Set to have a kernel ask for windows, and another one load from them.
    ask_first: bool,
    sum: Kernel,
    latency: Kernel,
    chain: Kernel,
}

/// Loops that serve one file with windows, and everything that a kernel uses.
struct Service {
    gpu: Gpu,
    windows: Windows,
    loops: Vec<IoLoop>,
    queues: Vec<GpuQueue>,
    ports: GpuMemory,
    /// The words that kernels add to: wrong quads, the sum, and the bytes that were read.
    tallies: GpuMemory,
    data: u64,
    buffer: vyre_uring::Buffer,
}

impl Service {
    fn start(
        bench: &WindowBench<'_>,
        builder: &WindowsBuilder,
        loops: u32,
        warps: u32,
    ) -> Result<Self, Error> {
        let windows = builder.build(bench.file)?;
        let memory = MappedMemory::anonymous(bench.gpu, (u64::from(warps) * BLOCK) as usize)?;
        let (data, buffer) = (memory.device_ptr(), memory.into_buffer()?);
        let (mut running, mut queues, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..loops {
            let (host, queue) = GpuQueue::new(bench.gpu, QueueLayout::with_slots(SLOTS))?;
            let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
            let file = bench.file.try_clone().map_err(|error| setup(&error))?;
            let file = files
                .insert(file, Rights::READ)
                .map_err(|error| setup(&error))?
                .raw();
            let pool = buffers
                .insert(buffer.clone())
                .map_err(|error| setup(&error))?
                .raw();
            ports.push(Port {
                queue: queue.view(),
                file,
                pool,
            });
            let of_file = windows.clone();
            let options = LoopOptions::new().wait_policy(WaitPolicy::Spin);
            let builder = IoLoop::builder()
                .files(files)
                .buffers(buffers)
                .queue(host)
                .options(options);
            let started = builder.spawn_with(move |base| WindowTransport::new(base, &[of_file]));
            running.push(started.map_err(|error| setup(&error))?);
            queues.push(queue);
        }
        Ok(Self {
            windows,
            loops: running,
            queues,
            ports: GpuMemory::of(bench.gpu, bytemuck::cast_slice(&ports))?,
            gpu: bench.gpu.clone(),
            tallies: GpuMemory::zeroed(bench.gpu, 24)?,
            data,
            buffer,
        })
    }

    fn args(&self, warps: u32) -> Args {
        let tallies = self.tallies.device_ptr();
        Args {
            windows: self.windows.device(),
            ports: self.ports.device_ptr(),
            data: self.data,
            wrong: tallies,
            sum: tallies + 8,
            read: tallies + 16,
            timeout_ns: TIMEOUT.as_nanos() as u64,
            block: BLOCK,
            port_count: self.loops.len() as u32,
            warps,
            factor: FACTOR,
            ..Args::zeroed()
        }
    }

    /// Has a kernel ask for windows and load from none of them, if that is wanted.
    fn ask(
        &self,
        bench: &WindowBench<'_>,
        kernel: &Kernel,
        config: LaunchConfig,
        args: &Args,
    ) -> Result<(), Error> {
        if !bench.ask_first {
            return Ok(());
        }
        let args = Args {
            passes: args.passes.min(1),
            asks_only: 1,
            ..*args
        };
        self.run(kernel, config, &args, "asking").map(drop)
    }

    /// Runs a kernel to its end. Returns the sum, and the bytes that were read through the queue.
    fn run(
        &self,
        kernel: &Kernel,
        config: LaunchConfig,
        args: &Args,
        what: &'static str,
    ) -> Result<(u64, u64), Error> {
        let grid = GpuMemory::zeroed(&self.gpu, size_of::<Grid>())?;
        let args = Args {
            grid: grid.device_ptr(),
            ..*args
        };
        let keep = (
            self.windows.clone(),
            self.ports.clone(),
            grid.clone(),
            self.tallies.clone(),
        );
        // SAFETY: `Args` is laid out as the kernels'. They access the queues, the windows, the buffer and the memory of
        // `self`, which outlives the kernel, since it is waited for.
        unsafe { kernel.launch(config, &args, keep) }?.wait()?;
        let grid: Grid = bytemuck::pod_read_unaligned(&grid.read()?);
        if grid.failed != 0 {
            let errno = Errno::from_raw(grid.errno);
            let why = format!(
                "warp {} gave up at {}: end {}, {errno}",
                grid.warp, grid.item, grid.end
            );
            return Err(Error::Setup(why));
        }
        let [count, sum, read]: [u64; 3] = bytemuck::pod_read_unaligned(&self.tallies.read()?);
        if count != 0 {
            return Err(Error::Wrong { what, count });
        }
        Ok((sum, read))
    }

    /// Stops the loops, and gives all pages back.
    fn end(self) -> Result<(), Error> {
        for io in self.loops {
            io.stop().map_err(|error| setup(&error))?;
        }
        self.windows.close();
        drop((self.queues, self.buffer));
        Ok(())
    }
}

fn setup(error: &impl std::fmt::Display) -> Error {
    Error::Setup(error.to_string())
}

impl<'a> WindowBench<'a> {
    pub(crate) fn new(
        gpu: &'a Gpu,
        file: &'a File,
        bytes: u64,
        runs: usize,
        quick: bool,
        ask_first: bool,
    ) -> Result<Self, Error> {
        let source = SOURCES.concat();
        let kernel = |name| Kernel::compile(gpu, &source, name);
        Ok(Self {
            sum: kernel("window_sum_kernel")?,
            latency: kernel("window_latency_kernel")?,
            chain: kernel("window_chain_kernel")?,
            gpu,
            file,
            bytes,
            runs,
            quick,
            ask_first,
        })
    }

    /// Windows in random order, one after the other, by a kernel of one thread.
    pub(crate) fn latency(&self, table: &mut Table) -> Result<(), Error> {
        let builder = Windows::builder(self.gpu).read_ahead(0);
        let mut medians = Vec::new();
        let mut most = Vec::new();
        for run in 0..=self.runs as u64 {
            let service = Service::start(self, &builder, 1, 1)?;
            let whole = self.bytes / service.windows.device().window_bytes();
            let mut order: Vec<u64> = (0..whole).collect();
            order.sort_by_key(|window| mix(window + (run << 32)));
            order.truncate(if self.quick { 2 } else { 1000 });
            let times = GpuMemory::zeroed(self.gpu, order.len().max(1) * 8)?;
            let order = GpuMemory::of(self.gpu, bytemuck::cast_slice(&order))?;
            let args = Args {
                order: order.device_ptr(),
                times: times.device_ptr(),
                count: (order.len() / 8) as u64,
                ..service.args(1)
            };
            service.ask(self, &self.latency, LaunchConfig::new(1, 1), &args)?;
            service.run(
                &self.latency,
                LaunchConfig::new(1, 1),
                &args,
                "windows, one by one",
            )?;
            let bytes = times.read()?;
            let mut micros: Vec<f64> = bytes
                .chunks_exact(8)
                .map(|time| bytemuck::pod_read_unaligned::<u64>(time) as f64 / 1e3)
                .collect();
            micros.sort_by(f64::total_cmp);
            // The first run is not counted.
            if run > 0 && !micros.is_empty() {
                medians.push(micros[micros.len() / 2]);
                most.push(micros[micros.len() * 99 / 100]);
            }
            service.end()?;
        }
        table.add(
            "a window of 2 MiB, from the request to its first word: p50",
            "us",
            medians,
            "",
        );
        table.add("... p99", "us", most, "");
        Ok(())
    }

    /// A kernel that sums the file twice.
    pub(crate) fn sums(&self, table: &mut Table) -> Result<(), Error> {
        let words = (0..self.bytes / 4).map(|word| u64::from((word as u32).wrapping_mul(FACTOR)));
        let right: u64 = words.sum();
        let warps = if self.quick { 8 } else { 1024 };
        let blocks = warps / 8;
        for (name, limit, loops) in [
            ("", u64::MAX, 1),
            (", room for half of it", self.bytes / 2, 4),
        ] {
            let builder = Windows::builder(self.gpu).limit(limit);
            let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
            let mut note = String::new();
            for run in 0..=self.runs {
                let service = Service::start(self, &builder, loops, warps)?;
                let times = GpuMemory::zeroed(self.gpu, 3 * 8)?;
                let args = Args {
                    times: times.device_ptr(),
                    passes: 2,
                    ..service.args(warps)
                };
                let config = LaunchConfig::new(blocks, 256).cooperative();
                service.ask(self, &self.sum, config, &args)?;
                let (sum, read) = service.run(&self.sum, config, &args, "the sum")?;
                if sum != right.wrapping_mul(2) {
                    return Err(Error::Setup(format!("the sum is {sum}, not twice {right}")));
                }
                let times: [u64; 3] = bytemuck::pod_read_unaligned(&times.read()?);
                note = format!("{}; {read} bytes read", service.windows.counters());
                if run > 0 {
                    firsts.push(self.bytes as f64 / (times[1] - times[0]) as f64);
                    seconds.push(self.bytes as f64 / (times[2] - times[1]) as f64);
                }
                service.end()?;
            }
            table.add(
                format!("sum, nothing mapped{name}: first pass"),
                "GB/s",
                firsts,
                note,
            );
            table.add(format!("sum{name}: second pass"), "GB/s", seconds, "");
        }
        Ok(())
    }

    /// Dependent loads with and without a look-up, in turns.
    pub(crate) fn look_ups(&self, table: &mut Table) -> Result<(), Error> {
        let count = if self.quick { 10 } else { 20_000 };
        let warps = if self.quick { 8 } else { 1024 };
        let service = Service::start(self, &Windows::builder(self.gpu), 1, warps)?;
        let times = GpuMemory::zeroed(self.gpu, 2 * 8)?;
        let args = Args {
            times: times.device_ptr(),
            passes: 1,
            ..service.args(warps)
        };
        let config = LaunchConfig::new(warps / 8, 256).cooperative();
        // Maps all of them.
        service.ask(self, &self.sum, config, &args)?;
        service.run(&self.sum, config, &args, "the sum")?;
        let mut figures = [Vec::new(), Vec::new()];
        for run in 0..=self.runs as u64 {
            for looks_up in [0, 1] {
                let args = Args {
                    count,
                    seed: mix(run),
                    looks_up,
                    ..service.args(1)
                };
                let began = std::time::Instant::now();
                service.run(&self.chain, LaunchConfig::new(1, 1), &args, "look-ups")?;
                if run > 0 {
                    figures[looks_up as usize]
                        .push(began.elapsed().as_secs_f64() * 1e6 / count as f64);
                }
            }
        }
        let [plain, looked_up] = figures;
        let ratios = looked_up
            .iter()
            .zip(&plain)
            .map(|(with, without)| with / without)
            .collect();
        table.add("a dependent load, in a mapped window", "us", plain, "");
        table.add("... with a look-up of the window", "us", looked_up, "");
        table.add("... beside the load alone", "", ratios, "");
        service.end()
    }
}
