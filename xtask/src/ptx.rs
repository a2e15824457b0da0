//! `crates/vyre-ioq-cuda/ptx`: what NVRTC 12.4 makes of the crate's kernels, for machines that have no
//! NVRTC that suits. A test of the crate fails when the kernels have changed since.

use crate::workspace::Workspace;
use crate::{Result, sh};

pub(crate) fn write(ws: &Workspace) -> Result<()> {
    let example = ["run", "-q", "-p", "vyre-ioq-cuda", "--example", "ptx"];
    sh::run(&mut sh::cargo(ws, &example))
}
