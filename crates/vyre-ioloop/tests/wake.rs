//! Loops that wake devices which sleep until there are outcomes.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use common::live::ways;
use common::*;
use vyre_ioq::{DeviceQueue, Errno, Features, HostQueue, LoopState, Queue, QueueLayout, Request};

fn queue() -> (HostQueue, DeviceQueue) {
    let features = Features::WAKE | Features::DOORBELL;
    Queue::anonymous(QueueLayout::with_slots(64).with_features(features)).unwrap()
}

/// Counts its wake-ups: the system calls that the loop would make.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Neither a device that never sleeps nor one that is awake costs the loop a system call, however many outcomes there are.
///
/// Rules: ABI-7.20, ABI-7.22.
#[test]
fn a_loop_wakes_nobody_who_does_not_sleep() {
    for expects in [false, true] {
        for options in ways() {
            let tables = Tables::new(4096, 4096);
            let (file, pool) = (tables.file, tables.pool);
            let (mut host, device) = queue();
            let count = Arc::new(Count::default());
            host.wake_device_by(Waker::from(count.clone()));
            let io = tables
                .builder()
                .options(options)
                .queue(host)
                .spawn()
                .unwrap();
            let read = Request::read(file, 0, 64).into_buffer(pool, 0);
            let serve = || {
                let ticket = device.submit(read).unwrap();
                let _ = device.ring_and_wake();
                let mut ticket = Some(ticket);
                eventually("an outcome", || {
                    ticket = device.take(ticket.take().unwrap()).err();
                    ticket.is_none()
                });
            };
            if expects {
                assert!(device.expect_wakeups());
                // The loop learns of the device here.
                serve();
            }
            for _ in 0..200 {
                serve();
            }
            let woken = u32::from(expects);
            assert_eq!(device.wakeups(), Some(woken));
            assert_eq!(count.0.load(Ordering::Relaxed), woken, "{options:?}");
            io.stop().unwrap();
            assert_eq!(count.0.load(Ordering::Relaxed), woken, "nobody sleeps");
        }
    }
}

/// Outcomes of every kind end a sleep that nothing else ends: of operations, rejections, fences, deadlines, a removal and
/// the end of the loop.
///
/// Rules: ABI-7.21, ABI-7.22, ABI-7.23.
#[test]
fn every_outcome_and_the_end_of_a_loop_wake_a_device_that_sleeps() {
    for options in ways() {
        let mut tables = Tables::new(4096, 4096);
        let (pipe, _writer) = tables.add_pipe();
        let (file, pool) = (tables.file, tables.pool);
        let builder = tables
            .builder()
            .options(options.drain_timeout(Duration::ZERO));
        let io = builder.spawn().unwrap();
        let sleep_for = |device: &DeviceQueue, request| {
            let mut ticket = device.submit(request).unwrap();
            let _ = device.ring_and_wake();
            loop {
                let before = device.arm().unwrap();
                match device.take(ticket) {
                    Ok(outcome) => return Ok(outcome.result),
                    Err(pending) => ticket = pending,
                }
                let state = device.host_state().unwrap();
                if state.is_gone() {
                    return device.take(ticket).map(|it| it.result).map_err(|_| state);
                }
                // Without a limit: a lost wake-up hangs the test.
                device.sleep_until_woken(before, None);
            }
        };
        let (host, device) = queue();
        let queue_id = io.add_queue(host).unwrap();
        assert!(device.expect_wakeups());
        let endless = Request::read(pipe, 0, 4).into_buffer(pool, 0);
        for _ in 0..20 {
            let read = Request::read(file, 0, 64).into_buffer(pool, 0);
            assert_eq!(sleep_for(&device, read), Ok(Ok(64)));
            assert_eq!(sleep_for(&device, Request::fence()), Ok(Ok(0)));
            let unknown = Request::read(vyre_ioq::FileHandle::from_raw(77), 0, 4);
            let rejected = sleep_for(&device, unknown.into_buffer(pool, 0));
            assert_eq!(rejected, Ok(Err(Errno::EBADF)));
            let late = sleep_for(&device, endless.with_deadline(500));
            assert_eq!(late, Ok(Err(Errno::ETIMEDOUT)));
        }
        std::thread::scope(|scope| {
            let lane = scope.spawn(|| sleep_for(&device, endless));
            eventually("the claim", || {
                io.queue_counters(queue_id).unwrap().claimed > 80
            });
            drop(io.remove_queue_within(queue_id, Duration::ZERO).unwrap());
            assert_eq!(lane.join().unwrap(), Ok(Err(Errno::ECANCELED)));
        });
        let (host, device) = queue();
        let second = io.add_queue(host).unwrap();
        assert!(device.expect_wakeups());
        std::thread::scope(|scope| {
            let lane = scope.spawn(|| sleep_for(&device, endless));
            eventually("the claim", || {
                io.queue_counters(second).unwrap().claimed == 1
            });
            io.stop().unwrap();
            assert_eq!(lane.join().unwrap(), Ok(Err(Errno::ECANCELED)));
        });
        // Nobody serves it any more, and nobody is left to wake the device.
        assert_eq!(
            sleep_for(&device, Request::fence()),
            Err(LoopState::Stopped)
        );
    }
}
