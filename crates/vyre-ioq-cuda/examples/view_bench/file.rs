//! The file that is read, in which each word says where it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// Word number I of the file is I times this, modulo 2^32.
pub(crate) const FACTOR: u32 = 2_654_435_761;

const PIECE: usize = 8 << 20;

/// Makes a file of stamped words, and waits until the disk has it.
pub(crate) fn make(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(bytes)?;
    let next = AtomicU64::new(0);
    let write = || {
        let mut piece = vec![0_u8; PIECE];
        loop {
            let offset = next.fetch_add(PIECE as u64, Relaxed);
            if offset >= bytes {
                return Ok(());
            }
            for (index, word) in (offset / 4..).zip(piece.chunks_exact_mut(4)) {
                word.copy_from_slice(&(index as u32).wrapping_mul(FACTOR).to_le_bytes());
            }
            let len = PIECE.min((bytes - offset) as usize);
            file.write_all_at(&piece[..len], offset)?;
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads).map(|_| scope.spawn(write)).collect();
        let mut ended = writers.into_iter().map(thread::ScopedJoinHandle::join);
        ended.try_for_each(|ended| {
            ended.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })?;
    file.sync_all()
}

/// Reads all of a file once, so that it is in the page cache.
pub(crate) fn read_all(file: &File) -> io::Result<u64> {
    let mut piece = vec![0_u8; PIECE];
    let mut offset = 0;
    loop {
        match file.read_at(&mut piece, offset)? {
            0 => return Ok(offset),
            count => offset += count as u64,
        }
    }
}
