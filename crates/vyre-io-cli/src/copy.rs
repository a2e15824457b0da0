//! `vyre-io copy`: every byte goes through the queue.

mod cuda;
mod destination;
mod lanes;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use rustix::fs::{Advice, OFlags};
use vyre_io::{
    Buffer, BufferTable, DeviceQueue, FileTable, IoLoop, Queue, QueueLayout, Request, Rights,
};
use vyre_ioq_cuda::copy::Copier;

use crate::args::{CopyArgs, DeviceArg};
use crate::failure::Failure;
use crate::stack::{self, Opened};
use cuda::GpuLanes;
use destination::Destination;
use lanes::{Blocks, Job, Paths};

/// Slots of the queue, unless there are more lanes.
const SLOTS: u32 = 64;
/// Most threads that verify what a GPU copied: its lanes may be more than a CPU has room for.
const VERIFIERS: u32 = 6;

pub(crate) fn run(args: &CopyArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let source = open_source(args)?;
    let copier = match args.device {
        DeviceArg::Threads => None,
        DeviceArg::Cuda(ordinal) => Some(cuda::open(ordinal)?),
    };
    let mut destination = Destination::create(&args.src, &source.fd, &args.dst, args.direct)?;
    let blocks = Blocks::new(
        source.len(&args.src)?,
        args.block_size.0,
        source.granularity().max(destination.granularity()),
    )?;
    destination.reserve(blocks.len())?;

    let mut stack = Stack::start(args, source, &destination, blocks, copier)?;
    let progress = progress(blocks.len(), args.verify);
    let copied = stack.copy(args, &destination, &progress);
    progress.finish_and_clear();
    copied?;
    stack.io.stop()?;
    destination.publish(!args.no_sync)?;
    report(args, blocks.len(), started.elapsed());
    Ok(())
}

fn open_source(args: &CopyArgs) -> Result<Opened, Failure> {
    // Without O_NONBLOCK, opening a pipe would wait for its writer only to refuse it.
    let source = stack::open(&args.src, OFlags::RDONLY | OFlags::NONBLOCK, args.direct)?;
    let kind = source
        .fd
        .try_clone()
        .and_then(|fd| File::from(fd).metadata())
        .map_err(|error| Failure::file("examine", &args.src, error))?
        .file_type();
    if kind.is_file() || kind.is_block_device() {
        Ok(source)
    } else {
        Err(Failure::NotAFile(args.src.clone()))
    }
}

/// The queue, the loop that serves it, and what the lanes need.
struct Stack {
    io: IoLoop,
    device: DeviceQueue,
    job: Job,
    /// Those that copy in place of threads, with a queue of their own.
    gpu: Option<GpuLanes>,
}

impl Stack {
    fn start(
        args: &CopyArgs,
        source: Opened,
        destination: &Destination,
        blocks: Blocks,
        copier: Option<Copier>,
    ) -> Result<Self, Failure> {
        let lanes = args.lanes.get();
        let slots = args
            .slots
            .map_or_else(|| SLOTS.max(lanes), std::num::NonZero::get);
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(slots))?;

        // More lanes than blocks would only wait for each other.
        let lanes = u64::from(lanes.min(slots)).min(blocks.count()).max(1);
        let mut builder = IoLoop::builder().queue(host);
        let (buffer, gpu) = match copier {
            None => (Buffer::anonymous((lanes * blocks.size()) as usize)?, None),
            Some(copier) => {
                let (host, gpu) = GpuLanes::new(copier, slots, lanes as u32, blocks)?;
                builder = builder.queue(host);
                (gpu.room().buffer(), Some(gpu))
            }
        };
        let mut buffers = BufferTable::new();
        let pool = buffers.insert(buffer.clone())?;

        let mut files = FileTable::new();
        let from = files.insert(source.fd, Rights::READ)?;
        let to = files.insert(
            destination.duplicate()?,
            Rights::READ | Rights::WRITE | Rights::SYNC,
        )?;
        let io = builder.files(files).buffers(buffers).spawn()?;
        let job = Job {
            from,
            to,
            pool,
            buffer,
            blocks,
            lanes: match gpu {
                None => lanes as u32,
                Some(_) => VERIFIERS.min(lanes as u32),
            },
        };
        Ok(Self {
            io,
            device,
            job,
            gpu,
        })
    }

    fn copy(
        &mut self,
        args: &CopyArgs,
        destination: &Destination,
        progress: &ProgressBar,
    ) -> Result<(), Failure> {
        let paths = Paths {
            from: &args.src,
            to: &args.dst,
        };
        match &self.gpu {
            Some(gpu) => gpu.copy(&self.job, paths, progress)?,
            None => {
                self.job
                    .run(&self.device, progress, |lane| lane.copy(paths))?;
                self.ask(Request::fence(), "order the writes to", &args.dst)?;
            }
        }
        destination.trim(self.job.blocks.len())?;
        if !args.no_sync {
            match &self.gpu {
                Some(gpu) => gpu.sync(&self.job, paths)?,
                None => self.ask(Request::sync(self.job.to), "sync", &args.dst)?,
            }
        }
        if args.verify {
            // What is on stable storage is read from there, not from the cache. Only a hint.
            let _ = rustix::fs::fadvise(destination.as_fd(), 0, None, Advice::DontNeed);
            self.job
                .run(&self.device, progress, |lane| lane.verify(paths))?;
        }
        Ok(())
    }

    fn ask(&self, request: Request, what: &'static str, path: &Path) -> Result<(), Failure> {
        let ticket = self.device.submit(request)?;
        let outcome = lanes::wait(&self.device, ticket)?;
        outcome
            .bytes()
            .map_err(|errno| Failure::request(what, path, errno))?;
        Ok(())
    }
}

fn progress(bytes: u64, verify: bool) -> ProgressBar {
    let bar = ProgressBar::new(if verify { 2 * bytes } else { bytes });
    // indicatif draws on standard error, and only if that is a terminal.
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:40} {binary_bytes:>11} of {binary_total_bytes} {binary_bytes_per_sec:>13} {eta:>5}",
    ) {
        bar.set_style(style);
    }
    bar
}

fn report(args: &CopyArgs, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64().max(1e-9);
    let verified = if args.verify { ", verified" } else { "" };
    let synced = if args.no_sync { ", not synced" } else { "" };
    println!(
        "{} -> {}: {bytes} bytes in {seconds:.3} s ({}/s){verified}{synced}",
        args.src.display(),
        args.dst.display(),
        HumanBytes((bytes as f64 / seconds) as u64),
    );
}
