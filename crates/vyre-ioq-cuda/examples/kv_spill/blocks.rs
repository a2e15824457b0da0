//! The kernel's host side, and the same blocks on a CPU.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use vyre_ioloop::Rights;

use crate::common::{Code, Demand, Device, Error, Service, TIMEOUT, ensure, mix};

pub(crate) const KERNEL: Code = Code {
    text: include_str!("kv_spill.cuh"),
    name: "kv_spill_kernel",
};

/// Number of bytes that a lane of the kernel processes at a time.
const UNIT: u32 = 16;
/// Number of bytes of a value.
const VALUE: usize = size_of::<u64>();

/// Laid out as the kernel's `Counts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Counts {
    pub(crate) written: u64,
    pub(crate) compared: u64,
    pub(crate) bad: u64,
    pub(crate) bad_block: u64,
    pub(crate) early: u64,
    pub(crate) synced: u64,
}

/// Laid out as the kernel's `Args`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    ports: u64,
    data: u64,
    counts: u64,
    grid: u64,
    blocks: u64,
    seed: u64,
    stride: u64,
    timeout_ns: u64,
    port_count: u32,
    warps: u32,
    block_size: u32,
    phases: u32,
}

/// Phases of the kernel, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Phases(u32);

impl Phases {
    pub(crate) const SPILL: Self = Self(1);
    pub(crate) const RESTORE: Self = Self(2);
    pub(crate) const BOTH: Self = Self(3);

    fn has(self, phase: Self) -> bool {
        self.0 & phase.0 != 0
    }
}

/// The choice of blocks and phases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) warps: u32,
    pub(crate) loops: u32,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    pub(crate) seed: u64,
    pub(crate) phases: Phases,
}

impl Plan {
    /// Returns the length of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_size)
    }

    /// Returns the number of requests: a write and a read for each block, and a fence and a sync
    /// for each queue.
    fn requests(&self) -> u64 {
        let of = |phase, count| if self.phases.has(phase) { count } else { 0 };
        let spill = self.blocks + 2 * u64::from(self.loops);
        of(Phases::SPILL, spill) + of(Phases::RESTORE, self.blocks)
    }

    /// Returns a stride that visits every block, each far from the one before.
    fn stride(&self) -> u64 {
        let golden = (self.blocks as f64 * 0.618) as u64;
        let mut strides = golden.max(1)..;
        let coprime = strides.find(|&stride| common_factor(stride, self.blocks) == 1);
        coprime.unwrap_or(1)
    }

    fn check(&self) -> Result<(), Error> {
        if self.blocks > 0 && self.block_size > 0 && self.block_size.is_multiple_of(UNIT) {
            return Ok(());
        }
        Err(Error::Unfit(format!(
            "{} blocks of {} bytes: ask for one at least, of a multiple of {UNIT}",
            self.blocks, self.block_size
        )))
    }
}

fn common_factor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_factor(b, a % b) }
}

/// Spills to `file` and restores from it, by a kernel on `device`. Returns what the kernel counted,
/// and how long it took.
pub(crate) fn spill(
    device: &mut Device,
    file: &File,
    plan: &Plan,
) -> Result<(Counts, Duration), Error> {
    plan.check()?;
    let demand = Demand {
        rights: Rights::READ | Rights::WRITE | Rights::SYNC,
        loops: plan.loops,
        warps: plan.warps,
        requests: 2,
        bytes: 2 * plan.block_size as usize,
    };
    let service = Service::start(device, file, demand)?;
    let counts = device.holding(&[Counts::default()])?;
    let args = Args {
        ports: service.ports(),
        data: service.data(),
        counts: counts.address,
        grid: service.grid(),
        blocks: plan.blocks,
        seed: plan.seed,
        stride: plan.stride(),
        timeout_ns: TIMEOUT.as_nanos() as u64,
        port_count: plan.loops,
        warps: plan.warps,
        block_size: plan.block_size,
        phases: plan.phases.0,
    };
    // SAFETY: `Args` has the layout of the kernel's. What it points to is memory of the device: two
    // blocks for each warp, and the counts.
    let elapsed = unsafe { device.run(KERNEL, plan.warps, &args) }?;
    service.finish(plan.requests())?;
    Ok((counts.read()?[0], elapsed))
}

/// Checks that the kernel did everything and found what it had written.
pub(crate) fn check(counts: &Counts, plan: &Plan) -> Result<(), Error> {
    let (Counts { bad, early, .. }, all) = (*counts, plan.blocks);
    ensure(bad == 0, || {
        format!(
            "{bad} blocks came back changed, block {} among them",
            counts.bad_block
        )
    })?;
    ensure(early == 0, || {
        format!("{early} writes were not done after the fence")
    })?;
    let of = |phase, count: u64| if plan.phases.has(phase) { count } else { 0 };
    let expected = Counts {
        written: of(Phases::SPILL, all),
        synced: of(Phases::SPILL, plan.loops.into()),
        compared: of(Phases::RESTORE, all),
        ..Counts::default()
    };
    ensure(*counts == expected, || {
        format!("{counts:?}, not {expected:?}")
    })
}

/// Reads the file on the CPU, and checks that it holds every block and nothing else.
pub(crate) fn verify(file: &File, path: &Path, plan: &Plan) -> Result<(), Error> {
    let len = file.metadata().map_err(Error::file(path))?.len();
    ensure(len == plan.bytes(), || {
        format!("the file has {len} bytes, not {}", plan.bytes())
    })?;
    let mut bytes = vec![0; plan.block_size as usize];
    for block in 0..plan.blocks {
        let read = file.read_exact_at(&mut bytes, block * u64::from(plan.block_size));
        read.map_err(Error::file(path))?;
        for (at, value) in bytes.chunks_exact(VALUE).enumerate() {
            let expected = value_of(plan.seed, block, at as u64);
            ensure(value == expected.to_le_bytes(), || {
                format!(
                    "the file's block {block} differs at its byte {}",
                    at * VALUE
                )
            })?;
        }
    }
    Ok(())
}

/// Computes the kernel's `value_of`.
fn value_of(seed: u64, block: u64, at: u64) -> u64 {
    let start = seed.wrapping_add(mix(block + 1));
    mix(start.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}
