//! Makes `crates/vyre-ioq-cuda/ptx`: the output of NVRTC 12.4 for the crate's kernels, for machines
//! without a suitable NVRTC. A test of the crate fails when the kernels have changed since.

use crate::workspace::Workspace;
use crate::{Result, sh};

pub(crate) fn write(ws: &Workspace) -> Result<()> {
    let example = ["run", "-q", "-p", "vyre-ioq-cuda", "--example", "ptx"];
    sh::run(&mut sh::cargo(ws, &example))
}
