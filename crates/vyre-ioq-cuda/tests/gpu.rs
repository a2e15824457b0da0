//! A real GPU, a real loop, real files. Where there is no GPU, each test says so and does nothing: run
//! the binary of these tests on a machine that has one.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use common::gpu;
use vyre_ioloop::{BufferTable, FileTable, IoLoop, LoopOptions, Rights, WaitPolicy};
use vyre_ioq::{BufferHandle, Errno, FileHandle, HostQueue, QueueLayout};
use vyre_ioq_cuda::bench::{Bench, Op, Work};
use vyre_ioq_cuda::copy::{Copier, CopyError, Step, Task};
use vyre_ioq_cuda::landing::{CopyEngine, Landing, LandingTransport};
use vyre_ioq_cuda::{
    Cubin, CudaError, Gpu, GpuMemory, GpuQueue, Kernel, LaunchConfig, MappedMemory, Ptx,
};

fn work(op: Op, operations: u64) -> Work {
    Work {
        op,
        random: true,
        blocks: 1024,
        stamped: true,
        look_each: 1,
        time: Duration::from_secs(60),
        operations,
        patience: Duration::from_secs(10),
        standstill: None,
        words: false,
    }
}

fn serve(
    host: HostQueue,
    file: &File,
    buffer: vyre_uring::Buffer,
) -> (IoLoop, FileHandle, BufferHandle) {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = file.try_clone().expect("a descriptor");
    let file = files
        .insert(file, Rights::READ | Rights::WRITE)
        .expect("room");
    let pool = buffers.insert(buffer).expect("room");
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let io = builder
        .options(LoopOptions::new().wait_policy(WaitPolicy::Spin))
        .spawn()
        .expect("a loop");
    (io, file, pool)
}

#[test]
fn without_cuda_there_is_an_error_that_says_what_to_do() {
    match Gpu::open(u32::MAX) {
        Err(CudaError::NoSuchDevice { ordinal, count }) => {
            assert!(ordinal == u32::MAX && count > 0);
        }
        Err(error @ (CudaError::NoDriver | CudaError::NoDevice)) => {
            assert!(error.to_string().contains(": "), "{error}");
        }
        other => panic!("no machine has that many GPUs: {other:?}"),
    }
}

#[test]
fn lanes_write_blocks_and_read_them_back() {
    let Some(gpu) = gpu("lanes_write_blocks_and_read_them_back") else {
        return;
    };
    println!("{:?}", gpu.capabilities());
    let bench = Bench::load(&gpu).expect("the kernel");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&vec![0; 1024 * 4096]).expect("room");
    let layout = QueueLayout::with_slots(256);
    let (mut hosts, room) = bench
        .room(layout, 1, 64, 4096, Landing::None)
        .expect("memory");
    let room = Arc::new(room);
    let host = hosts.pop().expect("one queue");
    let (io, file, pool) = serve(host, &file, room.buffer());
    // Each lane writes its share in order, so that all blocks are written.
    let in_order = Work {
        random: false,
        ..work(Op::Write, 16)
    };
    let in_words = Work {
        words: true,
        ..work(Op::Read, 1000)
    };
    let reads = work(Op::Read, 1000);
    for (work, ops) in [(in_order, 1024), (reads, 64_000), (in_words, 64_000)] {
        let run = bench
            .start(&room, &work, &[(file, pool)])
            .expect("a launch");
        let counted = run.wait().expect("no fault");
        assert_eq!((counted.ops, counted.failed, counted.gave_up), (ops, 0, 0));
        assert_eq!(counted.bytes, ops * 4096);
        assert_eq!(counted.bad, 0, "at byte {}", counted.bad_offset);
        assert_eq!(counted.verified, if work.op == Op::Read { ops } else { 0 });
        assert_eq!(counted.latencies.values().sum::<u64>(), ops);
    }
    io.stop().expect("an orderly stop");
}

