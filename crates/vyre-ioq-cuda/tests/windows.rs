//! Windows that kernels of a real GPU ask for. Where there is no GPU, each test says so and does nothing: run the binary
//! of these tests on a machine that has one.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use common::{gpu, skip};
use vyre_ioloop::{BufferTable, FileTable, IoLoop, Rights};
use vyre_ioq::{Errno, QueueLayout};
use vyre_ioq_cuda::view::{ViewState, pinned_bytes};
use vyre_ioq_cuda::windows::{DeviceWindows, WindowTransport, Windows, WindowsBuilder};
use vyre_ioq_cuda::{
    CudaError, Gpu, GpuMemory, GpuQueue, Kernel, Launch, LaunchConfig, MappedMemory, QueueView,
};
use vyre_uring::Buffer;

const WINDOW: u64 = 64 << 10;
/// Not of whole windows, pages, words or quads.
const LEN: usize = 40 * WINDOW as usize + 4096 + 1003;
const BLOCK: usize = 16 << 10;
const WARPS: u32 = 64;
/// Limit that only a hang reaches.
const LIMIT: Duration = Duration::from_secs(60);

/// Copies a file to memory of the GPU, a block of 16 KiB by each warp at a time: out of its windows, or through the queue
/// where the host maps none. With `asks_only`, it asks for the windows, and loads nothing.
const SOURCE: &str = r#"
    struct Args {
        vyre::windows windows; vyre_ioq::Queue queue; const unsigned char *data; unsigned char *out;
        vyre_ioq::u32 *refused, *errors, *go; vyre_ioq::u32 file, pool, asks_only;
    };
    extern "C" __global__ void copy_windows(Args args) {
        using namespace vyre_ioq;
        const u32 BLOCK = 16384;
        u64 warps = gridDim.x * blockDim.x / 32, warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
        u64 bytes = args.windows.file.bytes, place = warp * BLOCK;
        WaitLimits limits = WaitLimits();
        limits.timeout_ns = 20000000000ull;
        for (u64 offset = warp * BLOCK; offset < bytes; offset += warps * BLOCK) {
            u64 count = bytes - offset < BLOCK ? bytes - offset : BLOCK;
            MapResult found = args.windows.warp_map(FULL_WARP, args.queue, args.file, offset, count, (u32)warp, limits);
            if (found.ok()) {
                if (!args.windows.has(offset, count)) atomicExch(args.errors, 1000000);
                if (args.asks_only == 0) args.windows.warp_copy(FULL_WARP, offset, count, args.out + offset);
                continue;
            }
            if (simt::lane_id() == 0) {
                atomicAdd(args.refused, 1);
                atomicExch(args.errors, found.status == WaitStatus::COMPLETED ? found.error : 1000001);
            }
            WaitResult read = args.queue.warp_perform(
                FULL_WARP, Request::read(args.file, offset, (u32)count, args.pool, place), (u32)warp, limits);
            u32 done = read.status == WaitStatus::COMPLETED && read.outcome.ok() ? read.outcome.bytes() : 0;
            for (u32 at = simt::lane_id(); at < done; at += 32) args.out[offset + at] = args.data[place + at];
            simt::sync(FULL_WARP);
        }
        if (args.go != nullptr) {
            while (mem::load_system(args.go) == 0) simt::sleep(1000);
        }
    }
"#;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    windows: DeviceWindows,
    queue: QueueView,
    data: u64,
    out: u64,
    refused: u64,
    errors: u64,
    go: u64,
    file: u32,
    pool: u32,
    asks_only: u32,
    padding: u32,
}

/// A file of [`LEN`] bytes in memory.
fn file() -> (File, Vec<u8>) {
    let bytes: Vec<u8> = (0..LEN).map(|at| (at * 7 % 251) as u8).collect();
    let mut file = tempfile::tempfile_in("/dev/shm").expect("a directory");
    file.write_all(&bytes).expect("room");
    // Until the clock by which changes are dated has moved on.
    thread::sleep(Duration::from_millis(40));
    (file, bytes)
}

