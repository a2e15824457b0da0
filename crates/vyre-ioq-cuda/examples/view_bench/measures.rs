//! The measurements.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use vyre_ioq_cuda::view::{
    DeviceView, LoadOptions, LoadWay, RowGather, Rows, View, load, pinned_bytes,
};
use vyre_ioq_cuda::{Gpu, GpuMemory, Kernel, Launch, LaunchConfig, Stream};

use crate::file::FACTOR;
use crate::table::Table;
use crate::{Error, failure};

const SOURCE: &str = include_str!("view_bench.cuh");
const BLOCK: u64 = 4096;
/// The rows of one gather.
const GATHERED: u64 = 1_600_000;
/// The bytes of the table that PyTorch's figures are of.
const TABLE: u64 = 2 << 30;

/// Laid out as the kernels' `Args`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Args {
    view: DeviceView,
    memory: u64,
    ids: u64,
    count: u64,
    row_bytes: u64,
    seed: u64,
    wrong: u64,
    factor: u32,
    spare: u32,
}

/// The kernels, loaded for one GPU.
struct Kernels {
    blocks: Kernel,
    whole: Kernel,
    chain: Kernel,
    memory: Kernel,
    rows: Kernel,
    wrong: GpuMemory,
    stream: Stream,
}

impl Kernels {
    fn load(gpu: &Gpu) -> Result<Self, Error> {
        let kernel = |name| Kernel::compile(gpu, SOURCE, name);
        Ok(Self {
            blocks: kernel("blocks_kernel")?,
            whole: kernel("whole_kernel")?,
            chain: kernel("chain_kernel")?,
            memory: kernel("memory_kernel")?,
            rows: kernel("rows_kernel")?,
            wrong: GpuMemory::zeroed(gpu, 8)?,
            stream: Stream::new(gpu)?,
        })
    }

    fn args(&self) -> Args {
        Args {
            wrong: self.wrong.device_ptr(),
            factor: FACTOR,
            ..Args::zeroed()
        }
    }

    /// Launches a kernel that reads what `keep` holds.
    fn launch(
        &self,
        kernel: &Kernel,
        (blocks, threads): (u32, u32),
        args: &Args,
        keep: impl std::any::Any + Send,
    ) -> Result<Launch, Error> {
        let config = LaunchConfig::new(blocks, threads);
        // SAFETY: `Args` is laid out as the kernels'. They read the view and the memory that `keep` holds, and
        // write a word that outlives the launch, since every launch is waited for.
        let launch = unsafe { kernel.launch_on(&self.stream, config, args, keep) };
        Ok(launch?)
    }

    /// Fails if a kernel has found something that the file does not hold.
    fn confirm(&self, what: &'static str) -> Result<(), Error> {
        let count: u64 = bytemuck::pod_read_unaligned(&self.wrong.read()?);
        if count == 0 {
            return Ok(());
        }
        Err(Error::Wrong { what, count })
    }
}

pub(crate) struct Bench<'a> {
    gpu: Gpu,
    file: &'a File,
    bytes: u64,
    runs: usize,
    quick: bool,
    kernels: Kernels,
}

fn seconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64()
}

