//! Reads and writes of memory of a GPU, by threads with pinned memory of their own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::Python;
use vyre_io::Errno;
use vyre_io::cuda::view::{self, LoadOptions, ViewError};
use vyre_io::cuda::{BounceBuffer, BounceError};

use crate::batch::Batch;
use crate::fork;
use crate::gpu_memory::GpuSpan;
use crate::op::Kind;
use crate::open_file::OpenFile;

/// The threads. Each copies some 6 GB/s of cached bytes.
const THREADS: usize = 4;
/// The bytes from which a read pins the pages of the file, which begins later and is faster.
const PINNED_FROM: usize = 32 << 20;

/// An operation on memory of a GPU.
#[derive(Debug)]
pub(crate) struct GpuOp {
    pub(crate) kind: Kind,
    pub(crate) file: Arc<OpenFile>,
    pub(crate) offset: u64,
    pub(crate) span: GpuSpan,
    pub(crate) batch: Arc<Batch>,
    pub(crate) index: usize,
}

/// The threads of a process, by its number of forks.
struct Pool {
    born: u32,
    work: Sender<GpuOp>,
}

/// Held by threads with the interpreter lock, as fork(2) is called: a child never finds it locked.
static POOL: Mutex<Option<Pool>> = Mutex::new(None);
/// Operations that have not ended.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// Has the threads perform operations.
pub(crate) fn submit(_: Python<'_>, ops: impl IntoIterator<Item = GpuOp>) {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let born = fork::generation();
    if pool.as_ref().is_none_or(|pool| pool.born != born) {
        // That of the parent of a fork is left to it.
        std::mem::forget(pool.replace(start(born)));
        // Relaxed: a count guards no other memory.
        LEFT.store(0, Relaxed);
    }
    for op in ops {
        LEFT.fetch_add(1, Relaxed);
        let pool = pool.as_ref().map(|pool| pool.work.send(op));
        if let Some(Err(refused)) = pool {
            // There is no thread.
            end(refused.0, Err(Errno::from_raw(libc::EAGAIN.unsigned_abs())));
        }
    }
}

/// Waits until all operations have ended, but not for long after `limit`.
pub(crate) fn drain(limit: Duration) {
    let began = Instant::now();
    // Relaxed: as in `submit`.
    while LEFT.load(Relaxed) > 0 && began.elapsed() < limit {
        thread::sleep(Duration::from_millis(1));
    }
}

fn start(born: u32) -> Pool {
    let (work, taken) = channel();
    let taken = Arc::new(Mutex::new(taken));
    for _ in 0..THREADS {
        let taken = Arc::clone(&taken);
        let thread = thread::Builder::new().name("vyre-gpu-io".to_owned());
        // One is enough.
        let _ = thread.spawn(move || run(&taken));
    }
    Pool { born, work }
}

fn run(taken: &Mutex<Receiver<GpuOp>>) {
    let mut bounces = HashMap::new();
    loop {
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(op) = taken else { return };
        let result = if op.batch.is_cancelled() {
            Err(Errno::ECANCELED)
        } else {
            perform(&op, &mut bounces)
        };
        end(op, result);
    }
}

fn end(op: GpuOp, result: Result<usize, Errno>) {
    let GpuOp {
        span, batch, index, ..
    } = op;
    // Before anybody learns of the end.
    drop(span);
    batch.end(index, result);
    // Relaxed: as in `submit`.
    LEFT.fetch_sub(1, Relaxed);
}

fn perform(op: &GpuOp, bounces: &mut HashMap<u32, BounceBuffer>) -> Result<usize, Errno> {
    let (gpu, memory, range) = (&op.span.gpu, &op.span.memory, &op.span.range);
    let file = &op.file.file;
    if op.kind == Kind::Read && range.len() >= PINNED_FROM {
        let size = file.metadata().map_err(|error| errno_of(&error))?.len();
        let end = op.offset.saturating_add(range.len() as u64).min(size);
        if end > op.offset {
            let options = LoadOptions::default();
            let loaded = view::load(gpu, file, op.offset..end, memory, range.start, options);
            return match loaded {
                Ok(_) => Ok((end - op.offset) as usize),
                Err(ViewError::Cuda(_)) => Err(Errno::EIO),
                // It became shorter meanwhile, or cannot be read: that says what.
                Err(_) => bounce(op, bounces),
            };
        }
    }
    bounce(op, bounces)
}

fn bounce(op: &GpuOp, bounces: &mut HashMap<u32, BounceBuffer>) -> Result<usize, Errno> {
    let (gpu, memory, range) = (&op.span.gpu, &op.span.memory, &op.span.range);
    let made = || BounceBuffer::new(gpu).map_err(|_| Errno::from_raw(libc::ENOMEM.unsigned_abs()));
    let mut own;
    let bounce = match op.span.ordinal.map(|ordinal| bounces.entry(ordinal)) {
        Some(Entry::Occupied(known)) => known.into_mut(),
        Some(Entry::Vacant(place)) => place.insert(made()?),
        None => {
            own = made()?;
            &mut own
        }
    };
    let (at, len) = (range.start, range.len());
    let moved = match op.kind {
        Kind::Read => bounce.read(&op.file.file, op.offset, memory, at, len),
        Kind::Write | Kind::Sync => bounce.write(&op.file.file, op.offset, memory, at, len),
    };
    moved.map_err(|error| match error {
        BounceError::File(error) => errno_of(&error),
        BounceError::Offset => Errno::from_raw(libc::EINVAL.unsigned_abs()),
        _ => Errno::EIO,
    })
}

fn errno_of(error: &std::io::Error) -> Errno {
    let errno = error.raw_os_error();
    errno.map_or(Errno::EIO, |errno| Errno::from_raw(errno.unsigned_abs()))
}
