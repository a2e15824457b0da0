//! Loops that sleep until a device rings.

mod common;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use common::*;
use vyre_ioloop::{Engine, IoLoop, LoopGroup, LoopOptions, Rights, RingMeans, WaitPolicy};
use vyre_ioq::abi::header_word::{ASLEEP, DOORBELL};
use vyre_ioq::{DeviceQueue, Features, HostQueue, Queue, QueueLayout, Request};
use vyre_uring::{
    AnyTransport, FutexMeans, FutexWord, KernelFeatures, SimTransport, Transport, TransportChoice,
};

/// A time longer than any test takes: a loop that is not woken hangs.
const HOUR: Duration = Duration::from_secs(3600);

/// The policy of a loop that sleeps whenever there is nothing to do, until something ends the sleep.
const HOURLY: WaitPolicy = WaitPolicy::doorbell(0, HOUR);

fn layout() -> QueueLayout {
    QueueLayout::with_slots(64).with_features(Features::DOORBELL)
}

fn queue() -> (HostQueue, DeviceQueue) {
    Queue::anonymous(layout()).unwrap()
}

/// A transport, and the means by which devices wake a loop on it.
#[derive(Clone, Copy, Debug)]
struct Way {
    means: RingMeans,
    transport: TransportChoice,
    /// Features that the kernel is treated as lacking.
    without: KernelFeatures,
}

/// Returns the ways in which a loop can be woken, and says which this kernel lacks: by the waker, and by each means of
/// noticing a futex.
fn ways(test: &str) -> Vec<Way> {
    let (futex_wait, waitv) = (KernelFeatures::FUTEX_WAIT, KernelFeatures::FUTEX_WAITV);
    let [ring, pool] = [TransportChoice::Auto, TransportChoice::ThreadPool];
    let all = [
        (RingMeans::Futex, ring, KernelFeatures::empty()),
        (RingMeans::Futex, ring, futex_wait),
        (RingMeans::Futex, ring, futex_wait.union(waitv)),
        (RingMeans::Waker, ring, KernelFeatures::empty()),
        (RingMeans::Futex, pool, KernelFeatures::empty()),
        (RingMeans::Futex, pool, waitv),
        (RingMeans::Waker, pool, KernelFeatures::empty()),
    ];
    let mut seen = Vec::new();
    let mut ways = Vec::new();
    for (means, transport, without) in all {
        let way = Way {
            means,
            transport,
            without: without.union(withheld()),
        };
        // Where the kernel lacks what another way is withheld, both are the same.
        let heard = (means == RingMeans::Futex).then(|| heard_by(way));
        if seen.contains(&(transport, heard)) {
            let line = format!("SKIPPED: {test}: {way:?}: this kernel has no other means\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            continue;
        }
        seen.push((transport, heard));
        ways.push(way);
    }
    ways
}

/// Returns the means by which a transport notices a futex, and whether it waits on several at once.
fn heard_by(way: Way) -> (FutexMeans, FutexMeans) {
    let builder = AnyTransport::builder().choice(way.transport).entries(1);
    let mut transport = builder.withhold(way.without).build().unwrap();
    let word = AtomicU32::new(0);
    let word = FutexWord::new(word.as_ptr());
    let mut set = |words| {
        assert!(transport.set_futexes(words));
        transport.setup_report().futexes().unwrap()
    };
    (set(vec![word]), set(vec![word; 2]))
}

fn options(way: Way) -> LoopOptions {
    LoopOptions::new()
        .wait_policy(HOURLY)
        .rung_by(way.means)
        .transport(way.transport)
        .withhold(way.without)
}

/// The futex, on the transport that a loop takes by itself.
const BY_FUTEX: Way = Way {
    means: RingMeans::Futex,
    transport: TransportChoice::Auto,
    without: KernelFeatures::empty(),
};

/// Rings by the means of the loop. Returns whether it slept.
fn ring(io: &IoLoop, device: &DeviceQueue, way: Way) -> bool {
    match way.means {
        RingMeans::Waker => {
            let asleep = device.ring();
            if asleep {
                io.waker().unwrap().wake();
            }
            asleep
        }
        _ => device.ring_and_wake(),
    }
}

/// Runs a closure, and fails if it does not return within the limit.
fn bounded(what: impl FnOnce() + Send + 'static) {
    let (done, over) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        what();
        let _ = done.send(());
    });
    match over.recv_timeout(2 * LIMIT) {
        Err(RecvTimeoutError::Timeout) => panic!("nothing ended the sleep"),
        _ => thread.join().unwrap(),
    }
}

