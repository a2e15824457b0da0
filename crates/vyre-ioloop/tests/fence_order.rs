//! FENCE and SYNC against happens-before: a scripted device acts between any two words that a sweep
//! loads.
//!
//! The device is one thread in program order, so that "published before" is known exactly: by number.
//! Whenever it sees the outcome of a barrier, it must see the outcome of each request that the barrier
//! stands for. Two device threads that order themselves by other means would be such a sequence too.

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::*;
use vyre_ioq::test_utils::on_each_load;
use vyre_ioq::{Errno, Op, Request};
use vyre_uring::SimTransport;

/// Slots of three groups, the last of which is not whole.
const SLOTS: u32 = 150;
const PUBLISHED: usize = 400;
const SEEDS: u64 = 50;

/// A request as the device knows it.
#[derive(Clone, Copy, Debug)]
struct Published {
    op: Op,
    /// Index of the file among the two, if it names one.
    file: usize,
    slot: u32,
    timed: bool,
    seen: bool,
}

/// Shares of a hundred, and of a thousand loads at which the device acts.
#[derive(Clone, Copy)]
struct Habits {
    acts: u32,
    fences: u32,
    syncs: u32,
    timed: u32,
    /// Number of slots that the device uses at once, at most.
    most: usize,
    /// Steps that an operation takes, at most.
    latency: u32,
}

struct Device {
    slots: Slots,
    requests: Vec<Published>,
    /// Requests whose outcome was not seen, by number; the oldest first.
    open: Vec<usize>,
    writes: Vec<Request>,
    syncs: Vec<Request>,
    read: Request,
    random: u64,
    habits: Habits,
    /// Slot of the host's last sweep, roughly: where a race is most likely.
    near: u32,
}

impl Device {
    fn below(&mut self, bound: u32) -> u32 {
        self.random = self
            .random
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        ((self.random >> 33) % u64::from(bound)) as u32
    }

    /// One load of the host later.
    fn act(&mut self) {
        if self.below(1000) >= self.habits.acts {
            return;
        }
        self.look();
        if self.requests.len() < PUBLISHED && self.open.len() < self.habits.most {
            self.publish();
        }
    }

    fn publish(&mut self) {
        // Anywhere, and in pairs around a place that wanders.
        if self.below(4) == 0 {
            self.near = self.below(SLOTS);
        }
        let slot = match self.below(3) {
            0 => self.below(SLOTS),
            1 => self.near,
            _ => (self.near + self.below(70)) % SLOTS,
        };
        let is_open = |&number: &usize| self.requests[number].slot == slot;
        if self.open.iter().any(is_open) {
            return;
        }
        let kind = self.below(100);
        let Habits { fences, syncs, .. } = self.habits;
        let file = self.below(2) as usize;
        let request = match kind {
            _ if kind < fences => Request::fence(),
            _ if kind < fences + syncs => self.syncs[file],
            _ if kind.is_multiple_of(2) => self.writes[file],
            _ => self.read,
        };
        let timed = self.below(100) < self.habits.timed;
        let request = if timed {
            request.with_deadline(50)
        } else {
            request
        };
        self.slots.publish(slot, &request);
        self.open.push(self.requests.len());
        self.requests.push(Published {
            op: request.op(),
            file,
            slot,
            timed,
            seen: false,
        });
    }

    /// Takes the outcomes that are there, and checks what each barrier stands for.
    fn look(&mut self) {
        let mut ended = Vec::new();
        // The newest first: a barrier's outcome is looked for before those of earlier requests.
        for &number in self.open.iter().rev() {
            let Published { slot, timed, .. } = self.requests[number];
            if let Some(outcome) = self.slots.outcome(slot) {
                assert!(outcome.is_ok() || timed && outcome == Err(Errno::ETIMEDOUT));
                ended.push((number, outcome));
            }
        }
        for &(number, _) in &ended {
            self.requests[number].seen = true;
        }
        for &(number, outcome) in &ended {
            if outcome.is_ok() {
                self.check(number);
            }
        }
        self.open.retain(|&number| !self.requests[number].seen);
    }

