//! The baseline for lanes on a GPU: threads that serve the same queues by copies out of a mapping whose
//! pages are all there. They have no tables, no rights, no order and no counters, and believe what the
//! lanes ask for as far as the file and the buffer reach. It is the best that a host can do with copies.

#![expect(
    unsafe_code,
    reason = "the baseline copies straight into the memory of the lanes"
)]

use std::hint;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use vyre_io::ioq::{Errno, LoopState, abi::SlotImage};
use vyre_io::mapped::{Mapping, Recovery};
use vyre_io::{Buffer, BufferHandle, FileHandle, HostQueue};
use vyre_io_cli::measure::cores::pin;

use super::loops::Handles;
use super::plan::Plan;
use super::target::Target;
use crate::failure::Failure;

/// Bytes of the next block that are prefetched during a copy, as many as the loop prefetches.
const PREFETCH: u64 = 1024;

/// Reads ahead of a copy of which a line is prefetched, as many as in the loop.
const LOOK_AHEAD: usize = 4;

/// Threads that serve queues until they are told to stop.
pub(super) struct BareServers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A claimed read.
#[derive(Clone, Copy)]
struct Read {
    slot: u32,
    offset: u64,
    place: u64,
    count: u32,
}

impl Read {
    fn of(slot: u32, image: &SlotImage) -> Self {
        let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        Self {
            slot,
            offset: wide(image.file_offset_low, image.file_offset_high),
            place: wide(image.buffer_offset_low, image.buffer_offset_high),
            count: image.count,
        }
    }
}

impl BareServers {
    /// Starts as many threads as there would be loops, on the same cores, each with its share of the queues.
    pub(super) fn start(
        plan: &Plan,
        target: &Target,
        buffer: &Buffer,
        queues: Vec<HostQueue>,
    ) -> Result<Self, Failure> {
        let mapping = Arc::new(target.map()?);
        let stop = Arc::new(AtomicBool::new(false));
        let loops = plan.loops() as usize;
        let mut shares: Vec<Vec<HostQueue>> = (0..loops).map(|_| Vec::new()).collect();
        for (nth, queue) in queues.into_iter().enumerate() {
            shares[nth % loops].push(queue);
        }
        let start = |(nth, queues)| {
            let (mapping, stop, buffer) = (mapping.clone(), stop.clone(), buffer.clone());
            let core = plan.loop_cores().map(|cores| cores[nth]);
            thread::spawn(move || {
                pin(core);
                if let Ok(recovery) = Recovery::new() {
                    serve(queues, &mapping, &recovery, &buffer, &stop);
                }
            })
        };
        let threads = shares.into_iter().enumerate().map(start).collect();
        Ok(Self { stop, threads })
    }

    /// Returns handles for the lanes. The servers do not look at them.
    pub(super) const fn handles(&self) -> Handles {
        Handles {
            file: Some(FileHandle::from_raw(0)),
            pool: BufferHandle::from_raw(0),
        }
    }
}

impl Drop for BareServers {
    fn drop(&mut self) {
        // Relaxed: the flag alone is passed.
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut queues: Vec<HostQueue>,
    mapping: &Mapping,
    recovery: &Recovery,
    buffer: &Buffer,
    stop: &AtomicBool,
) {
    for queue in &mut queues {
        queue.set_state(LoopState::Running);
    }
    let mut reads = Vec::new();
    // Relaxed: as in `drop`.
    while !stop.load(Ordering::Relaxed) {
        let mut found = 0;
        for queue in &mut queues {
            found += queue.claim_published(0..u32::MAX, |claim| {
                reads.push(Read::of(claim.slot, &claim.image));
            });
            for (nth, read) in reads.iter().enumerate() {
                if let Some(next) = reads.get(nth + 1) {
                    mapping.prefetch(next.offset..next.offset.saturating_add(PREFETCH));
                }
                if let Some(later) = reads.get(nth + LOOK_AHEAD) {
                    mapping.prefetch(later.offset..later.offset.saturating_add(1));
                }
                let copied = copy(read, mapping, recovery, buffer);
                let completed = queue.complete(read.slot, copied);
                debug_assert!(completed.is_ok(), "it was claimed: {completed:?}");
            }
            reads.clear();
        }
        if found == 0 {
            hint::spin_loop();
        }
    }
}

#[inline]
fn copy(
    read: &Read,
    mapping: &Mapping,
    recovery: &Recovery,
    buffer: &Buffer,
) -> Result<u32, Errno> {
    let end = read.offset.checked_add(read.count.into());
    let (Some(end), Some(place_end)) = (end, read.place.checked_add(read.count.into())) else {
        return Err(Errno::EINVAL);
    };
    if place_end > buffer.len() as u64 {
        return Err(Errno::EINVAL);
    }
    let place = buffer.as_ptr().wrapping_add(read.place as usize);
    let place = NonNull::new(place).ok_or(Errno::EINVAL)?;
    // SAFETY: the place was just seen to be inside the buffer, which is borrowed. This process touches it
    // by atomic operations alone: see `Buffer`.
    let copied = unsafe { mapping.copy_to_ptr(recovery, read.offset..end, place) };
    copied.map(|_| read.count).map_err(|_| Errno::EIO)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use vyre_io::{Queue, QueueLayout, Request};

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn lanes_get_the_bytes_that_they_ask_for() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..20_000_u32).map(|at| (at / 7) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let line = ["vyre-io", "bench", "--page-cache", "--file"].map(Into::into);
        let args = Args::parse_from(line.into_iter().chain([path.into_os_string()]));
        let Command::Bench(args) = args.command else {
            unreachable!("bench was asked for")
        };
        let plan = Plan::new(&args).unwrap();
        let target = Target::open(&args, &plan).unwrap().unwrap();
        let buffer = Buffer::anonymous(8192).unwrap();
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
        let servers = BareServers::start(&plan, &target, &buffer, vec![host]).unwrap();
        let Handles { file, pool } = servers.handles();
        let read = |offset, count, place| {
            let read = Request::read(file.unwrap(), offset, count).into_buffer(pool, place);
            let ticket = device.submit(read).unwrap();
            device.wait(ticket).unwrap().bytes()
        };
        assert_eq!(read(12_345, 4096, 4096), Ok(4096));
        let mut got = vec![0; 4096];
        buffer.read_at(4096, &mut got).unwrap();
        assert_eq!(got, bytes[12_345..][..4096]);
        assert_eq!(read(0, 4096, 4097), Err(Errno::EINVAL), "past the buffer");
        assert_eq!(read(20_000, 4096, 0), Err(Errno::EIO), "past the mapping");
    }
}
