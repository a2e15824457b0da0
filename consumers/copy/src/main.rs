//! Copies a range of a file through a loop: `consumer-copy SOURCE OFFSET LENGTH TARGET`. What is
//! copied goes to the start of the target, and is on stable storage at the end.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::fs::File;

use vyre_io::{
    Buffer, BufferTable, DeviceQueue, FileTable, IoLoop, Queue, QueueLayout, Request, Rights,
};

/// Bytes of a request, and requests at a time.
const BLOCK: u32 = 16 << 10;
const LANES: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [source, offset, length, target] = &arguments[..] else {
        return Err("usage: consumer-copy SOURCE OFFSET LENGTH TARGET".into());
    };
    let (offset, length): (u64, u64) = (offset.parse()?, length.parse()?);

    let mut files = FileTable::new();
    // The device can read this range of the source and no other byte.
    let from = files.insert_range(File::open(source)?, offset..offset + length, Rights::READ)?;
    let to = files.insert(File::create(target)?, Rights::WRITE | Rights::SYNC)?;
    let mut buffers = BufferTable::new();
    let pool = buffers.insert(Buffer::anonymous((BLOCK * LANES) as usize)?)?;
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(LANES))?;
    let io = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        .queue(host)
        .spawn()?;

    let copied = copy(&device, length, |slot, at, count| {
        let place = u64::from(slot * BLOCK);
        let read = Request::read(from, at, count).into_buffer(pool, place);
        let write = move |count| {
            Request::write(to, at, count)
                .from_buffer(pool, place)
                .exact()
        };
        (read, write)
    })?;
    let synced = device.submit(Request::sync(to))?;
    device.wait(synced)?.bytes()?;
    io.stop()?;
    println!("{copied} bytes");
    Ok(())
}

/// Has each slot read a block and write it again; how many bytes there were.
fn copy<W: Fn(u32) -> Request>(
    device: &DeviceQueue,
    length: u64,
    requests: impl Fn(u32, u64, u32) -> (Request, W),
) -> Result<u64, Box<dyn Error>> {
    let mut reads = VecDeque::new();
    let (mut begun, mut copied) = (0, 0);
    loop {
        while begun < length && reads.len() < LANES as usize {
            let count = u64::from(BLOCK).min(length - begun);
            let reservation = device.reserve()?;
            let (read, write) = requests(reservation.slot(), begun, count as u32);
            reads.push_back((device.publish(reservation, &read), write));
            begun += count;
        }
        let Some((read, write)) = reads.pop_front() else {
            return Ok(copied);
        };
        let moved = device.wait(read)?.bytes()?;
        if moved > 0 {
            // The slot of the read is free, and its place in the buffer is still ours: nothing is
            // published before this write has ended.
            let written = device.submit(write(moved))?;
            copied += u64::from(device.wait(written)?.bytes()?);
        }
    }
}
