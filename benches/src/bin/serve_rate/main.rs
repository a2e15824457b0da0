//! The rate of a peer of `vyre-io serve`, against the same lane in the process of the host: random reads of 4 KiB of a cached
//! file, 32 in flight, in turns.
//!
//! ```sh
//! cargo build --release -p vyre-io-cli -p vyre-benches
//! target/release/serve_rate
//! ```

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use vyre_benches::turns::{self, BLOCK, DEPTH};
use vyre_io::{
    Buffer, BufferTable, Features, FileTable, IoLoop, LoopOptions, Queue, QueueLayout, Rights,
    WaitPolicy,
};
use vyre_io_client::Client;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SLOTS: u32 = 64;

/// Compares a peer of a server with a lane in the process of the host
#[derive(Parser)]
struct Options {
    /// Rounds, of one run of each
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of a run
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Mebibytes of the file
    #[arg(long, default_value_t = 256)]
    size: u64,
    /// Way in which the loop waits for work, on both sides
    #[arg(long, value_enum, default_value = "spin")]
    wait: Wait,
    /// Core of the loop
    #[arg(long, default_value_t = 0)]
    loop_core: usize,
    /// Core of the lane
    #[arg(long, default_value_t = 1)]
    lane_core: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wait {
    Spin,
    Adaptive,
    Doorbell,
}

impl Wait {
    const fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Adaptive => "adaptive",
            Self::Doorbell => "doorbell",
        }
    }

    const fn policy(self) -> WaitPolicy {
        match self {
            Self::Spin => WaitPolicy::Spin,
            Self::Adaptive => WaitPolicy::ADAPTIVE,
            Self::Doorbell => WaitPolicy::DOORBELL,
        }
    }
}

/// Returns the rate of a lane in the process of the host.
fn inside(options: &Options, path: &Path) -> Result<f64> {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = files.insert(File::open(path)?, Rights::READ)?;
    let pool = buffers.insert(Buffer::anonymous((DEPTH * u64::from(BLOCK)) as usize)?)?;
    let layout = QueueLayout::with_slots(SLOTS).with_features(Features::DOORBELL | Features::WAKE);
    let (host, device) = Queue::anonymous(layout)?;
    let settings = LoopOptions::new().wait_policy(options.wait.policy());
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let io = builder
        .options(settings)
        .pin_to(options.loop_core)
        .spawn()?;
    let rate = turns::reads(&device, file, pool, blocks(options), limit(options))?;
    io.stop()?;
    Ok(rate)
}

fn blocks(options: &Options) -> u64 {
    options.size * (1 << 20) / u64::from(BLOCK)
}

fn limit(options: &Options) -> Duration {
    Duration::from_secs_f64(options.seconds)
}

/// A server in a process of its own, on the core of the loop.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(options: &Options, path: &Path, socket: &Path) -> Result<Self> {
        let built = std::env::current_exe()?;
        let program: PathBuf = built.parent().ok_or("no directory")?.join("vyre-io");
        if !program.is_file() {
            return Err(
                "no vyre-io beside this program: run `cargo build --release -p vyre-io-cli`".into(),
            );
        }
        let child = Command::new("taskset")
            .args(["-c", &options.loop_core.to_string()])
            .arg(program)
            .args(["serve", "--log", "error", "--wait", options.wait.name()])
            .arg("--socket")
            .arg(socket)
            .arg("--file")
            .arg(format!("blocks={}", path.display()))
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

fn connected(socket: &Path) -> Result<Client> {
    let begun = Instant::now();
    loop {
        match Client::connect(socket) {
            Ok(client) => return Ok(client),
            Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Returns the rate of a peer.
fn served(options: &Options, path: &Path, socket: &Path) -> Result<f64> {
    let _server = Server::start(options, path, socket)?;
    let mut client = connected(socket)?;
    let queue = client.queue(SLOTS, Features::DOORBELL | Features::WAKE)?;
    let buffer = client.buffer(&queue, DEPTH * u64::from(BLOCK))?;
    let file = client.open(&queue, "blocks", 0)?;
    let (device, pool) = (queue.device(), buffer.handle());
    turns::reads(device, file.handle(), pool, blocks(options), limit(options))
}

fn compare(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir_in("/var/tmp")?;
    let path = turns::written(directory.path(), options.size)?;
    let socket = directory.path().join("socket");
    let mut core = CpuSet::new();
    core.set(options.lane_core);
    sched_setaffinity(None, &core)?;
    let peer = || served(options, &path, &socket);
    turns::compare(options.rounds, ["peer", "inside"], peer, || {
        inside(options, &path)
    })
}

fn main() -> ExitCode {
    match compare(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