fn kernel(test: &str, gpu: &Gpu) -> Option<Kernel> {
    match Kernel::compile(gpu, SOURCE, "copy_windows") {
        Err(error @ CudaError::NoCompiler) => {
            skip(test, error);
            None
        }
        kernel => Some(kernel.expect("it compiles")),
    }
}

/// A loop that serves a file with windows, and what a kernel uses.
struct Rig {
    gpu: Gpu,
    kernel: Kernel,
    windows: Windows,
    io: IoLoop,
    queue: GpuQueue,
    file: u32,
    pool: u32,
    data: u64,
    _buffer: Buffer,
    out: GpuMemory,
    words: GpuMemory,
}

/// Findings of a kernel.
struct Found {
    bytes: Vec<u8>,
    /// The blocks whose windows were refused, and the error of one of them.
    refused: u32,
    error: u32,
}

fn rig(test: &str, gpu: &Gpu, builder: &WindowsBuilder, file: &File) -> Option<Rig> {
    let kernel = kernel(test, gpu)?;
    let windows = builder.build(file).expect("windows");
    let memory = MappedMemory::anonymous(gpu, WARPS as usize * BLOCK).expect("memory");
    let (data, buffer) = (memory.device_ptr(), memory.into_buffer().expect("bytes"));
    let (host, queue) = GpuQueue::new(gpu, QueueLayout::with_slots(128)).expect("a queue");
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let handle = file.try_clone().expect("a descriptor");
    let handle = files.insert(handle, Rights::READ).expect("room").raw();
    let pool = buffers.insert(buffer.clone()).expect("room").raw();
    let of_file = windows.clone();
    let io = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        .queue(host)
        .spawn_with(move |base| WindowTransport::new(base, &[of_file]));
    Some(Rig {
        kernel,
        windows,
        io: io.expect("a loop"),
        queue,
        file: handle,
        pool,
        data,
        _buffer: buffer,
        out: GpuMemory::zeroed(gpu, LEN.next_multiple_of(16)).expect("memory"),
        words: GpuMemory::zeroed(gpu, 8).expect("memory"),
        gpu: gpu.clone(),
    })
}

fn builder(gpu: &Gpu) -> WindowsBuilder {
    Windows::builder(gpu).window_bytes(WINDOW)
}

impl Rig {
    fn launch(&self, asks_only: bool, go: u64) -> Launch {
        let words = self.words.device_ptr();
        let args = Args {
            windows: self.windows.device(),
            queue: self.queue.view(),
            data: self.data,
            out: self.out.device_ptr(),
            refused: words,
            errors: words + 4,
            go,
            file: self.file,
            pool: self.pool,
            asks_only: u32::from(asks_only),
            padding: 0,
        };
        let keep = (self.windows.clone(), self.out.clone(), self.words.clone());
        let config = LaunchConfig::new(WARPS / 8, 256);
        // SAFETY: `Args` is laid out as in the kernel, which accesses the windows, the queue, the buffer and the memory of
        // `self`, in which each warp has a block.
        unsafe { self.kernel.launch(config, &args, keep) }.expect("a launch")
    }

    /// Runs the kernel. memcheck does not know memory that is pinned while a kernel runs: under it, one kernel asks, and
    /// another one loads.
    fn run(&self) -> Found {
        if std::env::var_os("VYRE_IO_ASK_FIRST").is_some() {
            self.launch(true, 0).wait().expect("no fault");
        }
        self.launch(false, 0).wait().expect("no fault");
        self.found()
    }

    fn found(&self) -> Found {
        let [refused, error]: [u32; 2] =
            bytemuck::pod_read_unaligned(&self.words.read().expect("a copy"));
        let mut bytes = self.out.read().expect("a copy");
        bytes.truncate(LEN);
        Found {
            bytes,
            refused,
            error,
        }
    }

    /// Ends the loop, and then the windows.
    fn end(self) {
        self.io.stop().expect("an orderly end");
        self.windows.close();
        assert_eq!(pinned_bytes(), 0);
        drop(self.gpu);
    }
}

