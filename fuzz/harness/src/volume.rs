//! A given number of hostile words: half against the host end alone, half against the engine.

use std::time::Instant;

use vyre_ioq::{Errno, FileHandle, Request};

use crate::Random;
use crate::ends::Ends;
use crate::engine::{Faults, Which, World};

/// Counts of a run, against the host end and against the engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Words that hostile devices stored.
    pub words: [u64; 2],
    /// Requests that were claimed.
    pub claimed: [u64; 2],
    /// Outcomes that were stored: as many as claims.
    pub completed: [u64; 2],
    /// Outcomes of honest requests, each checked.
    pub honest: u64,
    /// Queues and engines that were made.
    pub worlds: [u64; 2],
}

/// Words for one queue or engine before the next is made.
const WORLD_WORDS: u64 = 1 << 20;

/// Stores `words` hostile words, half of them against each, and prints its progress.
///
/// # Panics
/// If a rule is broken: see [`Ends`] and [`World`].
pub fn run(words: u64, seed: u64) -> Report {
    let start = Instant::now();
    let mut report = Report::default();
    let mut random = Random::new(seed);
    let tenth = (words / 10).max(1);
    let mut said = 0;
    loop {
        let [host, engine] = report.words;
        if host + engine >= words {
            break;
        }
        if (host + engine) / tenth > said {
            said = (host + engine) / tenth;
            let seconds = start.elapsed().as_secs();
            println!("{} hostile words in {seconds} s", host + engine);
        }
        let most = WORLD_WORDS.min(words - host - engine);
        if host <= engine {
            against_the_host(&mut random, most, &mut report);
        } else {
            against_the_engine(&mut random, most, &mut report);
        }
    }
    report
}

fn against_the_host(random: &mut Random, words: u64, report: &mut Report) {
    let mut ends = Ends::new(report.worlds[0] as u8, random.bits());
    let slots = ends.slots();
    let handle = FileHandle::from_raw(1);
    while ends.adversary().words() < words {
        for _ in 0..1 + random.below(16) {
            ends.adversary().step();
        }
        match random.below(9) {
            0 => ends.submit(Request::sync(handle).with_tag(random.bits() as u32)),
            1 => ends.take(random.below(64)),
            2 => ends.complete_owed(Errno::EIO),
            3 => {
                let (start, len) = (random.below(slots), random.below(slots + 1));
                ends.sweep(start..start + len);
            }
            4 => ends.sweep(0..u32::MAX),
            5 => ends.announce(),
            _ => {
                for _ in 0..8 {
                    // One of them is outside.
                    let slot = random.below(slots + 1);
                    let count = random.bits() as u32;
                    let failed = Err(Errno::from_raw(count));
                    ends.complete(slot, if count & 1 == 0 { Ok(count) } else { failed });
                }
            }
        }
    }
    ends.finish();
    report.words[0] += ends.adversary().words();
    report.claimed[0] += ends.claims;
    report.completed[0] += ends.outcomes;
    report.worlds[0] += 1;
}

fn against_the_engine(random: &mut Random, words: u64, report: &mut Report) {
    let mut world = World::new(Faults {
        seed: random.bits(),
        capacity: 1 + random.below(64),
        latency: random.below(6),
        disturbed: f64::from(random.below(3)) / 8.0,
    });
    let stored = |world: &mut World| {
        [Which::Alone, Which::Beside]
            .map(|which| world.adversary(which).words())
            .iter()
            .sum::<u64>()
    };
    while stored(&mut world) < words {
        for _ in 0..1 + random.below(64) {
            world.adversary(Which::Alone).step();
        }
        for _ in 0..random.below(8) {
            world.adversary(Which::Beside).step();
        }
        match random.below(8) {
            0 => world.order(random.below(2) == 0),
            1 | 2 => world.write(random.below(300)),
            _ => world.read(random.below(2048), random.below(300)),
        }
        world.step();
        if random.below(4) == 0 {
            world.take();
        }
    }
    world.finish();
    let (claimed, completed) = world.claimed_and_completed();
    report.words[1] += stored(&mut world);
    report.claimed[1] += claimed;
    report.completed[1] += completed;
    report.honest += world.honest_outcomes();
    report.worlds[1] += 1;
}
