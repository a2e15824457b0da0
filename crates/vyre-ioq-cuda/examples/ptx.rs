//! Compiles the crate's kernels into `ptx`. Needs NVRTC 12.4, and no GPU.

use std::error::Error;
use std::fs;
use std::path::Path;

use vyre_ioq_cuda::bench::Bench;
use vyre_ioq_cuda::copy::Copier;

/// Line that NVRTC 12.4 writes. Drivers refuse PTX that is newer than they are, and older NVRTCs have
/// no accesses of 16 bytes.
const VERSION: &str = "\n.version 8.4\n";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("ptx");
    for (name, ptx) in [
        ("bench.ptx", Bench::portable_ptx()?),
        ("copy.ptx", Copier::portable_ptx()?),
    ] {
        if !ptx.text().contains(VERSION) {
            return Err("this NVRTC is not 12.4: set LD_LIBRARY_PATH to where that is".into());
        }
        fs::write(directory.join(name), ptx.text())?;
        println!("{name}: {} bytes", ptx.text().len());
    }
    Ok(())
}
