//! For tests: a kernel on threads, through the CPU's stand-in for a GPU.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use vyre_ioq::headers;

/// Compiles `tests/shim/NAME.cpp`, which includes `NAME.cuh`: the text `kernel`.
pub(crate) fn compile(dir: &Path, name: &str, kernel: &str) -> PathBuf {
    for (header, text) in [
        ("vyre_ioq_parts.cuh", headers::CUDA_PARTS),
        ("vyre_ioq.cuh", headers::CUDA),
        ("vyre_ioq_shim.h", headers::CUDA_SHIM),
        (&format!("{name}.cuh"), kernel),
    ] {
        fs::write(dir.join(header), text).expect("room");
    }
    let program = dir.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/shim/{name}.cpp"));
    let compiled = Command::new("g++")
        .args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"])
        .args(["-pthread", "-I"])
        .arg(dir)
        .arg(source)
        .arg("-o")
        .arg(&program)
        .status()
        .expect("g++: install it with your distribution");
    assert!(compiled.success(), "g++ refused {name}.cpp");
    program
}

/// Where such a program, another process, finds shared memory of this one.
pub(crate) fn path_of(memfd: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), memfd.as_raw_fd())
}
