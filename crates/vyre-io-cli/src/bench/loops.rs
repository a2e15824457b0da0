//! The host's part of a benchmark: loops that share the file and the buffer.

use std::thread;
use std::time::{Duration, Instant};

use vyre_io::mapped::Residency;
use vyre_io::{
    ActiveGuard, Buffer, BufferHandle, BufferTable, FileHandle, FileOptions, FileTable, HostQueue,
    LoopCounters, LoopGroup, LoopGroupBuilder, LoopOptions, Rights, SetupReport, WaitPolicy,
};
use vyre_io_cli::measure::cores::cpu_time;
use vyre_ioq_cuda::Gpu;
use vyre_ioq_cuda::landing::{CopyEngine, LandingBuffer, LandingTransport};

use super::plan::Plan;
use super::target::Target;
use crate::args::{BenchArgs, BenchOp, PolicyArg};
use crate::failure::Failure;

/// Longest wait for the first scan of a file. A scan of 1 TiB takes some 25 s.
const LONGEST_SCAN: Duration = Duration::from_secs(30);

/// Handles that requests name in every queue: the file, if there is one, and the buffer.
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

/// Transport of the loops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transport {
    pub(super) is_ring: bool,
    /// Name of the transport and the reason for it, in one line.
    pub(super) summary: String,
}

/// Loops that run.
pub(super) struct Loops {
    group: LoopGroup,
    handles: Handles,
}

impl Loops {
    /// Starts them all. Each serves its share of the queues.
    pub(super) fn start(
        args: &BenchArgs,
        plan: &Plan,
        target: Option<&Target>,
        buffer: &Buffer,
        landing: Option<&Landed<'_>>,
        queues: Vec<HostQueue>,
    ) -> Result<Self, Failure> {
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let rights = match args.op {
            BenchOp::Write => Rights::READ | Rights::WRITE,
            _ => Rights::READ,
        };
        let file = match target {
            Some(target) => {
                let options = FileOptions::new(rights).page_cache_reads(args.page_cache);
                let file = files.insert(target.duplicate()?, options)?;
                if let Some(residency) = files.residency(file) {
                    await_scan(residency);
                }
                Some(file)
            }
            None => None,
        };
        let pool = buffers.insert(buffer.clone())?;
        let builder = LoopGroup::builder().files(files).buffers(buffers).options(
            LoopOptions::new()
                .ring_entries(plan.ring_entries())
                .transport(args.transport.into())
                .wait_policy(match args.policy {
                    PolicyArg::Spin => WaitPolicy::Spin,
                    PolicyArg::Adaptive => WaitPolicy::ADAPTIVE,
                    PolicyArg::Doorbell => WaitPolicy::DOORBELL,
                }),
        );
        let builder = match plan.loop_cores() {
            Some(cores) => builder.pin_to(cores.iter().copied()),
            None => builder.loops(plan.loops() as usize),
        };
        let builder = queues.into_iter().fold(builder, LoopGroupBuilder::queue);
        let group = match landing {
            None => builder.spawn()?,
            Some(Landed { gpu, behind }) => {
                let engine = |_| CopyEngine::new(gpu, vec![behind.clone()]);
                let engines: Vec<_> = (0..plan.loops()).map(engine).collect::<Result<_, _>>()?;
                let mut engines = engines.into_iter();
                builder.spawn_with(|_| {
                    let engine = engines.next();
                    move |ring| LandingTransport::new(ring, engine.expect("one for each loop"))
                })?
            }
        };
        Ok(Self {
            group,
            handles: Handles { file, pool },
        })
    }

    /// Keeps the loops awake while a kernel runs.
    pub(super) fn active(&self) -> ActiveGuard {
        self.group.active()
    }

    pub(super) const fn handles(&self) -> Handles {
        self.handles
    }

    /// Returns which transport the loops have, and why.
    pub(super) fn transport(&self) -> Transport {
        let report = self.group.report(0);
        Transport {
            is_ring: report.is_some_and(|report| report.ring().is_some()),
            summary: report.map(SetupReport::summary).unwrap_or_default(),
        }
    }

    /// Returns the processor time of all loops together. Returns zero if the kernel does not report
    /// it.
    pub(super) fn cpu_time(&self) -> Duration {
        let threads = (0..self.group.loops()).filter_map(|index| self.group.thread_id(index));
        threads.map(cpu_time).sum()
    }

    /// Stops the loops. Returns what they counted.
    pub(super) fn stop(self) -> Result<LoopCounters, Failure> {
        let counters = self.group.counters();
        self.group.stop()?;
        Ok(counters)
    }
}

/// Waits until the pages of the file were looked for once, so that the clock does not measure that.
fn await_scan(residency: &Residency) {
    let began = Instant::now();
    while residency.scans() == 0 && began.elapsed() < LONGEST_SCAN {
        thread::sleep(Duration::from_millis(1));
    }
}
