//! The code that a GPU gets: from NVRTC, whatever its version, or prebuilt.

#![expect(
    unsafe_code,
    reason = "launching a kernel is unsafe, even with a stand-in for the driver"
)]

use vyre_ioq_cuda::{CudaError, Gpu, Kernel, Launch, LaunchConfig, Program, Ptx};

use super::Other;

/// Environment variable: kinds of code that the other process is to find.
const EXPECTED: &str = "VYRE_IOQ_CUDA_TEST_EXPECTED";

/// PTX of NVRTC 12.4, as far as the stand-in reads it.
const PREBUILT: &str = ".version 8.4\n.target sm_70\n";

/// GPU, NVRTC, driver, and the expected code of a kernel with prebuilt PTX and of one without.
const CASES: &[(&str, &str, &str, &str, &str)] = &[
    // compute, NVRTC, driver, with prebuilt PTX, without
    ("70", "12.4", "12040", "nvrtc", "ptx"),
    ("70", "12.4", "13000", "nvrtc", "ptx"),
    ("80", "12.4", "12040", "nvrtc", "ptx"),
    ("90", "12.4", "13000", "nvrtc", "ptx"),
    // GPUs that came after the compiler.
    ("100", "12.4", "13000", "nvrtc", "ptx"),
    ("120", "12.4", "13000", "nvrtc", "ptx"),
    // A GPU that the compiler has left behind.
    ("70", "13.5", "12040", "prebuilt", "NoArchitecture"),
    ("80", "13.5", "13050", "nvrtc", "ptx"),
    ("90", "13.5", "13050", "nvrtc", "ptx"),
    ("100", "13.5", "13050", "nvrtc", "ptx"),
    ("120", "13.5", "13050", "nvrtc", "ptx"),
    // A compiler that is newer than the driver, of the same major version and of the next.
    ("90", "13.5", "13000", "nvrtc", "cubin"),
    ("120", "13.5", "13000", "nvrtc", "cubin"),
    ("90", "13.5", "12040", "prebuilt", "CodeTooNew"),
    ("120", "13.5", "12080", "prebuilt", "CodeTooNew"),
    // Neither NVRTC's code nor what was compiled beforehand is for a driver as old as that.
    ("90", "13.5", "12000", "CodeTooNew", "CodeTooNew"),
    ("90", "12.4", "12000", "nvrtc", "cubin"),
];

#[test]
fn to_have_a_compiler_is_never_worse_than_to_have_none() {
    let test = "to_have_a_compiler_is_never_worse_than_to_have_none";
    for (compute, nvrtc, driver, own, users) in CASES {
        for (part, expected) in [("prebuilt_kernels", own), ("compiled_kernels", users)] {
            println!("{part} of {compute}, NVRTC {nvrtc}, driver {driver}: {expected}");
            let Some(other) = Other::new(test, part) else {
                return;
            };
            other
                .with("FAKE_CUDA_COMPUTE", compute)
                .with("FAKE_NVRTC", nvrtc)
                .with("FAKE_CUDA_VERSION", driver)
                .with(EXPECTED, expected)
                .run();
        }
    }
}

#[test]
fn a_driver_without_a_compiler_of_ptx_gets_machine_code() {
    let test = "a_driver_without_a_compiler_of_ptx_gets_machine_code";
    for (nvrtc, driver, own, users) in [
        ("12.4", "12040", "nvrtc", "cubin"),
        ("13.5", "12040", "NoJit", "NoJit"),
    ] {
        for (part, expected) in [("prebuilt_kernels", own), ("compiled_kernels", users)] {
            let Some(other) = Other::new(test, part) else {
                return;
            };
            other
                .with("FAKE_CUDA_NO_JIT", "1")
                .with("FAKE_CUDA_VERSION", driver)
                .with("FAKE_NVRTC", nvrtc)
                .with(EXPECTED, expected)
                .run();
        }
    }
}

#[test]
fn a_compiler_that_is_broken_does_no_harm() {
    let test = "a_compiler_that_is_broken_does_no_harm";
    for (part, expected) in [
        ("prebuilt_kernels", "prebuilt"),
        ("compiled_kernels", "Compile"),
    ] {
        let Some(other) = Other::new(test, part) else {
            return;
        };
        other
            .with("FAKE_NVRTC", "12.4")
            .with("FAKE_NVRTC_BROKEN", "1")
            .with(EXPECTED, expected)
            .run();
    }
}

fn expected() -> String {
    std::env::var(EXPECTED).expect("a word")
}

