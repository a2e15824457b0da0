//! Queues that come and go while devices and other threads are at work.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::live::ways;
use common::*;
use vyre_ioloop::LoopGroup;
use vyre_ioq::test_utils::{Adversary, GuardedMemory, Weights};
use vyre_ioq::{Errno, Features, HostQueue, Queue, QueueLayout, Request};

/// A device that stores anything to its queue, before, while and after the queue is removed, delays neither the removal
/// nor anybody else.
///
/// Rules: SEC-4, SEC-5.
#[test]
fn a_hostile_device_on_a_queue_that_comes_and_goes_harms_nobody() {
    for options in ways() {
        let tables = Tables::new(4096, 4096);
        let (file, pool) = (tables.file, tables.pool);
        let builder = tables.builder().options(options);
        let (host, device) =
            Queue::anonymous(QueueLayout::with_slots(16).with_features(Features::DOORBELL))
                .unwrap();
        let io = builder.queue(host).spawn().unwrap();
        for seed in 0..4 {
            let layout = QueueLayout::with_slots(128).with_features(Features::DOORBELL);
            let hostile = GuardedMemory::new(layout.bytes()).unwrap();
            let host = HostQueue::create(hostile.region(), &layout).unwrap();
            let adversary = Adversary::new(hostile.region(), &layout, seed)
                .unwrap()
                .weights(Weights::all())
                .sparing([file.raw(), pool.raw()]);
            let thread = adversary.spawn().unwrap();
            let queue = io.add_queue(host).unwrap();
            for _ in 0..50 {
                let read = Request::read(file, 0, 64).into_buffer(pool, 0);
                let ticket = device.submit(read).unwrap();
                assert_eq!(outcome_of(&device, ticket), Ok(64));
            }
            let removed = io
                .remove_queue_within(queue, Duration::from_millis(10))
                .unwrap();
            assert_eq!(removed.queue.owed(), 0);
            let counters = removed.counters;
            assert!(counters.succeeded + counters.failed >= counters.claimed);
            let ticket = device.submit(Request::fence()).unwrap();
            assert_eq!(outcome_of(&device, ticket), Ok(0));
            drop(thread.stop());
        }
        assert_eq!(io.queue_counters(0).unwrap().device_faults, 0);
        assert_eq!(io.counters().stray, 0);
        io.stop().unwrap();
    }
}

/// Queues come and go on several threads, while lanes use them and another one.
#[test]
fn many_threads_add_and_remove_queues_while_lanes_run() {
    for options in ways() {
        let tables = Tables::new(1 << 16, 1 << 16);
        let (file, pool) = (tables.file, tables.pool);
        let rings = QueueLayout::with_slots(64).with_features(Features::DOORBELL);
        let (host, steady) = Queue::anonymous(rings).unwrap();
        let group = LoopGroup::builder()
            .loops(2)
            .files(tables.files)
            .buffers(tables.buffers)
            .options(options)
            .queue(host)
            .spawn()
            .unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3_u64)
                .map(|thread| {
                    let group = &group;
                    scope.spawn(move || {
                        for round in 0..20_u64 {
                            let (host, device) = Queue::anonymous(rings).unwrap();
                            let queue = group.add_queue(host).unwrap();
                            let place = 4096 * (1 + thread);
                            let read = Request::read(file, 64 * round, 64);
                            let read = read.into_buffer(pool, place);
                            let tickets: Vec<_> =
                                (0..4).map(|_| device.submit(read).unwrap()).collect();
                            // Half of them are removed with requests at every stage.
                            let after = tickets.into_iter();
                            if round % 2 == 0 {
                                for ticket in after {
                                    assert_eq!(outcome_of(&device, ticket), Ok(64));
                                }
                                drop(group.remove_queue(queue).unwrap());
                            } else {
                                let removed = group.remove_queue_within(queue, Duration::ZERO);
                                assert_eq!(removed.unwrap().queue.owed(), 0);
                                for ticket in after {
                                    let result = device.poll(&ticket).unwrap().result;
                                    let ended = [Ok(64), Err(Errno::ECANCELED)];
                                    assert!(ended.contains(&result), "{result:?}");
                                }
                            }
                        }
                    })
                })
                .collect();
            let lane = scope.spawn(|| {
                let mut served = 0;
                while !done.load(Ordering::Relaxed) || served < 100 {
                    let read = Request::read(file, 0, 64).into_buffer(pool, 0);
                    let ticket = steady.submit(read).unwrap();
                    assert_eq!(outcome_of(&steady, ticket), Ok(64));
                    served += 1;
                }
            });
            let ended: Vec<_> = threads
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect();
            done.store(true, Ordering::Relaxed);
            lane.join().unwrap();
            ended.into_iter().for_each(|it| it.unwrap());
        });
        let all = group.counters();
        assert_eq!(all.stray, 0);
        group.stop().unwrap();
    }
}
