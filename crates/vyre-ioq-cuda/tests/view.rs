//! Views of files on a real GPU. Where there is no GPU, each test says so and does nothing: run the binary of
//! these tests on a machine that has one.

#![expect(
    unsafe_code,
    reason = "launching a kernel is unsafe, and so is taking handles of other code"
)]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use common::{gpu, skip};
use cudarc::driver::sys;
use vyre_ioloop::{BufferTable, FileTable, IoLoop, Rights};
use vyre_ioq::{Queue, QueueLayout, Request};
use vyre_ioq_cuda::landing::{CopyEngine, LandingBuffer, LandingTransport};
use vyre_ioq_cuda::view::{
    DeviceView, LoadOptions, LoadWay, RowGather, Rows, View, ViewState, load, pinned_bytes,
};
use vyre_ioq_cuda::{CudaError, Gpu, GpuMemory, Kernel, LaunchConfig, MappedMemory, Stream};

const PAGE: usize = 4096;
/// Not of whole pages, words or quads.
const LEN: usize = 300 * PAGE + 1003;

/// Copies a view by each of its functions to memory of the GPU, one warp a block of 4 KiB. Then waits until a word
/// is not zero.
const SOURCE: &str = r#"
    struct Args { vyre::view view; unsigned char *blocks, *copies, *elements; vyre_ioq::u32 *go; };
    extern "C" __global__ void read_all(Args args) {
        using namespace vyre_ioq;
        u64 warps = gridDim.x * blockDim.x / 32, warp = (blockIdx.x * blockDim.x + threadIdx.x) / 32;
        for (u64 offset = warp * 4096; offset < args.view.bytes; offset += warps * 4096) {
            u64 count = args.view.bytes - offset < 4096 ? args.view.bytes - offset : 4096;
            args.view.warp_copy(FULL_WARP, offset, count, args.copies + offset);
            args.view.warp_read(FULL_WARP, offset, count, [&](u64 at, const Quad &quad) {
                *(Quad *)(args.blocks + at) = quad;
            });
            for (u64 at = offset + simt::lane_id(); at < offset + count; at += 32) {
                args.elements[at] = args.view.element<unsigned char>(at);
            }
        }
        if (args.go != nullptr) {
            while (mem::load_system(args.go) == 0) simt::sleep(1000);
        }
    }
"#;

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    view: DeviceView,
    blocks: u64,
    copies: u64,
    elements: u64,
    go: u64,
}

/// A file of [`LEN`] bytes on the disk, if that is one of which views are made, and else in memory.
fn file() -> (File, Vec<u8>) {
    let bytes: Vec<u8> = (0..LEN).map(|at| (at * 7 % 251) as u8).collect();
    let file_in = |directory: &str| {
        let mut file = tempfile::tempfile_in(directory).expect("a directory");
        file.write_all(&bytes).expect("room");
        file.sync_all().expect("room");
        file
    };
    let file = match View::prepare(file_in("/var/tmp"), 0..1 << 40) {
        Ok(_) => file_in("/var/tmp"),
        Err(_) => file_in("/dev/shm"),
    };
    // Until the clock by which changes are dated has moved on.
    thread::sleep(Duration::from_millis(40));
    (file, bytes)
}

fn kernel(test: &str, gpu: &Gpu) -> Option<Kernel> {
    match Kernel::compile(gpu, SOURCE, "read_all") {
        Err(error @ CudaError::NoCompiler) => {
            skip(test, error);
            None
        }
        kernel => Some(kernel.expect("it compiles")),
    }
}

/// Reads a view by each function on a stream.
fn read_all(gpu: &Gpu, kernel: &Kernel, view: &View, stream: &Stream) -> [Vec<u8>; 3] {
    let len = view.len() as usize;
    // Quads are written whole.
    let memory = || GpuMemory::zeroed(gpu, len.next_multiple_of(16)).expect("memory");
    let memories = [memory(), memory(), memory()];
    let [blocks, copies, elements] = memories.each_ref().map(GpuMemory::device_ptr);
    let args = Args {
        view: view.device_view(gpu).expect("an address"),
        blocks,
        copies,
        elements,
        go: 0,
    };
    let keep = (view.clone(), memories.clone());
    // SAFETY: `Args` is laid out as in the kernel, which reads the view and writes the memory.
    let launch = unsafe { kernel.launch_on(stream, LaunchConfig::new(8, 256), &args, keep) };
    launch.expect("a launch").wait().expect("no fault");
    memories.map(|memory| {
        let mut bytes = memory.read().expect("a copy");
        bytes.truncate(len);
        bytes
    })
}

