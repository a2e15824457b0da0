//! The rate of a peer of `vyre-io serve`, against the same lane in the process of the host: random reads of 4 KiB of a cached
//! file, 32 in flight, in turns.
//!
//! ```sh
//! cargo build --release -p vyre-io-cli -p vyre-benches
//! target/release/serve_rate
//! ```

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use vyre_io::{
    Buffer, BufferHandle, BufferTable, DeviceQueue, Features, FileHandle, FileTable, IoLoop,
    LoopOptions, Queue, QueueLayout, Request, Rights, WaitPolicy,
};
use vyre_io_client::Client;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BLOCK: u32 = 4096;
const DEPTH: u64 = 32;
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

const fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn reads(
    device: &DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
    blocks: u64,
    limit: Duration,
) -> Result<f64> {
    let begun = Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut request = |slot: u64| {
        let block = next(&mut state) % blocks;
        Request::read(file, block * u64::from(BLOCK), BLOCK)
            .into_buffer(pool, slot * u64::from(BLOCK))
    };
    let mut tickets = Vec::new();
    for slot in 0..DEPTH {
        tickets.push(Some(device.submit(request(slot))?));
    }
    let mut done = 0_u64;
    while begun.elapsed() < limit {
        for (slot, place) in (0..).zip(&mut tickets) {
            let request = request(slot);
            let mut ticket = place.take().ok_or("a slot without a request")?;
            let outcome = loop {
                match device.take(ticket) {
                    Ok(outcome) => break outcome,
                    Err(back) => ticket = back,
                }
                std::hint::spin_loop();
            };
            if outcome.bytes()? != BLOCK {
                return Err("a short read".into());
            }
            *place = Some(device.submit(request)?);
            done += 1;
        }
    }
    let took = begun.elapsed();
    for ticket in tickets.into_iter().flatten() {
        device.wait(ticket)?.bytes()?;
    }
    Ok(done as f64 / took.as_secs_f64())
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
    let rate = reads(&device, file, pool, blocks(options), limit(options))?;
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
    reads(device, file.handle(), pool, blocks(options), limit(options))
}

/// Returns the lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

fn compare(options: &Options) -> Result<()> {
    let directory = tempfile::tempdir_in("/var/tmp")?;
    let path = directory.path().join("blocks");
    let socket = directory.path().join("socket");
    let mut file = File::create(&path)?;
    for _ in 0..options.size {
        file.write_all(&[7; 1 << 20])?;
    }
    let mut core = CpuSet::new();
    core.set(options.lane_core);
    sched_setaffinity(None, &core)?;
    // Once unseen, so that everything is in memory.
    served(options, &path, &socket)?;
    inside(options, &path)?;
    let (mut peer, mut lane, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let (of_peer, of_lane) = match round % 2 {
            0 => {
                let of_peer = served(options, &path, &socket)?;
                (of_peer, inside(options, &path)?)
            }
            _ => {
                let of_lane = inside(options, &path)?;
                (served(options, &path, &socket)?, of_lane)
            }
        };
        let ratio = of_peer / of_lane;
        println!(
            "round {}: peer {of_peer:.0}, inside {of_lane:.0}, ratio {ratio:.3}",
            round + 1
        );
        peer.push(of_peer);
        lane.push(of_lane);
        ratios.push(ratio);
    }
    for (name, values) in [("peer", peer), ("inside", lane)] {
        let [low, median, high] = quartiles(values);
        println!("{name}: {median:.0} reads a second ({low:.0} to {high:.0})");
    }
    let [low, median, high] = quartiles(ratios);
    println!("peer / inside: {median:.3} ({low:.3} to {high:.3})");
    Ok(())
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
