//! Running the binary, and files to run it on.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod fuse;
pub(crate) mod process;
pub(crate) mod serve;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory on the file system of the build directory, and one on tmpfs.
pub(crate) fn places() -> Vec<tempfile::TempDir> {
    [
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        Path::new("/dev/shm"),
    ]
    .into_iter()
    .filter(|place| place.is_dir())
    .map(|place| tempfile::tempdir_in(place).expect("a directory"))
    .collect()
}

pub(crate) fn place() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

pub(crate) fn vyre_io() -> Command {
    let mut program = program();
    let mut command = Command::new(program.remove(0));
    command.args(program).stdin(Stdio::null());
    command
}

/// Returns the binary, behind the words of `VYRE_IO_RUNNER`: an emulator, if it is built for another machine.
pub(crate) fn program() -> Vec<String> {
    let runner = std::env::var("VYRE_IO_RUNNER").unwrap_or_default();
    let binary = env!("CARGO_BIN_EXE_vyre-io").to_owned();
    let words = runner.split_whitespace().map(str::to_owned);
    words.chain([binary]).collect()
}

pub(crate) fn run(args: &[&str]) -> Output {
    vyre_io().args(args).output().expect("the binary runs")
}

pub(crate) fn copy(src: &Path, dst: &Path, more: &[&str]) -> Output {
    vyre_io()
        .arg("copy")
        .args([src, dst])
        .args(more)
        .output()
        .expect("the binary runs")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file whose bytes say where they are.
pub(crate) fn file(dir: &Path, name: &str, len: usize) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, contents(len)).expect("room");
    path
}

pub(crate) fn contents(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Names in a directory, hidden ones included.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Reports that the calling test, or a part of it, did not run. The harness hides ordinary output.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("a_test").to_owned();
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Returns whether a GPU copies here. If not, reports the calling test as skipped.
pub(crate) fn has_gpu() -> bool {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let output = copy(&src, &dir.path().join("dst"), &["--device", "cuda"]);
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        skipped(&stderr(&output));
    }
    output.status.success()
}