#[test]
fn blocks_land_in_memory_of_the_gpu_by_kernel_and_by_loop() {
    let Some(gpu) = gpu("blocks_land_in_memory_of_the_gpu_by_kernel_and_by_loop") else {
        return;
    };
    let bench = Bench::load(&gpu).expect("the kernel");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&vec![0; 1024 * 4096]).expect("room");
    for (landing, op, ops) in [
        // Stamps the file.
        (Landing::None, Op::Write, 16),
        (Landing::Kernel, Op::Read, 1000),
        (Landing::Loop, Op::Read, 1000),
    ] {
        let layout = QueueLayout::with_slots(64);
        let (mut hosts, room) = bench.room(layout, 1, 64, 4096, landing).expect("memory");
        let room = Arc::new(room);
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let same = file.try_clone().expect("a descriptor");
        let rights = Rights::READ | Rights::WRITE;
        let name = files.insert(same, rights).expect("room");
        let pool = buffers.insert(room.buffer()).expect("room");
        let builder = IoLoop::builder().files(files).buffers(buffers);
        let builder = builder.queue(hosts.pop().expect("one"));
        let io = match room.landing_by_loop() {
            None => builder.spawn(),
            Some(behind) => {
                let engine = CopyEngine::new(&gpu, vec![behind]).expect("a stream");
                builder.spawn_with(|ring| LandingTransport::new(ring, engine))
            }
        };
        let io = io.expect("a loop");
        let work = Work {
            random: op == Op::Read,
            ..work(op, ops)
        };
        let run = bench.start(&room, &work, &[(name, pool)]);
        let counted = run.expect("a launch").wait().expect("no fault");
        assert_eq!((counted.failed, counted.gave_up), (0, 0), "{landing}");
        assert_eq!(counted.ops, 64 * ops, "{landing}");
        assert_eq!(counted.bad, 0, "{landing}: byte {}", counted.bad_offset);
        let looked = if op == Op::Read { 64 * ops } else { 0 };
        assert_eq!(counted.verified, looked, "{landing}");
        assert!(counted.wait_fraction > 0.0 && counted.wait_fraction <= 1.0);
        io.stop().expect("an orderly stop");
    }
}

