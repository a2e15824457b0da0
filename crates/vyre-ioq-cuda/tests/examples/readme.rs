//! The kernels that the READMEs show, run on threads against a real loop and a real file.

use std::fs;
use std::path::Path;

use bytemuck::{Pod, Zeroable};
use vyre_ioloop::{BufferTable, FileTable, IoLoop, Rights};
use vyre_ioq::QueueLayout;
use vyre_ioq_cuda::QueueView;

use crate::common::threads::{Program, Threads};
use crate::{file_of, skip};

const BLOCK: usize = 65536;

/// Stands for the reader's own `work`: here, it ends the kernel where the bytes are not those
/// of the warp's own block.
const WORK: &str = r"
static inline __device__ void work(const unsigned char *block, unsigned count) {
    unsigned char warp = (unsigned char)((blockIdx.x * blockDim.x + threadIdx.x) / 32);
    if (count != 65536 || block[0] != warp + 1 || block[count - 1] != warp + 1) *(volatile int *)0 = 0;
}
";

/// `Args` of the README's two blocks.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    queue: QueueView,
    data: u64,
    file: u32,
    pool: u32,
}

/// The kernel in the repository's README, with `work` before it. A package of this crate has no such file.
pub(crate) fn kernel() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(path).ok()?;
    let (_, block) = text.split_once("```cuda\n").expect("a kernel");
    let (block, _) = block.split_once("```").expect("its end");
    Some([WORK, block].concat())
}

#[test]
fn the_kernel_of_the_readme_reads_the_file() {
    let Some(kernel) = kernel() else {
        skip("the_kernel_of_the_readme_reads_the_file", "no README.md");
        return;
    };
    let on_threads = format!("#define __device__\n{kernel}");
    let program = Program::compile(&on_threads, "load").expect("g++ takes it");

    let warps = 4;
    let contents: Vec<u8> = (0..warps * BLOCK)
        .map(|at| u8::try_from(at / BLOCK + 1).expect("few warps"))
        .collect();
    let (file, _path) = file_of(&contents);
    let mut device = Threads::new().expect("a directory");
    let (memory, data) = device.memory(warps * BLOCK).expect("memory");
    let (host, queue) = device.queue(QueueLayout::with_slots(64)).expect("a queue");
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = file.reopen().expect("a descriptor");
    let args = Args {
        queue,
        data,
        file: files.insert(file, Rights::READ).expect("room").raw(),
        pool: buffers.insert(memory.clone()).expect("room").raw(),
    };
    let io = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let io = io.spawn().expect("a loop");

    let ran = device.run(&program, (2, 64), bytemuck::bytes_of(&args));
    ran.expect("every warp found its own block");
    let mut moved = vec![0; contents.len()];
    memory.read_at(0, &mut moved).expect("all of it");
    assert_eq!(moved, contents);
    io.stop().expect("an orderly stop");
}

#[test]
fn the_kernel_of_the_crates_readme_compiles() {
    let text = include_str!("../../README.md");
    let (_, kernel) = text.split_once("r#\"\n").expect("a kernel");
    let (kernel, _) = kernel.split_once("\"#;").expect("its end");
    Program::compile(kernel, "load").expect("g++ takes it");
}