#[test]
fn a_kernel_maps_a_file_as_it_goes_and_reads_every_byte() {
    const TEST: &str = "a_kernel_maps_a_file_as_it_goes_and_reads_every_byte";
    let Some(gpu) = gpu(TEST) else { return };
    let (file, mut bytes) = file();
    let Some(rig) = rig(TEST, &gpu, &builder(&gpu), &file) else {
        return;
    };
    assert_eq!(pinned_bytes(), 0, "nothing before it is asked for");
    let found = rig.run();
    assert!(found.bytes == bytes);
    assert_eq!((found.refused, found.error), (0, 0));
    let counters = rig.windows.counters();
    assert_eq!(counters.mapped, 41, "{counters}");
    assert!(counters.calls < 41, "neighbours are one call: {counters}");
    assert_eq!(pinned_bytes(), (LEN as u64).next_multiple_of(4096));
    assert_eq!(rig.windows.check(), Ok(ViewState::Current));
    // What others write shows, and nothing is asked for again.
    file.write_all_at(&[0xee; 5000], 3000).expect("room");
    bytes[3000..8000].fill(0xee);
    assert!(rig.run().bytes == bytes);
    assert_eq!(rig.windows.counters().asked, counters.asked);
    rig.end();
}

#[test]
fn a_kernel_goes_on_by_the_queue_at_the_limit() {
    const TEST: &str = "a_kernel_goes_on_by_the_queue_at_the_limit";
    let Some(gpu) = gpu(TEST) else { return };
    let (file, bytes) = file();
    let builder = builder(&gpu).limit(10 * WINDOW);
    let Some(rig) = rig(TEST, &gpu, &builder, &file) else {
        return;
    };
    let found = rig.run();
    assert!(found.bytes == bytes);
    assert!(found.refused > 0);
    assert_eq!(found.error, Errno::ENOBUFS.raw());
    let counters = rig.windows.counters();
    assert!(counters.mapped <= 10 && counters.refused > 0, "{counters}");
    assert!(pinned_bytes() <= 10 * WINDOW);
    rig.end();
}

#[test]
fn windows_of_a_file_that_became_shorter_are_refused_and_the_rest_is_read() {
    const TEST: &str = "windows_of_a_file_that_became_shorter_are_refused_and_the_rest_is_read";
    let Some(gpu) = gpu(TEST) else { return };
    let (file, bytes) = file();
    let Some(rig) = rig(TEST, &gpu, &builder(&gpu), &file) else {
        return;
    };
    let end = 20 * WINDOW as usize;
    file.set_len(end as u64).expect("shorter");
    let found = rig.run();
    assert!(found.bytes[..end] == bytes[..end]);
    assert!(found.bytes[end..].iter().all(|&byte| byte == 0));
    assert_eq!(found.error, Errno::EIO.raw());
    assert!(rig.windows.counters().failed > 0);
    assert_eq!(
        rig.windows.check(),
        Ok(ViewState::Shorter { size: end as u64 })
    );
    rig.end();
}

/// A loop that ends while its kernel runs, and windows whose last name but the kernel's is dropped.
#[test]
fn windows_are_given_back_after_the_kernel_that_uses_them() {
    const TEST: &str = "windows_are_given_back_after_the_kernel_that_uses_them";
    let Some(gpu) = gpu(TEST) else { return };
    let (file, bytes) = file();
    let Some(rig) = rig(TEST, &gpu, &builder(&gpu), &file) else {
        return;
    };
    let go = MappedMemory::anonymous(&gpu, 4096).expect("memory");
    let at = go.device_ptr();
    let go = go.into_buffer().expect("bytes");
    rig.run();
    let launch = rig.launch(false, at);
    let Rig {
        windows,
        io,
        queue,
        out,
        ..
    } = rig;
    io.stop().expect("it does not wait for the kernel");
    drop(windows);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(pinned_bytes(), (LEN as u64).next_multiple_of(4096));
    assert_eq!(launch.is_done(), Ok(false));
    go.write_at(0, &1_u32.to_le_bytes()).expect("inside");
    launch.wait().expect("no fault");
    drop(launch);
    let began = Instant::now();
    while pinned_bytes() > 0 {
        assert!(began.elapsed() < LIMIT, "pages are pinned for ever");
        thread::yield_now();
    }
    assert!(out.read().expect("a copy")[..LEN] == bytes);
    drop(queue);
}
