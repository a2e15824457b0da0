//! A kernel spills the blocks of a KV cache to a file, makes them durable, overwrites its buffer, reads
//! the blocks back in another order and compares them; then the CPU compares the file.
//!
//!     cargo run --release -p vyre-ioq-cuda --example kv_spill -- --blocks 16384

mod blocks;
#[path = "../common/cli.rs"]
mod cli;
#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use blocks::{Phases, Plan};
use clap::{Parser, ValueEnum};
use common::Error;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Only {
    /// Write the blocks, and leave them in the file.
    Spill,
    /// Read back what an earlier run wrote to the file, with the same seed.
    Restore,
}

/// Spills blocks to a file and restores them.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    on: cli::On,
    /// The file to spill to, which is overwritten; without one, a temporary file.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Blocks.
    #[arg(long, default_value_t = 4096)]
    blocks: u64,
    /// Number of bytes of a block; 64 KiB is K and V of 16 tokens with 8 heads of 128 values of 2
    /// bytes.
    #[arg(long, default_value = "64KiB", value_parser = cli::size::<u32>)]
    block: u32,
    /// Seed that determines the contents of the blocks.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run one of the two phases only; requires --file.
    #[arg(long, value_enum, requires = "file")]
    only: Option<Only>,
}

fn run(cli: Cli) -> Result<(), Error> {
    let mut device = cli.on.open()?;
    let (warps, loops) = cli.on.shape(&device, false, u32::MAX)?;
    let (path, _made) = cli::given_or_made(cli.file, |_| Ok(()))?;
    let phases = match cli.only {
        None => Phases::BOTH,
        Some(Only::Spill) => Phases::SPILL,
        Some(Only::Restore) => Phases::RESTORE,
    };
    let plan = Plan {
        warps,
        loops,
        blocks: cli.blocks,
        block_size: cli.block,
        seed: cli.seed,
        phases,
    };
    let file = open(&path, phases)?;
    let (counts, time) = blocks::spill(&mut device, &file, &plan)?;
    let moved = (counts.written + counts.compared) * u64::from(plan.block_size);
    println!(
        "wrote {} and read back {} blocks of {} bytes in {time:.1?}: {}",
        counts.written,
        counts.compared,
        plan.block_size,
        cli::rate(moved, time)
    );
    blocks::check(&counts, &plan)?;
    blocks::verify(&file, &path, &plan)?;
    println!("verified: the kernel and the CPU find every block as it was made");
    Ok(())
}

/// Opens the file, which is created or emptied if blocks are to be spilled to it.
fn open(path: &Path, phases: Phases) -> Result<File, Error> {
    let spills = phases != Phases::RESTORE;
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .create(spills)
        .truncate(spills);
    options.open(path).map_err(Error::file(path))
}

fn main() -> ExitCode {
    cli::end(run(Cli::parse()))
}
