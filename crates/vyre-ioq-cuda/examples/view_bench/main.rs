//! Measures what views of a cached file give, and compares every byte that was read with what the file holds.
//!
//!     cargo run --release -p vyre-ioq-cuda --example view_bench -- --dir /var/tmp
//!
//! It makes a file of 4 GiB, or reads one that it has made before. Each figure is the median of five runs.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

mod file;
mod measures;
mod table;
mod windows;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use vyre_ioq_cuda::view::ViewError;
use vyre_ioq_cuda::{CudaError, Gpu};

use measures::Bench;
use table::Table;
use windows::WindowBench;

/// Measures views of a cached file.
#[derive(Debug, Parser)]
struct Cli {
    /// File made by an earlier run; without one, a file is made.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Directory of the file that is made, and kept. On ext4 or tmpfs.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Bytes of the file that is made.
    #[arg(long, default_value = "4GiB", value_parser = size)]
    size: u64,
    /// Bytes of a second file of zeros that is pinned, such as 16GiB.
    #[arg(long, value_parser = size)]
    large: Option<u64>,
    /// Number of the GPU.
    #[arg(long, default_value_t = 0)]
    gpu: u32,
    /// Number of a second GPU, which reads the same view.
    #[arg(long)]
    second: Option<u32>,
    /// Runs of each measurement.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The measurements: of views, of loads alone, of windows, or of all.
    #[arg(long, value_enum, default_value_t = Part::All)]
    part: Part,
    /// Has one kernel ask for windows, and another one load from them: for compute-sanitizer, whose memcheck does not
    /// know memory that is pinned while a kernel runs.
    #[arg(long)]
    ask_first: bool,
    /// Few operations, for a test of the program.
    #[arg(long)]
    quick: bool,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    All,
    Views,
    Loads,
    Windows,
}

/// Reason why the program failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("{path}: {reason}")]
    File {
        path: PathBuf,
        reason: std::io::Error,
    },
    #[error("WRONG: {what} read {count} units of 16 bytes that the file does not hold")]
    Wrong { what: &'static str, count: u64 },
    #[error("{0}")]
    Setup(String),
    #[error("{0} does not begin as a file of this program does: give another one, or none")]
    NotOurs(PathBuf),
}

fn size(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|error| error.to_string())
}

fn run(cli: &Cli) -> Result<(), Error> {
    let gpu = Gpu::open(cli.gpu)?;
    let path = match &cli.file {
        Some(path) => path.clone(),
        None => {
            let path = cli.dir.join("vyre-view-bench");
            let made = file::make(&path, cli.size);
            made.map_err(|reason| failure(&path, reason))?;
            path
        }
    };
    let file = File::open(&path).map_err(|reason| failure(&path, reason))?;
    let bytes = file::read_all(&file).map_err(|reason| failure(&path, reason))?;
    let mut table = Table::new(&gpu, bytes, cli.runs);
    let bench = Bench::new(&gpu, &file, bytes, cli.runs, cli.quick)?;
    if !bench.is_ours()? {
        return Err(Error::NotOurs(path));
    }
    if matches!(cli.part, Part::All | Part::Views) {
        views(cli, &bench, &mut table)?;
    }
    if cli.part != Part::Windows {
        bench.loads(&mut table)?;
    }
    if matches!(cli.part, Part::All | Part::Windows) {
        let bench = WindowBench::new(&gpu, &file, bytes, cli.runs, cli.quick, cli.ask_first)?;
        bench.latency(&mut table)?;
        bench.look_ups(&mut table)?;
        bench.sums(&mut table)?;
    }
    table.print(cli.json);
    Ok(())
}

fn views(cli: &Cli, bench: &Bench<'_>, table: &mut Table) -> Result<(), Error> {
    bench.pinning(table)?;
    let view = bench.view()?;
    bench.blocks(&view, table)?;
    bench.chain(&view, table)?;
    bench.rows(&view, table)?;
    bench.copies(&view, table)?;
    if let Some(second) = cli.second {
        bench.two(&view, &Gpu::open(second)?, table)?;
    }
    drop(view);
    if let Some(large) = cli.large {
        let path = cli.dir.join("vyre-view-bench-zeros");
        bench.large(&path, large, table)?;
    }
    Ok(())
}

fn failure(path: &std::path::Path, reason: std::io::Error) -> Error {
    let path = path.to_owned();
    Error::File { path, reason }
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