    fn check(&self, barrier: usize) {
        let Published { op, file, slot, .. } = self.requests[barrier];
        let stands_for = |earlier: &Published| match op {
            Op::Fence => earlier.op != Op::Fence,
            Op::Sync => earlier.op == Op::Write && earlier.file == file,
            _ => false,
        };
        for &number in self.open.iter().take_while(|&&number| number < barrier) {
            let earlier = &self.requests[number];
            assert!(
                earlier.seen || !stands_for(earlier),
                "{op:?} {barrier} in slot {slot} overtook {number}: {earlier:?}"
            );
        }
    }
}

fn run(seed: u64, habits: Habits) {
    let mut tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let other = tables
        .files
        .insert(file_of(&[0; 4096]), vyre_ioloop::Rights::all())
        .unwrap();
    let (slots, host, _lanes) = Slots::queue(SLOTS);
    let sim = SimTransport::builder(seed)
        .capacity(64)
        .max_latency(habits.latency);
    let mut engine = tables.engine(sim.reorder(true).build(), vec![host]);
    let clock = engine.drive_clock();
    let device = Rc::new(RefCell::new(Device {
        slots,
        requests: Vec::new(),
        open: Vec::new(),
        writes: [file, other]
            .map(|file| Request::write(file, 0, 8).from_buffer(pool, 0))
            .into(),
        syncs: [file, other].map(Request::sync).into(),
        read: Request::read(file, 0, 8).into_buffer(pool, 0),
        random: seed,
        habits,
        near: 0,
    }));
    let acting = device.clone();
    let hook = on_each_load(move || acting.borrow_mut().act());
    let mut passes = 0;
    while device.borrow().requests.len() < PUBLISHED {
        let _ = engine.step();
        clock.advance(Duration::from_micros(1));
        device.borrow_mut().look();
        passes += 1;
        assert!(passes < 100_000, "the device gets no slot back");
    }
    drop(hook);
    let mut passes = 0;
    while !device.borrow().open.is_empty() {
        let _ = engine.step();
        device.borrow_mut().look();
        passes += 1;
        assert!(passes < 1_000, "unanswered: {:?}", device.borrow().open);
    }
    assert_eq!(engine.outstanding(), 0);
}

fn run_seeds(habits: Habits) {
    for seed in 0..SEEDS {
        let run = std::panic::AssertUnwindSafe(|| run(seed, habits));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

const FEW: Habits = Habits {
    acts: 10,
    fences: 30,
    syncs: 0,
    timed: 0,
    most: 12,
    latency: 5,
};

/// Rule: ABI-6.7.
#[test]
fn a_fence_waits_for_all_that_was_published_before_it() {
    run_seeds(FEW);
}

/// Rule: ABI-6.7.
#[test]
fn a_fence_waits_for_syncs_too() {
    run_seeds(Habits { syncs: 20, ..FEW });
}

/// Rule: ABI-6.7.
#[test]
fn fences_keep_their_order_where_most_requests_are_fences() {
    run_seeds(Habits {
        acts: 60,
        fences: 75,
        syncs: 5,
        most: 60,
        ..FEW
    });
}

/// Rule: ABI-6.7.
#[test]
fn deadlines_of_other_fences_take_nothing_from_a_fence_s_order() {
    run_seeds(Habits {
        timed: 40,
        syncs: 10,
        ..FEW
    });
}

/// Little is outstanding, so fences are due as soon as the next round has passed them.
///
/// Rules: ABI-6.7, ABI-6.9.
#[test]
fn a_deferred_fence_waits_until_the_next_round_has_passed_it() {
    run_seeds(Habits {
        acts: 40,
        fences: 80,
        latency: 0,
        ..FEW
    });
}
