//! Hosts the loop of vyre-runtime 0.7.2 for `cargo xtask compare`, which is its device. Arguments: the paths of
//! the file, of the memory of the slots and of the buffer, the number of slots, the size of a block, and the
//! loop's core. Slot N reads into block N of the buffer. Writes `serving` and the file's descriptor, and ends
//! with its standard input.

#![expect(
    unsafe_code,
    reason = "the original takes memory that other processes change"
)]

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU32;

use memmap2::MmapOptions;
use rustix::thread::{CpuSet, sched_setaffinity};
use vyre_runtime::uring::{
    AsyncUringStream, GpuMappedBuffer, IoUringState, Iovec, RegisteredIoDestination, ResidentIoLoop,
};

/// Bytes of a slot.
const SLOT: usize = 32;
/// Entries of the ring. Fewer than requests at a time end the loop.
const ENTRIES: u32 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (names, core) = match &arguments[..] {
        [names @ .., core] if arguments.len() == 6 => (names, Some(core.parse()?)),
        names => (names, None),
    };
    let [file, slots, buffer, count, size] = names else {
        return Err("usage: consumer-original FILE SLOTS BUFFER COUNT SIZE [CORE]".into());
    };
    let (count, size): (u32, u64) = (count.parse()?, size.parse()?);
    let file = File::open(file)?;
    let (slots, buffer) = (map(slots)?, map(buffer)?);
    // The memory is whole pages, and the original takes all that it is given for slots.
    let slots = &mut slots[..count as usize * SLOT];

    // The loop's thread inherits the core.
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set)?;
    }
    let ring = IoUringState::new(ENTRIES)?;
    ring.register_buffers(&[Iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    }])?;
    let destinations = (0..count).map(|handle| RegisteredIoDestination {
        handle,
        buf_index: 0,
        target_offset: u64::from(handle) * size,
    });
    // SAFETY: the mapping is never removed, and in this process only the kernel accesses it.
    let buffer = unsafe { GpuMappedBuffer::from_host_visible_slice(buffer) };
    let tail = Box::leak(Box::new(AtomicU32::new(0)));
    let stream = AsyncUringStream::new(ring, buffer, tail);
    let mut host =
        ResidentIoLoop::spawn_with_registered_destinations(stream, slots, destinations.collect());

    let mut out = io::stdout();
    writeln!(out, "serving {}", file.as_raw_fd())?;
    out.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(host.stop()?)
}

/// Maps shared memory for the life of the process.
fn map(path: &str) -> io::Result<&'static mut [u8]> {
    let memory = File::options().read(true).write(true).open(path)?;
    // SAFETY: the memory cannot shrink. Another process changes it: the original wants an exclusive
    // reference all the same, and it is the original that is measured.
    let mapping = unsafe { MmapOptions::new().map_mut(&memory) }?;
    Ok(&mut Box::leak(Box::new(mapping))[..])
}
