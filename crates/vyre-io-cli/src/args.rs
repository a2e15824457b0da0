//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use vyre_io::{Features, QueueLayout, TransportChoice};
use vyre_io_cli::measure::cores::CoreList;

use crate::serve::args::ServeArgs;

#[derive(Debug, Parser)]
#[command(name = "vyre-io", version, about, long_about = None)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy a file through the queue
    Copy(CopyArgs),
    /// Measure the queue and the loop
    Bench(BenchArgs),
    /// Report what this machine supports, and what makes it slow
    Doctor(DoctorArgs),
    /// Serve byte ranges of files to other processes
    Serve(Box<ServeArgs>),
    /// Print the completions of a shell
    Completions {
        /// Shell that is to complete the command line
        shell: clap_complete::Shell,
    },
    /// Write a man page for each command
    Man {
        /// Directory for the pages, which is created if it is missing
        directory: PathBuf,
    },
}

/// Format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// A number of bytes, such as 4096, 4k or 1MiB. A suffix is a power of 1024, with or without the i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        #[derive(serde::Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a number of bytes, such as 4096 or \"1MiB\""
        )]
        enum Given {
            Number(u64),
            Text(String),
        }
        match Given::deserialize(from)? {
            Given::Number(bytes) => Ok(Self(bytes)),
            Given::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl std::str::FromStr for Size {
    type Err = parse_size::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_size::Config::new()
            .with_binary()
            .parse_size(text)
            .map(Self)
    }
}

/// Ways to perform operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportArg {
    /// io_uring, or threads where it is refused
    #[default]
    Auto,
    /// io_uring, or an error
    Ring,
    /// Threads
    Threads,
}

impl From<TransportArg> for TransportChoice {
    fn from(arg: TransportArg) -> Self {
        match arg {
            TransportArg::Auto => Self::Auto,
            TransportArg::Ring => Self::Ring,
            TransportArg::Threads => Self::ThreadPool,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// File or block device to copy
    pub(crate) src: PathBuf,
    /// File to write, or its directory. An existing file is replaced when the copy is complete, and keeps
    /// its mode, owner, ACL and extended attributes
    pub(crate) dst: PathBuf,
    /// Replace an existing DST even if it is write-protected, has more hard links, or its owner or
    /// attributes cannot be kept
    #[arg(long)]
    pub(crate) replace: bool,
    /// The device: threads, cuda, or cuda:N for GPU number N
    #[arg(long, value_name = "DEVICE", default_value = "threads")]
    pub(crate) device: DeviceArg,
    /// Number of blocks in flight. With --device cuda, a warp of the GPU handles each
    #[arg(long, value_name = "N", default_value = "6", value_parser = count)]
    pub(crate) lanes: NonZeroU32,
    /// Number of slots of the queue, 1 to 4096 [default: 64, or the number of lanes if that is larger]
    #[arg(long, value_name = "N", value_parser = slots)]
    pub(crate) slots: Option<NonZeroU32>,
    /// Number of bytes that one request moves [default: 1MiB; a buffered copy of less than 128 MiB of data
    /// by threads takes smaller blocks, down to 128KiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) block_size: Option<Size>,
    /// Bypass the page cache (O_DIRECT)
    #[arg(long)]
    pub(crate) direct: bool,
    /// Read both files again and compare their hashes before DST gets its name
    #[arg(long)]
    pub(crate) verify: bool,
    /// Do not wait for DST to reach stable storage
    #[arg(long)]
    pub(crate) no_sync: bool,
    /// Transport that performs the operations: io_uring or threads
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) transport: TransportArg,
}

/// The device end of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// Threads of this process
    Threads,
    /// Warps of the GPU with this number
    Cuda(u32),
}

impl std::str::FromStr for DeviceArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected threads, cuda or cuda:N";
        match text.split_once(':') {
            None if text == "threads" => Ok(Self::Threads),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| EXPECTED),
            _ => Err(EXPECTED),
        }
    }
}

/// Memory that holds a block when the kernel has its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LandArg {
    /// Host memory, which the GPU maps
    None,
    /// GPU memory: the warp copies each block there
    Kernel,
    /// GPU memory: the loop moves each block there before it publishes the outcome
    Loop,
    /// GPU memory, in the way that is faster for the block size
    Auto,
}

/// Requests that the lanes submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BenchOp {
    /// Reads of blocks of the file
    Read,
    /// Writes of stamped blocks to the file
    Write,
    /// Fences, which move no bytes: measures the queue alone
    Fence,
    /// No requests: measures the cost of waiting for them
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pattern {
    /// Blocks in random order
    Random,
    /// Blocks in the order of the file
    Sequential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PolicyArg {
    /// Never sleep
    Spin,
    /// Spin for a while, then sleep for short times
    Adaptive,
    /// Sleep until a lane rings
    Doorbell,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("target"))]