fn word_of(error: &CudaError) -> String {
    let text = format!("{error:?}");
    let end = text.find(|it: char| !it.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

pub(crate) fn prebuilt_kernels() {
    let gpu = Gpu::open(0).expect("a GPU that is new enough");
    let found = match Program::new("", "a_kernel", PREBUILT).load(&gpu) {
        Ok(loaded) if loaded.is_prebuilt() => "prebuilt".to_owned(),
        Ok(_) => "nvrtc".to_owned(),
        Err(error) => word_of(&error),
    };
    assert_eq!(found, expected());
}

pub(crate) fn compiled_kernels() {
    let gpu = Gpu::open(0).expect("a GPU that is new enough");
    let compiled = Kernel::compile(&gpu, "", "a_kernel");
    let loads = super::calls();
    let loads: Vec<_> = loads
        .iter()
        .filter(|it| it.starts_with("cuModuleLoadData"))
        .collect();
    let found = match &compiled {
        Ok(_) => loads
            .last()
            .and_then(|it| it.split(' ').nth(1))
            .expect("a load")
            .to_owned(),
        Err(error) => word_of(error),
    };
    assert_eq!(found, expected(), "{compiled:?}");
    // Advice that does not lead back here.
    if let Err(error @ (CudaError::CodeTooNew { .. } | CudaError::NoJit(_))) = compiled {
        let text = error.to_string();
        assert!(text.contains("Kernel::compile and an NVRTC of "), "{text}");
    }
}

#[test]
fn code_that_is_refused_says_why() {
    if let Some(other) = Other::new("code_that_is_refused_says_why", "refused_code") {
        other.with("FAKE_NVRTC", "12.4").run();
    }
}

pub(crate) fn refused_code() {
    let gpu = Gpu::open(0).expect("a stand-in");
    match Ptx::compile("nonsense!", (9, 0)) {
        Err(CudaError::Compile(text)) => assert!(text.contains("nonsense") && !text.contains('\0')),
        other => panic!("that compiles? {other:?}"),
    }
    let zero = Ptx::compile("a\0b", (9, 0));
    assert!(matches!(zero, Err(CudaError::ZeroByte(_))), "{zero:?}");
    // The driver would read as much of it as it says itself that there is.
    let machine_code = Ptx::from_text("\x7fELF sm_90".to_owned());
    let refused = Kernel::load(&gpu, &machine_code, "a_kernel");
    assert!(matches!(refused, Err(CudaError::NotPtx)), "{refused:?}");
    assert!(
        super::calls()
            .iter()
            .all(|it| !it.starts_with("cuModuleLoadData"))
    );
}

#[test]
fn a_grid_that_waits_for_itself_has_to_fit() {
    if let Some(other) = Other::new("a_grid_that_waits_for_itself_has_to_fit", "shapes") {
        other.with("FAKE_NVRTC", "12.4").run();
    }
}

fn launch(kernel: &Kernel, config: LaunchConfig) -> Result<Launch, CudaError> {
    // SAFETY: nothing runs.
    unsafe { kernel.launch(config, &0_u64, ()) }
}

pub(crate) fn shapes() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let kernel = Kernel::compile(&gpu, "", "a_kernel").expect("a kernel");
    // As the stand-in has it: two blocks on each of four multiprocessors.
    let fits = LaunchConfig::new(8, 32).cooperative();
    assert_eq!(kernel.resident_blocks(&fits), Ok(8));
    let launched = launch(&kernel, fits).expect("it fits");
    drop(launched);
    let refused = launch(&kernel, LaunchConfig::new(9, 32).cooperative());
    assert_eq!(
        refused.err(),
        Some(CudaError::GridTooLarge { blocks: 9, most: 8 })
    );
    // Not of those that need not run at once.
    drop(launch(&kernel, LaunchConfig::new(9, 32)).expect("no limit"));
    super::calls();
    let shape = LaunchConfig::with_dimensions([2, 3, 1], [8, 4, 2]).shared_bytes(100_000);
    assert_eq!(kernel.resident_blocks(&shape), Ok(8));
    drop(launch(&kernel, shape).expect("less than a block may have"));
    let calls = super::calls();
    // A launch changes nothing that another thread's launch of the kernel relies on.
    assert!(
        !calls.iter().any(|it| it.starts_with("cuFuncSetAttribute")),
        "{calls:?}"
    );
    assert!(
        calls
            .iter()
            .any(|it| it == "cuLaunchKernelEx 2 3 1, 8 4 2, 100000"),
        "{calls:?}"
    );
    // The kernel's own shared memory counts as well, here 20,000 bytes.
    let shape = LaunchConfig::new(1, 32);
    drop(launch(&kernel, shape.shared_bytes(40_000)).expect("60,000 bytes"));
    drop(launch(&kernel, shape.shared_bytes(146_912)).expect("all that a block may have"));
    let refused = launch(&kernel, shape.shared_bytes(146_913));
    assert!(
        matches!(refused, Err(CudaError::Driver { .. })),
        "{refused:?}"
    );
}
