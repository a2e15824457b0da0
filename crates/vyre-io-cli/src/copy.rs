//! `vyre-io copy`: the bytes go through the queue, unless they are few: see `plain`.

mod blocks;
mod cuda;
mod destination;
mod directory;
mod driver;
mod interrupt;
pub(crate) mod kernel;
mod lanes;
mod leftovers;
mod pieces;
mod plain;
mod progress;
mod replaced;
mod source;

use std::io::{self, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use rustix::fs::Advice;
use vyre_io::{
    Buffer, BufferTable, DeviceQueue, Features, FileTable, IoLoop, LoopOptions, Queue, QueueLayout,
    Request, Rights, WaitPolicy,
};

use crate::args::{CopyArgs, DeviceArg};
use crate::failure::Failure;
use crate::name::Shown;
use crate::signals::say;
use blocks::Blocks;
use cuda::GpuLanes;
use destination::{Destination, Durable};
use driver::Driver;
use kernel::Copier;
use lanes::{Job, Lane, Paths};
use pieces::Pieces;
use progress::Phase;
use source::{Source, Watched};

/// Slots of the queue, unless there are more lanes.
const SLOTS: u32 = 64;
/// Maximum number of lanes that verify a copy made by a GPU, which may have more lanes than a CPU
/// can run.
const VERIFIERS: u32 = 6;
/// Maximum number of threads that compare hashes.
const HASHERS: u32 = 4;
/// The loop sleeps early, since completions and the drivers wake it. While it polls, on few cores, it would take time
/// from the kernel's workers and from the drivers.
const WAIT_POLICY: WaitPolicy = WaitPolicy::DOORBELL;
/// For direct I/O, which needs few workers and waits for the drive: short sleeps cost more of the processor, and answer
/// sooner. For lanes of a GPU, which cannot wake the loop.
const SHORT_SLEEPS: WaitPolicy = WaitPolicy::adaptive(100, Duration::from_micros(100));

pub(crate) fn run(args: &CopyArgs) -> Result<(), Failure> {
    let started = Instant::now();
    refuse_streams(args)?;
    let source = Source::open(&args.src, args.direct)?;
    let copier = match args.device {
        DeviceArg::Threads => None,
        DeviceArg::Cuda(ordinal) => Some(cuda::open(ordinal)?),
    };
    let mut destination = Destination::create(args, &source)?;
    let size = block_size(args, &source);
    let blocks = match source.len() {
        Some(len) => {
            let granularity = source.opened.granularity().max(destination.granularity());
            let blocks = Blocks::new(len, size, granularity)?;
            destination.reserve(len)?;
            blocks
        }
        None => {
            destination.buffer()?;
            Blocks::unknown(size)?
        }
    };

    let (copied, transport) = if plain::suits(args, &source) {
        let copied = plain::copy(args, source, &destination, blocks.len())?;
        (copied, plain::NAME.to_owned())
    } else {
        let stack = Stack::start(args, source, &destination, blocks, copier)?;
        let copied = stack
            .copy(args, &destination)
            .map_err(|failure| stack.explain(failure))?;
        let transport = stack.io.report().summary();
        stack.io.stop()?;
        (copied, transport)
    };
    if !args.no_sync {
        destination.prepare_sync_of_name();
    }
    destination.publish()?;
    if !args.no_sync
        && let Durable::Unsupported(error) = destination.sync_name()?
    {
        say!(
            "vyre-io: warning: {} is complete, but its file system cannot sync directories ({error}): \
                 after a power failure its name may be missing",
            Shown(destination.path())
        );
    }
    report(args, copied, &transport, started.elapsed());
    Ok(())
}

fn block_size(args: &CopyArgs, source: &Source) -> u64 {
    if let Some(size) = args.block_size {
        return size.0;
    }
    let may_be_small = matches!(args.device, DeviceArg::Threads) && !args.direct;
    blocks::size_for(source.data().filter(|_| may_be_small))
}

fn refuse_streams(args: &CopyArgs) -> Result<(), Failure> {
    if [&args.src, &args.dst]
        .iter()
        .any(|path| path.as_os_str() == "-")
    {
        return Err(Failure::Usage(
            "`-` is no file here: standard input and output cannot be copied, as requests name offsets; \
             use `cat`, or `./-` for a file of that name"
                .into(),
        ));
    }
    Ok(())
}

/// The queue, the loop that serves it, and what the lanes need.
struct Stack {
    io: IoLoop,
    device: DeviceQueue,
    job: Job,
    /// Descriptor of the source if only its data is copied and its holes are not.
    sparse: Option<OwnedFd>,
    /// Set if the length of the source is known.
    sized: bool,
    source: Watched,
    /// Lanes on a GPU, with a queue of their own, that copy in place of threads.
    gpu: Option<GpuLanes>,
}

impl Stack {
    fn start(
        args: &CopyArgs,
        source: Source,
        destination: &Destination,
        blocks: Blocks,
        copier: Option<Copier>,
    ) -> Result<Self, Failure> {
        let sized = source.len().is_some();
        let sparse = match source.may_have_holes() {
            true => Some(source.duplicate()?),
            false => None,
        };
        let (source, watched) = source.split()?;
        let lanes = args.lanes.get();
        let slots = args.slots.map_or_else(
            || lanes.clamp(SLOTS, vyre_io::ioq::abi::MAX_SLOTS),
            NonZero::get,
        );
        let copier = copier.filter(|_| sized);
        let (policy, features) = match args.direct || copier.is_some() {
            true => (SHORT_SLEEPS, Features::empty()),
            false => (WAIT_POLICY, Features::DOORBELL),
        };
        let layout = QueueLayout::with_slots(slots).with_features(features);
        let (host, device) = Queue::anonymous(layout)?;

        // More lanes than blocks would only wait for each other.
        let lanes = u64::from(lanes.min(slots)).min(blocks.count()).max(1);
        let mut builder = IoLoop::builder().queue(host);
        // What ends only a read tells is copied by one lane.
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
        let io = builder
            .options(
                LoopOptions::new()
                    .wait_policy(policy)
                    .transport(args.transport.into()),
            )
            .files(files)
            .buffers(buffers)
            .spawn()?;
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
            write_granularity: destination.granularity() as u32,
        };
        Ok(Self {
            io,
            device,
            job,
            sparse,
            sized,
            source: watched,
            gpu,
        })
    }

    /// Copies the source. Returns the number of bytes.
    fn copy(&self, args: &CopyArgs, destination: &Destination) -> Result<u64, Failure> {
        let paths = Paths {
            from: &args.src,
            to: &args.dst,
        };
        let (len, hash) = if self.sized {
            self.copy_blocks(paths, destination)?;
            (self.job.blocks.len(), None)
        } else {
            let phase = Phase::new("copy", None);
            let (len, hash) = self.alone(&phase, async |lane| lane.copy_to_the_end(paths).await)?;
            (len, Some(hash))
        };
        destination.trim(len)?;
        if !args.no_sync {
            let _phase = Phase::waiting("sync");
            match &self.gpu {
                Some(gpu) => gpu.sync(&self.job, paths)?,
                None => self.ask(Request::sync(self.job.to), "sync", &args.dst)?,
            }
        }
        if args.verify {
            // What is on stable storage is read from there, not from the cache. Only a hint.
            let _ = rustix::fs::fadvise(destination.as_fd(), 0, None, Advice::DontNeed);
            let phase = Phase::new("verify", Some(len));
            match hash {
                None => {
                    let pieces = self.pieces(Some(destination))?;
                    let cores = thread::available_parallelism().map_or(1, NonZero::get);
                    let threads = HASHERS.min(cores as u32).min(self.job.lanes);
                    self.job
                        .run(&self.device, threads, &phase, &pieces, async |lane| {
                            lane.verify(paths).await
                        })?;
                }
                // Another read of such a source may give other bytes.
                Some(hash) => {
                    self.alone(&phase, async |lane| {
                        lane.verify_copy(len, hash, paths).await
                    })?;
                }
            }
        }
        self.source.check(len)?;
        Ok(len)
    }

    fn copy_blocks(&self, paths: Paths<'_>, destination: &Destination) -> Result<(), Failure> {
        let phase = Phase::new("copy", Some(self.job.blocks.len()));
        let pieces = self.pieces(None)?;
        match &self.gpu {
            Some(gpu) => {
                gpu.copy(&self.job, paths, &phase)?;
                for (offset, len) in pieces.holes() {
                    destination.punch(offset, len);
                }
                Ok(())
            }
            // One thread is enough: the kernel moves the bytes.
            None => self
                .job
                .run(&self.device, 1, &phase, &pieces, async |lane| {
                    lane.copy(paths).await
                }),
        }
    }

    /// Returns the pieces to copy or to compare: everything that is not a hole in both files.
    fn pieces(&self, copy: Option<&Destination>) -> Result<Pieces, Failure> {
        let mut files = Vec::new();
        if let Some(sparse) = &self.sparse {
            let source = sparse.try_clone();
            files.push(source.map_err(|error| Failure::file("open", &self.source.path, error))?);
            if let Some(copy) = copy {
                files.push(copy.duplicate()?);
            }
        }
        Ok(Pieces::new(self.job.blocks, files))
    }

    /// Runs `work` in one lane.
    fn alone<T>(
        &self,
        phase: &Phase,
        work: impl AsyncFnOnce(&Lane<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.job.run_alone(&self.device, phase, work)
    }

    /// Replaces the error of a source that ended early by a more precise one, where the cause can
    /// be found.
    fn explain(&self, failure: Failure) -> Failure {
        let failure = match (&self.gpu, failure) {
            // Lanes on the GPU do not ask for the rest, which may be what cannot be read.
            (
                Some(_),
                Failure::SourceChanged {
                    path,
                    offset,
                    expected,
                    found,
                },
            ) => self
                .alone(&Phase::hidden(), async |lane| {
                    lane.read_again(offset, expected, &path).await
                })
                .err()
                .unwrap_or(Failure::SourceChanged {
                    path,
                    offset,
                    expected,
                    found,
                }),
            (_, failure) => failure,
        };
        self.source.explain(failure)
    }

    fn ask(&self, request: Request, what: &'static str, path: &Path) -> Result<(), Failure> {
        let driver = Driver::new(&self.device);
        let outcome = driver.run(driver.ask(request))?;
        outcome
            .bytes()
            .map_err(|errno| Failure::request(what, path, errno))?;
        Ok(())
    }
}

/// Reports the copy. A failure to print is not a failure of the copy, since DST is complete.
fn report(args: &CopyArgs, bytes: u64, transport: &str, took: Duration) {
    let seconds = took.as_secs_f64().max(1e-9);
    let verified = if args.verify { ", verified" } else { "" };
    let synced = if args.no_sync { ", not synced" } else { "" };
    let mut out = io::stdout().lock();
    let written = writeln!(
        out,
        "{} -> {}: {bytes} {} in {seconds:.3} s ({}/s){verified}{synced}, by {transport}",
        Shown(&args.src),
        Shown(&args.dst),
        if bytes == 1 { "byte" } else { "bytes" },
        HumanBytes((bytes as f64 / seconds) as u64),
    )
    .and_then(|()| out.flush());
    match written {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => say!(
            "vyre-io: warning: {} is complete, but standard output cannot be written: {error}",
            Shown(&args.dst)
        ),
        Ok(()) => {}
    }
}
