//! The original loop, vyre-runtime 0.7.2, in a process of its own that shares the slots and the buffer with
//! this one. Its exact dependencies would bind those of the workspace.

use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use vyre_io::Buffer;

use crate::bare::slots::{Lane, Slots};
use crate::checker::Checked;
use crate::error::CompareError;
use crate::lane::{self, Work};
use crate::run::Bench;

pub(crate) fn measure(
    bench: &Bench,
    program: &Path,
    work: &Work,
) -> Result<(f64, Checked), CompareError> {
    let (slots, slots_memfd) = Slots::shared(work.depth)?;
    let (buffer, memfd) = Buffer::memfd(work.bytes())?;
    buffer.populate();
    let host = Host::start(bench, program, work, &slots_memfd, &memfd);
    let host = host.map_err(CompareError::Original)?;
    let lane = Lane::of_original(&slots, work, host.descriptor);
    let measured = lane::run(lane, work, &buffer, bench.lane_core())?;
    host.stop().map_err(CompareError::Original)?;
    Ok(measured)
}

/// The process that hosts the loop. It ends when its standard input does.
struct Host {
    process: Child,
    /// Descriptor of the file in that process, by which the loop's devices name it.
    descriptor: u32,
}

impl Host {
    fn start(
        bench: &Bench,
        program: &Path,
        work: &Work,
        slots: &OwnedFd,
        buffer: &OwnedFd,
    ) -> io::Result<Self> {
        let path = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        let process = Command::new(program)
            .arg(bench.target.path())
            .args([path(slots), path(buffer)])
            .args([work.depth, work.size].map(|number| number.to_string()))
            .args(bench.loop_core().map(|core| core.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut host = Self {
            process,
            descriptor: 0,
        };
        let mut line = String::new();
        if let Some(output) = host.process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let descriptor = line.trim().strip_prefix("serving ");
        host.descriptor = descriptor
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| io::Error::other("it did not start; its message is above"))?;
        Ok(host)
    }

    fn stop(mut self) -> io::Result<()> {
        drop(self.process.stdin.take());
        let status = self.process.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("{status}; its message is above")))
    }
}

impl Drop for Host {
    /// After `stop`, the process is gone already.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