/// Polls for the outcome without ringing.
fn poll(device: &DeviceQueue, ticket: vyre_ioq::Ticket) -> Result<u32, vyre_ioq::Errno> {
    let mut ticket = Some(ticket);
    let mut result = Ok(0);
    eventually("an outcome", || {
        match device.take(ticket.take().unwrap()) {
            Ok(outcome) => result = outcome.result,
            Err(again) => ticket = Some(again),
        }
        ticket.is_none()
    });
    result
}

/// Waits until the loop is likely to sleep. It sleeps as soon as there is nothing to do.
fn asleep(io: &IoLoop) {
    eventually("a sleep", || io.counters().sleeps > 0);
    std::thread::sleep(Duration::from_millis(2));
}

/// Rules: ABI-7.7, ABI-7.8, ABI-7.9, ABI-7.19.
#[test]
fn a_ring_on_any_queue_ends_the_sleep() {
    for way in ways("a_ring_on_any_queue_ends_the_sleep") {
        bounded(move || {
            let tables = Tables::new(4096, 4096);
            let (file, pool) = (tables.file, tables.pool);
            let queues = [(); 3].map(|()| queue());
            let mut builder = tables.builder().options(options(way));
            let mut devices = Vec::new();
            for (host, device) in queues {
                builder = builder.queue(host);
                devices.push(device);
            }
            let io = builder.spawn().unwrap();
            for _ in 0..20 {
                for device in &devices {
                    asleep(&io);
                    let read = Request::read(file, 0, 64).into_buffer(pool, 0);
                    let ticket = device.submit(read).unwrap();
                    ring(&io, device, way);
                    assert_eq!(poll(device, ticket), Ok(64));
                }
            }
            io.stop().unwrap();
        });
    }
}

#[test]
fn what_ends_every_sleep_ends_this_one() {
    for way in ways("what_ends_every_sleep_ends_this_one") {
        bounded(move || {
            let mut tables = Tables::new(4096, 4096);
            let (pipe, mut writer) = tables.add_pipe();
            let pool = tables.pool;
            let (host, device) = queue();
            let io = tables
                .builder()
                .queue(host)
                .options(options(way))
                .spawn()
                .unwrap();
            for round in 0..3 {
                // A table change.
                asleep(&io);
                let added = io.insert_file(file_of(b"abc"), 0..3, Rights::READ).unwrap();
                io.revoke_file(added).unwrap();
                // A completion.
                let read = Request::read(pipe, 0, 4).into_buffer(pool, 0);
                let ticket = device.submit(read).unwrap();
                ring(&io, &device, way);
                eventually("the claim", || {
                    io.queue_counters(0).unwrap().claimed > 2 * round
                });
                asleep(&io);
                writer.write_all(b"data").unwrap();
                assert_eq!(poll(&device, ticket), Ok(4));
                // A deadline.
                let ticket = device.submit(read.with_deadline(5_000)).unwrap();
                ring(&io, &device, way);
                assert_eq!(poll(&device, ticket), Err(vyre_ioq::Errno::ETIMEDOUT));
            }
            // A shutdown.
            asleep(&io);
            io.stop().unwrap();
        });
    }
}

#[test]
fn a_group_s_loops_are_woken_one_by_one() {
    for way in ways("a_group_s_loops_are_woken_one_by_one") {
        bounded(move || {
            let tables = Tables::new(4096, 4096);
            let (files, buffers) = (tables.files, tables.buffers);
            let mut builder = LoopGroup::builder().loops(2).options(options(way));
            let mut devices = Vec::new();
            for _ in 0..2 {
                let (host, device) = queue();
                builder = builder.queue(host);
                devices.push(device);
            }
            let group = builder.files(files).buffers(buffers).spawn().unwrap();
            for _ in 0..10 {
                for (index, device) in devices.iter().enumerate() {
                    let ticket = device.submit(Request::fence()).unwrap();
                    let waker = group.waker(group.loop_of(index).unwrap()).unwrap();
                    match way.means {
                        RingMeans::Waker if device.ring() => waker.wake(),
                        _ => drop(device.ring_and_wake()),
                    }
                    assert_eq!(poll(device, ticket), Ok(0));
                }
            }
            let guard = group.active();
            let ticket = devices[1].submit(Request::fence()).unwrap();
            assert_eq!(poll(&devices[1], ticket), Ok(0), "nobody rang");
            drop(guard);
            group.stop().unwrap();
        });
    }
}

