//! A ready kernel that gathers rows of a view.
#![expect(unsafe_code, reason = "launching a kernel is unsafe")]

use bytemuck::{Pod, Zeroable};

use super::{DeviceView, View, ViewError};
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::kernel::{Kernel, Launch};
use crate::launch_config::LaunchConfig;
use crate::memory::GpuMemory;
use crate::program::Program;
use crate::stream::Stream;

const PROGRAM: Program<'_> = Program::new(
    include_str!("../../kernels/gather_rows.cuh"),
    "vyre_ioq_gather_rows",
    include_str!("../../ptx/gather_rows.ptx"),
);

/// The threads of a block, and the blocks of a multiprocessor: as many loads as the bus takes.
const THREADS: u32 = 256;
const BLOCKS: u32 = 4;

/// The number of bytes of a row's number.
const ID: u64 = size_of::<u64>() as u64;

/// Rows of equal length in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The offset of row 0 in the view, in bytes.
    pub first: u64,
    /// The length of a row in bytes. Rows follow each other without gaps.
    pub row_bytes: u64,
}

/// A loaded kernel that copies rows of a view to memory of the GPU, in the order of a list of row numbers.
///
/// It copies 16 bytes at once if the rows and the memory are aligned to 16 bytes, and else 8, 4, or 1.
#[derive(Debug)]
pub struct RowGather {
    gpu: Gpu,
    kernel: Kernel,
    /// A word that counts.
    outside: GpuMemory,
}

/// Laid out as the kernel's `Rows`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    view: DeviceView,
    first: u64,
    row_bytes: u64,
    rows: u64,
    ids: u64,
    count: u64,
    out: u64,
    outside: u64,
}

impl RowGather {
    /// Compiles and loads the kernel, or loads its prebuilt PTX if there is no NVRTC.
    ///
    /// # Errors
    /// The same as for [`Program::load`].
    pub fn load(gpu: &Gpu) -> Result<Self, CudaError> {
        Ok(Self {
            gpu: gpu.clone(),
            kernel: PROGRAM.load(gpu)?.kernel().clone(),
            outside: GpuMemory::zeroed(gpu, size_of::<u32>())?,
        })
    }

    /// Starts the kernel on a stream, after what was started there before. `ids` holds `count` row numbers of
    /// 64 bits, and `out` gets as many rows.
    ///
    /// A number that names no row gives a row of zeros and is [counted](Self::outside). The launch keeps the view and
    /// the memory.
    ///
    /// # Errors
    /// [`ViewError::NoRows`] if a row has no bytes or row 0 is not inside the view, [`ViewError::TooShort`]
    /// if `ids` or `out` is too short, or [`ViewError::Cuda`] if the driver refuses a call.
    pub fn launch(
        &self,
        view: &View,
        rows: Rows,
        ids: &GpuMemory,
        count: u64,
        out: &GpuMemory,
        stream: &Stream,
    ) -> Result<Launch, ViewError> {
        let bytes = view.len().saturating_sub(rows.first);
        let in_view = bytes.checked_div(rows.row_bytes).unwrap_or(0);
        if in_view == 0 {
            return Err(ViewError::NoRows);
        }
        for (memory, each) in [(ids, ID), (out, rows.row_bytes)] {
            let (len, wanted) = (memory.len() as u64, count.saturating_mul(each));
            if wanted > len {
                return Err(ViewError::TooShort { len, wanted });
            }
        }
        let args = Args {
            view: view.device_view(&self.gpu)?,
            first: rows.first,
            row_bytes: rows.row_bytes,
            rows: in_view,
            ids: ids.device_ptr(),
            count,
            out: out.device_ptr(),
            outside: self.outside.device_ptr(),
        };
        let keep = (view.clone(), ids.clone(), out.clone(), self.outside.clone());
        let blocks = self.gpu.capabilities().multiprocessors * BLOCKS;
        let config = LaunchConfig::new(blocks, THREADS);
        // SAFETY: `Args` is laid out as in the kernel. It reads rows that are inside the view and `count`
        // numbers, and writes `count` rows and a word: the lengths were checked, and `keep` has the memory.
        let launch = unsafe { self.kernel.launch_on(stream, config, &args, keep) };
        Ok(launch?)
    }

    /// Returns how many numbers named no row, in all launches that have ended. Waits for the default stream.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the copy of the count fails.
    pub fn outside(&self) -> Result<u32, CudaError> {
        let bytes = self.outside.read()?;
        Ok(bytemuck::pod_read_unaligned(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prebuilt_ptx_is_of_the_present_sources() {
        assert!(
            PROGRAM.is_current(),
            "the PTX is of other sources than those here: run `cargo xtask ptx` on a machine with NVRTC 12.4, \
             which needs no GPU"
        );
    }

    #[test]
    fn the_driver_of_cuda_12_4_takes_the_prebuilt_ptx() {
        let text = include_str!("../../ptx/gather_rows.ptx");
        for line in ["\n.version 8.4\n", "\n.target sm_70\n"] {
            assert!(text.contains(line), "no {line:?}");
        }
        assert!(text.contains(".visible .entry vyre_ioq_gather_rows("));
        // Eight loads of 16 bytes in flight, in registers.
        assert_eq!(text.matches("ld.relaxed.sys.global.v4.u32").count(), 8);
        assert!(!text.contains(".local "), "the loads are in memory");
    }
}
