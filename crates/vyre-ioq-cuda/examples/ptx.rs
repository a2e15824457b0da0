//! Compiles a kernel to PTX for as many GPUs as NVRTC supports, to be the prebuilt PTX of a `Program`.
//! Needs no GPU.
//!
//! ```sh
//! cargo run -p vyre-ioq-cuda --example ptx -- KERNEL.cuh NAME KERNEL.ptx
//! ```

use std::error::Error;
use std::fs;

use vyre_ioq_cuda::Program;

/// Version line of the PTX that NVRTC 12.4 generates. Drivers refuse PTX that is newer than they
/// are, and an older NVRTC has no accesses of 16 bytes.
const VERSION: &str = "\n.version 8.4\n";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [source, name, output] = &arguments[..] else {
        return Err("usage: ptx KERNEL.cuh NAME KERNEL.ptx".into());
    };
    let source = fs::read_to_string(source).map_err(|error| format!("{source}: {error}"))?;
    let ptx = Program::new(&source, name, "").portable_ptx()?;
    if !ptx.text().contains(VERSION) {
        return Err("this NVRTC is not 12.4: set LD_LIBRARY_PATH to where that is".into());
    }
    fs::write(output, ptx.text()).map_err(|error| format!("{output}: {error}"))?;
    println!("{output}: {} bytes", ptx.text().len());
    Ok(())
}
