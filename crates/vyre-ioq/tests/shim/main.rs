//! The CUDA header on a CPU, with threads as lanes, under ThreadSanitizer: unchanged, and with each ordering
//! removed in turn. The conformance suite drives the same header through `driver.cpp`.

#![cfg(all(feature = "std", target_os = "linux", not(miri)))]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The CUDA headers.
const HEADERS: [&str; 7] = [
    "vyre_ioq.cuh",
    "vyre_view.cuh",
    "vyre_windows.cuh",
    "vyre_ioq_device.cuh",
    "vyre_ioq_types.cuh",
    "vyre_ioq_abi.cuh",
    "vyre_ioq_shim.h",
];

/// The exit status by which ThreadSanitizer reports a race.
const OBJECTED: i32 = 66;
/// Attempts to find a race: it is found only if both accesses are close in time.
const ATTEMPTS: u32 = 5;

/// Orderings of the header: a name, the file, the text that provides the ordering, and its replacement.
const ORDERINGS: &[(&str, &str, &str, &str)] = &[
    (
        "publish_release",
        "vyre_ioq_device.cuh",
        "mem::store_system_release(at + 2, unit.c);",
        "mem::store_system(at + 2, unit.c);",
    ),
    (
        "poll_acquire",
        "vyre_ioq_device.cuh",
        "u32 status = load_status(at + 2);",
        "u32 status = mem::load_system(at + 2);",
    ),
    (
        "lock_acquire",
        "vyre_ioq_shim.h",
        "__atomic_fetch_or(at, bits, __ATOMIC_ACQUIRE)",
        "__atomic_fetch_or(at, bits, __ATOMIC_RELAXED)",
    ),
    (
        "unlock_release",
        "vyre_ioq_shim.h",
        "__atomic_fetch_and(at, bits, __ATOMIC_RELEASE)",
        "__atomic_fetch_and(at, bits, __ATOMIC_RELAXED)",
    ),
    (
        "abandon_release",
        "vyre_ioq_shim.h",
        "__atomic_or_fetch(at, bits, __ATOMIC_RELEASE)",
        "__atomic_or_fetch(at, bits, __ATOMIC_RELAXED)",
    ),
    (
        "reclaim_acquire",
        "vyre_ioq_shim.h",
        "__atomic_fetch_and(at, bits, __ATOMIC_ACQUIRE)",
        "__atomic_fetch_and(at, bits, __ATOMIC_RELAXED)",
    ),
    (
        "magic_acquire",
        "vyre_ioq.cuh",
        "line[HEADER_WORD_MAGIC] = mem::load_system_acquire(header);",
        "line[HEADER_WORD_MAGIC] = mem::load_system(header);",
    ),
    (
        "state_acquire",
        "vyre_ioq_device.cuh",
        "mem::load_system_acquire(header + HEADER_WORD_STATE)",
        "mem::load_system(header + HEADER_WORD_STATE)",
    ),
    (
        "warp_reserve_sync",
        "vyre_ioq.cuh",
        "simt::sync(mask);  // hands on the leader's acquire of the locks",
        "",
    ),
    (
        "warp_wait_sync",
        "vyre_ioq.cuh",
        "simt::sync(mask);  // hands on every lane's acquire of its outcome",
        "",
    ),
    (
        "warp_perform_sync_before",
        "vyre_ioq.cuh",
        "simt::sync(mask);  // every lane's stores, before the leader's release",
        "",
    ),
    (
        "warp_perform_kept_sync_before",
        "vyre_ioq.cuh",
        "simt::sync(mask);  // every lane's stores, before the leader publishes",
        "",
    ),
    (
        "warp_perform_sync_after",
        "vyre_ioq.cuh",
        "simt::sync(mask);  // the leader's acquire, before the other lanes read the bytes",
        "",
    ),
];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles `race.cpp` with the headers of a directory.
fn compile(include: &Path, name: &str, flags: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("race-{name}"));
    let compiled = Command::new("g++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .args(flags)
        .arg("-I")
        .arg(include)
        .arg(here().join("tests/shim/race.cpp"))
        .arg("-o")
        .arg(&program)
        .status();
    match compiled {
        Ok(status) => assert!(
            status.success(),
            "g++ {flags:?} refused race.cpp; where it does not find -ltsan, install libtsan with \
             your distribution"
        ),
        Err(error) => {
            panic!("cannot start g++ ({error}): install g++ with your distribution")
        }
    }
    program
}

const SANITIZED: &[&str] = &["-O1", "-g", "-fsanitize=thread"];