pub(crate) struct BenchArgs {
    /// Regular file or block device to read or write. --op write destroys its contents
    #[arg(long, value_name = "PATH", group = "target")]
    pub(crate) file: Option<PathBuf>,
    /// Create a file of this size first. Each block contains its own offset, so that reads can be
    /// verified. The file is kept. An existing file is replaced only if an earlier benchmark created it
    #[arg(long, num_args = 2, value_names = ["SIZE", "PATH"], group = "target")]
    pub(crate) create: Option<Vec<String>>,
    /// Requests to submit
    #[arg(long, value_enum, default_value = "read")]
    pub(crate) op: BenchOp,
    /// Order of the blocks
    #[arg(long, value_enum, default_value = "random")]
    pub(crate) pattern: Pattern,
    /// Number of bytes of one request
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    pub(crate) block_size: Size,
    /// The device: threads, cuda, or cuda:N for GPU number N
    #[arg(long, value_name = "DEVICE", default_value = "threads")]
    pub(crate) device: DeviceArg,
    /// Number of threads, or of warps of the GPU, that submit requests
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) lanes: NonZeroU32,
    /// Number of requests in flight, of all lanes together [default: 64; on a GPU, one for each lane]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) depth: Option<NonZeroU32>,
    /// Number of slots of each queue, 1 to 4096 [default: as many as its lanes need, at least 64]
    #[arg(long, value_name = "N", value_parser = slots)]
    pub(crate) slots: Option<NonZeroU32>,
    /// Number of queues, over which the lanes are spread [default: one for each loop]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) queues: Option<NonZeroU32>,
    /// Number of threads that serve the queues, each with its own ring
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) loops: NonZeroU32,
    /// With --device cuda: each warp reads its blocks in full, and verifies them if they are stamped
    #[arg(long, requires = "device")]
    pub(crate) consume: bool,
    /// With --device cuda: memory in which the blocks that are read end up
    #[arg(long, value_enum, value_name = "WAY", default_value = "none")]
    pub(crate) land: LandArg,
    /// With --device cuda: access slots by words of 4 bytes instead of units of 16 bytes
    #[arg(long, requires = "device")]
    pub(crate) words: bool,
    /// With --device cuda: load the kernel from a PTX file
    #[arg(long, value_name = "PATH", requires = "device")]
    pub(crate) ptx: Option<PathBuf>,
    /// With --device cuda: write the kernel's PTX to a file, and measure nothing
    #[arg(long, value_name = "PATH", requires = "device", conflicts_with = "ptx")]
    pub(crate) write_ptx: Option<PathBuf>,
    /// Bypass the page cache (O_DIRECT)
    #[arg(long)]
    pub(crate) direct: bool,
    /// Copy blocks that are in memory out of the page cache, without a system call
    #[arg(long, conflicts_with = "direct")]
    pub(crate) page_cache: bool,
    /// Transport that performs the operations: io_uring or threads
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) transport: TransportArg,
    /// Way in which the loop waits for work
    #[arg(long, value_enum, default_value = "adaptive")]
    pub(crate) policy: PolicyArg,
    /// Cores to run on, such as 0-3,8: the first ones for the loops, the others for the lanes [default:
    /// cores that no other benchmark uses]
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<CoreList>,
    /// Number of seconds to measure, over all rounds
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Also measure a raw io_uring loop, in turns with vyre-io, and report the ratio. Where threads perform
    /// the operations: a bare pool of threads. With --device cuda and --page-cache: threads that serve the
    /// same lanes by bare copies
    #[arg(long)]
    pub(crate) baseline: bool,
    /// Number of threads of the bare pool [default: one for each core that the lane does not use]
    #[arg(long, value_name = "N", requires = "baseline", value_parser = count)]
    pub(crate) pool_threads: Option<NonZeroU32>,
    /// Also write an SVG file with the distribution of latencies and the rates of the rounds
    #[arg(long, value_name = "FILE", conflicts_with = "write_ptx")]
    pub(crate) plot: Option<PathBuf>,
    /// Format of the result
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// The other side of the comparison of `--baseline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BaselineKind {
    /// One raw io_uring loop, without a queue.
    RawRing,
    /// Threads that call `preadv2`, without a queue.
    BarePool,
    /// Threads that serve the lanes of a GPU by copies out of a mapping, without tables and checks.
    BareServers,
}

impl BaselineKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RawRing => "raw io_uring",
            Self::BarePool => "bare pool",
            Self::BareServers => "bare servers",
        }
    }
}

impl BenchArgs {
    /// Returns the layout of a queue, which offers a doorbell if the policy sleeps on it.
    pub(crate) fn layout(&self, slots: u32) -> QueueLayout {
        let layout = QueueLayout::with_slots(slots);
        match self.policy {
            PolicyArg::Doorbell => layout.with_features(Features::DOORBELL),
            PolicyArg::Spin | PolicyArg::Adaptive => layout,
        }
    }

    /// Returns the baseline for loops on a ring, or on threads.
    pub(crate) fn baseline_kind(&self, is_ring: bool) -> BaselineKind {
        match self.device {
            DeviceArg::Cuda(_) if self.page_cache => BaselineKind::BareServers,
            _ if is_ring => BaselineKind::RawRing,
            _ => BaselineKind::BarePool,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Files, block devices or directories to test. In a directory, a new file is tested
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Format of the report
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

pub(crate) fn count(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse()
        .map_err(|_| "expected a whole number of at least 1")
}

pub(crate) fn slots(text: &str) -> Result<NonZeroU32, String> {
    const MOST: u32 = vyre_io::ioq::abi::MAX_SLOTS;
    match text.parse() {
        Ok(slots) if NonZeroU32::get(slots) <= MOST => Ok(slots),
        _ => Err(format!("expected a whole number from 1 to {MOST}")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.01 to 86400".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn devices_are_named() {
        for (text, device) in [
            ("threads", DeviceArg::Threads),
            ("cuda", DeviceArg::Cuda(0)),
            ("cuda:3", DeviceArg::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(device));
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "threads:1", "cuda:-1"] {
            assert!(text.parse::<DeviceArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("4096", 4096),
            ("4k", 4096),
            ("1MiB", 1 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(text.parse::<Size>().expect(text), Size(bytes));
        }
        assert!("many".parse::<Size>().is_err());
    }
}