#[test]
fn a_kernel_reads_every_byte_and_what_others_write() {
    const TEST: &str = "a_kernel_reads_every_byte_and_what_others_write";
    let Some(gpu) = gpu(TEST) else { return };
    let Some(kernel) = kernel(TEST, &gpu) else {
        return;
    };
    let (file, mut bytes) = file();
    let stream = Stream::new(&gpu).expect("a stream");
    let whole = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    let prepared = View::prepare(&file, PAGE as u64..9 * PAGE as u64).expect("a mapping");
    let part = prepared.pin(&gpu).expect("a view");
    for found in read_all(&gpu, &kernel, &whole, &stream) {
        assert!(found == bytes);
    }
    for found in read_all(&gpu, &kernel, &part, &stream) {
        assert!(found == bytes[PAGE..9 * PAGE]);
    }
    assert_eq!(whole.check(), Ok(ViewState::Current));
    file.write_all_at(&[0xee; 5000], 3000).expect("room");
    bytes[3000..8000].fill(0xee);
    for found in read_all(&gpu, &kernel, &whole, &stream) {
        assert!(found == bytes);
    }
    assert_eq!(whole.check(), Ok(ViewState::Current));
    assert_eq!(pinned_bytes(), (301 + 8) * PAGE as u64);
    drop((whole, part));
    assert_eq!(pinned_bytes(), 0);
}