fn run(program: &Path, laps: u32) -> Output {
    Command::new(program)
        .arg(laps.to_string())
        .env(
            "TSAN_OPTIONS",
            format!("halt_on_error=1:exitcode={OBJECTED}"),
        )
        .output()
        .expect("a program that was just compiled")
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Compiles `misuse.cpp` with each compiler, without warnings and beside macros of system headers, and runs it.
#[test]
fn misuse_and_lateness_cost_no_request() {
    for compiler in ["g++", "clang++"] {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("misuse-{compiler}"));
        let compiled = Command::new(compiler)
            .args([
                "-std=c++17",
                "-O1",
                "-Wall",
                "-Wextra",
                "-Wshadow",
                "-Werror",
                "-I",
            ])
            .arg(here().join("include"))
            .arg(here().join("tests/shim/misuse.cpp"))
            .arg("-o")
            .arg(&program)
            .status();
        match compiled {
            Ok(status) => assert!(status.success(), "{compiler} refused misuse.cpp"),
            Err(error) if compiler == "clang++" => {
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED: misuse_and_lateness_cost_no_request: cannot start clang++ ({error})"
                );
                continue;
            }
            Err(error) => panic!("cannot start {compiler} ({error})"),
        }
        let output = Command::new(&program).output().expect("just compiled");
        assert!(output.status.success(), "{compiler}: {}", said(&output));
    }
}

/// Whichever header comes first, all of them are there, and macros of system headers stay as they are.
#[test]
fn any_of_the_headers_may_come_first() {
    for first in HEADERS {
        let compiled = Command::new("g++")
            .args(["-std=c++17", "-Wall", "-Wextra", "-Wshadow", "-Werror"])
            .arg("-fsyntax-only")
            .arg(format!("-DFIRST=\"{first}\""))
            .arg("-I")
            .arg(here().join("include"))
            .arg(here().join("tests/shim/misuse.cpp"))
            .status()
            .expect("g++: install it with your distribution");
        assert!(compiled.success(), "{first} first");
    }
}

/// Compiles a program of this folder: `view.cpp` or `windows.cpp`.
fn compile_program(source: &str, name: &str, flags: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{source}-{name}"));
    let compiled = Command::new("g++")
        .args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wshadow"])
        .args(["-Werror", "-pthread"])
        .args(flags)
        .arg("-I")
        .arg(here().join("include"))
        .arg(here().join("tests/shim").join(source))
        .arg("-o")
        .arg(&program)
        .status()
        .expect("g++: install it with your distribution");
    assert!(compiled.success(), "g++ refused {source}");
    program
}

/// Elements, blocks and copies of a view, for each alignment, and at the end of a file inside a page.
#[test]
fn a_view_gives_the_bytes_of_its_range_and_no_others() {
    let program = compile_program("view.cpp", "plain", &["-fsanitize=address,undefined"]);
    let output = Command::new(&program).output().expect("just compiled");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn an_access_outside_a_view_ends_a_debug_build() {
    assert_checked("view.cpp");
}

/// Look-ups, requests, refusals and waits for windows, by threads and by warps.
///
/// Rule: ABI-6.25.
#[test]
fn windows_are_asked_for_once_and_refusals_remembered() {
    let program = compile_program("windows.cpp", "plain", &["-fsanitize=address,undefined"]);
    let output = Command::new(&program).output().expect("just compiled");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn thread_sanitizer_finds_nothing_in_windows() {
    let program = compile_program("windows.cpp", "sanitized", SANITIZED);
    let output = Command::new(&program).output().expect("just compiled");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_load_from_a_window_that_is_not_mapped_ends_a_debug_build() {
    assert_checked("windows.cpp");
}

/// Runs a program with an argument, with which it loads what is not there: a debug build ends.
fn assert_checked(source: &str) {
    let program = compile_program(source, "checked", &[]);
    let output = Command::new(&program)
        .arg("outside")
        .output()
        .expect("just compiled");
    assert!(!output.status.success(), "it went on");
    let said = said(&output);
    assert!(
        said.contains("an access that is not inside the view"),
        "{said}"
    );
    let program = compile_program(source, "unchecked", &["-DNDEBUG"]);
    let output = Command::new(&program).arg("outside").output();
    let status = output.expect("just compiled").status;
    assert!(
        status.code().is_some(),
        "an unchecked build loads: {status}"
    );
}

#[test]
fn every_outcome_is_right_on_threads_and_warps() {
    let program = compile(&here().join("include"), "plain", &["-O2"]);
    let output = run(&program, 2000);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn thread_sanitizer_finds_nothing() {
    let program = compile(&here().join("include"), "sanitized", SANITIZED);
    let output = run(&program, 100);
    assert!(output.status.success(), "{}", said(&output));
}

/// Shows that the test above would find each missing ordering.
///
/// Rules: ABI-4.10, ABI-5.6.
#[test]
fn thread_sanitizer_finds_each_ordering_that_is_taken_away() {
    for (name, file, ordering, none) in ORDERINGS {
        let include = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("without-{name}"));
        fs::create_dir_all(&include).expect("a folder");
        for header in HEADERS {
            let path = here().join("include").join(header);
            let mut text = fs::read_to_string(path).expect("a header of the crate");
            if header == *file {
                assert_eq!(text.matches(ordering).count(), 1, "{name}: once in {file}");
                text = text.replace(ordering, none);
            }
            fs::write(include.join(header), text).expect("room");
        }
        let program = compile(&include, name, SANITIZED);
        let found = (0..ATTEMPTS).any(|_| run(&program, 100).status.code() == Some(OBJECTED));
        assert!(found, "{name}: ThreadSanitizer does not miss it");
        println!("without {name}: found");
    }
}
