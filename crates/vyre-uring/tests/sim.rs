//! The simulated transport keeps the contract of a transport under every script.
#![cfg(feature = "sim")]

mod common;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use common::*;
use vyre_uring::{
    Buffer, Busy, Completion, EnterError, Errno, Operation, PushError, RegisterError, SimBuilder,
    SimTransport, Transport,
};

fn sim_on(builder: SimBuilder) -> (SimTransport, Buffer, std::fs::File) {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&pattern(64 << 10), 0).unwrap();
    let buffer = Buffer::anonymous(64 << 10).unwrap();
    let mut sim = builder.build();
    sim.set_file(FILE, Some(owned(&file))).unwrap();
    sim.set_buffer(BUFFER, Some(buffer.clone())).unwrap();
    (sim, buffer, file)
}

fn mixed(number: u64) -> Operation {
    let at = number % 60 * 1024;
    match number % 5 {
        0 | 1 => read(at, at, 1 + (number % 4000) as u32),
        2 => write(at, at, 1 + (number % 4000) as u32),
        3 => Operation::Sync {
            file: FILE,
            data_only: number.is_multiple_of(2),
        },
        _ => Operation::Prefetch {
            file: FILE,
            offset: at,
            len: 4096,
        },
    }
}

/// Drives 1,000 operations with random cancellations. Returns the completions in order.
fn drive(seed: u64) -> Vec<Completion> {
    let script = SimTransport::builder(seed)
        .capacity(32)
        .max_latency(7)
        .reorder(true)
        .short(0.3)
        .interrupted(0.1)
        .errno(Errno::IO, 0.05)
        .errno(Errno::NOSPC, 0.05)
        .stuck(0.05);
    let (mut sim, _, _) = sim_on(script);
    let (mut pushed, mut tokens, mut all) = (0, Vec::new(), Vec::new());
    while all.len() < 1000 {
        while pushed < 1000 {
            match sim.push(mixed(pushed), pushed) {
                Ok(token) => tokens.push(token),
                Err(PushError::Full) => break,
                Err(error) => panic!("{error}"),
            }
            pushed += 1;
        }
        let before = all.len();
        sim.wait(None).unwrap();
        sim.reap(|completion| all.push(completion));
        if all.len() == before {
            // The remaining operations are stuck: only a cancellation ends them.
            tokens.retain(|&token| sim.cancel(token));
        }
    }
    assert_eq!(sim.in_flight(), 0);
    all
}

#[test]
fn a_thousand_operations_complete_exactly_once() {
    for seed in 0..20 {
        let all = drive(seed);
        let mut seen = vec![0; 1000];
        all.iter()
            .for_each(|completion| seen[completion.user as usize] += 1);
        assert!(seen.iter().all(|&count| count == 1), "seed {seed}");
        let count = |wanted| all.iter().filter(|it| it.result == Err(wanted)).count();
        for errno in [
            Errno::IO,
            Errno::NOSPC,
            Errno::INTR,
            Errno::AGAIN,
            Errno::CANCELED,
        ] {
            assert!(count(errno) > 0, "seed {seed} never gave {errno}");
        }
        let ordered = all.windows(2).all(|pair| pair[0].user < pair[1].user);
        assert!(!ordered, "seed {seed} reordered nothing");
    }
}

#[test]
fn equal_seeds_behave_equally_and_others_do_not() {
    assert_eq!(drive(7), drive(7));
    assert_ne!(drive(7), drive(8));
}

#[test]
fn transfers_copy_bytes_of_the_file() {
    let (mut sim, buffer, file) = sim_on(SimTransport::builder(1));
    assert_eq!(run(&mut sim, read(10, 20, 100)).result, Ok(100));
    assert_eq!(contents(&buffer, 20, 100), pattern(110)[10..]);
    buffer.write_at(0, b"written").unwrap();
    assert_eq!(run(&mut sim, write(5, 0, 7)).result, Ok(7));
    let mut seen = [0; 7];
    file.read_exact_at(&mut seen, 5).unwrap();
    assert_eq!(&seen, b"written");
    assert_eq!(run(&mut sim, read(64 << 10, 0, 1)).result, Ok(0));
}

