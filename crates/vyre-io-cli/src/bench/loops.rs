//! The host's part of a benchmark: loops, each with a thread, a ring and tables of its own.

use std::fs;
use std::time::Duration;

use vyre_io::{
    Buffer, BufferHandle, BufferTable, FileHandle, FileTable, HostQueue, IoLoop, Policy, Rights,
};

use vyre_ioq_cuda::Gpu;
use vyre_ioq_cuda::landing::{CopyEngine, LandingBuffer, LandingTransport};

use super::plan::Plan;
use super::target::Target;
use crate::args::{BenchArgs, BenchOp, PolicyArg};
use crate::failure::Failure;

/// How a loop names the file, if there is one, and the buffer.
#[derive(Clone, Copy)]
pub(super) struct Handles {
    pub(super) file: Option<FileHandle>,
    pub(super) pool: BufferHandle,
}

/// Memory of a GPU that the loops move blocks to.
pub(super) struct Landed<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) behind: LandingBuffer,
}

/// Loops that run.
pub(super) struct Loops {
    loops: Vec<IoLoop>,
    handles: Vec<Handles>,
}

impl Loops {
    /// Starts them all. Each serves its share of the queues, the same file and the same buffer.
    pub(super) fn start(
        args: &BenchArgs,
        plan: &Plan,
        target: Option<&Target>,
        buffer: &Buffer,
        landing: Option<&Landed<'_>>,
        queues: Vec<HostQueue>,
    ) -> Result<Self, Failure> {
        let count = plan.loops() as usize;
        let (mut builders, mut handles) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for number in 0..plan.loops() {
            let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
            let rights = match args.op {
                BenchOp::Write => Rights::READ | Rights::WRITE,
                _ => Rights::READ,
            };
            let file = match target {
                Some(target) => Some(files.insert(target.duplicate()?, rights)?),
                None => None,
            };
            let pool = buffers.insert(buffer.clone())?;
            handles.push(Handles { file, pool });
            let mut builder = IoLoop::builder()
                .files(files)
                .buffers(buffers)
                .ring_entries(plan.ring_entries())
                .policy(match args.policy {
                    PolicyArg::Spin => Policy::Spin,
                    PolicyArg::Adaptive => Policy::ADAPTIVE,
                });
            if let Some(core) = plan.loop_core(number) {
                builder = builder.pin_to(core);
            }
            builders.push(Some(builder));
        }
        for (number, queue) in (0..).zip(queues) {
            let builder = &mut builders[plan.loop_of(number) as usize];
            *builder = builder.take().map(|builder| builder.queue(queue));
        }
        let mut loops = Vec::with_capacity(count);
        for builder in builders.into_iter().flatten() {
            loops.push(match landing {
                None => builder.spawn()?,
                Some(Landed { gpu, behind }) => {
                    let engine = CopyEngine::new(gpu, vec![behind.clone()])?;
                    builder.spawn_with(|ring| LandingTransport::new(ring, engine))?
                }
            });
        }
        Ok(Self { loops, handles })
    }

    /// One entry for each loop.
    pub(super) fn handles(&self) -> &[Handles] {
        &self.handles
    }

    /// Time that all loops together have spent on cores. Zero where the kernel does not say.
    pub(super) fn cpu_time(&self) -> Duration {
        self.loops.iter().map(|io| cpu_time(io.thread_id())).sum()
    }

    pub(super) fn stop(self) -> Result<(), Failure> {
        for io in self.loops {
            io.stop()?;
        }
        Ok(())
    }
}

fn cpu_time(thread: u32) -> Duration {
    let nanos = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))
        .ok()
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
