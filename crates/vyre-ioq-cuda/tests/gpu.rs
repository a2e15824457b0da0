//! Memory, queues and kernels of a real GPU. Where there is no GPU, each test says so and does nothing: run
//! the binary of these tests on a machine that has one.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

mod common;

use std::fs::File;
use std::sync::Arc;

use common::gpu;
use vyre_ioq::QueueLayout;
use vyre_ioq_cuda::{
    Cubin, CudaError, Gpu, GpuMemory, GpuQueue, Kernel, LaunchConfig, MappedMemory, Ptx,
};

#[test]
fn without_cuda_there_is_an_error_that_says_what_to_do() {
    match Gpu::open(u32::MAX) {
        Err(CudaError::NoSuchDevice { ordinal, count }) => {
            assert!(ordinal == u32::MAX && count > 0);
        }
        Err(error @ (CudaError::NoDriver | CudaError::StaticProgram | CudaError::NoDevice)) => {
            assert!(error.to_string().contains(": "), "{error}");
        }
        other => panic!("no machine has that many GPUs: {other:?}"),
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
        assert_eq!(queue.view().base(), at);
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