/// Waits until all pages have been given back.
fn settle() {
    while pinned_bytes() > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        gpu: &Gpu,
        file: &'a File,
        bytes: u64,
        runs: usize,
        quick: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            kernels: Kernels::load(gpu)?,
            gpu: gpu.clone(),
            file,
            bytes,
            runs,
            quick,
        })
    }

    fn times(&self, mut run: impl FnMut(u64) -> Result<f64, Error>) -> Result<Vec<f64>, Error> {
        // The first run is not counted: it fills caches of addresses.
        run(0)?;
        (1..=self.runs as u64).map(run).collect()
    }

    pub(crate) fn view(&self) -> Result<View, Error> {
        Ok(View::new(&self.gpu, self.file, 0..self.bytes)?)
    }

    /// Returns whether the first page is one of a stamped file.
    pub(crate) fn is_ours(&self) -> Result<bool, Error> {
        let view = View::new(&self.gpu, self.file, 0..BLOCK.min(self.bytes))?;
        let memory = GpuMemory::zeroed(&self.gpu, BLOCK as usize)?;
        view.copy(view.range(), &memory, 0, &self.kernels.stream)?
            .wait()?;
        let words = memory.read()?;
        let words = words.chunks_exact(4).take(view.len() as usize / 4);
        let stamps = (0_u32..).map(|index| index.wrapping_mul(FACTOR).to_le_bytes());
        Ok(words.zip(stamps).all(|(found, stamp)| found == stamp))
    }

    /// A view from the call to the address for kernels, its end, and a look whether it is current.
    pub(crate) fn pinning(&self, table: &mut Table) -> Result<(), Error> {
        let (mut ends, mut checks) = (Vec::new(), Vec::new());
        let begins = self.times(|_| {
            let began = Instant::now();
            let view = self.view()?;
            view.device_view(&self.gpu)?;
            let begin = seconds(began);
            let began = Instant::now();
            let state = view.check();
            checks.push(seconds(began) * 1e6);
            assert_eq!(state, Ok(vyre_ioq_cuda::view::ViewState::Current));
            let began = Instant::now();
            drop(view);
            ends.push(seconds(began));
            Ok(begin)
        })?;
        table.add("the file as a view, usable", "s", begins, "");
        // Of the run that is not counted.
        ends.remove(0);
        checks.remove(0);
        table.add("the view given back", "s", ends, "");
        table.add("check() of an unchanged file", "us", checks, "");
        let beside = self.times(|_| {
            let began = Instant::now();
            View::prepare(self.file, 0..self.bytes)?.pin(&self.gpu)?;
            Ok(seconds(began))
        })?;
        table.add(
            "the file read in beside, then as a view, usable",
            "s",
            beside,
            "",
        );
        settle();
        Ok(())
    }

    pub(crate) fn blocks(&self, view: &View, table: &mut Table) -> Result<(), Error> {
        for warps in [1_u32, 32, 256, 1024, 4096] {
            let count = if self.quick {
                8
            } else {
                4_000_000_u64.div_ceil(u64::from(warps)).min(12_000)
            };
            // A warp on a multiprocessor of its own, then more.
            let shape = if warps <= 256 {
                (warps, 32)
            } else {
                (warps / 8, 256)
            };
            let rates = self.times(|run| {
                let args = Args {
                    view: view.device_view(&self.gpu)?,
                    count,
                    seed: run << 32,
                    ..self.kernels.args()
                };
                let began = Instant::now();
                let launch =
                    self.kernels
                        .launch(&self.kernels.blocks, shape, &args, view.clone())?;
                launch.wait()?;
                Ok((count * u64::from(warps)) as f64 / seconds(began))
            })?;
            self.kernels.confirm("random blocks")?;
            let bytes: Vec<_> = rates.iter().map(|rate| rate * BLOCK as f64 / 1e9).collect();
            let what = format!("random blocks of 4 KiB, {warps} warps");
            table.add(
                what.clone(),
                "M/s",
                rates.iter().map(|rate| rate / 1e6).collect(),
                "",
            );
            table.add(what, "GB/s", bytes, "");
        }
        Ok(())
    }

    pub(crate) fn chain(&self, view: &View, table: &mut Table) -> Result<(), Error> {
        let count = if self.quick { 10 } else { 20_000 };
        let times = self.times(|run| {
            let args = Args {
                view: view.device_view(&self.gpu)?,
                count,
                seed: run * 12_345,
                ..self.kernels.args()
            };
            let began = Instant::now();
            self.kernels
                .launch(&self.kernels.chain, (1, 1), &args, view.clone())?
                .wait()?;
            Ok(seconds(began) * 1e6 / count as f64)
        })?;
        self.kernels.confirm("dependent loads")?;
        table.add("a dependent load of 8 bytes", "us", times, "");
        Ok(())
    }

    pub(crate) fn rows(&self, view: &View, table: &mut Table) -> Result<(), Error> {
        let gather = RowGather::load(&self.gpu)?;
        let small = View::new(
            &self.gpu,
            self.file,
            0..TABLE.min(self.bytes) / BLOCK * BLOCK,
        )?;
        for row_bytes in [512, 1024, 4096_u64] {
            for view in [&small, view] {
                self.rows_of(&gather, view, row_bytes, table)?;
            }
        }
        Ok(())
    }

    fn rows_of(
        &self,
        gather: &RowGather,
        view: &View,
        row_bytes: u64,
        table: &mut Table,
    ) -> Result<(), Error> {
        let count = if self.quick { 1000 } else { GATHERED };
        let (stream, in_view) = (&self.kernels.stream, view.len() / row_bytes);
        let out = GpuMemory::uninit(&self.gpu, (count * row_bytes) as usize)?;
        let rates = self.times(|run| {
            let ids: Vec<u64> = (0..count)
                .map(|index| mix(index + (run << 40)) % in_view)
                .collect();
            let ids = GpuMemory::of(&self.gpu, bytemuck::cast_slice(&ids))?;
            let rows = Rows {
                first: 0,
                row_bytes,
            };
            let began = Instant::now();
            gather
                .launch(view, rows, &ids, count, &out, stream)?
                .wait()?;
            let rate = count as f64 / seconds(began) / 1e6;
            let args = Args {
                memory: out.device_ptr(),
                ids: ids.device_ptr(),
                count,
                row_bytes,
                ..self.kernels.args()
            };
            let keep = (out.clone(), ids);
            self.kernels
                .launch(&self.kernels.rows, (1024, 256), &args, keep)?
                .wait()?;
            Ok(rate)
        })?;
        self.kernels.confirm("gathered rows")?;
        assert_eq!(gather.outside()?, 0);
        let what = format!("rows of {row_bytes} B of {} MiB", view.len() >> 20);
        table.add(what, "M rows/s", rates, "");
        Ok(())
    }

    fn confirm_memory(&self, memory: &GpuMemory, what: &'static str) -> Result<(), Error> {
        let args = Args {
            memory: memory.device_ptr(),
            count: self.bytes,
            ..self.kernels.args()
        };
        self.kernels
            .launch(&self.kernels.memory, (1024, 256), &args, memory.clone())?
            .wait()?;
        self.kernels.confirm(what)
    }

    pub(crate) fn copies(&self, view: &View, table: &mut Table) -> Result<(), Error> {
        let memory = GpuMemory::zeroed(&self.gpu, self.bytes as usize)?;
        let rates = self.times(|_| {
            let began = Instant::now();
            view.copy(view.range(), &memory, 0, &self.kernels.stream)?
                .wait()?;
            let rate = self.bytes as f64 / seconds(began) / 1e9;
            self.confirm_memory(&memory, "the copy engine")?;
            Ok(rate)
        })?;
        table.add("the copy engine, from a view", "GB/s", rates, "");
        drop(memory);
        // What was just allocated is written more slowly.
        let rates = self.times(|_| {
            let memory = GpuMemory::uninit(&self.gpu, self.bytes as usize)?;
            let began = Instant::now();
            view.copy(view.range(), &memory, 0, &self.kernels.stream)?
                .wait()?;
            let rate = self.bytes as f64 / seconds(began) / 1e9;
            self.confirm_memory(&memory, "the copy engine")?;
            Ok(rate)
        })?;
        let what = "the copy engine, from a view to memory just allocated";
        table.add(what, "GB/s", rates, "");
        Ok(())
    }

    pub(crate) fn loads(&self, table: &mut Table) -> Result<(), Error> {
        for (way, threads) in [
            (Some(LoadWay::Pinned), 1),
            (Some(LoadWay::Staging), 4),
            (Some(LoadWay::Staging), 8),
            (None, 0),
        ] {
            let mut options = LoadOptions::default();
            options.way = way;
            options.threads = way.map(|_| threads);
            let (mut chosen, mut ends) = (None, Vec::new());
            let rates = self.times(|_| {
                let began = Instant::now();
                let memory = GpuMemory::uninit(&self.gpu, self.bytes as usize)?;
                chosen = Some(load(
                    &self.gpu,
                    self.file,
                    0..self.bytes,
                    &memory,
                    0,
                    options,
                )?);
                let rate = self.bytes as f64 / seconds(began) / 1e9;
                settle();
                ends.push(self.bytes as f64 / seconds(began) / 1e9);
                self.confirm_memory(&memory, "load")?;
                Ok(rate)
            })?;
            let what = match way {
                Some(way) => format!("{way:?}, {threads} threads"),
                None => "as it chooses".to_owned(),
            };
            let all = format!("load, from the call to the last byte: {what}");
            table.add(all, "GB/s", rates, format!("{chosen:?}"));
            // Of the run that is not counted.
            ends.remove(0);
            let all = format!("... and until the file's pages are given back: {what}");
            table.add(all, "GB/s", ends, "");
        }
        Ok(())
    }

    /// Both GPUs read the same view, alone and together.
    pub(crate) fn two(&self, view: &View, second: &Gpu, table: &mut Table) -> Result<(), Error> {
        let others = Kernels::load(second)?;
        let count = if self.quick { 8 } else { 8000 };
        let start = |kernels: &Kernels, gpu: &Gpu, run: u64| {
            let args = Args {
                view: view.device_view(gpu)?,
                count,
                seed: run << 32,
                ..kernels.args()
            };
            kernels.launch(&kernels.blocks, (128, 256), &args, view.clone())
        };
        let rate = move |began| (count * 1024 * BLOCK) as f64 / seconds(began) / 1e9;
        let both = [(&self.kernels, &self.gpu), (&others, second)];
        for (index, (kernels, gpu)) in both.into_iter().enumerate() {
            let alone = self.times(|run| {
                let began = Instant::now();
                start(kernels, gpu, run)?.wait()?;
                Ok(rate(began))
            })?;
            table.add(format!("GPU {index} of two, alone"), "GB/s", alone, "");
        }
        let mut firsts = Vec::new();
        let seconds = self.times(|run| {
            let (first, began) = (start(&self.kernels, &self.gpu, run)?, Instant::now());
            let second = start(&others, second, run + 77)?;
            let own = thread::spawn(move || first.wait().map(|()| rate(began)));
            second.wait()?;
            let other = rate(began);
            firsts.push(own.join().expect("it does not panic")?);
            Ok(other)
        })?;
        self.kernels.confirm("the first of two GPUs")?;
        others.confirm("the second of two GPUs")?;
        table.add("GPU 0 of two, together", "GB/s", firsts, "");
        table.add("GPU 1 of two, together", "GB/s", seconds, "");
        Ok(())
    }

    /// A large file of zeros, which takes no room on the disk: pinned, read once, and given back.
    pub(crate) fn large(&self, path: &Path, bytes: u64, table: &mut Table) -> Result<(), Error> {
        let file = File::create(path).and_then(|file| {
            file.set_len(bytes)?;
            File::open(path)
        });
        let file = file.map_err(|reason| failure(path, reason))?;
        let removed = std::fs::remove_file(path);
        removed.map_err(|reason| failure(path, reason))?;
        drop(View::prepare(&file, 0..bytes)?.pin(&self.gpu)?);
        let mut ends = Vec::new();
        let begins = self.times(|_| {
            let began = Instant::now();
            let view = View::new(&self.gpu, &file, 0..bytes)?;
            let begin = seconds(began);
            let args = Args {
                view: view.device_view(&self.gpu)?,
                factor: 0,
                ..self.kernels.args()
            };
            self.kernels
                .launch(&self.kernels.whole, (528, 256), &args, view.clone())?
                .wait()?;
            let began = Instant::now();
            drop(view);
            ends.push(seconds(began));
            Ok(begin)
        })?;
        self.kernels.confirm("the large file")?;
        table.add(
            format!("{} MiB resident, pinned", bytes >> 20),
            "s",
            begins,
            "",
        );
        table.add(format!("{} MiB given back", bytes >> 20), "s", ends, "");
        Ok(())
    }
}

/// The output function of `SplitMix64`.
pub(crate) fn mix(z: u64) -> u64 {
    let z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
