//! The arguments, checked and completed.

use std::num::NonZeroU32;
use std::sync::Arc;

use vyre_io_cli::measure::cores::Cores;
use vyre_io_cli::measure::stamp;
use vyre_ioq_cuda::landing::Landing;

use crate::args::{BaselineKind, BenchArgs, BenchOp, DeviceArg, LandArg};
use crate::failure::Failure;

/// Slots of a queue, unless its lanes need more.
const SLOTS: u32 = 64;
/// Requests in flight, unless the command line says otherwise.
const DEPTH: u32 = 64;
/// Most slots of a queue.
const MAX_SLOTS: u32 = vyre_io::ioq::abi::MAX_SLOTS;

/// Division of the work among lanes, queues and loops.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) op: BenchOp,
    pub(super) block_size: u32,
    pub(super) landing: Landing,
    lanes: u32,
    depth: u32,
    queues: u32,
    loops: u32,
    slots: u32,
    cores: Arc<Cores>,
}

fn usage<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Usage(text.into()))
}

/// Checks the options that depend on the device.
fn check_gpu(args: &BenchArgs, on_gpu: bool, depth: u32) -> Result<(), Failure> {
    let lands = args.land != LandArg::None;
    let for_gpu = args.consume || lands || args.words;
    if !on_gpu && (for_gpu || args.ptx.is_some() || args.write_ptx.is_some()) {
        return usage("--consume, --land, --words, --ptx and --write-ptx need --device cuda");
    }
    if on_gpu && depth != args.lanes.get() {
        return usage("each lane on a GPU has one request in flight: omit --depth");
    }
    if lands && args.op != BenchOp::Read {
        return usage("--land applies to reads only");
    }
    Ok(())
}

/// Checks that every loop has a queue, every queue a lane, and every lane a request.
fn check_counts(lanes: u32, depth: u32, queues: u32, loops: u32) -> Result<(), Failure> {
    if depth < lanes {
        return usage(format!(
            "--depth {depth} leaves some of the {lanes} lanes without a request, since it counts the \
             requests of all lanes: raise --depth, or lower --lanes"
        ));
    }
    if queues < loops {
        return usage(format!(
            "{loops} loops need at least as many queues: raise --queues"
        ));
    }
    if queues > lanes {
        return usage(format!(
            "every loop needs a queue, and every queue a lane: for {queues} queues use --lanes {queues} \
             or more"
        ));
    }
    Ok(())
}

/// Checks the operation against the file and the block size. Returns the block size.
fn check_target(args: &BenchArgs, on_gpu: bool) -> Result<u32, Failure> {
    let Some(block_size) = u32::try_from(args.block_size.0)
        .ok()
        .filter(|size| (1..=1 << 30).contains(size))
    else {
        return usage("--block-size must be 1 byte to 1 GiB");
    };
    let moves = matches!(args.op, BenchOp::Read | BenchOp::Write);
    let has_file = args.file.is_some() || args.create.is_some();
    if moves && !has_file {
        return usage("reads and writes need a file: --file PATH or --create SIZE PATH");
    }
    if !moves && has_file {
        return usage("fences and idling use no file: omit --file and --create");
    }
    if args.page_cache && args.op != BenchOp::Read {
        return usage("--page-cache copies blocks that are read: use --op read");
    }
    if args.plot.is_some() && args.op == BenchOp::Idle {
        return usage("--plot shows requests, and idling has none: omit it");
    }
    if args.baseline && !moves {
        return usage("--baseline compares only reads and writes");
    }
    let bare = args.baseline_kind(true) == BaselineKind::BareServers;
    if args.baseline && !bare && args.loops.get() > 1 {
        return usage("--baseline runs one raw loop: omit --loops");
    }
    if args.baseline && bare && matches!(args.land, LandArg::Loop | LandArg::Auto) {
        return usage(
            "--baseline serves lanes by copies in host memory: use --land none or kernel",
        );
    }
    let in_sectors = u64::from(block_size).is_multiple_of(stamp::SECTOR as u64);
    let stamps = on_gpu && args.op == BenchOp::Write;
    if (args.consume || args.land != LandArg::None || stamps) && !in_sectors {
        return usage(format!(
            "--consume, --land and writes by a GPU need a block size that is a multiple of {} bytes",
            stamp::SECTOR
        ));
    }
    Ok(block_size)
}