#[test]
fn short_transfers_copy_as_many_bytes_as_they_report() {
    let (mut sim, buffer, _) = sim_on(SimTransport::builder(3).short(1.0));
    let moved = run(&mut sim, read(0, 0, 4096)).result.unwrap() as usize;
    assert!((1..4096).contains(&moved));
    assert_eq!(contents(&buffer, 0, moved), pattern(moved));
    assert_eq!(
        contents(&buffer, moved, 4096 - moved),
        vec![0; 4096 - moved]
    );
}

#[test]
fn a_scripted_fatal_submit_poisons() {
    let (mut sim, _, _) = sim_on(
        SimTransport::builder(1)
            .fatal_submit(1, Errno::BADF)
            .stuck(1.0),
    );
    sim.push(read(0, 0, 1), 1).unwrap();
    assert_eq!(sim.submit(), Ok(1));
    sim.push(read(0, 0, 1), 2).unwrap();
    assert_eq!(sim.submit(), Err(EnterError::Fatal(Errno::BADF)));
    let mut all = Vec::new();
    sim.reap(|completion| all.push((completion.user, completion.result)));
    assert_eq!(all, [(2, Err(Errno::BADF))]);
    assert_eq!(
        sim.push(read(0, 0, 1), 3),
        Err(PushError::Poisoned(Errno::BADF))
    );
    sim.quiesce(Duration::ZERO).unwrap();
    sim.reap(|completion| all.push((completion.user, completion.result)));
    assert_eq!(all[1], (1, Err(Errno::CANCELED)));
}

#[test]
fn fail_next_fails_one_operation() {
    let (mut sim, _, _) = sim_on(SimTransport::builder(1));
    sim.fail_next(Errno::NOSPC);
    assert_eq!(run(&mut sim, write(0, 0, 1)).result, Err(Errno::NOSPC));
    assert_eq!(run(&mut sim, write(0, 0, 1)).result, Ok(1));
}

#[test]
fn a_hung_operation_keeps_its_slots_busy() {
    let (mut sim, _, _) = sim_on(SimTransport::builder(1).hung(1.0));
    let token = sim.push(read(0, 0, 1), 1).unwrap();
    assert!(sim.cancel(token));
    assert_eq!(sim.quiesce(Duration::ZERO), Err(Busy::new(1)));
    assert_eq!(sim.reap(|_| ()), 0);
    assert_eq!(
        sim.set_buffer(BUFFER, None),
        Err(RegisterError::Busy { in_flight: 1 })
    );
}

#[test]
fn a_transfer_copies_at_most_the_configured_bytes() {
    let (mut sim, buffer, _) = sim_on(SimTransport::builder(1).at_most(1000));
    assert_eq!(run(&mut sim, read(0, 0, 4096)).result, Ok(1000));
    assert_eq!(run(&mut sim, read(1000, 1000, 100)).result, Ok(100));
    assert_eq!(contents(&buffer, 0, 1100), pattern(1100));
}

#[test]
fn the_first_operation_on_a_file_can_be_refused() {
    let (mut sim, _, file) = sim_on(SimTransport::builder(1).refuse_first(true));
    for _ in 0..2 {
        assert_eq!(run(&mut sim, read(0, 0, 1)).result, Err(Errno::AGAIN));
        assert_eq!(run(&mut sim, read(0, 0, 1)).result, Ok(1));
        sim.set_file(FILE, Some(owned(&file))).unwrap();
    }
}

#[test]
fn cancel_requests_can_miss() {
    let script = SimTransport::builder(1).stuck(1.0).missed_cancels(1);
    let (mut sim, _, _) = sim_on(script);
    let token = sim.push(read(0, 0, 1), 1).unwrap();
    sim.submit().unwrap();
    for reaped in [0, 1] {
        assert!(sim.cancel(token));
        let told = |it: Completion| assert_eq!(it.result, Err(Errno::CANCELED));
        assert_eq!(sim.reap(told), reaped);
    }
}