#[test]
fn a_view_goes_on_with_old_pages_and_says_so() {
    const TEST: &str = "a_view_goes_on_with_old_pages_and_says_so";
    let Some(gpu) = gpu(TEST) else { return };
    let Some(kernel) = kernel(TEST, &gpu) else {
        return;
    };
    let (file, bytes) = file();
    let stream = Stream::new(&gpu).expect("a stream");
    let view = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    file.set_len(PAGE as u64).expect("shorter");
    let size = PAGE as u64;
    assert_eq!(view.check(), Ok(ViewState::Shorter { size }));
    file.set_len(LEN as u64).expect("as long again");
    match view.check().expect("an answer") {
        ViewState::Detached { offset } => assert!(offset <= size, "{offset}"),
        state => panic!("pages have left the file: {state:?}"),
    }
    // What was there before, or zeros in pages that the kernel kept together with the new last one.
    for found in read_all(&gpu, &kernel, &view, &stream) {
        assert!(found[..PAGE] == bytes[..PAGE]);
        for (found, old) in found.chunks(PAGE).zip(bytes.chunks(PAGE)) {
            assert!(found == old || found.iter().all(|&byte| byte == 0));
        }
    }
    let new = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    for found in read_all(&gpu, &kernel, &new, &stream) {
        assert!(found[..PAGE] == bytes[..PAGE] && found[PAGE..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_view_is_pinned_beside_a_running_kernel_and_given_back_after_it() {
    const TEST: &str = "a_view_is_pinned_beside_a_running_kernel_and_given_back_after_it";
    let Some(gpu) = gpu(TEST) else { return };
    let Some(kernel) = kernel(TEST, &gpu) else {
        return;
    };
    let (file, _) = file();
    let stream = Stream::new(&gpu).expect("a stream");
    let go = MappedMemory::anonymous(&gpu, PAGE).expect("memory");
    let at = go.device_ptr();
    let go = go.into_buffer().expect("bytes");
    let view = View::new(&gpu, &file, 0..PAGE as u64).expect("a view");
    let memory = GpuMemory::zeroed(&gpu, PAGE).expect("memory");
    let args = Args {
        view: view.device_view(&gpu).expect("an address"),
        blocks: memory.device_ptr(),
        copies: memory.device_ptr(),
        elements: memory.device_ptr(),
        go: at,
    };
    let keep = (view.clone(), memory, go.clone());
    // SAFETY: `Args` is laid out as in the kernel, which reads the view and a word, and writes the memory.
    let launch = unsafe { kernel.launch_on(&stream, LaunchConfig::new(1, 32), &args, keep) };
    let launch = launch.expect("a launch");
    // Pinning returns although the kernel runs until it is told.
    let other = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    other.device_view(&gpu).expect("an address");
    assert_eq!(launch.is_done(), Ok(false));
    let told = Arc::new(AtomicBool::new(false));
    let dropped = {
        let told = Arc::clone(&told);
        thread::spawn(move || {
            drop(other);
            // Relaxed: the threads' ends order nothing here.
            told.load(Relaxed)
        })
    };
    thread::sleep(Duration::from_millis(200));
    told.store(true, Relaxed);
    go.write_at(0, &[1]).expect("inside");
    assert!(dropped.join().expect("no panic"), "it did not wait");
    launch.wait().expect("no fault");
    drop((launch, view));
    assert_eq!(pinned_bytes(), 0);
}

#[test]
fn rows_are_those_of_the_file_at_every_alignment() {
    let Some(gpu) = gpu("rows_are_those_of_the_file_at_every_alignment") else {
        return;
    };
    let (file, bytes) = file();
    let view = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    let gather = RowGather::load(&gpu).expect("a kernel");
    let stream = Stream::new(&gpu).expect("a stream");
    let mut outside = 0;
    for (first, row_bytes) in [
        (0, 512),
        (16, 48),
        (8, 24),
        (4, 4),
        (3, 21),
        (0, 8192),
        (0, 5008),
    ] {
        let rows = (LEN as u64 - first) / row_bytes;
        let mut ids: Vec<u64> = (0..3000).map(|index| index * 7919 % rows).collect();
        ids[5] = rows;
        ids[77] = u64::MAX;
        outside += 2;
        let on_gpu = GpuMemory::of(&gpu, bytemuck::cast_slice(&ids)).expect("memory");
        let out = GpuMemory::zeroed(&gpu, ids.len() * row_bytes as usize).expect("memory");
        let of = Rows { first, row_bytes };
        let launch = gather.launch(&view, of, &on_gpu, ids.len() as u64, &out, &stream);
        launch.expect("it fits").wait().expect("no fault");
        assert_eq!(gather.outside(), Ok(outside));
        let found = out.read().expect("a copy");
        for (id, row) in ids.iter().zip(found.chunks_exact(row_bytes as usize)) {
            if *id >= rows {
                assert!(row.iter().all(|&byte| byte == 0));
                continue;
            }
            let at = (first + id * row_bytes) as usize;
            assert!(
                row == &bytes[at..at + row_bytes as usize],
                "{first} {row_bytes} {id}"
            );
        }
    }
}

#[test]
fn each_way_loads_the_file_and_the_copy_engine_copies_a_view() {
    let Some(gpu) = gpu("each_way_loads_the_file_and_the_copy_engine_copies_a_view") else {
        return;
    };
    let (file, bytes) = file();
    for way in [LoadWay::Pinned, LoadWay::Staging] {
        let memory = GpuMemory::uninit(&gpu, LEN).expect("memory");
        let mut options = LoadOptions::default();
        options.way = Some(way);
        let loaded = load(&gpu, &file, 0..LEN as u64, &memory, 0, options);
        assert_eq!(loaded, Ok(way));
        assert!(memory.read().expect("a copy") == bytes);
    }
    let view = View::new(&gpu, &file, PAGE as u64..u64::MAX).expect("a view");
    let memory = GpuMemory::zeroed(&gpu, LEN).expect("memory");
    let stream = Stream::new(&gpu).expect("a stream");
    let part = PAGE as u64 + 5..LEN as u64;
    let copy = view.copy(part, &memory, 3, &stream).expect("inside");
    copy.wait().expect("no error");
    let found = memory.read().expect("a copy");
    assert!(found[3..LEN - PAGE - 2] == bytes[PAGE + 5..]);
}

/// Returns what a call of the driver has answered.
#[track_caller]
fn answered(answer: sys::CUresult) {
    assert_eq!(answer, sys::CUresult::CUDA_SUCCESS);
}

#[test]
fn streams_memory_and_contexts_of_other_code_are_used() {
    const TEST: &str = "streams_memory_and_contexts_of_other_code_are_used";
    let Some(own) = gpu(TEST) else { return };
    let (file, bytes) = file();
    let mut context = std::ptr::null_mut();
    // SAFETY: the pointer is to a handle that outlives the call; device 0 is there.
    answered(unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, 0) });
    // SAFETY: the context is retained until the process ends.
    answered(unsafe { sys::cuCtxSetCurrent(context) });
    let current = Gpu::current().expect("the primary context");
    assert_eq!(current.capabilities(), own.capabilities());
    // SAFETY: as above.
    let gpu = unsafe { Gpu::from_context(context.cast()) }.expect("a context");
    let Some(kernel) = kernel(TEST, &gpu) else {
        return;
    };
    let mut raw = std::ptr::null_mut();
    // SAFETY: the pointer is to a handle that outlives the call.
    answered(unsafe { sys::cuStreamCreate(&raw mut raw, 0) });
    // SAFETY: the stream is never destroyed.
    let stream = unsafe { Stream::from_raw(&gpu, raw.cast(), ()) };
    let view = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    for found in read_all(&gpu, &kernel, &view, &stream) {
        assert!(found == bytes);
    }
    let (mut host, mut device) = (std::ptr::null_mut(), 0);
    // SAFETY: the pointers are to integers that outlive the calls.
    answered(unsafe { sys::cuMemHostAlloc(&raw mut host, PAGE, sys::CU_MEMHOSTALLOC_DEVICEMAP) });
    // SAFETY: as above.
    answered(unsafe { sys::cuMemAlloc_v2(&raw mut device, PAGE) });
    // SAFETY: the memory was just allocated.
    answered(unsafe { sys::cuMemsetD8_v2(device, 0, PAGE) });
    let base = NonNull::new(host.cast()).expect("memory");
    // SAFETY: the memory is never freed, and nothing else uses it.
    let mapped = unsafe { MappedMemory::from_raw(&gpu, base, PAGE, ()) }.expect("pinned");
    // SAFETY: as above.
    let memory = unsafe { GpuMemory::from_raw(&gpu, device, PAGE, ()) };

    // io_uring reads into memory of cudaHostAlloc, and the bytes land in memory of cudaMalloc: once by way of the
    // buffer, and once from a view.
    let host = mapped.into_buffer().expect("bytes");
    for views in [Vec::new(), vec![view.clone()]] {
        let is_view = !views.is_empty();
        host.write_at(0, &[0; PAGE]).expect("inside");
        let landing = LandingBuffer::behind_memory(host.clone(), &memory);
        let engine = CopyEngine::with_views(&gpu, vec![landing], views).expect("a stream");
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let handle = files.insert(file.try_clone().expect("a file"), Rights::READ);
        let pool = buffers.insert(host.clone()).expect("a slot");
        let (end, device) = Queue::anonymous(QueueLayout::with_slots(64)).expect("memory");
        let io = IoLoop::builder().files(files).buffers(buffers).queue(end);
        let io = io.spawn_with(|ring| LandingTransport::new(ring, engine));
        let io = io.expect("a loop");
        let request = Request::read(handle.expect("a slot"), 9000, 4000).into_buffer(pool, 50);
        let ticket = device.submit(request).expect("room");
        let outcome = device.wait(ticket).expect("an outcome");
        assert_eq!(outcome.bytes(), Ok(4000));
        let landed = memory.read().expect("a copy");
        assert!(landed[50..4050] == bytes[9000..13_000]);
        let mut buffered = [0; PAGE];
        host.read_at(0, &mut buffered).expect("inside");
        let was_read = buffered[50..4050] == bytes[9000..13_000];
        assert_eq!(was_read, !is_view);
        io.stop().expect("an orderly end");
    }
}