impl Plan {
    pub(super) fn new(args: &BenchArgs) -> Result<Self, Failure> {
        let (lanes, loops) = (args.lanes.get(), args.loops.get());
        let on_gpu = args.device != DeviceArg::Threads;
        let depth = args
            .depth
            .map_or(if on_gpu { lanes } else { DEPTH }, NonZeroU32::get);
        let queues = args.queues.map_or(loops, NonZeroU32::get);
        check_gpu(args, on_gpu, depth)?;
        check_counts(lanes, depth, queues, loops)?;
        let block_size = check_target(args, on_gpu)?;
        let mut plan = Self {
            op: args.op,
            block_size,
            lanes,
            depth,
            queues,
            loops,
            slots: 0,
            landing: match args.land {
                LandArg::None => Landing::None,
                LandArg::Kernel => Landing::Kernel,
                LandArg::Loop => Landing::Loop,
                LandArg::Auto => Landing::for_size(block_size),
            },
            cores: Arc::default(),
        };
        let needed = (0..queues)
            .map(|queue| plan.in_queue(queue))
            .max()
            .unwrap_or(1);
        plan.slots = args
            .slots
            .map_or_else(|| SLOTS.max(needed.next_power_of_two()), NonZeroU32::get);
        if plan.slots < needed || plan.slots > MAX_SLOTS {
            return usage(format!(
                "{needed} requests in flight in a queue need --slots {needed} to {MAX_SLOTS}, or more --queues"
            ));
        }
        Ok(plan)
    }

    pub(super) const fn lanes(&self) -> u32 {
        self.lanes
    }

    pub(super) const fn queues(&self) -> u32 {
        self.queues
    }

    pub(super) const fn loops(&self) -> u32 {
        self.loops
    }

    /// Returns the entries of each loop's ring, as few as suffice: a larger ring takes more memory.
    pub(super) const fn ring_entries(&self) -> u32 {
        let entries = self.depth.div_ceil(self.loops).next_power_of_two();
        if entries < 8 {
            8
        } else if entries > MAX_SLOTS {
            MAX_SLOTS
        } else {
            entries
        }
    }