/// Another process has nothing but the memory of the queue and the eventfd.
#[test]
fn the_eventfd_wakes_as_the_waker_does() {
    for transport in [TransportChoice::Auto, TransportChoice::ThreadPool] {
        bounded(move || {
            let (host, device) = queue();
            let builder = Tables::new(16, 64).builder().queue(host);
            let way = Way {
                means: RingMeans::Waker,
                transport,
                ..BY_FUTEX
            };
            let io = builder.options(options(way)).spawn().unwrap();
            let theirs = io.wake_fd().unwrap().try_clone_to_owned().unwrap();
            let mut theirs = std::fs::File::from(theirs);
            for _ in 0..10 {
                asleep(&io);
                let ticket = device.submit(Request::fence()).unwrap();
                if device.ring() {
                    theirs.write_all(&1_u64.to_ne_bytes()).unwrap();
                }
                assert_eq!(poll(&device, ticket), Ok(0));
            }
            io.stop().unwrap();
            let (host, _device) = queue();
            let io = Tables::new(16, 64).builder().queue(host).spawn().unwrap();
            assert!(io.wake_fd().is_none(), "by futex");
            io.stop().unwrap();
        });
    }
}

/// More queues than one call of the kernel waits on: a ring on any of them ends the sleep, by whatever means.
#[test]
fn a_loop_hears_more_queues_than_one_call_waits_on() {
    let test = "a_loop_hears_more_queues_than_one_call_waits_on";
    let by_futex = |way: &Way| way.means == RingMeans::Futex;
    for way in ways(test).into_iter().filter(by_futex) {
        bounded(move || {
            let mut builder = Tables::new(16, 64).builder().options(options(way));
            let mut devices = Vec::new();
            for _ in 0..130 {
                let layout = QueueLayout::with_slots(1).with_features(Features::DOORBELL);
                let (host, device) = Queue::anonymous(layout).unwrap();
                builder = builder.queue(host);
                devices.push(device);
            }
            let io = builder.spawn().unwrap();
            let heard = io.report().futexes().unwrap();
            println!("{way:?}: {heard}");
            // Where a relay waits on one queue alone, there are too few of them, and the loop polls.
            let polls = heard_by(way).1 == FutexMeans::Relays(2);
            assert_eq!(heard == FutexMeans::Nothing, polls, "{heard}");
            for device in devices.iter().step_by(43) {
                asleep(&io);
                let ticket = device.submit(Request::fence()).unwrap();
                ring(&io, device, way);
                assert_eq!(poll(device, ticket), Ok(0));
            }
            io.stop().unwrap();
        });
    }
}

/// A device that does not know the feature does not ring.
///
/// Rule: ABI-7.9.
#[test]
fn a_request_that_nobody_rings_for_is_found_at_the_bound() {
    let (host, device) = queue();
    let policy = WaitPolicy::doorbell(0, Duration::from_millis(20));
    let builder = Tables::new(16, 64).builder().queue(host);
    let options = loop_options().wait_policy(policy);
    let io = builder.options(options).spawn().unwrap();
    for _ in 0..5 {
        let beat = device.host_heartbeat();
        let ticket = device.submit(Request::fence()).unwrap();
        assert_eq!(poll(&device, ticket), Ok(0));
        eventually("a beat", || device.host_heartbeat() != beat);
    }
    io.stop().unwrap();
}

