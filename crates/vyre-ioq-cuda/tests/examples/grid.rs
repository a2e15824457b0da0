//! Boundaries: all warps, or none.

use bytemuck::{Pod, Zeroable};
use vyre_uring::Buffer;

use crate::common::GRID;
use crate::common::threads::{Program, Threads};

/// Each warp increments the count of a round, and checks after the barrier that all warps have.
const KERNEL: &str = r#"
namespace rounds {
using namespace examples;
enum : u32 { ROUNDS = 4 };
struct Args {
    const Port *ports;
    Grid *grid;
    u64 *counts;   // of each round; then rounds that some warp passed without all others
    u64 timeout_ns;
    u32 port_count, warps;
};
struct Rounds : Worker<Args> {
    using Worker::Worker;
    void run() const {
        for (u32 round = 0; round < ROUNDS; ++round) {
            if (lane_id() == warp) {
                simt::sleep(10000000 * warp);  // some warps are late
                add(&args.counts[round], 1);
            }
            if (!barrier(round + 1)) return;
            if (lane_id() == 31 && args.counts[round] != args.warps) add(&args.counts[ROUNDS], 1);
        }
    }
};
}  // namespace rounds
extern "C" __global__ void rounds_kernel(const rounds::Args args) {
    rounds::Rounds(args, (blockIdx.x * blockDim.x + threadIdx.x) / 32).run();
}
"#;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Args {
    ports: u64,
    grid: u64,
    counts: u64,
    timeout_ns: u64,
    port_count: u32,
    warps: u32,
}

fn read<const N: usize>(buffer: &Buffer) -> [u64; N] {
    let mut words = [0; N];
    let bytes = bytemuck::cast_slice_mut(&mut words);
    buffer.read_at(0, bytes).expect("all of it");
    words
}

/// So many warps run, where `warps` are expected; the words of the grid, and the counts.
fn run(running: u32, warps: u32, timeout_ns: u64) -> ([u64; 4], [u64; 5]) {
    let mut device = Threads::new().expect("a directory");
    let (grid, grid_at) = device.memory(64).expect("memory");
    let (counts, counts_at) = device.memory(64).expect("memory");
    // A port that nobody uses.
    let (_ports, ports) = device.memory(64).expect("memory");
    let args = Args {
        ports,
        grid: grid_at,
        counts: counts_at,
        timeout_ns,
        port_count: 1,
        warps,
    };
    let text = [GRID, KERNEL].concat();
    let program = Program::compile(&text, "rounds_kernel").expect("g++");
    let ran = device.run(&program, (running, 32), bytemuck::bytes_of(&args));
    ran.expect("an orderly end");
    (read(&grid), read(&counts))
}

#[test]
fn no_warp_passes_a_barrier_before_all_have_arrived() {
    let (grid, counts) = run(4, 4, 60_000_000_000);
    assert_eq!(grid, [4 * 4, 0, 0, 0], "arrivals, and nobody gave up");
    assert_eq!(counts, [4, 4, 4, 4, 0]);
}

#[test]
fn a_warp_that_never_comes_ends_the_wait_of_all() {
    /// `WaitStatus::TIMED_OUT`.
    const TIMED_OUT: u64 = 4;
    let (grid, counts) = run(2, 3, 100_000_000);
    assert_eq!(grid[0], 1 << 32 | 2, "two arrivals, and one gave up");
    assert_eq!(grid[1], TIMED_OUT);
    assert_eq!(grid[2], 1, "at the first barrier");
    assert_eq!(counts, [2, 0, 0, 0, 0], "nobody went on");
}
