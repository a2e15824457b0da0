//! Finding work across cores: what a publication costs until its outcome is seen, in a small queue
//! and in a large one; and how fast the host's end goes where every slot is active. Beside them
//! the floor: one line of memory that two cores hand to each other and back.
//!
//! Both sides are pinned. Where there are fewer than two cores, nothing is measured.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vyre_io::ioq::Claims;
use vyre_io::uring::Ring;
use vyre_io::{
    BufferTable, DeviceQueue, Engine, FileTable, HostQueue, Queue, QueueLayout, Request,
};

/// A core for the host, and another for the device. Asked once: a pinned thread is allowed one.
fn cores() -> Option<[usize; 2]> {
    static CORES: LazyLock<Option<[usize; 2]>> = LazyLock::new(|| {
        let allowed = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        Some([cores.next()?, cores.next()?])
    });
    *CORES
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("an allowed core");
}

/// Runs `host` over and over on this thread, which a ring belongs to, while `device` does its laps on
/// the other core; the device's time.
fn beside(
    [host_core, device_core]: [usize; 2],
    mut host: impl FnMut(),
    device: impl FnOnce() -> Duration + Send,
) -> Duration {
    pin(host_core);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let lane = scope.spawn(|| {
            pin(device_core);
            let took = device();
            stop.store(true, Ordering::Release);
            took
        });
        while !stop.load(Ordering::Acquire) {
            host();
        }
        lane.join().expect("no panic")
    })
}

/// Asks for a fence and waits for its outcome, `laps` times, in a slot that it keeps.
fn ask(device: &DeviceQueue, laps: u64) -> Duration {
    let mut kept = device.reserve().expect("free");
    let started = Instant::now();
    for _ in 0..laps {
        let mut ticket = device.publish(kept, &Request::fence());
        kept = loop {
            match device.take_and_keep(ticket) {
                Ok((outcome, kept)) => {
                    assert_eq!(outcome.bytes(), Ok(0));
                    break kept;
                }
                Err(pending) => ticket = pending,
            }
            std::hint::spin_loop();
        };
    }
    let took = started.elapsed();
    device.unreserve(kept);
    took
}

fn serve(host: &mut HostQueue, claimed: &mut Vec<Claims>) {
    for group in host.sweep(0..u32::MAX) {
        claimed.push(host.claim(group));
    }
    for mut claims in claimed.drain(..) {
        while let Some(claim) = host.next_claim(&mut claims) {
            let slot = std::hint::black_box(claim).slot;
            host.complete(slot, Ok(0)).expect("owed");
        }
    }
}

fn round_trip(criterion: &mut Criterion) {
    let Some(cores) = cores() else { return };
    let mut group = criterion.benchmark_group("finding/round_trip");
    group.bench_function("floor", |bencher| {
        bencher.iter_custom(|laps| {
            let line = AtomicU32::new(0);
            let host = || {
                let seen = line.load(Ordering::Acquire);
                if seen & 1 == 1 {
                    line.store(seen + 1, Ordering::Release);
                }
            };
            beside(cores, host, || {
                let started = Instant::now();
                for lap in 0..laps as u32 {
                    line.store(lap.wrapping_mul(2) + 1, Ordering::Release);
                    while line.load(Ordering::Acquire) & 1 == 1 {
                        std::hint::spin_loop();
                    }
                }
                started.elapsed()
            })
        });
    });
    for slots in [64, 4096] {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(slots)).expect("memory");
        let mut claimed = Vec::with_capacity(slots.div_ceil(64) as usize);
        let id = BenchmarkId::new("one lane", slots);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|laps| {
                beside(
                    cores,
                    || serve(&mut host, &mut claimed),
                    || ask(&device, laps),
                )
            });
        });
    }
    for slots in [64, 4096] {
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(slots)).expect("memory");
        // A ring that nothing is ever given to: a fence needs none.
        let ring = Ring::builder().build().expect("a ring");
        let (files, buffers) = (FileTable::new(), BufferTable::new());
        let mut engine = Engine::new(ring, files, buffers, vec![host]).expect("an engine");
        group.bench_function(BenchmarkId::new("fence", slots), |bencher| {
            bencher.iter_custom(|laps| {
                let host = || {
                    let _ = engine.step();
                };
                beside(cores, host, || ask(&device, laps))
            });
        });
    }
    group.finish();
}

/// The host's time for a slot, all of them published by another core just before.
fn every_slot(criterion: &mut Criterion) {
    let Some([host_core, device_core]) = cores() else {
        return;
    };
    let mut group = criterion.benchmark_group("finding/every_slot");
    for slots in [64_u32, 1024, 4096] {
        let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(slots)).expect("memory");
        let device = &device;
        let mut claimed = Vec::with_capacity(slots.div_ceil(64) as usize);
        let mut outcomes = Vec::with_capacity(slots as usize);
        group.throughput(Throughput::Elements(slots.into()));
        group.bench_function(BenchmarkId::from_parameter(slots), |bencher| {
            bencher.iter_custom(|laps| {
                pin(host_core);
                let turn = AtomicU32::new(0);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        pin(device_core);
                        let mut tickets = Vec::with_capacity(slots as usize);
                        for lap in 0..laps as u32 {
                            tickets.extend(
                                (0..slots).map(|_| device.submit(Request::fence()).expect("free")),
                            );
                            turn.store(2 * lap + 1, Ordering::Release);
                            while turn.load(Ordering::Acquire) == 2 * lap + 1 {
                                std::hint::spin_loop();
                            }
                            for ticket in tickets.drain(..) {
                                assert_eq!(device.take(ticket).expect("done").bytes(), Ok(0));
                            }
                        }
                    });
                    let mut took = Duration::ZERO;
                    for lap in 0..laps as u32 {
                        while turn.load(Ordering::Acquire) != 2 * lap + 1 {
                            std::hint::spin_loop();
                        }
                        let started = Instant::now();
                        for group in host.sweep(0..slots) {
                            claimed.push(host.claim(group));
                        }
                        for mut claims in claimed.drain(..) {
                            while let Some(claim) = host.next_claim(&mut claims) {
                                let slot = std::hint::black_box(claim).slot;
                                outcomes.push((slot, Ok(0)));
                            }
                        }
                        assert_eq!(outcomes.len() as u32, slots);
                        host.complete_batch(&outcomes).expect("owed");
                        outcomes.clear();
                        took += started.elapsed();
                        turn.store(2 * lap + 2, Ordering::Release);
                    }
                    took
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, round_trip, every_slot);
criterion_main!(benches);
