//! Compiles the crate's kernels into `ptx`. Needs NVRTC, and no GPU.

use std::error::Error;
use std::fs;
use std::path::Path;

use vyre_ioq_cuda::bench::Bench;
use vyre_ioq_cuda::copy::Copier;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("ptx");
    for (name, ptx) in [
        ("bench.ptx", Bench::portable_ptx()?),
        ("copy.ptx", Copier::portable_ptx()?),
    ] {
        fs::write(directory.join(name), ptx.text())?;
        println!("{name}: {} bytes", ptx.text().len());
    }
    Ok(())
}
