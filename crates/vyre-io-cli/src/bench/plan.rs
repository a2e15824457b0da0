//! The arguments, checked and completed.

use crate::args::{BenchArgs, BenchOp};
use crate::failure::Failure;

/// Slots of a queue, unless its lanes need more.
const SLOTS: u32 = 64;
/// Most slots of a queue.
const MAX_SLOTS: u32 = vyre_io::ioq::abi::MAX_SLOTS;

/// How the lanes are laid out.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) op: BenchOp,
    pub(super) block_size: u32,
    lanes: u32,
    depth: u32,
    queues: u32,
    slots: u32,
    cores: Vec<usize>,
}

impl Plan {
    pub(super) fn new(args: &BenchArgs) -> Result<Self, Failure> {
        let usage = |text: String| Err(Failure::Usage(text));
        let (lanes, depth, queues) = (args.lanes.get(), args.depth.get(), args.queues.get());
        if depth < lanes {
            return usage(format!(
                "--depth {depth} leaves some of {lanes} lanes without a request; depth is over all lanes"
            ));
        }
        if queues > lanes {
            return usage(format!("{queues} queues need as many lanes; raise --lanes"));
        }
        let Some(block_size) = u32::try_from(args.block_size.0)
            .ok()
            .filter(|size| (1..=1 << 30).contains(size))
        else {
            return usage("--block-size must be 1 byte to 1 GiB".into());
        };
        let moves = matches!(args.op, BenchOp::Read | BenchOp::Write);
        if moves && args.file.is_none() && args.create.is_none() {
            return usage("reads and writes need a file: --file PATH or --create SIZE PATH".into());
        }
        if args.baseline && !moves {
            return usage("--baseline compares reads and writes only".into());
        }
        let mut plan = Self {
            op: args.op,
            block_size,
            lanes,
            depth,
            queues,
            slots: 0,
            cores: allowed_cores(),
        };
        let needed = (0..queues)
            .map(|queue| plan.in_queue(queue))
            .max()
            .unwrap_or(1);
        plan.slots = args.slots.map_or_else(
            || SLOTS.max(needed.next_power_of_two()),
            std::num::NonZero::get,
        );
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

    pub(super) const fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) const fn depth(&self) -> u32 {
        self.depth
    }

    /// The queue that a lane uses.
    pub(super) const fn queue_of(&self, lane: u32) -> u32 {
        lane % self.queues
    }

    /// Requests that a lane keeps in flight: an equal share, the first lanes one more.
    pub(super) const fn depth_of(&self, lane: u32) -> u32 {
        self.depth / self.lanes + (lane < self.depth % self.lanes) as u32
    }

    /// Requests in flight in the lanes before this one.
    pub(super) fn depth_before(&self, lane: u32) -> u32 {
        (0..lane).map(|earlier| self.depth_of(earlier)).sum()
    }

    fn in_queue(&self, queue: u32) -> u32 {
        (0..self.lanes)
            .filter(|&lane| self.queue_of(lane) == queue)
            .map(|lane| self.depth_of(lane))
            .sum()
    }

    /// The loop's core, which the raw loop gets too. None if there is no second one for the lanes.
    pub(super) fn loop_core(&self) -> Option<usize> {
        (self.cores.len() > 1).then(|| self.cores[0])
    }

    /// Whether lanes have to share a core.
    pub(super) fn is_crowded(&self) -> bool {
        self.lanes as usize >= self.cores.len().max(2)
    }

    /// A lane's core: any but the loop's.
    pub(super) fn lane_core(&self, lane: u32) -> Option<usize> {
        let others = self.cores.len().checked_sub(1).filter(|&n| n > 0)?;
        Some(self.cores[1 + lane as usize % others])
    }
}

fn allowed_cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

/// Binds the calling thread to a core. Only a help to steadier figures: a refusal is ignored.
pub(super) fn pin(core: Option<usize>) {
    if let Some(core) = core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// A small generator of block numbers (SplitMix64), the same for ours and for the raw loop.
#[derive(Clone, Debug)]
pub(super) struct BlockNumbers {
    state: u64,
    blocks: u64,
    random: bool,
}

impl BlockNumbers {
    /// Numbers below `blocks`; in turn from the `start`-th on, unless `random`.
    pub(super) const fn new(start: u64, blocks: u64, random: bool) -> Self {
        Self {
            state: start,
            blocks,
            random,
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        if !self.random {
            let number = self.state % self.blocks;
            self.state += 1;
            return number;
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // Multiply and shift: no division on the way of a request.
        ((u128::from(z) * u128::from(self.blocks)) >> 64) as u64
    }
}
