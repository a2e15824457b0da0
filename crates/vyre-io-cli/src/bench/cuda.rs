//! The device's part of a benchmark on a GPU: each lane is a warp of one kernel.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use vyre_io::{FileHandle, QueueLayout};
use vyre_ioq_cuda::Gpu;

use super::bare_servers::BareServers;
use super::kernel::{Bench, Counted, RequestKind, Room, Work};
use super::loops::{Handles, Landed, Loops};
use super::plan::Plan;
use super::round::Round;
use super::tally::{SAMPLE, Served, Tally, VERIFY};
use super::target::Target;
use crate::args::{BenchArgs, BenchOp, Pattern};
use crate::failure::Failure;

/// Time after which a lane gives up waiting for an outcome. A drive that takes longer counts as broken.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Facts about the GPU for the report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct GpuReport {
    name: String,
    compute_capability: String,
    /// Registers that each thread of the kernel uses.
    registers: u32,
    /// Source of the kernel: `nvrtc` or `prebuilt`.
    ptx: &'static str,
    /// Width of the accesses of lanes to slots: `units` of 16 bytes, or `words` of 4.
    access: &'static str,
}

impl fmt::Display for GpuReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (compute capability {}), {} registers a thread, PTX from {}, slots in {}",
            self.name, self.compute_capability, self.registers, self.ptx, self.access
        )
    }
}

/// The GPU, and the kernel on it.
pub(super) struct Cuda {
    gpu: Gpu,
    bench: Bench,
    report: GpuReport,
}

impl Cuda {
    /// Opens the GPU and loads the kernel, before any loop runs.
    pub(super) fn open(args: &BenchArgs, ordinal: u32) -> Result<Self, Failure> {
        let gpu = Gpu::open(ordinal)?;
        let bench = match &args.ptx {
            Some(path) => Bench::from_file(&gpu, path)?,
            None => Bench::load(&gpu)?,
        };
        let (major, minor) = gpu.capabilities().compute;
        let report = GpuReport {
            name: gpu.capabilities().name.clone(),
            compute_capability: format!("{major}.{minor}"),
            registers: bench.registers(),
            ptx: if bench.is_prebuilt() {
                "prebuilt"
            } else {
                "nvrtc"
            },
            access: if args.words { "words" } else { "units" },
        };
        Ok(Self { gpu, bench, report })
    }

    pub(super) fn report(&self) -> GpuReport {
        self.report.clone()
    }

    pub(super) fn round(
        &self,
        args: &BenchArgs,
        plan: &Plan,
        target: Option<&Target>,
        time: Duration,
    ) -> Result<Round, Failure> {
        let layout = args.layout(plan.slots());
        let (queues, lanes) = (plan.queues(), plan.lanes());
        let (hosts, room) =
            self.bench
                .room(layout, queues, lanes, plan.block_size, plan.landing)?;
        let room = Arc::new(room);
        let landed = room.landing_by_loop().map(|behind| Landed {
            gpu: &self.gpu,
            behind,
        });
        let loops = Loops::start(args, plan, target, &room.buffer(), landed.as_ref(), hosts)?;

        let before = loops.cpu_time();
        let started = Instant::now();
        let (mut tally, gpu_wait) = match work(args, target, time) {
            Some(work) => {
                let _active = loops.active();
                let counted = self.run(plan, loops.handles(), &room, &work)?;
                (Tally::of_gpu(&counted), Some(counted.wait_fraction))
            }
            None => {
                thread::sleep(time);
                (Tally::idle(started.elapsed()), None)
            }
        };
        let used = loops.cpu_time().saturating_sub(before);
        let wall = started.elapsed();
        if let Some(target) = target.filter(|target| target.stamped) {
            let _active = loops.active();
            let lanes = u64::from(plan.lanes());
            let again = Work {
                op: RequestKind::Read,
                random: target.blocks > VERIFY,
                read_each: 1,
                time: TIMEOUT,
                operations: target.blocks.min(VERIFY).div_ceil(lanes),
                ..work_on(target)
            };
            tally.add_verified(&self.run(plan, loops.handles(), &room, &again)?);
        }
        let transport = loops.transport();
        tally.served = Served::of(&loops.stop()?);
        Ok(Round {
            gpu_wait,
            ..Round::new(tally, used, wall, plan, transport)
        })
    }

    /// Runs one round with bare servers in the place of the loops. Returns the operations per second.
    pub(super) fn bare_round(
        &self,
        args: &BenchArgs,
        plan: &Plan,
        target: &Target,
        time: Duration,
    ) -> Result<f64, Failure> {
        let layout = QueueLayout::with_slots(plan.slots());
        let (queues, lanes) = (plan.queues(), plan.lanes());
        let (hosts, room) =
            self.bench
                .room(layout, queues, lanes, plan.block_size, plan.landing)?;
        let room = Arc::new(room);
        let servers = BareServers::start(plan, target, &room.buffer(), hosts)?;
        let Some(work) = work(args, Some(target), time) else {
            return Ok(0.0);
        };
        let counted = self.run(plan, servers.handles(), &room, &work)?;
        let tally = Tally::of_gpu(&counted);
        tally.check()?;
        Ok(tally.rate())
    }

    /// Runs the kernel. The kernel has ended when this returns, even with an error.
    fn run(
        &self,
        plan: &Plan,
        Handles { file, pool }: Handles,
        room: &Arc<Room>,
        work: &Work,
    ) -> Result<Counted, Failure> {
        // A run of fences names no file, and never looks at the handle.
        let each = (file.unwrap_or(FileHandle::from_raw(0)), pool);
        let handles = vec![each; plan.queues() as usize];
        let counted = self.bench.start(room, work, &handles)?.wait()?;
        match counted.gave_up {
            0 => Ok(counted),
            lanes => Err(Failure::LanesGaveUp(lanes)),
        }
    }
}

/// Returns the work of the kernel, or `None` if it only idles.
fn work(args: &BenchArgs, target: Option<&Target>, time: Duration) -> Option<Work> {
    let op = match args.op {
        BenchOp::Read => RequestKind::Read,
        BenchOp::Write => RequestKind::Write,
        BenchOp::Fence => RequestKind::Fence,
        BenchOp::Idle => return None,
    };
    let base = target.map_or(NOTHING, work_on);
    Some(Work {
        op,
        random: args.pattern == Pattern::Random,
        read_each: match (args.consume, base.stamped) {
            (true, _) => 1,
            (false, true) => SAMPLE as u32,
            (false, false) => 0,
        },
        time,
        words: args.words,
        ..base
    })
}

const NOTHING: Work = Work {
    op: RequestKind::Fence,
    random: false,
    blocks: 0,
    stamped: false,
    read_each: 0,
    time: Duration::ZERO,
    operations: 0,
    timeout: TIMEOUT,
    heartbeat_timeout: None,
    words: false,
};

fn work_on(target: &Target) -> Work {
    Work {
        blocks: target.blocks,
        stamped: target.stamped,
        ..NOTHING
    }
}
