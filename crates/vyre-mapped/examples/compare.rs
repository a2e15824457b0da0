//! Compares a copy out of a mapping, `read_at` and `pread`, on random blocks of a cached file.
//!
//! `cargo run --release -p vyre-mapped --example compare -- [DIRECTORY] [ROUNDS]`
//!
//! The three take turns in rounds of equal work, and the table shows the median of each. Its last column
//! is the largest spread of the row, from the fastest round to the slowest: above some 10 %, the machine
//! is too busy for the figures.

use std::error::Error;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use vyre_mapped::{Mapping, Recovery};

const FILE: u64 = 256 << 20;
/// The number of bytes that each method reads in a round.
const ROUND: u64 = 64 << 20;
const BLOCKS: [usize; 5] = [512, 4 << 10, 16 << 10, 64 << 10, 128 << 10];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().map_or("/dev/shm".into(), PathBuf::from);
    let rounds: usize = match arguments.next() {
        Some(rounds) => rounds.to_string_lossy().parse()?,
        None => 9,
    };
    let mut file = tempfile::tempfile_in(&directory)?;
    let part = vec![7; 1 << 20];
    for _ in 0..FILE >> 20 {
        file.write_all(&part)?;
    }
    let mapping = Mapping::new(&file, 0..FILE)?;
    mapping.populate(0..FILE)?;
    let recovery = Recovery::new()?;

    println!(
        "{} rounds in {}, nanoseconds a block",
        rounds.max(1),
        directory.display()
    );
    println!("| block | copy_to | read_at | pread | spread |");
    println!("| --- | --- | --- | --- | --- |");
    for block in BLOCKS {
        let mut buffer = vec![0; block];
        let mut times = [const { Vec::new() }; 3];
        // The first round warms up.
        for round in 0..=rounds.max(1) {
            for (way, times) in times.iter_mut().enumerate() {
                let time = nanoseconds(block, round as u64, |at| match way {
                    0 => Ok(mapping.copy_to(&recovery, at..at + block as u64, &mut buffer)?),
                    1 => Ok(mapping.read_at(&recovery, at, &mut buffer)?),
                    _ => Ok(file.read_at(&mut buffer, at)?),
                })?;
                if round > 0 {
                    times.push(time);
                }
            }
        }
        let spread = times.each_mut().map(|times| {
            times.sort_by(f64::total_cmp);
            (times[times.len() - 1] / times[0] - 1.0) * 100.0
        });
        let [copy, read, pread] = times.map(|times| times[times.len() / 2]);
        let spread = spread.into_iter().fold(0.0, f64::max);
        println!("| {block} | {copy:.0} | {read:.0} | {pread:.0} | {spread:.0} % |");
    }
    Ok(())
}

/// Reads random blocks. Returns the time for one.
fn nanoseconds(
    block: usize,
    seed: u64,
    mut read: impl FnMut(u64) -> Result<usize, Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let blocks = FILE / block as u64;
    let count = ROUND / block as u64;
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let began = Instant::now();
    for _ in 0..count {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let at = state % blocks * block as u64;
        if read(at)? != block {
            return Err("a read inside the file was short".into());
        }
    }
    Ok(began.elapsed().as_nanos() as f64 / count as f64)
}
