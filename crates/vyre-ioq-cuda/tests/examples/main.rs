//! The examples: each kernel on threads, through the CPU's stand-in for a GPU, against real loops and
//! real files; and on a GPU, where there is one. Where there is none, those tests say so and do nothing.

#[path = "../../examples/common/mod.rs"]
mod common;
mod gather;
mod grid;
mod kv_spill;
mod readme;
mod stream_weights;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use common::{Code, Device, Error};
use tempfile::NamedTempFile;
use vyre_ioq_cuda::{CudaError, Ptx};

/// Threads, for tests.
fn threads() -> Device {
    Device::threads().expect("a directory")
}

/// Reports that a test cannot run. Writes to stderr directly, since the harness hides what the macros
/// print in a test that passes: `cargo xtask ci` counts these lines.
fn skip(test: &str, why: impl std::fmt::Display) {
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A GPU, or none and a loud word why.
fn gpu(test: &str) -> Option<Device> {
    match Device::gpu(0) {
        Ok(device) => Some(device),
        Err(Error::Cuda(
            error @ (CudaError::NoDriver | CudaError::StaticProgram | CudaError::NoDevice),
        )) => {
            skip(test, error);
            None
        }
        Err(error) => panic!("there is a GPU, but {error}"),
    }
}

/// A file that holds `contents`, open for all.
fn file_of(contents: &[u8]) -> (NamedTempFile, PathBuf) {
    let file = NamedTempFile::new().expect("a file");
    file.as_file().write_all_at(contents, 0).expect("room");
    let path = file.path().to_owned();
    (file, path)
}

/// Changes one bit.
fn flip(file: &File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("inside");
    byte[0] ^= 1;
    file.write_all_at(&byte, offset).expect("inside");
}

/// Returns the text about a result that is not right.
fn wrong<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Wrong(text)) => text,
        other => panic!("a change was not found: {other:?}"),
    }
}

/// Asserts that the kernel gave up since a request went past the end of the file.
fn assert_past_the_end<T: std::fmt::Debug>(result: Result<T, Error>) {
    let text = match result {
        Err(error @ Error::GaveUp { .. }) => error.to_string(),
        other => panic!("not given up: {other:?}"),
    };
    assert!(text.contains("ENODATA"), "{text}");
}

#[test]
fn every_kernel_compiles_under_nvrtc() {
    let kernels = [
        stream_weights::stream::KERNEL,
        gather::rows::KERNEL,
        kv_spill::blocks::KERNEL,
    ];
    for Code { name, .. } in kernels {
        assert_eq!(kernels.iter().filter(|other| other.name == name).count(), 1);
    }
    let mut sources: Vec<_> = kernels.map(|code| (code.name, code.source())).into();
    sources.extend(readme::kernel().map(|text| ("load", text)));
    for compute in [(7, 5), (9, 0)] {
        for (name, source) in &sources {
            match Ptx::compile(source, compute) {
                Ok(ptx) => assert!(ptx.text().contains(&format!(".entry {name}"))),
                Err(CudaError::NoCompiler) => {
                    skip("every_kernel_compiles_under_nvrtc", "there is no NVRTC");
                    return;
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
}

#[test]
fn more_warps_than_run_at_once_are_refused() {
    let device = threads();
    for in_view in [false, true] {
        assert_eq!(device.warps(None, in_view).expect("it suits"), 2);
    }
    for warps in [0, 17] {
        let refused = device.warps(Some(warps), false);
        assert!(matches!(refused, Err(Error::Unfit(_))), "{refused:?}");
    }
}

/// Runs the program of an example, if it was built and carried along with this one.
fn program(name: &str, arguments: &[&str]) -> Option<Output> {
    let own = std::env::current_exe().expect("a path");
    let built = own.parent()?.parent()?.join("examples").join(name);
    if !built.is_file() {
        let test = std::thread::current();
        let why = format!("there is no {}: cargo test builds it", built.display());
        skip(test.name().unwrap_or(name), why);
        return None;
    }
    Some(
        Command::new(built)
            .args(arguments)
            .output()
            .expect("a program"),
    )
}

#[test]
fn programs_verify_what_threads_did() {
    let weights = stream_weights::file().0;
    let path = weights.path().to_str().expect("text");
    let on = ["--device", "threads", "--warps", "1"];
    for (name, arguments) in [
        (
            "stream_weights",
            &["--file", path, "--block", "4KiB", "--tensors"][..],
        ),
        (
            "gather",
            &[
                "--rows",
                "100",
                "--dim",
                "8",
                "--batches",
                "2",
                "--batch-size",
                "2",
            ],
        ),
        ("kv_spill", &["--blocks", "5", "--block", "1KiB"]),
    ] {
        let Some(output) = program(name, &[&on, arguments].concat()) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(
            said.contains("/s\n") && said.contains("verified"),
            "{name}: {said}"
        );
        assert!(
            said.starts_with("threads in place of a GPU"),
            "{name}: {said}"
        );
    }
}

#[test]
fn programs_without_a_gpu_say_what_is_missing() {
    let Err(Error::Cuda(missing)) = Device::gpu(0) else {
        skip(
            "programs_without_a_gpu_say_what_is_missing",
            "there is a GPU",
        );
        return;
    };
    for name in ["stream_weights", "gather", "kv_spill"] {
        let Some(output) = program(name, &[]) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(said.contains(&missing.to_string()), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}: {output:?}");
    }
}