/// One queue that offers no doorbell keeps the loop from sleeping for long.
#[test]
fn a_queue_without_a_doorbell_is_polled() {
    bounded(|| {
        let plain = || Queue::anonymous(QueueLayout::with_slots(8)).unwrap();
        let bare = || Queue::anonymous(QueueLayout::bare(8).with_counts()).unwrap();
        for (other, device) in [plain(), bare()] {
            let (host, ringing) = queue();
            let builder = Tables::new(16, 64).builder().queue(other).queue(host);
            let io = builder.options(options(BY_FUTEX)).spawn().unwrap();
            for _ in 0..5 {
                for device in [&device, &ringing] {
                    asleep(&io);
                    let ticket = device.submit(Request::fence()).unwrap();
                    assert_eq!(poll(device, ticket), Ok(0), "nobody rang");
                }
            }
            io.stop().unwrap();
        }
    });
}

/// The device of this test stands for a GPU: it does not ring.
#[test]
fn a_guard_keeps_the_loop_awake_for_devices_that_cannot_ring() {
    bounded(|| {
        let (host, device) = queue();
        let builder = Tables::new(16, 64).builder().queue(host);
        let io = builder.options(options(BY_FUTEX)).spawn().unwrap();
        for _ in 0..3 {
            asleep(&io);
            let (guard, another) = (io.active(), io.active());
            drop(another);
            for _ in 0..5 {
                let ticket = device.submit(Request::fence()).unwrap();
                assert_eq!(poll(&device, ticket), Ok(0));
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(guard);
            // It sleeps for long again. Each sleep of a loop with a guard ends within milliseconds.
            eventually("a long sleep", || {
                let before = io.counters().sleeps;
                std::thread::sleep(Duration::from_millis(200));
                io.counters().sleeps == before
            });
        }
        io.stop().unwrap();
    });
}

/// While the loop is awake, no device makes a system call for it.
///
/// Rule: ABI-7.8.
#[test]
fn nobody_rings_while_the_loop_is_awake() {
    for policy in [WaitPolicy::Spin, WaitPolicy::doorbell(u32::MAX, HOUR)] {
        let (host, device) = queue();
        let builder = Tables::new(16, 64).builder().queue(host);
        let options = loop_options().wait_policy(policy);
        let io = builder.options(options).spawn().unwrap();
        for _ in 0..1_000 {
            let ticket = device.submit(Request::fence()).unwrap();
            assert!(!device.ring_and_wake());
            assert_eq!(outcome_of(&device, ticket), Ok(0));
        }
        assert_eq!(device.doorbell(), 0, "nobody rang");
        io.stop().unwrap();
    }
}

/// The default policy asks for rings, too, once its sleeps are long enough.
#[test]
fn the_adaptive_policy_announces_long_sleeps() {
    for way in ways("the_adaptive_policy_announces_long_sleeps") {
        let (host, device) = queue();
        let options = options(way).wait_policy(WaitPolicy::ADAPTIVE);
        let builder = Tables::new(16, 64).builder().queue(host);
        let io = builder.options(options).spawn().unwrap();
        eventually("a ring", || {
            // The loop polls for a number of passes, however long each takes. From then on its sleeps grow with the quiet
            // time.
            let before = io.counters().sleeps;
            eventually("sleeps", || io.counters().sleeps > before + 2);
            std::thread::sleep(Duration::from_millis(5));
            let ticket = device.submit(Request::fence()).unwrap();
            ring(&io, &device, way);
            assert_eq!(outcome_of(&device, ticket), Ok(0));
            device.doorbell() != 0
        });
        io.stop().unwrap();
    }
}

/// A device that rings without end, and stores anything to the words of the doorbell, neither stops the loop nor starves
/// another queue. It only keeps the loop awake.
///
/// Rules: SEC-5, SEC-12.
#[test]
fn a_device_that_rings_without_end_starves_nobody() {
    for way in ways("a_device_that_rings_without_end_starves_nobody") {
        bounded(move || {
            let tables = Tables::new(4096, 4096);
            let (file, pool) = (tables.file, tables.pool);
            let memory = Slots::new(layout().bytes(), 1024, 16);
            let (hostile_host, _) = Queue::in_region(memory.region(), layout()).unwrap();
            let hostile = DeviceQueue::attach(memory.region()).unwrap();
            let (host, device) = queue();
            let builder = tables.builder().queue(hostile_host).queue(host);
            let io = builder.options(options(way)).spawn().unwrap();
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut dice = 1_u32;
                    while !done.load(Ordering::Relaxed) {
                        memory.store_header(ASLEEP, 1);
                        ring(&io, &hostile, way);
                        dice = dice.wrapping_mul(0x915f_77f5).wrapping_add(1);
                        memory.store_header(DOORBELL, dice);
                        memory.store_header(ASLEEP, dice);
                    }
                });
                for _ in 0..500 {
                    let read = Request::read(file, 0, 64).into_buffer(pool, 0);
                    let ticket = device.submit(read).unwrap();
                    ring(&io, &device, way);
                    assert_eq!(poll_now(&device, ticket), Ok(64));
                }
                io.insert_file(file_of(b"abc"), 0..3, Rights::READ).unwrap();
                done.store(true, Ordering::Relaxed);
            });
            assert_eq!(io.queue_counters(0).unwrap().device_faults, 0);
            // Nobody rings any more: it sleeps, and hears the honest device.
            asleep(&io);
            let ticket = device.submit(Request::fence()).unwrap();
            ring(&io, &device, way);
            assert_eq!(poll(&device, ticket), Ok(0));
            io.stop().unwrap();
        });
    }
}

