//! The kernel's host side, and the same reduction on a CPU.

#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use safetensors::Dtype;
use vyre_ioloop::Rights;
use vyre_ioq_cuda::view::DeviceView;

use super::weights::{Layer, Tensor};
use crate::common::{Code, Demand, Device, Error, Service, TIMEOUT, ensure, mix};

pub(crate) const KERNEL: Code = Code {
    text: include_str!("stream_weights.cuh"),
    name: "stream_weights_kernel",
};

/// Number of lanes of a warp, and of bytes that each processes at a time.
const LANES: usize = 32;
const UNIT: usize = 16;

/// Laid out as the kernel's `Tensor`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct TensorEntry {
    offset: u64,
    bytes: u64,
    first_block: u64,
    dtype: u32,
    spare: u32,
}

/// Laid out as the kernel's `Layer`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct LayerEntry {
    first_block: u64,
    end_block: u64,
    first_tensor: u32,
    spare: u32,
}

/// Result of reducing a block, laid out as the kernel's `Found`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Found {
    sum: f64,
    digest: u64,
    largest: u32,
    odd: u32,
}

/// Laid out as the kernel's `Args`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    view: DeviceView,
    ports: u64,
    data: u64,
    tensors: u64,
    layers: u64,
    found: u64,
    digests: u64,
    grid: u64,
    timeout_ns: u64,
    port_count: u32,
    layer_count: u32,
    warps: u32,
    block_size: u32,
}

/// The plan by which the file is streamed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// A view of the file, or an empty one for the queue.
    pub(crate) view: DeviceView,
    pub(crate) warps: u32,
    pub(crate) loops: u32,
    /// A multiple of 16.
    pub(crate) block_size: u32,
}

/// Results of the kernel.
#[derive(Debug)]
pub(crate) struct Streamed {
    blocks: Vec<Found>,
    /// Digest of each layer, and the end of the chain of digests.
    digests: Vec<u64>,
    block_size: u32,
    pub(crate) elapsed: Duration,
}

/// Totals of the values of a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) sum: f64,
    pub(crate) largest: f32,
    pub(crate) odd: u64,
}

fn code_of(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 1,
        Dtype::F16 => 2,
        Dtype::BF16 => 3,
        _ => 0,
    }
}

