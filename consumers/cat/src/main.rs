//! Prints a range of a file, several reads at a time: `consumer-cat FILE OFFSET LENGTH`.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use vyre_uring::{Buffer, BufferSlot, Errno, FileSlot, Operation, Ring};

const FILE: FileSlot = FileSlot::new(0);
const BUFFER: BufferSlot = BufferSlot::new(0);
/// Bytes of a read, and reads at a time.
const BLOCK: u64 = 4096;
const DEPTH: u64 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, offset, length] = &arguments[..] else {
        return Err("usage: consumer-cat FILE OFFSET LENGTH".into());
    };
    let (start, length): (u64, u64) = (offset.parse()?, length.parse()?);

    let memory = Buffer::anonymous((BLOCK * DEPTH) as usize)?;
    let mut ring = Ring::builder().entries(DEPTH as u32).build()?;
    ring.set_file(FILE, Some(Arc::new(File::open(path)?.into())))?;
    ring.set_buffer(BUFFER, Some(memory.clone()))?;

    let mut done = 0;
    while done < length {
        let batch = (length - done).min(BLOCK * DEPTH);
        let moved = read(&mut ring, start + done, batch)?;
        let mut bytes = vec![0; moved as usize];
        memory.read_at(0, &mut bytes)?;
        io::stdout().write_all(&bytes)?;
        done += moved;
        if moved < batch {
            break; // The end of the file.
        }
    }
    Ok(())
}

/// Fills the buffer with up to `length` bytes from `start` on; how many there were.
fn read(ring: &mut Ring, start: u64, length: u64) -> Result<u64, Box<dyn Error>> {
    // For each block: the bytes that have arrived, and whether more may come.
    let mut blocks = vec![(0, true); length.div_ceil(BLOCK) as usize];
    while blocks.iter().any(|(_, open)| *open) {
        for (block, (arrived, _)) in (0..).zip(&blocks).filter(|(_, (_, open))| *open) {
            let at = block * BLOCK + arrived;
            let read = Operation::Read {
                file: FILE,
                offset: start + at,
                buffer: BUFFER,
                buffer_offset: at,
                len: (length.min((block + 1) * BLOCK) - at) as u32,
            };
            ring.push(read, block)?;
        }
        let mut failed = None;
        while ring.in_flight() > 0 {
            ring.wait(None)?;
            ring.reap(|completion| {
                let (arrived, open) = &mut blocks[completion.user as usize];
                match completion.result {
                    // Short transfers are ours to resume.
                    Ok(0) => *open = false,
                    Ok(count) => *arrived += u64::from(count),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(errno) => failed = Some(errno),
                }
                let end = length.min((completion.user + 1) * BLOCK);
                *open &= completion.user * BLOCK + *arrived < end;
            });
        }
        if let Some(errno) = failed {
            return Err(errno.into());
        }
    }
    Ok(blocks.iter().map(|(arrived, _)| arrived).sum())
}
