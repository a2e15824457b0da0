//! Processor time of direct reads: a loop that sleeps, beside a raw ring that sleeps.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use vyre_io::{Buffer, BufferTable, FileTable, Request, Rights, RingMeans, WaitPolicy};
use vyre_io_cli::measure::block_numbers::BlockNumbers;
use vyre_io_cli::measure::cores::cpu_time;
use vyre_io_cli::measure::raw_loop::RawLoop;

use crate::Result;
use crate::rig::{Cores, spawn};

const BLOCK: u32 = 4096;
const BLOCKS: u64 = 1 << 16;
const DEPTH: u32 = 32;
const BOUND: Duration = Duration::from_millis(100);
/// Turns of each contestant.
const TURNS: usize = 5;

/// Processor time of a read, and reads per second.
#[derive(Clone, Copy)]
struct Cost {
    nanos: f64,
    rate: f64,
}

pub(crate) fn measure(dir: &Path, seconds: f64) -> Result<()> {
    let file = direct_file(dir)?;
    let turn = Duration::from_secs_f64(seconds / 2.0);
    let policies = [
        ("DOORBELL", WaitPolicy::DOORBELL),
        ("doorbell, no passes", WaitPolicy::doorbell(0, BOUND)),
        ("doorbell, 30 passes", WaitPolicy::doorbell(30, BOUND)),
        ("doorbell, 400 passes", WaitPolicy::doorbell(400, BOUND)),
        ("ADAPTIVE", WaitPolicy::ADAPTIVE),
    ];
    let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); 1 + policies.len()];
    for _ in 0..TURNS {
        costs[0].push(raw(&file, turn)?);
        for (index, (_, policy)) in policies.iter().enumerate() {
            costs[1 + index].push(ours(&file, *policy, turn)?);
        }
    }
    println!(
        "| direct reads of 4 KiB, depth 32 | thread's time for a read | thousand/s | beside the raw ring |"
    );
    println!("| --- | --- | --- | --- |");
    let mut base = None;
    let names = ["raw ring, sleeps"]
        .into_iter()
        .chain(policies.map(|(name, _)| name));
    for (name, costs) in names.zip(&mut costs) {
        costs.sort_by(|a, b| a.nanos.total_cmp(&b.nanos));
        let median = costs[costs.len() / 2];
        let base = *base.get_or_insert(median.nanos);
        println!(
            "| {name} | {:.0} ns ({:.0} to {:.0}) | {:.1} | {:.2} |",
            median.nanos,
            costs[0].nanos,
            costs[costs.len() - 1].nanos,
            median.rate / 1e3,
            median.nanos / base
        );
    }
    println!();
    Ok(())
}

/// Makes a file without holes and without a name, open for direct I/O.
fn direct_file(dir: &Path) -> Result<OwnedFd> {
    let path = dir.join(format!("vyre-sleep-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    let chunk: Vec<u8> = (0..1_u32 << 20).map(|byte| (byte * 7) as u8).collect();
    let filled = (0..(BLOCKS * u64::from(BLOCK)) >> 20).try_for_each(|_| file.write_all(&chunk));
    let filled = filled.and_then(|()| file.sync_all());
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(&path);
    std::fs::remove_file(&path)?;
    filled?;
    Ok(direct?.into())
}

fn raw(file: &OwnedFd, time: Duration) -> Result<Cost> {
    let raw = RawLoop {
        file: file.try_clone()?,
        buffer: Buffer::anonymous((DEPTH * BLOCK) as usize)?,
        depth: DEPTH,
        block_size: BLOCK,
        writes: false,
        polls: false,
        numbers: BlockNumbers::new(0, BLOCKS, true),
        core: Cores::choose().sleeper,
    };
    // The clock of the thread is a system call, so it is read for one completion in 1,024.
    let (mut done, mut first, mut last) = (0_u64, None, None);
    let rate = raw.run(time, |_, _| {
        if done.is_multiple_of(1024) {
            let now = clock_gettime(ClockId::ThreadCPUTime);
            let now = now.tv_sec as f64 * 1e9 + now.tv_nsec as f64;
            first.get_or_insert((done, now));
            last = Some((done, now));
        }
        done += 1;
    })?;
    let (Some((from, began)), Some((to, ended))) = (first, last) else {
        return Err("too few reads".into());
    };
    Ok(Cost {
        nanos: (ended - began) / (to - from).max(1) as f64,
        rate,
    })
}

fn ours(file: &OwnedFd, policy: WaitPolicy, time: Duration) -> Result<Cost> {
    let cores = Cores::choose();
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let handle = files.insert(file.try_clone()?, Rights::READ)?;
    let pool = buffers.insert(Buffer::anonymous((DEPTH * BLOCK) as usize)?)?;
    let (io, device) = spawn(policy, RingMeans::Futex, cores, Some((files, buffers)))?;
    cores.pin_waker();
    let mut numbers = BlockNumbers::new(0, BLOCKS, true);
    let mut read = |place: u64| {
        let offset = numbers.draw() * u64::from(BLOCK);
        device.submit(
            Request::read(handle, offset, BLOCK)
                .into_buffer(pool, place)
                .exact(),
        )
    };
    let mut flights = VecDeque::new();
    for place in 0..u64::from(DEPTH) {
        flights.push_back((read(place * u64::from(BLOCK))?, place * u64::from(BLOCK)));
    }
    let (mut done, began, used) = (0_u64, Instant::now(), cpu_time(io.thread_id()));
    while began.elapsed() < time {
        let mut new = false;
        // One pass over all requests, in any order of completion.
        for _ in 0..flights.len() {
            let Some((ticket, place)) = flights.pop_front() else {
                break;
            };
            match device.take(ticket) {
                Ok(outcome) => {
                    outcome.bytes()?;
                    done += 1;
                    new = true;
                    flights.push_back((read(place)?, place));
                }
                Err(ticket) => flights.push_back((ticket, place)),
            }
        }
        if new {
            device.ring_and_wake();
        }
    }
    let (used, took) = (cpu_time(io.thread_id()) - used, began.elapsed());
    for (ticket, _) in flights {
        device.wait(ticket)?.bytes()?;
    }
    io.stop()?;
    Ok(Cost {
        nanos: used.as_nanos() as f64 / done.max(1) as f64,
        rate: done as f64 / took.as_secs_f64(),
    })
}
