//! Serves slots by copies out of a mapping.
//!
//! The fastest of six ways to copy on epyc2 (2026-11-26, 4 KiB, depth 32, medians of four rounds in turns):
//! 1.98 M/s with both prefetches, 1.63 M/s without any, 1.5 M/s with one of the two, 1.35 to 1.53 M/s by
//! `rep movsb`. Blocks of 64 KiB and more took the same time in all of them.

#![expect(
    unsafe_code,
    reason = "the server copies without the checks that it is compared with"
)]

use std::ptr;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use vyre_io::Buffer;
use vyre_io_cli::measure::block_numbers::BlockNumbers;

use super::slots::Slots;
use super::until_stopped;

/// Bytes at the start of the next copy that are loaded into the processor's cache during a copy.
const PREFETCH: usize = 1024;
/// Bytes of a line of that cache.
const LINE: usize = 64;
/// Bytes that are copied at once: the processor does not look ahead beyond a page.
const PART: usize = 4096;
/// Copies between two readings of the clock.
const BATCH: u64 = 16;

pub(super) fn serve(mapping: &[u8], slots: &Slots, buffer: &Buffer, size: u32, stop: &AtomicBool) {
    let size = size as usize;
    let pass = || {
        // The next published slot is known before a copy begins.
        let find = |from| {
            (from..slots.count()).find_map(|slot| {
                let offset = slots.published(slot)?;
                Some((slot, &mapping[offset as usize..][..size]))
            })
        };
        let mut next = find(0);
        let found = next.is_some();
        while let Some((slot, block)) = next {
            next = find(slot + 1);
            if let Some((_, block)) = next {
                prefetch(block);
            }
            copy(block, buffer, slot);
            slots.complete(slot, true);
        }
        Ok(found)
    };
    let stopped = until_stopped(stop, pass);
    debug_assert!(stopped.is_ok(), "a copy does not fail");
}

/// Returns the bytes per second of copies of random blocks out of a mapping to the places of a buffer.
pub(super) fn copy_rate(mapping: &[u8], buffer: &Buffer, size: u32, time: Duration) -> f64 {
    let size = size as usize;
    let places = (buffer.len() / size) as u64;
    let mut numbers = BlockNumbers::new(0, (mapping.len() / size) as u64, true);
    let (started, mut done) = (Instant::now(), 0_u64);
    loop {
        for _ in 0..BATCH {
            let offset = numbers.draw() as usize * size;
            copy(&mapping[offset..][..size], buffer, (done % places) as u32);
            done += 1;
        }
        let elapsed = started.elapsed();
        if elapsed >= time {
            return (done * size as u64) as f64 / elapsed.as_secs_f64();
        }
    }
}

/// Copies a block to a place of the buffer, part by part. The start of the next part is prefetched.
#[inline]
fn copy(block: &[u8], buffer: &Buffer, place: u32) {
    let place = place as usize * block.len();
    assert!(place + block.len() <= buffer.len(), "a place of the buffer");
    let mut parts = block.chunks(PART).enumerate().peekable();
    while let Some((nth, part)) = parts.next() {
        if let Some((_, next)) = parts.peek() {
            prefetch(next);
        }
        let destination = buffer.as_ptr().wrapping_add(place + nth * PART);
        // SAFETY: the part is inside the mapping, and the place inside the buffer. The lane touches the place
        // only after the outcome.
        unsafe { ptr::copy_nonoverlapping(part.as_ptr(), destination, part.len()) };
    }
}

/// Loads the first lines of a block into the processor's cache.
#[inline]
fn prefetch(block: &[u8]) {
    for line in block[..block.len().min(PREFETCH)].chunks(LINE) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the line is valid memory, and the instruction changes none.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}
