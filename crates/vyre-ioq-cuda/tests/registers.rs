//! Registers that each device call costs. Where there is no GPU, nothing is loaded; where there is
//! no NVRTC either, nothing is compiled, and the tests say so.

mod common;

use common::{gpu, skip};
use vyre_ioq_cuda::{CudaError, Kernel, Ptx};

const CALLS: &str = include_str!("calls.cuh");
const NAMES: [&str; 8] = [
    "perform",
    "submit",
    "wait",
    "warp_perform",
    "warp_submit_wait",
    "fence",
    "sync",
    "prefetch",
];
/// With more, a multiprocessor of 65,536 registers no longer runs 1,024 threads.
const MOST: u32 = 64;

/// The PTX; none, and a loud word, without NVRTC.
fn compiled(test: &str, compute: (u32, u32)) -> Option<Ptx> {
    match Ptx::compile(CALLS, compute) {
        Ok(ptx) => Some(ptx),
        Err(error @ CudaError::NoCompiler) => {
            skip(test, error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_call_compiles() {
    for compute in [(7, 5), (9, 0)] {
        let Some(ptx) = compiled("every_call_compiles", compute) else {
            return;
        };
        for name in NAMES {
            let entry = format!(".visible .entry {name}(");
            assert!(ptx.text().contains(&entry), "no {name} for {compute:?}");
        }
    }
}

#[test]
fn no_call_spills_or_takes_many_registers() {
    const TEST: &str = "no_call_spills_or_takes_many_registers";
    let Some(gpu) = gpu(TEST) else { return };
    let Some(ptx) = compiled(TEST, gpu.capabilities().compute) else {
        return;
    };
    println!("| call | registers | bytes of local memory |\n| --- | --- | --- |");
    let costs = NAMES.map(|name| {
        let kernel = Kernel::load(&gpu, &ptx, name).expect("the kernel");
        let (registers, local) = (kernel.registers(), kernel.local_bytes());
        println!("| `{name}` | {registers} | {local} |");
        (name, registers, local)
    });
    for (name, registers, local) in costs {
        assert!((1..=MOST).contains(&registers), "{name}: {registers}");
        assert_eq!(local, 0, "{name} spills");
    }
}
