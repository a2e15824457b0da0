//! A kernel gathers random rows of a table of features that is far larger than its buffer, and averages
//! them; then the CPU does the same and compares.
//!
//!     cargo run --release -p vyre-ioq-cuda --example gather -- --rows 4Mi --batches 64

#[path = "../common/cli.rs"]
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod rows;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use common::Error;
use rows::Plan;

/// Gathers and averages the rows of random nodes' neighbours, mini-batch by mini-batch.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    on: cli::On,
    #[command(flatten)]
    reads: cli::Reads,
    /// File with the table, as rows of f32 values; without one, an example is made.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Rows of the example.
    #[arg(long, default_value = "1Mi", value_parser = cli::size::<u64>)]
    rows: u64,
    /// Values of a row.
    #[arg(long, default_value_t = 128)]
    dim: u32,
    /// Mini-batches.
    #[arg(long, default_value_t = 16)]
    batches: u32,
    /// Nodes of a mini-batch.
    #[arg(long, default_value_t = 1024)]
    batch_size: u32,
    /// Number of neighbours of a node: 1 to 32.
    #[arg(long, default_value_t = 25)]
    fanout: u32,
    /// Seed that determines the nodes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn run(cli: Cli) -> Result<(), Error> {
    let mut device = cli.on.open()?;
    let make = |path: &Path| rows::write_example(path, cli.rows, cli.dim);
    let (path, _made) = cli::given_or_made(cli.file, make)?;
    let file = File::open(&path).map_err(Error::file(&path))?;
    let view = device.view(&file, cli.reads.way)?;
    let (warps, loops) = cli.on.shape(&device, !view.is_empty(), cli.batch_size)?;
    let plan = Plan {
        view,
        warps,
        loops,
        rows: rows::rows_of(&file, &path, cli.dim)?,
        columns: cli.dim,
        fanout: cli.fanout,
        batch_size: cli.batch_size,
        batches: cli.batches,
        seed: cli.seed,
    };
    let gathered = rows::gather(&mut device, &file, &plan)?;

    let (requests, time) = (plan.requests(), gathered.elapsed);
    println!(
        "gathered {requests} of {} rows of {} bytes in {time:.1?}: {:.0} rows/s, {}",
        plan.rows,
        plan.row_bytes(),
        requests as f64 / time.as_secs_f64(),
        cli::rate(requests * plan.row_bytes(), time)
    );
    let mut batches = gathered.batches.clone();
    batches.sort_unstable();
    let (middle, longest) = (batches[batches.len() / 2], batches[batches.len() - 1]);
    println!("a mini-batch took {middle:.1?} in the middle, {longest:.1?} at the most");
    gathered.verify(&file, &path, &plan)?;
    println!("verified: every average is as the CPU finds it, to the last bit");
    Ok(())
}

fn main() -> ExitCode {
    cli::end(run(Cli::parse()))
}
