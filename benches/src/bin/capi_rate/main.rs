//! The rate of a host in C, through `libvyre_io`, against the same host in Rust: random reads of 4 KiB of a cached file, 32
//! in flight, in turns.
//!
//! ```sh
//! cargo build --release -p vyre-io-capi -p vyre-benches
//! target/release/capi_rate
//! ```

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use rustix::thread::{CpuSet, sched_setaffinity};
use vyre_benches::turns::{self, BLOCK, DEPTH};
use vyre_io::{
    Buffer, BufferTable, FileTable, IoLoop, LoopOptions, Queue, QueueLayout, Rights, WaitPolicy,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Compares a host in C with one in Rust
#[derive(Parser)]
struct Options {
    /// Rounds, of one run of each
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of a run
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Mebibytes of the file
    #[arg(long, default_value_t = 256)]
    size: u64,
    /// Core of the loop
    #[arg(long, default_value_t = 0)]
    loop_core: usize,
    /// Core of the lane
    #[arg(long, default_value_t = 1)]
    lane_core: usize,
    /// Be the host in Rust, with this file, and print the rate
    #[arg(long, hide = true)]
    file: Option<PathBuf>,
}

/// Is the host in Rust.
fn in_rust(options: &Options, path: &Path) -> Result<()> {
    let file = File::open(path)?;
    let blocks = file.metadata()?.len() / u64::from(BLOCK);
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = files.insert(file, Rights::READ)?;
    let pool = buffers.insert(Buffer::anonymous((DEPTH * u64::from(BLOCK)) as usize)?)?;
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64))?;
    let settings = LoopOptions::new().wait_policy(WaitPolicy::Spin);
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let io = builder
        .options(settings)
        .pin_to(options.loop_core)
        .spawn()?;
    let mut core = CpuSet::new();
    core.set(options.lane_core);
    sched_setaffinity(None, &core)?;
    let limit = Duration::from_secs_f64(options.seconds);
    println!("{:.0}", turns::reads(&device, file, pool, blocks, limit)?);
    Ok(io.stop()?)
}

/// Compiles the host in C against the release build of the library.
fn compiled(directory: &Path) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("no workspace")?;
    let built = std::env::current_exe()?;
    let library = built.parent().ok_or("no directory")?.join("libvyre_io.a");
    if !library.is_file() {
        return Err(format!(
            "no {}: run `cargo build --release -p vyre-io-capi`",
            library.display()
        )
        .into());
    }
    let program = directory.join("rate");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-O2", "-Wall", "-Wextra", "-I"])
        .arg(root.join("crates/vyre-io-capi/include"))
        .arg(root.join("benches/src/bin/capi_rate/rate.c"))
        .arg(library)
        .args([
            "-lgcc_s",
            "-lutil",
            "-lrt",
            "-lpthread",
            "-lm",
            "-ldl",
            "-o",
        ])
        .arg(&program)
        .status()?;
    match compiled.success() {
        true => Ok(program),
        false => Err("cc refused the program".into()),
    }
}

fn rate(command: &mut Command) -> Result<f64> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn compare(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir_in("/var/tmp")?;
    let path = turns::written(directory.path(), options.size)?;
    let program = compiled(directory.path())?;
    let [seconds, loop_core, lane_core] = [
        options.seconds.to_string(),
        options.loop_core.to_string(),
        options.lane_core.to_string(),
    ];
    let in_c = || {
        rate(
            Command::new(&program)
                .arg(&path)
                .args([&seconds, &loop_core, &lane_core]),
        )
    };
    let in_rust = || {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--file")
            .arg(&path)
            .args(["--seconds", &seconds]);
        rate(command.args(["--loop-core", &loop_core, "--lane-core", &lane_core]))
    };
    turns::compare(options.rounds, ["C", "Rust"], in_c, in_rust)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.file {
        Some(path) => in_rust(&options, path),
        None => compare(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
