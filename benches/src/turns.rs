//! Comparisons of two hosts in turns: random reads of a cached file by one lane.

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vyre_io::{BufferHandle, DeviceQueue, FileHandle, Request};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The number of bytes of a read.
pub const BLOCK: u32 = 4096;
/// The number of reads in flight.
pub const DEPTH: u64 = 32;

/// Returns the next number of the generator that `rate.c` has, too.
const fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Reads blocks at random for a time. Returns the rate in reads a second.
///
/// # Errors
/// The error of a read, or of a queue that has fewer slots than there are reads in flight.
pub fn reads(
    device: &DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
    blocks: u64,
    limit: Duration,
) -> Result<f64> {
    let begun = Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut request = |slot: u64| {
        let block = next(&mut state) % blocks;
        Request::read(file, block * u64::from(BLOCK), BLOCK)
            .into_buffer(pool, slot * u64::from(BLOCK))
    };
    let mut tickets = Vec::new();
    for slot in 0..DEPTH {
        tickets.push(Some(device.submit(request(slot))?));
    }
    let mut done = 0_u64;
    while begun.elapsed() < limit {
        for (slot, place) in (0..).zip(&mut tickets) {
            let request = request(slot);
            let mut ticket = place.take().ok_or("a slot without a request")?;
            let outcome = loop {
                match device.take(ticket) {
                    Ok(outcome) => break outcome,
                    Err(back) => ticket = back,
                }
                std::hint::spin_loop();
            };
            if outcome.bytes()? != BLOCK {
                return Err("a short read".into());
            }
            *place = Some(device.submit(request)?);
            done += 1;
        }
    }
    let took = begun.elapsed();
    for ticket in tickets.into_iter().flatten() {
        device.wait(ticket)?.bytes()?;
    }
    Ok(done as f64 / took.as_secs_f64())
}

/// Writes a file of so many mebibytes into a directory. Returns its path.
///
/// # Errors
/// The error of the file system.
pub fn written(directory: &Path, mebibytes: u64) -> Result<PathBuf> {
    let path = directory.join("blocks");
    let mut file = File::create(&path)?;
    for _ in 0..mebibytes {
        file.write_all(&[7; 1 << 20])?;
    }
    Ok(path)
}

/// Measures two rates in turns, and prints those of each round, their quartiles, and those of the quotient. Each is
/// measured once before, unseen, so that everything is in memory.
///
/// # Errors
/// The first error of a measurement.
pub fn compare(
    rounds: u32,
    names: [&str; 2],
    mut one: impl FnMut() -> Result<f64>,
    mut other: impl FnMut() -> Result<f64>,
) -> Result<()> {
    one()?;
    other()?;
    let [mut ones, mut others, mut ratios] = [const { Vec::new() }; 3];
    for round in 0..rounds {
        let (of_one, of_other) = match round % 2 {
            0 => {
                let of_one = one()?;
                (of_one, other()?)
            }
            _ => {
                let of_other = other()?;
                (one()?, of_other)
            }
        };
        let (ratio, round, [first, second]) = (of_one / of_other, round + 1, names);
        println!("round {round}: {first} {of_one:.0}, {second} {of_other:.0}, ratio {ratio:.3}");
        ones.push(of_one);
        others.push(of_other);
        ratios.push(ratio);
    }
    for (name, values) in names.into_iter().zip([ones, others]) {
        let [low, median, high] = quartiles(values);
        println!("{name}: {median:.0} reads a second ({low:.0} to {high:.0})");
    }
    let [low, median, high] = quartiles(ratios);
    let [first, second] = names;
    println!("{first} / {second}: {median:.3} ({low:.3} to {high:.3})");
    Ok(())
}

/// Returns the lower quartile, the median and the upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