/// Streams `file` through a kernel on `device`.
pub(crate) fn stream(
    device: &mut Device,
    file: &File,
    layers: &[Layer],
    plan: Plan,
) -> Result<Streamed, Error> {
    let block_size = plan.block_size;
    if block_size == 0 || !(block_size as usize).is_multiple_of(UNIT) {
        return Err(Error::Unfit(format!(
            "blocks of {block_size} bytes: ask for a multiple of {UNIT}"
        )));
    }
    let (tensors, entries, blocks) = tables(layers, block_size);
    let view = plan.view;
    let (requests, bytes) = if view.is_empty() {
        (2, 2 * block_size as usize)
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
    let found = device.holding(&vec![Found::default(); blocks as usize])?;
    let digests = device.holding(&vec![0_u64; layers.len() + 1])?;
    let args = Args {
        view,
        ports: service.ports(),
        data: service.data(),
        tensors: device.holding(&tensors)?.address,
        layers: device.holding(&entries)?.address,
        found: found.address,
        digests: digests.address,
        grid: service.grid(),
        timeout_ns: TIMEOUT.as_nanos() as u64,
        port_count: plan.loops,
        layer_count: layers.len() as u32,
        warps: plan.warps,
        block_size,
    };
    // SAFETY: `Args` and what it points to have the layout of the kernel's structures. All of it is
    // memory of the device: two blocks for each warp unless there is a view, an entry for each block and each
    // layer.
    let elapsed = unsafe { device.run(KERNEL, plan.warps, &args) }?;
    service.finish(if view.is_empty() { blocks } else { 0 })?;
    Ok(Streamed {
        blocks: found.read()?,
        digests: digests.read()?,
        block_size,
        elapsed,
    })
}

/// Returns the kernel's tables and the number of blocks.
fn tables(layers: &[Layer], block_size: u32) -> (Vec<TensorEntry>, Vec<LayerEntry>, u64) {
    let (mut tensors, mut entries, mut blocks) = (Vec::new(), Vec::new(), 0);
    for layer in layers {
        let (first_block, first_tensor) = (blocks, tensors.len() as u32);
        for tensor in &layer.tensors {
            tensors.push(TensorEntry {
                offset: tensor.offset,
                bytes: tensor.bytes,
                first_block: blocks,
                dtype: code_of(tensor.dtype),
                spare: 0,
            });
            blocks += tensor.bytes.div_ceil(u64::from(block_size));
        }
        entries.push(LayerEntry {
            first_block,
            end_block: blocks,
            first_tensor,
            spare: 0,
        });
    }
    (tensors, entries, blocks)
}

impl Streamed {
    /// Reads `file` on the CPU and compares every block, every digest and the chain, to the last bit.
    /// Gives `each` tensor's totals.
    pub(crate) fn verify(
        &self,
        file: &File,
        path: &Path,
        layers: &[Layer],
        mut each: impl FnMut(&Tensor, Totals),
    ) -> Result<(), Error> {
        let (mut number, mut chain) = (0, 0);
        let mut block = vec![0; self.block_size as usize];
        for (layer, found) in layers.iter().zip(&self.digests) {
            let mut digest = 0_u64;
            for tensor in &layer.tensors {
                let mut totals = Totals::default();
                let mut at = 0;
                while at < tensor.bytes {
                    let len = (tensor.bytes - at).min(block.len() as u64) as usize;
                    let read = file.read_exact_at(&mut block[..len], tensor.offset + at);
                    read.map_err(Error::file(path))?;
                    let expected = reduce(&block[..len], code_of(tensor.dtype), at, chain);
                    ensure(expected == self.blocks[number], || {
                        let (name, found) = (&tensor.name, self.blocks[number]);
                        format!("{name} at byte {at}: {expected:?} on the CPU, {found:?} there")
                    })?;
                    digest = digest.wrapping_add(expected.digest);
                    totals.add(&expected);
                    (number, at) = (number + 1, at + len as u64);
                }
                each(tensor, totals);
            }
            ensure(digest == *found, || format!("the digest of {}", layer.name))?;
            chain = mix(chain ^ digest);
        }
        let end = self.digests.last();
        ensure(end == Some(&chain), || {
            "the end of the chain of layers".to_owned()
        })
    }
}

impl Totals {
    fn add(&mut self, block: &Found) {
        self.sum += block.sum;
        self.largest = self.largest.max(f32::from_bits(block.largest));
        self.odd += u64::from(block.odd);
    }
}

/// Reduces a block as the kernel's `reduce` does: the sums of the lanes are computed and added in
/// the same order.
fn reduce(bytes: &[u8], dtype: u32, offset: u64, chain: u64) -> Found {
    let mut sums = [0.0; LANES];
    let mut found = Found::default();
    for (number, part) in bytes.chunks(UNIT).enumerate() {
        let mut unit = [0; UNIT];
        unit[..part.len()].copy_from_slice(part);
        for (word, bytes) in unit.chunks_exact(4).enumerate() {
            let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let (low, high) = (bits & 0xffff, bits >> 16);
            let values: &[u32] = match dtype {
                1 => &[bits],
                2 => &[widened(low), widened(high)],
                3 => &[low << 16, high << 16],
                _ => &[],
            };
            for &value in values {
                count_value(&mut found, &mut sums[number % LANES], value);
            }
            if word % 2 == 1 {
                let start = 4 * (word - 1);
                let low = u32::from_le_bytes([
                    unit[start],
                    unit[start + 1],
                    unit[start + 2],
                    unit[start + 3],
                ]);
                let pair = u64::from(bits) << 32 | u64::from(low);
                let place = offset + (number * UNIT + start) as u64;
                let digest = mix((pair ^ chain).wrapping_add(place));
                found.digest = found.digest.wrapping_add(digest);
            }
        }
    }
    found.sum = sums.iter().fold(0.0, |sum, lane| sum + lane);
    found
}

fn count_value(found: &mut Found, sum: &mut f64, bits: u32) {
    let magnitude = bits & 0x7fff_ffff;
    if magnitude >= 0x7f80_0000 {
        found.odd += 1;
        return;
    }
    *sum += f64::from(f32::from_bits(bits));
    found.largest = found.largest.max(magnitude);
}

/// Converts f16 to f32 by bits.
fn widened(half: u32) -> u32 {
    let (magnitude, sign) = ((half & 0x7fff) << 13, (half & 0x8000) << 16);
    if magnitude >= 0x7c00 << 13 {
        return sign | 0x7f80_0000 | magnitude;
    }
    let bias = f32::from_bits((127 + 112) << 23);
    sign | (f32::from_bits(magnitude) * bias).to_bits()
}
