//! `vyre-io serve --status`: prints the peers of a server and their counters.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use vyre_io_client::Client;
use vyre_io_client::protocol::PeerStatus;

use super::args::ServeArgs;
use super::error::ServeError;
use crate::args::Format;
use crate::failure::Failure;

/// Name of the client for the log of the server.
const NAME: &str = "vyre-io serve --status";

#[derive(Serialize)]
struct Report {
    pid: u32,
    uid: u32,
    seconds: f64,
    /// Sums of the peers that have gone.
    gone: Counters,
    peers: Vec<Peer>,
}

#[derive(Serialize)]
struct Peer {
    peer: u64,
    pid: u32,
    uid: u32,
    name: String,
    seconds: f64,
    leaving: bool,
    queues: u32,
    buffers: u32,
    buffer_bytes: u64,
    open_files: u32,
    #[serde(flatten)]
    counters: Counters,
}

#[derive(Serialize)]
struct Counters {
    claimed: u64,
    succeeded: u64,
    failed: u64,
    bytes_read: u64,
    bytes_written: u64,
    device_faults: u64,
    refusals: u64,
}

impl From<&PeerStatus> for Counters {
    fn from(status: &PeerStatus) -> Self {
        Self {
            claimed: status.claimed,
            succeeded: status.succeeded,
            failed: status.failed,
            bytes_read: status.bytes_read,
            bytes_written: status.bytes_written,
            device_faults: status.device_faults,
            refusals: status.refusals,
        }
    }
}

impl From<&PeerStatus> for Peer {
    fn from(status: &PeerStatus) -> Self {
        Self {
            peer: status.peer,
            pid: status.pid,
            uid: status.uid,
            name: status.name.as_str().into(),
            seconds: seconds(status.connected_ms),
            leaving: status.leaving != 0,
            queues: status.queues,
            buffers: status.buffers,
            buffer_bytes: status.buffer_bytes,
            open_files: status.open_files,
            counters: status.into(),
        }
    }
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

impl Report {
    fn new(all: &[PeerStatus]) -> Result<Self, ServeError> {
        let [own, peers @ ..] = all else {
            return Err(ServeError::NoStatus);
        };
        Ok(Self {
            pid: own.pid,
            uid: own.uid,
            seconds: seconds(own.connected_ms),
            gone: own.into(),
            peers: peers.iter().map(Peer::from).collect(),
        })
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Self { pid, uid, .. } = self;
        let peers = self.peers.len();
        writeln!(
            out,
            "server {pid} of user {uid}, for {:.0} s, with {peers} peers",
            self.seconds
        )?;
        writeln!(
            out,
            "{:>6} {:>8} {:>8} {:>8} {:>6} {:>7} {:>12} {:>5} {:>12} {:>12} {:>10} {:>15} {:>15} {:>8} {:>8}  name",
            "peer",
            "pid",
            "uid",
            "seconds",
            "queues",
            "buffers",
            "buffer bytes",
            "files",
            "claimed",
            "succeeded",
            "failed",
            "bytes read",
            "bytes written",
            "faults",
            "refusals"
        )?;
        for it in &self.peers {
            let leaving = if it.leaving { " (leaving)" } else { "" };
            write!(
                out,
                "{:>6} {:>8} {:>8} {:>8.0} {:>6} {:>7} {:>12} {:>5}",
                it.peer,
                it.pid,
                it.uid,
                it.seconds,
                it.queues,
                it.buffers,
                it.buffer_bytes,
                it.open_files
            )?;
            it.counters.print(out)?;
            // Escaped: a name may have characters that a terminal turns around.
            writeln!(out, "  {}{leaving}", it.name.escape_debug())?;
        }
        write!(out, "{:>68}", "all that have gone")?;
        self.gone.print(out)?;
        writeln!(out)
    }
}

impl Counters {
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        write!(
            out,
            " {:>12} {:>12} {:>10} {:>15} {:>15} {:>8} {:>8}",
            self.claimed,
            self.succeeded,
            self.failed,
            self.bytes_read,
            self.bytes_written,
            self.device_faults,
            self.refusals
        )
    }
}

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let path = args.socket.as_deref().ok_or(ServeError::NoSocket)?;
    let mut client = Client::connect_as(path, NAME).map_err(ServeError::Status)?;
    let report = Report::new(&client.status().map_err(ServeError::Status)?)?;
    let mut out = std::io::stdout().lock();
    match args.format {
        Format::Text => report.print(&mut out)?,
        Format::Json => {
            serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}
