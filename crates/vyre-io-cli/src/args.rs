//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
    /// Say what this machine offers, and what costs speed
    Doctor(DoctorArgs),
}

/// How results are printed.
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

impl std::str::FromStr for Size {
    type Err = parse_size::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_size::Config::new()
            .with_binary()
            .parse_size(text)
            .map(Self)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// File or block device to copy
    pub(crate) src: PathBuf,
    /// File to write, or the directory for it. An existing file is replaced when the copy is complete,
    /// and keeps its mode, owner, ACL and extended attributes
    pub(crate) dst: PathBuf,
    /// Replace an existing DST even if it is write-protected, has more hard links, or its owner or
    /// attributes cannot be kept
    #[arg(long)]
    pub(crate) replace: bool,
    /// Who plays the device: threads, cuda or cuda:N (the GPU of that number)
    #[arg(long, value_name = "DEVICE", default_value = "threads")]
    pub(crate) device: DeviceArg,
    /// Blocks in flight; with --device cuda, each has a warp of the GPU
    #[arg(long, value_name = "N", default_value = "6", value_parser = count)]
    pub(crate) lanes: NonZeroU32,
    /// Slots of the queue, 1 to 4096 [default: 64, or as many as there are lanes]
    #[arg(long, value_name = "N", value_parser = slots)]
    pub(crate) slots: Option<NonZeroU32>,
    /// Bytes moved by one request
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    pub(crate) block_size: Size,
    /// Bypass the page cache (O_DIRECT)
    #[arg(long)]
    pub(crate) direct: bool,
    /// Read both files again and compare their hashes before DST gets its name
    #[arg(long)]
    pub(crate) verify: bool,
    /// Do not wait until DST is on stable storage
    #[arg(long)]
    pub(crate) no_sync: bool,
}

/// Who plays the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// Threads of this process
    Threads,
    /// Warps of the GPU with that number
    Cuda(u32),
}

impl std::str::FromStr for DeviceArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "threads, cuda or cuda:N is needed";
        match text.split_once(':') {
            None if text == "threads" => Ok(Self::Threads),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| EXPECTED),
            _ => Err(EXPECTED),
        }
    }
}

/// Where blocks that were read are when the kernel has their outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LandArg {
    /// In memory of the host, which the GPU maps
    None,
    /// In memory of the GPU: the warp copies each block there
    Kernel,
    /// In memory of the GPU: the loop moves each block there before the outcome
    Loop,
    /// In memory of the GPU, by the way that is faster for the block size
    Auto,
}

/// What the lanes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BenchOp {
    /// Reads of blocks of the file
    Read,
    /// Writes of stamped blocks to the file
    Write,
    /// Fences, which move no bytes: the cost of the queue alone
    Fence,
    /// No requests: the cost of waiting for requests
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pattern {
    /// Any block, each as likely
    Random,
    /// One block after the other
    Sequential,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PolicyArg {
    /// Never sleep
    Spin,
    /// Spin for a while, then sleep
    Adaptive,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("target"))]
pub(crate) struct BenchArgs {
    /// Regular file or block device to read or write; with --op write its contents are lost
    #[arg(long, value_name = "PATH", group = "target")]
    pub(crate) file: Option<PathBuf>,
    /// First make a file of this size, in which each block contains its own offset, so that reads
    /// can be checked. The file is kept. An existing file is replaced only if an earlier benchmark
    /// made it
    #[arg(long, num_args = 2, value_names = ["SIZE", "PATH"], group = "target")]
    pub(crate) create: Option<Vec<String>>,
    /// What to ask for
    #[arg(long, value_enum, default_value = "read")]
    pub(crate) op: BenchOp,
    /// Which blocks
    #[arg(long, value_enum, default_value = "random")]
    pub(crate) pattern: Pattern,
    /// Bytes of one request
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    pub(crate) block_size: Size,
    /// Who plays the device: threads, cuda or cuda:N (the GPU of that number)
    #[arg(long, value_name = "DEVICE", default_value = "threads")]
    pub(crate) device: DeviceArg,
    /// Threads that play the device, or warps of the GPU
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) lanes: NonZeroU32,
    /// Requests in flight, over all lanes [default: 64; on a GPU, one for each lane]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) depth: Option<NonZeroU32>,
    /// Slots of each queue, 1 to 4096 [default: as many as its lanes need, at least 64]
    #[arg(long, value_name = "N", value_parser = slots)]
    pub(crate) slots: Option<NonZeroU32>,
    /// Queues; the lanes are spread over them [default: one for each loop]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) queues: Option<NonZeroU32>,
    /// Threads that serve, each with a ring of its own; the queues are spread over them
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) loops: NonZeroU32,
    /// With --device cuda: warps read each block whole, and verify it if it is stamped
    #[arg(long, requires = "device")]
    pub(crate) consume: bool,
    /// With --device cuda: where the blocks that are read end up
    #[arg(long, value_enum, value_name = "WAY", default_value = "none")]
    pub(crate) land: LandArg,
    /// With --device cuda: access slots in words of 4 bytes instead of units of 16
    #[arg(long, requires = "device")]
    pub(crate) words: bool,
    /// With --device cuda: take the kernel from a file of PTX
    #[arg(long, value_name = "PATH", requires = "device")]
    pub(crate) ptx: Option<PathBuf>,
    /// With --device cuda: write the kernel's PTX to a file, and measure nothing
    #[arg(long, value_name = "PATH", requires = "device", conflicts_with = "ptx")]
    pub(crate) write_ptx: Option<PathBuf>,
    /// Bypass the page cache (O_DIRECT)
    #[arg(long)]
    pub(crate) direct: bool,
    /// How the loop waits for work
    #[arg(long, value_enum, default_value = "adaptive")]
    pub(crate) policy: PolicyArg,
    /// Cores to run on, such as 0-3,8: the first for the loops, the rest for the lanes [default:
    /// cores that no other benchmark uses]
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<CoreList>,
    /// How long to measure, over all rounds
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Measure a raw io_uring loop too, in turns with ours, and report the ratio
    #[arg(long)]
    pub(crate) baseline: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

/// Cores named on the command line, such as `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(pub(crate) Vec<usize>);

impl std::str::FromStr for CoreList {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "numbers and ranges of cores are needed, such as 0-3,8";
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse::<usize>().map_err(|_| EXPECTED);
            let (first, last) = (number(first)?, number(last)?);
            if first > last || last >= rustix::thread::CpuSet::MAX_CPU {
                return Err(EXPECTED);
            }
            cores.extend(first..=last);
        }
        Ok(Self(cores))
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Files, block devices or directories to try: a directory stands for a new file in it
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: Format,
}

fn count(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse()
        .map_err(|_| "a whole number from 1 on is needed")
}

fn slots(text: &str) -> Result<NonZeroU32, String> {
    const MOST: u32 = vyre_io::ioq::abi::MAX_SLOTS;
    match text.parse() {
        Ok(slots) if NonZeroU32::get(slots) <= MOST => Ok(slots),
        _ => Err(format!("a whole number from 1 to {MOST} is needed")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 to 86400 is needed".into()),
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
