//! The device's part of a copy on a GPU: warps of one kernel move the blocks.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use vyre_io::{HostQueue, QueueLayout};
use vyre_ioq_cuda::Gpu;

use super::blocks::Blocks;
use super::kernel::{Copier, GpuCopyError, Purpose, Room, Task};
use super::lanes::{Job, Paths};
use super::progress::Phase;
use crate::failure::Failure;

/// Interval between checks for the end of the kernel, and between updates of the bar.
const LOOK: Duration = Duration::from_millis(1);

/// The kernel on a GPU, and its queue and memory.
pub(super) struct GpuLanes {
    copier: Copier,
    room: Arc<Room>,
}

/// Opens the GPU and loads the kernel, before any loop runs.
pub(super) fn open(ordinal: u32) -> Result<Copier, Failure> {
    Ok(Copier::load(&Gpu::open(ordinal)?)?)
}

impl GpuLanes {
    /// Makes the lanes' queue and memory.
    pub(super) fn new(
        copier: Copier,
        slots: u32,
        lanes: u32,
        blocks: Blocks,
    ) -> Result<(HostQueue, Self), Failure> {
        let layout = QueueLayout::with_slots(slots).with_id(1);
        // A block fits in 32 bits.
        let (host, room) = copier.room(layout, lanes, blocks.size() as u32)?;
        let room = Arc::new(room);
        Ok((host, Self { copier, room }))
    }

    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Copies every block, and waits for the writes.
    pub(super) fn copy(&self, job: &Job, paths: Paths<'_>, phase: &Phase) -> Result<(), Failure> {
        let task = Task::Copy {
            from: job.from,
            to: job.to,
            pool: job.pool,
            bytes: job.blocks.len(),
            granularity: job.blocks.granularity() as u32,
        };
        self.run(&task, paths, |bytes| phase.set(bytes))
    }

    /// Brings the copy to stable storage.
    pub(super) fn sync(&self, job: &Job, paths: Paths<'_>) -> Result<(), Failure> {
        self.run(&Task::Sync { file: job.to }, paths, |_| {})
    }

    /// Runs the kernel. The kernel has ended when this returns, even with an error.
    fn run(
        &self,
        task: &Task,
        paths: Paths<'_>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let run = self.copier.start(&self.room, task)?;
        while !run.is_done()? {
            thread::sleep(LOOK);
            progress(run.bytes_copied());
        }
        run.wait().map_err(|error| failure(error, paths))?;
        progress(run.bytes_copied());
        Ok(())
    }
}

/// Converts an error of the kernel to the failure that lanes on a CPU would report.
fn failure(error: GpuCopyError, paths: Paths<'_>) -> Failure {
    match error {
        GpuCopyError::Cuda(error) => error.into(),
        GpuCopyError::Refused { purpose, errno, .. } => match purpose {
            Purpose::Read => Failure::request("read", paths.from, errno),
            Purpose::Write => Failure::request("write", paths.to, errno),
            Purpose::Fence => Failure::request("order the writes to", paths.to, errno),
            Purpose::Sync => Failure::request("sync", paths.to, errno),
        },
        GpuCopyError::Short {
            offset,
            expected,
            found,
        } => Failure::SourceChanged {
            path: paths.from.into(),
            offset,
            expected,
            found,
        },
        other => Failure::GpuCopy(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vyre_io::Errno;

    use super::*;

    #[test]
    fn failures_read_as_those_of_lanes_on_a_cpu() {
        let paths = Paths {
            from: Path::new("src"),
            to: Path::new("dst"),
        };
        let (offset, errno) = (4096, Errno::ENOSPC);
        for (purpose, what, path) in [
            (Purpose::Read, "read", paths.from),
            (Purpose::Write, "write", paths.to),
            (Purpose::Fence, "order the writes to", paths.to),
            (Purpose::Sync, "sync", paths.to),
        ] {
            let refused = GpuCopyError::Refused {
                purpose,
                offset,
                errno,
            };
            assert_eq!(
                failure(refused, paths).to_string(),
                Failure::request(what, path, errno).to_string()
            );
        }
        let (expected, found) = (512, 7);
        let short = GpuCopyError::Short {
            offset,
            expected,
            found,
        };
        let words = failure(short, paths).to_string();
        assert!(
            words.starts_with("src changed while it was copied: at byte 4096 it has 7 bytes"),
            "{words}"
        );
        let purpose = Purpose::Read;
        let gone = failure(GpuCopyError::NoOutcome { purpose, offset }, paths);
        assert!(gone.to_string().contains("the loop ended"), "{gone}");
        assert_eq!(gone.status(), 1);
    }
}
