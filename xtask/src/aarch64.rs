//! The step `aarch64`: builds for that architecture, and runs the tests in an emulator of its programs.
//!
//! qemu-user has no io_uring, so loops take threads by themselves. It executes the instructions of another architecture
//! on the memory of this one: on x86-64, a test sees no order of loads and stores that x86-64 does not have. loom and Miri
//! look for those.

use xshell::Cmd;

use crate::report::{Report, Skip, counted};
use crate::tools;
use crate::workspace::{Result, Workspace, cmd, succeeds};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The compiler that links, the emulator, and the folder of the target's libraries.
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Packages of Debian and Ubuntu that have them.
const PACKAGES: [&str; 3] = ["qemu-user", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];

/// Tests of a package that run.
struct Tested {
    package: &'static str,
    /// The arguments that choose the files of tests.
    what: &'static [&'static str],
    /// Parts of the names of tests that are left out, and why.
    left_out: &'static [(&'static str, &'static str)],
}

const PAGES: &str = "the emulator's pages are not those of the program";
const SIGNALS: &str = "the emulator has signals and a thread's mask of its own";
const SIZES: &str = "the emulator does not pass a limit on file sizes on";
const RING: &str = "there is no io_uring";

const TESTED: &[Tested] = &[
    Tested {
        package: "vyre-ioq",
        what: &["--tests"],
        left_out: &[("guard::fault_tests::", SIGNALS), ("test_utils::tests::", "it would take minutes")],
    },
    Tested {
        package: "vyre-mapped",
        what: &["--lib", "--test", "copy", "--test", "residency"],
        left_out: &[
            ("the file signals.rs", "each test starts the program anew, which needs an emulator"),
            ("the file replaced.rs", PAGES),
            ("all_pages_of_the_part_are_mapped_and_no_others", PAGES),
            ("pages_in_memory_are_mapped_and_no_others", PAGES),
            ("populate_ends_at_the_end_of_the_file", PAGES),
            ("an_evicted_page_is_found_missing", PAGES),
            ("another_user_is_told_of_mapped_pages_alone", PAGES),
        ],
    },
    Tested {
        package: "vyre-uring",
        what: &["--tests"],
        left_out: &[("ring::tests::", RING), ("a_memfd_past_the_file_size_limit", SIZES)],
    },
    Tested {
        package: "vyre-ioloop",
        what: &["--tests"],
        left_out: &[
            ("a_loop_thread_takes_only_the_signals_of_its_own_faults", SIGNALS),
            ("signals_do_not_end_an_engine", SIGNALS),
            ("the_thread_of_a_caller_can_block_signals_too", SIGNALS),
            ("a_write_to_a_pipe_without_a_reader_is_epipe", SIGNALS),
            ("a_write_past_the_limit_on_file_sizes_is_efbig", SIZES),
            ("a_forked_child_does_not_affect_the_loop", "a fork of the emulator's threads does not go on"),
        ],
    },
    Tested { package: "vyre-io-cli", what: &["--test", "copy"], left_out: &[] },
];

/// Builds and tests for AArch64. The other steps of a machine of that kind have done so already.
pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    if std::env::consts::ARCH == "aarch64" {
        "this machine is one: the other steps ran on it".clone_into(&mut report.note);
        return Ok(());
    }
    provide(ws)?;
    let mut left_out = 0;
    for Tested { package, what, left_out: tests } in TESTED {
        let names = tests.iter().flat_map(|(name, _)| ["--skip", name]);
        for (name, why) in *tests {
            println!("  left out: {name}: {why}");
        }
        left_out += tests.len() as u64;
        let test = cmd!(ws, "cargo test --target {TARGET} -p {package}").args(*what);
        counted(emulated(test.arg("--").args(names)), &mut report.tests)?;
    }
    report.tests.skipped += left_out;
    report.note = format!("{} passed in {EMULATOR}, {left_out} left out by name", report.tests.passed);
    Ok(())
}

/// Has a command of cargo link for the target, and run its programs in the emulator.
fn emulated(cmd: Cmd<'_>) -> Cmd<'_> {
    let runner = format!("{EMULATOR} -L {LIBRARIES}");
    cmd.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &runner)
        // For tests that start a program of their own.
        .env("VYRE_IO_RUNNER", runner)
        // Instructions take many times as long.
        .env("PROPTEST_CASES", "8")
        // Neither backtraces nor what they need.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("RUST_BACKTRACE", "0")
}

/// Sees to it that there are the target, its linker and the emulator. Root installs them by apt.
fn provide(ws: &Workspace) -> Result<()> {
    let has = || [LINKER, EMULATOR].iter().all(|program| succeeds(cmd!(ws, "{program} --version")));
    if !has() {
        // The emulator recommends to register it with the kernel.
        tools::install_by_apt(ws, &["--no-install-recommends"], &PACKAGES);
    }
    if !has() {
        return Err(Skip(format!("no {LINKER} or no {EMULATOR}: install {}", PACKAGES.join(", "))).into());
    }
    if cmd!(ws, "rustup target add {TARGET}").run().is_err() {
        return Err(Skip(format!("no {TARGET}: run `rustup target add {TARGET}`")).into());
    }
    Ok(())
}