    pub(super) const fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) const fn depth(&self) -> u32 {
        self.depth
    }

    /// Returns the queue that a lane uses.
    pub(super) const fn queue_of(&self, lane: u32) -> u32 {
        lane % self.queues
    }

    /// Returns the number of requests that a lane keeps in flight: an equal share, and one more in
    /// the first lanes.
    pub(super) const fn depth_of(&self, lane: u32) -> u32 {
        self.depth / self.lanes + (lane < self.depth % self.lanes) as u32
    }

    /// Returns the number of requests in flight in the lanes before this one.
    pub(super) fn depth_before(&self, lane: u32) -> u32 {
        (0..lane).map(|earlier| self.depth_of(earlier)).sum()
    }

    fn in_queue(&self, queue: u32) -> u32 {
        (0..self.lanes)
            .filter(|&lane| self.queue_of(lane) == queue)
            .map(|lane| self.depth_of(lane))
            .sum()
    }

    /// Chooses the cores to which the threads are bound.
    pub(super) fn place(&mut self, args: &BenchArgs) -> Result<(), Failure> {
        let (loops, lanes) = (self.loops as usize, self.lanes as usize);
        let lanes = if args.device == DeviceArg::Threads {
            lanes
        } else {
            1
        };
        // One more for the worker in the kernel that carries out buffered writes.
        let worker = usize::from(args.op == BenchOp::Write && !args.direct);
        let most = loops + lanes + worker;
        self.cores = Arc::new(Cores::choose(args.cores.as_ref(), loops + 1, most)?);
        Ok(())
    }

    /// Returns the same plan for one loop with one queue, bound to no core.
    pub(super) fn with_one_loop(&self) -> Self {
        Self {
            loops: 1,
            queues: 1,
            cores: Arc::default(),
            ..self.clone()
        }
    }

    /// Returns the loops' cores, of which the raw loop gets the first. `None` if threads are not
    /// bound.
    pub(super) fn loop_cores(&self) -> Option<&[usize]> {
        self.cores.list.get(..self.loops as usize)
    }

    /// Returns the lanes' cores. `None` if threads are not bound.
    pub(super) fn lane_cores(&self) -> Option<&[usize]> {
        self.cores.list.get(self.loops as usize..)
    }

    /// Returns the number of threads of the bare pool: one for each core besides the lane's, unless the
    /// command line says otherwise.
    pub(super) fn pool_threads(&self, args: &BenchArgs) -> u32 {
        let others = self.cores.allowed.saturating_sub(1).max(1) as u32;
        let threads = args.pool_threads.map_or(others, NonZeroU32::get);
        threads.min(self.depth)
    }

    /// Returns the cores of the threads of the bare pool, and that of its lane. More threads than there are
    /// cores for the loop share all cores.
    pub(super) fn pool_cores(&self, args: &BenchArgs) -> Option<(Vec<usize>, usize)> {
        let lane = self.lane_core(0)?;
        let threads = self.pool_threads(args) as usize;
        let loops = self.loop_cores()?.to_vec();
        (threads <= loops.len()).then_some((loops, lane))
    }

    /// Returns whether lanes share a core.
    pub(super) fn is_crowded(&self) -> bool {
        let cores = match self.cores.list.len() {
            0 => self.cores.allowed,
            bound => bound,
        };
        self.lanes as usize + self.loops as usize > cores.max(2)
    }

    /// Returns the core of a lane: any except the loops'.
    pub(super) fn lane_core(&self, lane: u32) -> Option<usize> {
        let cores = self.lane_cores().filter(|cores| !cores.is_empty())?;
        Some(cores[lane as usize % cores.len()])
    }

    /// Returns notes on cores that make the figures worse than they could be.
    pub(super) fn notes(&self, args: &BenchArgs) -> Vec<String> {
        let mut notes: Vec<String> = self.cores.note.iter().cloned().collect();
        let writes = args.op == BenchOp::Write && !args.direct;
        if writes && self.cores.allowed < 3 {
            notes.push(format!(
                "buffered writes: loop, lanes and the kernel's worker share {} cores",
                self.cores.allowed
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn plan(line: &str) -> Plan {
        let words = ["vyre-io", "bench"].into_iter();
        let args = Args::parse_from(words.chain(line.split_whitespace()));
        let Command::Bench(args) = args.command else {
            unreachable!("bench was asked for")
        };
        Plan::new(&args).expect(line)
    }

    #[test]
    fn every_loop_has_entries_for_its_share_of_the_requests() {
        let plan = plan("--op fence --lanes 8 --loops 3 --queues 7");
        assert_eq!((plan.depth(), plan.ring_entries()), (64, 32));
    }

    #[test]
    fn the_block_size_chooses_where_blocks_land() {
        let landing =
            |line: &str| plan(&format!("--device cuda --op read --file f {line}")).landing;
        assert_eq!(landing(""), Landing::None);
        assert_eq!(landing("--land auto"), Landing::Kernel);
        assert_eq!(landing("--land auto --block-size 16m"), Landing::Loop);
        assert_eq!(landing("--land loop"), Landing::Loop);
        assert_eq!(landing("--land kernel"), Landing::Kernel);
    }

    #[test]
    fn a_lane_of_a_gpu_has_one_request() {
        let plan = plan("--op fence --device cuda --lanes 1024 --loops 8");
        assert_eq!((plan.depth(), plan.depth_of(1023)), (1024, 1));
        assert_eq!((plan.queues(), plan.slots()), (8, 128));
        assert_eq!(plan.ring_entries(), 128);
    }
}