/// Polls without ringing and without sleeping.
fn poll_now(device: &DeviceQueue, ticket: vyre_ioq::Ticket) -> Result<u32, vyre_ioq::Errno> {
    let (mut ticket, end) = (ticket, Instant::now() + LIMIT);
    loop {
        match device.take(ticket) {
            Ok(outcome) => return outcome.result,
            Err(again) => ticket = again,
        }
        assert!(Instant::now() < end, "no outcome");
        std::thread::yield_now();
    }
}

/// The pass after the announcement serves what a device published before it, and the loop does not sleep.
#[test]
fn an_engine_does_not_sleep_on_a_request() {
    let tables = Tables::new(16, 64);
    let (host, device) = queue();
    let mut engine: Engine<SimTransport> =
        tables.engine(SimTransport::builder(1).build(), vec![host]);
    assert!(engine.listen(RingMeans::Futex));
    let ticket = device.submit(Request::fence()).unwrap();
    assert_eq!(engine.wait_for_rings(HOUR).claimed, 1);
    assert_eq!(engine.counters().sleeps, 0);
    assert!(device.take(ticket).is_ok());
    assert!(engine.wait_for_rings(HOUR).is_idle());
    assert_eq!(engine.counters().sleeps, 1);
    assert!(!device.ring(), "it is awake again");
}

/// A lane and a loop that sleeps whenever it can, for so many requests. No wake-up may be lost, since no sleep has a bound
/// that is reached: the request after the lost one would wait for an hour. `VYRE_IO_ROUNDS` sets the number of rounds.
///
/// Rules: ABI-7.7, ABI-7.8, ABI-7.10, ABI-7.19.
#[test]
fn no_wake_up_is_lost_in_many_rounds() {
    let rounds: u64 = match std::env::var("VYRE_IO_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("a number of rounds"),
        Err(_) => 20_000,
    };
    for way in ways("no_wake_up_is_lost_in_many_rounds") {
        let (host, device) = queue();
        let builder = Tables::new(16, 64).builder().queue(host);
        let io = builder.options(options(way)).spawn().unwrap();
        let device = Arc::new(device);
        let (mut rung, mut dice) = (0_u64, 0x2545_f491_u32);
        for round in 0..rounds {
            // So that rounds begin at every point of the loop's way into its sleep.
            dice = dice.wrapping_mul(0x915f_77f5).wrapping_add(1);
            for _ in 0..dice >> 22 {
                std::hint::spin_loop();
            }
            let ticket = device.submit(Request::fence()).unwrap();
            let asleep = ring(&io, &device, way);
            rung += u64::from(asleep);
            let (mut ticket, mut polls) = (ticket, 0_u64);
            while let Err(again) = device.take(ticket) {
                ticket = again;
                polls += 1;
                match polls {
                    0..1_000 => std::hint::spin_loop(),
                    1_000..100_000 => std::thread::yield_now(),
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
                assert!(
                    polls < 130_000,
                    "round {round}: a wake-up was lost after {rung} rings"
                );
            }
        }
        println!(
            "{way:?}: {rounds} rounds, {rung} rings, {} sleeps",
            io.counters().sleeps
        );
        assert!(rung > 0, "never asleep");
        io.stop().unwrap();
    }
}
