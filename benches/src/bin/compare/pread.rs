//! Threads that call pread(2), one on each core, without a queue between them and whoever wants the bytes.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use vyre_io_cli::measure::block_numbers::BlockNumbers;
use vyre_io_cli::measure::cores::pin;

use crate::checker::{Checked, Checker};
use crate::error::CompareError;
use crate::lane::Work;
use crate::run::Bench;

/// Reads between two readings of the clock.
const BATCH: u32 = 32;

pub(crate) fn measure(bench: &Bench, work: &Work) -> Result<(f64, Checked), CompareError> {
    let threads = (bench.pool() as u32).min(work.depth);
    let barrier = Barrier::new(threads as usize);
    let results: Vec<io::Result<(f64, Checked)>> = thread::scope(|scope| {
        let pool: Vec<_> = (0..threads)
            .map(|nth| {
                let barrier = &barrier;
                scope.spawn(move || one(bench, work, nth, threads, barrier))
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        pool.into_iter().map(join).collect()
    });
    let mut total: Option<(f64, Checked)> = None;
    for result in results {
        let (rate, checked) = result.map_err(CompareError::Pread)?;
        total = match total {
            None => Some((rate, checked)),
            Some((other, mut all)) => {
                all.add(&checked);
                Some((rate + other, all))
            }
        };
    }
    total.ok_or_else(|| CompareError::Pread(io::Error::other("no thread")))
}

fn one(
    bench: &Bench,
    work: &Work,
    nth: u32,
    threads: u32,
    barrier: &Barrier,
) -> io::Result<(f64, Checked)> {
    pin(bench.core(nth as usize));
    // An open file of its own: threads that share one contend for where its last read ended.
    let file = bench.target.reopen();
    let places = (work.depth / threads).max(1);
    let mut buffer = vec![1; places as usize * work.size as usize];
    let mut checker = Checker::new(places, work.size, work.latency);
    let seed = work.blocks * u64::from(nth) / u64::from(threads);
    let mut numbers = BlockNumbers::new(seed, work.blocks, true);
    barrier.wait();
    let file = file?;
    let (started, mut done) = (Instant::now(), 0_u64);
    let mut place = 0;
    loop {
        for _ in 0..BATCH {
            let start = place as usize * work.size as usize;
            let block = &mut buffer[start..][..work.size as usize];
            let offset = numbers.draw() * u64::from(work.size);
            checker.restart(place);
            file.read_exact_at(block, offset)?;
            checker.completed_in(block, place, offset);
            place = if place + 1 == places { 0 } else { place + 1 };
        }
        done += u64::from(BATCH);
        let elapsed = started.elapsed();
        if elapsed >= work.time {
            return Ok((done as f64 / elapsed.as_secs_f64(), checker.finish()));
        }
    }
}
