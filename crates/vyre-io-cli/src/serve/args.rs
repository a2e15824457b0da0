//! The command line of `vyre-io serve`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use vyre_io::WaitPolicy;

use super::limits::LimitArgs;
use super::policy::Name;
use super::policy::spec::FileSpec;
use crate::args::{Format, TransportArg, count};

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Unix socket at which peers connect. With socket activation, it is the one of the service manager
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// File to serve: the name by which peers open it, and its path. RIGHTS are letters: r (read, the default),
    /// w (write), s (sync). RANGE is START-END, START- or START+LENGTH in bytes; END does not belong to it. May be
    /// given more than once
    #[arg(long, value_name = "NAME=PATH[:RIGHTS[:RANGE]]")]
    pub(crate) file: Vec<FileSpec>,
    /// File with files, users and limits, in TOML
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) policy: Option<PathBuf>,
    /// User whose peers may connect, beside the server's own. May be given more than once
    #[arg(long, value_name = "USER")]
    pub(crate) allow_user: Vec<Name>,
    /// Group whose members' peers may connect. May be given more than once
    #[arg(long, value_name = "GROUP")]
    pub(crate) allow_group: Vec<Name>,
    /// Mode of the socket, in octal: who may connect to it at all
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    pub(crate) mode: u32,
    /// Number of peers at a time [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) peers: Option<NonZeroU32>,
    /// Number of peers of one user at a time [default: as many as --peers]
    #[arg(long, value_name = "N")]
    pub(crate) peers_per_user: Option<NonZeroU32>,
    #[command(flatten, next_help_heading = "Limits of each peer")]
    pub(crate) limits: LimitArgs,
    /// Number of threads that serve the queues, each with its own ring
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    pub(crate) loops: NonZeroU32,
    /// Transport that performs the operations: io_uring or threads
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) transport: TransportArg,
    /// Way in which a loop waits for work
    #[arg(long, value_enum, default_value = "doorbell")]
    pub(crate) wait: WaitArg,
    /// Number of seconds that requests have to end by themselves when the server ends
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = time)]
    pub(crate) drain: Duration,
    /// Least severe messages that are logged to standard error
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        default_value = "info",
        env = "VYRE_IO_LOG"
    )]
    pub(crate) log: LogLevel,
    /// Ask the server at the socket for its peers and their counters, print them, and end
    #[arg(long, requires = "socket", conflicts_with_all = ["file", "policy"])]
    pub(crate) status: bool,
    /// Format of the output of --status
    #[arg(long, value_enum, default_value = "text", requires = "status")]
    pub(crate) format: Format,
}

/// Waiting policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitArg {
    /// Never sleep
    Spin,
    /// Spin for a while, then sleep for short times
    Adaptive,
    /// Sleep until a peer rings
    Doorbell,
}

impl From<WaitArg> for WaitPolicy {
    fn from(arg: WaitArg) -> Self {
        match arg {
            WaitArg::Spin => Self::Spin,
            WaitArg::Adaptive => Self::ADAPTIVE,
            WaitArg::Doorbell => Self::DOORBELL,
        }
    }
}

/// Severities of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for tracing::level_filters::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

fn mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected an octal number from 0 to 777, such as 660"),
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "expected a number of seconds from 0 to 86400";
    let seconds: f64 = text.parse().map_err(|_| WRONG)?;
    match (0.0..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(WRONG),
    }
}
