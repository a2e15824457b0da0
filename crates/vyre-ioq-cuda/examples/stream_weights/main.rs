//! One persistent kernel streams the weights of a safetensors file, layer by layer, and reduces them;
//! then the CPU does the same and compares.
//!
//!     cargo run --release -p vyre-ioq-cuda --example stream_weights -- --file model.safetensors

#[path = "../common/cli.rs"]
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod stream;
mod weights;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use common::Error;
use stream::Plan;

/// Streams the weights of a safetensors file through a kernel, and checks what it found.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    on: cli::On,
    #[command(flatten)]
    reads: cli::Reads,
    /// The file; without one, an example is made.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Bytes of the example.
    #[arg(long, default_value = "256MiB", value_parser = cli::size::<u64>)]
    size: u64,
    /// Bytes of one block: of a request, 256KiB by default, or of what a warp reads in a view, 64KiB by default.
    #[arg(long, value_parser = cli::size::<u32>)]
    block: Option<u32>,
    /// Shows every tensor.
    #[arg(long)]
    tensors: bool,
}

fn run(cli: Cli) -> Result<(), Error> {
    let mut device = cli.on.open()?;
    let make = |path: &Path| weights::write_example(path, cli.size);
    let (path, _made) = cli::given_or_made(cli.file, make)?;
    let file = File::open(&path).map_err(Error::file(&path))?;
    let layers = weights::layers(&file, &path)?;
    let view = device.view(&file, cli.reads.way)?;
    let in_view = !view.is_empty();
    let (warps, loops) = cli.on.shape(&device, in_view, u32::MAX)?;
    let plan = Plan {
        view,
        warps,
        loops,
        block_size: cli.block.unwrap_or(if in_view { 64 } else { 256 } << 10),
    };
    let streamed = stream::stream(&mut device, &file, &layers, plan)?;

    let (mut count, mut bytes) = (0, 0);
    streamed.verify(&file, &path, &layers, |tensor, totals| {
        count += 1;
        bytes += tensor.bytes;
        if cli.tensors {
            println!("  {} ({:?}): {totals:?}", tensor.name, tensor.dtype);
        }
    })?;
    println!(
        "streamed {bytes} bytes of {count} tensors in {} layers in {:.1?}: {}",
        layers.len(),
        streamed.elapsed,
        cli::rate(bytes, streamed.elapsed)
    );
    println!("verified: every block, every layer and their chain are as the CPU finds them");
    Ok(())
}

fn main() -> ExitCode {
    cli::end(run(Cli::parse()))
}
