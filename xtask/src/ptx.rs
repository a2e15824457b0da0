//! Makes `crates/vyre-io-cli/ptx`: the output of NVRTC 12.4 for the kernels of the command line, for
//! machines without a suitable NVRTC. A test of the crate fails when the kernels have changed since.

use crate::workspace::Workspace;
use crate::{Result, sh};

/// Kernels by the names of their files.
const KERNELS: [&str; 2] = ["bench", "copy"];

pub(crate) fn write(ws: &Workspace) -> Result<()> {
    for kernel in KERNELS {
        let source = format!("crates/vyre-io-cli/kernels/{kernel}.cuh");
        let name = format!("vyre_ioq_{kernel}");
        let output = format!("crates/vyre-io-cli/ptx/{kernel}.ptx");
        let example = [
            "run",
            "-q",
            "-p",
            "vyre-ioq-cuda",
            "--example",
            "ptx",
            "--",
            &source,
            &name,
            &output,
        ];
        sh::run(&mut sh::cargo(ws, &example))?;
    }
    Ok(())
}