#[test]
fn a_kernel_copies_files_and_reports_what_it_cannot() {
    let Some(gpu) = gpu("a_kernel_copies_files_and_reports_what_it_cannot") else {
        return;
    };
    let copier = Copier::load(&gpu).expect("the kernel");
    let copy = |from: &File, to: &File, bytes: u64| {
        let (host, room) = copier
            .room(QueueLayout::with_slots(64), 16, 64 << 10)
            .expect("memory");
        let room = Arc::new(room);
        let (io, from_name, pool) = serve(host, from, room.buffer());
        let to = to.try_clone().expect("a descriptor");
        let to = io
            .insert_file(to, 0..1 << 40, Rights::WRITE | Rights::SYNC)
            .expect("a place");
        let task = Task::Copy {
            from: from_name,
            to,
            pool,
            bytes,
            granularity: 1,
        };
        let run = copier.start(&room, &task).expect("a launch");
        let mut result = run.wait();
        if result.is_ok() {
            assert_eq!(run.bytes_copied(), bytes);
            let sync = Task::Sync { file: to };
            result = copier.start(&room, &sync).expect("a launch").wait();
        }
        io.stop().expect("an orderly stop");
        result
    };
    for len in [0, 1, 4095, 4096, 4097, 33 << 20 | 5] {
        let contents: Vec<u8> = (0..len)
            .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut from = tempfile::tempfile().expect("a file");
        from.write_all(&contents).expect("room");
        let to = tempfile::tempfile().expect("a file");
        assert_eq!(copy(&from, &to, len.into()), Ok(()), "{len} bytes");
        let mut found = vec![0; contents.len()];
        to.read_exact_at(&mut found, 0).expect("as long");
        assert!(found == contents, "the copy of {len} bytes differs");
        assert_eq!(to.metadata().expect("a file").len(), u64::from(len));
        if len > 0 {
            let full = File::options().write(true).open("/dev/full");
            let refused = copy(&from, &full.expect("a device"), len.into());
            assert!(
                matches!(
                    refused,
                    Err(CopyError::Refused {
                        step: Step::Write,
                        errno: Errno::ENOSPC,
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
        let cut = copy(&from, &to, u64::from(len) + 1);
        let Err(CopyError::Short {
            expected, found, ..
        }) = cut
        else {
            panic!("a byte that is not there was copied: {cut:?}")
        };
        assert_eq!(found + 1, expected);
    }
}

#[test]
fn the_stop_word_and_the_end_of_the_host_end_the_kernel() {
    let Some(gpu) = gpu("the_stop_word_and_the_end_of_the_host_end_the_kernel") else {
        return;
    };
    let bench = Bench::load(&gpu).expect("the kernel");
    let file = tempfile::tempfile().expect("a file");
    for host_ends in [false, true] {
        let layout = QueueLayout::with_slots(64);
        let (mut hosts, room) = bench
            .room(layout, 1, 8, 4096, Landing::None)
            .expect("memory");
        let room = Arc::new(room);
        let (io, file, pool) = serve(hosts.pop().expect("one"), &file, room.buffer());
        let fences = work(Op::Fence, 0);
        let run = bench
            .start(&room, &fences, &[(file, pool)])
            .expect("a launch");
        std::thread::sleep(Duration::from_millis(200));
        if host_ends {
            io.stop().expect("an orderly stop");
            let counted = run.wait().expect("no fault");
            assert_eq!(counted.gave_up, 8, "every lane saw that the host is gone");
        } else {
            run.stop();
            let counted = run.wait().expect("no fault");
            assert!(counted.ops > 0 && counted.gave_up == 0, "{counted:?}");
            io.stop().expect("an orderly stop");
        }
    }
}

#[test]
fn mapped_memory_is_given_back_with_the_last_of_its_parts() {
    let Some(gpu) = gpu("mapped_memory_is_given_back_with_the_last_of_its_parts") else {
        return;
    };
    let layout = QueueLayout::with_slots(64);
    // More than could stay pinned.
    for _ in 0..500 {
        let memory = MappedMemory::anonymous(&gpu, 64 << 20).expect("memory");
        let (first, rest) = memory.split(layout.bytes().next_multiple_of(4096));
        let at = first.device_ptr();
        assert_eq!(rest.device_ptr(), at + first.len() as u64);
        let (host, queue) = GpuQueue::in_memory(&gpu, first, layout).expect("a queue");
        assert_eq!(queue.view().base, at);
        let buffer = rest.into_buffer().expect("bytes");
        drop((host, queue));
        buffer.write_at(0, b"still there").expect("inside");
    }
    let (memory, memfd) = MappedMemory::memfd(&gpu, 1 << 20).expect("memory");
    assert_eq!(
        memory.len() as u64,
        File::from(memfd).metadata().expect("a file").len()
    );
}

#[test]
fn memory_of_the_gpu_holds_what_was_copied_in_or_zeros() {
    let Some(gpu) = gpu("memory_of_the_gpu_holds_what_was_copied_in_or_zeros") else {
        return;
    };
    let copied: Vec<u8> = (0..=255).cycle().take(5001).collect();
    let memory = GpuMemory::of(&gpu, &copied).expect("memory");
    let zeroed = GpuMemory::zeroed(&gpu, 5001).expect("memory");
    assert_ne!(memory.device_ptr(), zeroed.device_ptr());
    assert_eq!(memory.read().expect("a copy"), copied);
    assert_eq!(zeroed.read().expect("a copy"), vec![0; 5001]);
}

/// Kernel whose blocks wait for each other; each thread then writes its number, plus the bytes of shared
/// memory, to a word of its own.
const NUMBERED: &str = r#"
    extern "C" __global__ void numbered(unsigned *words) {
        extern __shared__ unsigned char shared[];
        __shared__ volatile unsigned own[5000];
        unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
        unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        unsigned threads = blockDim.x * blockDim.y * blockDim.z, bytes;
        asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
        shared[bytes - 1] = 1;
        own[bytes % 5000] = 1;
        if (thread == 0) {
            atomicAdd(words, 1u);
            while (atomicAdd(words, 0u) < blocks) {}
        }
        __syncthreads();
        words[1 + block * threads + thread] = block * threads + thread + bytes;
    }
"#;

#[test]
fn kernels_of_every_shape_run_from_text_and_from_machine_code() {
    const TEST: &str = "kernels_of_every_shape_run_from_text_and_from_machine_code";
    let Some(gpu) = gpu(TEST) else { return };
    let compute = gpu.capabilities().compute;
    let text = match Ptx::compile(NUMBERED, compute) {
        Err(error @ CudaError::NoCompiler) => return common::skip(TEST, error),
        text => text.expect("it compiles"),
    };
    let code = Cubin::compile(NUMBERED, compute).expect("it compiles");
    let from_text = Kernel::load(&gpu, &text, "numbered").expect("PTX");
    let from_code = Kernel::load_cubin(&gpu, &code, "numbered").expect("machine code");
    for kernel in [from_text, from_code] {
        // With the kernel's own 20,000 bytes, more shared memory than every GPU gives unasked.
        for bytes in [16_u32, 40_000, 64 << 10] {
            let config = LaunchConfig::with_dimensions([2, 3, 2], [8, 4, 2])
                .shared_bytes(bytes)
                .cooperative();
            let words = Arc::new(GpuMemory::zeroed(&gpu, (1 + 12 * 64) * 4).expect("memory"));
            let at = words.device_ptr();
            // SAFETY: the kernel takes an address, and reaches as many words from it as there are.
            let launch = unsafe { kernel.launch(config, &at, Arc::clone(&words)) };
            launch.expect("a launch").wait().expect("no fault");
            let found = words.read().expect("a copy");
            let found = found
                .chunks_exact(4)
                .map(|it| u32::from_le_bytes(it.try_into().unwrap()));
            let expected = (0..12 * 64).map(|number| number + bytes);
            assert!(
                found.eq(std::iter::once(12).chain(expected)),
                "{bytes} bytes"
            );
        }
        let much = LaunchConfig::new(1, 64).shared_bytes(64 << 10);
        assert!(kernel.resident_blocks(&much).expect("a number") > 0);
        // A grid of which not all can run at once would wait for ever: it is refused.
        let config = LaunchConfig::new(1, 64).shared_bytes(16).cooperative();
        let most = kernel.resident_blocks(&config).expect("a number");
        assert!(
            most >= u64::from(gpu.capabilities().multiprocessors),
            "{most}"
        );
        let blocks = most as u32 + 1;
        let config = LaunchConfig::new(blocks, 64).shared_bytes(16).cooperative();
        // SAFETY: nothing runs.
        let refused = unsafe { kernel.launch(config, &0_u64, ()) };
        let blocks = blocks.into();
        assert_eq!(
            refused.err(),
            Some(CudaError::GridTooLarge { blocks, most })
        );
    }
}

#[test]
fn an_error_of_the_compiler_is_shown() {
    if gpu("an_error_of_the_compiler_is_shown").is_none() {
        return;
    }
    match Ptx::compile("nonsense!", (7, 5)) {
        Err(CudaError::Compile(text)) => assert!(text.contains("nonsense"), "{text}"),
        Err(CudaError::NoCompiler) => {
            common::skip("an_error_of_the_compiler_is_shown", "no NVRTC");
        }
        other => panic!("that compiles? {other:?}"),
    }
}
