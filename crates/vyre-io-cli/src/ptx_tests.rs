//! The prebuilt PTX in `ptx`.

use std::io::Write;

use vyre_ioq_cuda::{CudaError, Program, Ptx};

/// A kernel of this crate: its source, its name, and its prebuilt PTX.
struct Prebuilt {
    source: &'static str,
    name: &'static str,
    prebuilt: &'static str,
    program: Program<'static>,
}

const PROGRAMS: [Prebuilt; 2] = [
    Prebuilt {
        source: include_str!("../kernels/bench.cuh"),
        name: "vyre_ioq_bench",
        prebuilt: include_str!("../ptx/bench.ptx"),
        program: crate::bench::kernel::PROGRAM,
    },
    Prebuilt {
        source: include_str!("../kernels/copy.cuh"),
        name: "vyre_ioq_copy",
        prebuilt: include_str!("../ptx/copy.ptx"),
        program: crate::copy::kernel::PROGRAM,
    },
];

#[test]
fn the_prebuilt_ptx_is_of_the_present_sources() {
    for program in PROGRAMS {
        assert!(
            program.program.is_current(),
            "the PTX of {} is of other sources than those here: run `cargo xtask ptx` on a \
             machine with NVRTC 12.4, which needs no GPU",
            program.name
        );
        let entry = format!(".visible .entry {}(", program.name);
        assert!(program.prebuilt.contains(&entry), "no {}", program.name);
        assert!(program.prebuilt.len() < 150 << 10, "{}", program.name);
    }
}

#[test]
fn the_driver_of_cuda_12_4_takes_the_prebuilt_ptx() {
    for program in PROGRAMS {
        let mut lines = program.prebuilt.lines();
        let version = lines.find_map(|line| line.strip_prefix(".version "));
        let (major, minor) = version
            .and_then(|it| it.split_once('.'))
            .expect("a version");
        let version: (u32, u32) = (
            major.parse().expect("a number"),
            minor.parse().expect("a number"),
        );
        assert!(
            version <= (8, 4),
            "{}: compile it with NVRTC 12.4, not later: drivers refuse PTX that is newer",
            program.name
        );
        assert!(
            program.prebuilt.contains("\n.target sm_70\n"),
            "{}: compile it for every GPU that Gpu::open takes",
            program.name
        );
        assert!(
            program.prebuilt.contains(".b128"),
            "{}: compile it with NVRTC 12.4, not earlier: there are no units of 16 bytes",
            program.name
        );
    }
}

/// The clocks of two multiprocessors differ, and a warp may move to another multiprocessor. A
/// difference that is compared as a signed number could then stay small for long.
#[test]
fn a_clock_that_goes_back_ends_the_delay() {
    for program in PROGRAMS {
        let compared: Vec<_> = program
            .prebuilt
            .lines()
            .map(str::trim)
            .filter(|it| it.starts_with("setp.") && it.ends_with(", 800;"))
            .collect();
        assert!(
            !compared.is_empty(),
            "{}: no delay of 800 cycles",
            program.name
        );
        assert!(
            compared.iter().all(|it| it.starts_with("setp.lt.u64 ")),
            "{}: {compared:?}",
            program.name
        );
    }
}

#[test]
fn the_sources_compile_for_old_gpus_and_new() {
    for program in PROGRAMS {
        for compute in [(7, 0), (7, 5), (9, 0), (12, 0)] {
            match Ptx::compile(program.source, compute) {
                Err(error @ CudaError::NoCompiler) => {
                    let line =
                        format!("SKIPPED: the_sources_compile_for_old_gpus_and_new: {error}\n");
                    let _ = std::io::stderr().write_all(line.as_bytes());
                    return;
                }
                Err(CudaError::NoArchitecture { .. }) => assert_eq!(compute, (7, 0)),
                compiled => assert!(compiled.is_ok(), "{}: {compiled:?}", program.name),
            }
        }
    }
}
