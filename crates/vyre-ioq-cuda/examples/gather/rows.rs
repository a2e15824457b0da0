//! The kernel's host side, and the same averages on a CPU.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use vyre_ioloop::Rights;
use vyre_ioq_cuda::view::DeviceView;

use crate::common::{Code, Demand, Device, Error, Service, TIMEOUT, ensure, mix};

pub(crate) const KERNEL: Code = Code {
    text: include_str!("gather.cuh"),
    name: "gather_kernel",
};

/// Number of lanes of a warp, each of which can request a row.
const LANES: u32 = 32;
/// Number of bytes of a value.
const VALUE: u64 = size_of::<f32>() as u64;
/// Increment of `SplitMix64`.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Laid out as the kernel's `Args`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    view: DeviceView,
    ports: u64,
    data: u64,
    means: u64,
    ended: u64,
    grid: u64,
    rows: u64,
    seed: u64,
    timeout_ns: u64,
    port_count: u32,
    warps: u32,
    columns: u32,
    fanout: u32,
    batch_size: u32,
    batches: u32,
}

/// The rows to gather.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// A view of the file, or an empty one for the queue.
    pub(crate) view: DeviceView,
    pub(crate) warps: u32,
    pub(crate) loops: u32,
    /// Number of rows in the table, and of values in a row.
    pub(crate) rows: u64,
    pub(crate) columns: u32,
    /// Neighbours of each node.
    pub(crate) fanout: u32,
    pub(crate) batch_size: u32,
    pub(crate) batches: u32,
    pub(crate) seed: u64,
}

/// Results of the kernel.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// Averages of all nodes, one node after the other.
    pub(crate) means: Vec<f32>,
    /// Time that each mini-batch took.
    pub(crate) batches: Vec<Duration>,
    pub(crate) elapsed: Duration,
}

impl Plan {
    /// Returns the number of rows that are requested in total.
    pub(crate) fn requests(&self) -> u64 {
        self.nodes() * u64::from(self.fanout)
    }

    pub(crate) fn row_bytes(&self) -> u64 {
        u64::from(self.columns) * VALUE
    }

    fn nodes(&self) -> u64 {
        u64::from(self.batches) * u64::from(self.batch_size)
    }

    /// Computes the kernel's `neighbour`.
    pub(crate) fn neighbour(&self, node: u64, number: u32) -> u64 {
        let number = node * u64::from(LANES) + u64::from(number);
        mix(self.seed.wrapping_add(number.wrapping_mul(STEP))) % self.rows
    }

    fn check(&self) -> Result<(), Error> {
        let fits = self.rows > 0
            && (1..=1 << 16).contains(&self.columns)
            && (1..=LANES).contains(&self.fanout)
            && self.batches > 0
            && self.batch_size >= self.warps;
        if fits {
            return Ok(());
        }
        Err(Error::Unfit(format!(
            "ask for rows of 1 to 65536 values, 1 to {LANES} neighbours, and mini-batches of {} nodes \
             or more, a node for each warp",
            self.warps
        )))
    }
}

/// Gathers rows of `file` by a kernel on `device`.
pub(crate) fn gather(device: &mut Device, file: &File, plan: &Plan) -> Result<Gathered, Error> {
    plan.check()?;
    let (requests, bytes) = if plan.view.is_empty() {
        (2 * LANES, 2 * LANES as usize * plan.row_bytes() as usize)
    } else {
        (0, 0)
    };
    let demand = Demand {
        rights: Rights::READ,
        loops: plan.loops,
        warps: plan.warps,
        requests,
        bytes,
    };
    let service = Service::start(device, file, demand)?;
    let count = plan.nodes() as usize * plan.columns as usize;
    let means = device.holding(&vec![0_f32; count])?;
    let ended = device.holding(&vec![0_u64; plan.batches as usize + 1])?;
    let args = Args {
        view: plan.view,
        ports: service.ports(),
        data: service.data(),
        means: means.address,
        ended: ended.address,
        grid: service.grid(),
        rows: plan.rows,
        seed: plan.seed,
        timeout_ns: TIMEOUT.as_nanos() as u64,
        port_count: plan.loops,
        warps: plan.warps,
        columns: plan.columns,
        fanout: plan.fanout,
        batch_size: plan.batch_size,
        batches: plan.batches,
    };
    // SAFETY: `Args` has the layout of the kernel's. What it points to is memory of the device: 64 rows
    // for each warp unless there is a view, the averages of each node, an end for each mini-batch and the begin.
    let elapsed = unsafe { device.run(KERNEL, plan.warps, &args) }?;
    service.finish(if plan.view.is_empty() {
        plan.requests()
    } else {
        0
    })?;
    let ended: Vec<u64> = ended.read()?;
    let began = ended[plan.batches as usize];
    let before = std::iter::once(&began).chain(&ended);
    let between = before.zip(&ended[..plan.batches as usize]);
    Ok(Gathered {
        means: means.read()?,
        batches: between
            .map(|(before, after)| Duration::from_nanos(after.saturating_sub(*before)))
            .collect(),
        elapsed,
    })
}

impl Gathered {
    /// Reads every row on the CPU and compares all averages, to the last bit.
    pub(crate) fn verify(&self, file: &File, path: &Path, plan: &Plan) -> Result<(), Error> {
        let mut row = vec![0; plan.row_bytes() as usize];
        let found = self.means.chunks_exact(plan.columns as usize);
        ensure(found.len() as u64 == plan.nodes(), || {
            "a node is missing".to_owned()
        })?;
        for (node, found) in found.enumerate() {
            let mut sums = vec![0_f32; plan.columns as usize];
            for number in 0..plan.fanout {
                let at = plan.neighbour(node as u64, number) * plan.row_bytes();
                let read = file.read_exact_at(&mut row, at);
                read.map_err(Error::file(path))?;
                for (sum, bytes) in sums.iter_mut().zip(row.chunks_exact(size_of::<f32>())) {
                    *sum += f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            for (column, (sum, found)) in sums.iter().zip(found).enumerate() {
                let mean = sum / plan.fanout as f32;
                // Compared by bits: the user's table may hold NaN.
                let same = mean.to_bits() == found.to_bits() || mean.is_nan() && found.is_nan();
                ensure(same, || {
                    format!("node {node}, column {column}: {mean} on the CPU, {found} there")
                })?;
            }
        }
        Ok(())
    }
}

/// Returns how many rows of `columns` values a file holds.
pub(crate) fn rows_of(file: &File, path: &Path, columns: u32) -> Result<u64, Error> {
    let bytes = file.metadata().map_err(Error::file(path))?.len();
    match bytes / (u64::from(columns.max(1)) * VALUE) {
        0 => Err(Error::Unfit(format!(
            "{}: no row of {columns} values fits in {bytes} bytes",
            path.display()
        ))),
        rows => Ok(rows),
    }
}

/// Writes a table of features, all different, from -1 to 1.
pub(crate) fn write_example(path: &Path, rows: u64, columns: u32) -> Result<(), Error> {
    let mut file = BufWriter::new(File::create(path).map_err(Error::file(path))?);
    for index in 0..rows * u64::from(columns) {
        let random = mix((index + 1).wrapping_mul(STEP)) >> 40;
        let value = random as f32 / (1_u32 << 23) as f32 - 1.0;
        let wrote = file.write_all(&value.to_le_bytes());
        wrote.map_err(Error::file(path))?;
    }
    file.flush().map_err(Error::file(path))
}
