//! Queues that are added to running loops, and removed from them.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::faulty::Faulty;
use common::live::{plain, watched, ways};
use common::*;
use vyre_ioloop::{IoLoop, LoopGroup, QueueError, QueueId, shared_queue};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, Features, FileHandle, HostQueue, LoopState, QueueLayout,
    Region, Request,
};
use vyre_uring::{Buffer, SimTransport};

/// Rules: ABI-7.1, ABI-7.7, ABI-7.9, ABI-7.19.
#[test]
fn queues_of_every_kind_come_and_go_whatever_the_loop_does() {
    let rings = QueueLayout::with_slots(64).with_features(Features::DOORBELL);
    for options in ways() {
        let tables = Tables::new(4096, 4096);
        let (file, pool) = (tables.file, tables.pool);
        let io = tables.builder().options(options).spawn().unwrap();
        let read = Request::read(file, 0, 64).into_buffer(pool, 0);
        for round in 0..3 {
            // Own memory. A loop that sleeps until it is rung hears the new device.
            let (host, device, freed) = watched(rings);
            let own = io.add_queue(host).unwrap();
            assert_eq!(device.host_state(), Some(LoopState::Running));
            // Another process's, which maps the same memory.
            let (host, memfd) = shared_queue(rings).unwrap();
            let shared = io.add_queue(host).unwrap();
            let memory = Buffer::from_memfd(memfd).unwrap();
            let theirs = DeviceQueue::attach(region_of(memory)).unwrap();
            for device in [&device, &theirs] {
                std::thread::sleep(Duration::from_millis(2));
                let ticket = device.submit(read).unwrap();
                assert_eq!(outcome_of(device, ticket), Ok(64), "{options:?}");
            }
            // Bare, from a device of vyre 0.7, which does not ring.
            let (host, old, old_freed) = watched(QueueLayout::bare(8));
            let bare = io.add_queue(host).unwrap();
            let ticket = old.submit(read).unwrap();
            assert_eq!(outcome_of(&old, ticket).map(drop), Ok(()), "{options:?}");
            assert_eq!(
                [own, shared, bare].map(QueueId::raw),
                [0, 1, 2].map(|number| 3 * round + number)
            );

            let removed = io.remove_queue(bare).unwrap();
            assert_eq!(removed.counters.claimed, 1);
            drop((removed, old));
            assert!(
                old_freed.load(Ordering::Acquire),
                "the memory is given back"
            );
            let removed = io.remove_queue(own).unwrap();
            assert_eq!(
                (removed.counters.succeeded, removed.counters.failed),
                (1, 0)
            );
            assert_eq!(device.host_state(), Some(LoopState::Stopped));
            // The others are served, and heard.
            std::thread::sleep(Duration::from_millis(2));
            let ticket = theirs.submit(read).unwrap();
            assert_eq!(outcome_of(&theirs, ticket), Ok(64));
            let late = device.submit(read).unwrap();
            assert!(device.wait_for(late, LIMIT).is_err(), "nobody serves it");
            drop((removed, device));
            assert!(freed.load(Ordering::Acquire), "the memory is given back");
            drop(io.remove_queue(shared).unwrap());
        }
        assert_eq!(io.counters().stray, 0);
        io.stop().unwrap();
    }
}

struct Pipes {
    io: IoLoop,
    pipe: FileHandle,
    file: FileHandle,
    pool: BufferHandle,
    writer: std::io::PipeWriter,
}

/// A loop with a pipe, reads of which wait.
fn pipes() -> Pipes {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let io = tables.builder().spawn().unwrap();
    Pipes {
        io,
        pipe,
        file,
        pool,
        writer,
    }
}

#[test]
fn a_removal_lets_claimed_requests_end_and_then_cancels_them_and_disturbs_no_other_queue() {
    use std::io::Write;

    let Pipes {
        io,
        pipe,
        file,
        pool,
        mut writer,
    } = pipes();
    let (host, other) = plain();
    let stays = io.add_queue(host).unwrap();
    let endless = Request::read(pipe, 0, 4).into_buffer(pool, 0);
    for waits in [true, false] {
        let (host, device) = plain();
        let queue = io.add_queue(host).unwrap();
        let before = io.queue_counters(stays).unwrap().claimed;
        let theirs = other.submit(endless).unwrap();
        let ours = device.submit(endless).unwrap();
        let fence = device.submit(Request::fence()).unwrap();
        let io = &io;
        let claimed = |queue| io.queue_counters(queue).unwrap().claimed;
        eventually("the claims", || {
            claimed(queue) == 2 && claimed(stays) > before
        });
        std::thread::scope(|scope| {
            let timeout = if waits {
                LIMIT
            } else {
                Duration::from_millis(20)
            };
            let removal = scope.spawn(move || io.remove_queue_within(queue, timeout));
            let draining = Some(LoopState::Draining);
            let over = Some(LoopState::Stopped);
            eventually("the drain", || {
                let state = device.host_state();
                state == draining || (!waits && state == over)
            });
            let read = Request::read(file, 0, 64).into_buffer(pool, 64);
            if waits {
                let late = device.submit(read).unwrap();
                assert_eq!(outcome_of(&device, late), Err(Errno::ECANCELED));
                assert_eq!(
                    io.remove_queue(queue).unwrap_err(),
                    QueueError::Unknown { queue },
                    "another thread is at it"
                );
                // One for each of the two reads.
                writer.write_all(b"abcdefgh").unwrap();
                assert_eq!(outcome_of(&device, ours), Ok(4));
            } else {
                assert_eq!(outcome_of(&device, ours), Err(Errno::ECANCELED));
                assert!(other.poll(&theirs).is_none(), "it is another's");
                writer.write_all(b"abcd").unwrap();
            }
            assert_eq!(outcome_of(&device, fence), Ok(0));
            assert_eq!(outcome_of(&other, theirs), Ok(4));
            let ticket = other.submit(read).unwrap();
            assert_eq!(outcome_of(&other, ticket), Ok(64));
            let removed = removal.join().unwrap().unwrap();
            assert_eq!(removed.queue.owed(), 0);
            assert_eq!(device.host_state(), over);
        });
        assert_eq!(io.queue_counters(queue), None);
    }
    io.stop().unwrap();
}

#[test]
fn what_cannot_be_added_or_removed_is_a_typed_error() {
    let io = Tables::new(16, 64)
        .builder()
        .options(loop_options().ring_entries(4))
        .spawn()
        .unwrap();
    let queue = |number: usize| QueueId::from(number);
    let unknown = |number| QueueError::Unknown {
        queue: queue(number),
    };
    assert_eq!(io.remove_queue(0).unwrap_err(), unknown(0));
    let memory = Region::allocate(2 * layout(4).bytes()).unwrap();
    let host = || HostQueue::create(memory.clone(), &layout(4)).unwrap();
    let first = io.add_queue(host()).unwrap();
    let twice = io.add_queue(host()).unwrap_err();
    assert_eq!(twice, QueueError::Overlaps { queue: first });
    let mut owes = plain();
    let _ticket = owes.1.submit(Request::fence()).unwrap();
    assert_eq!(owes.0.claim_published(0..16, drop), 1);
    let claimed = io.add_queue(owes.0).unwrap_err();
    assert_eq!(claimed, QueueError::Claimed { requests: 1 });
    assert_eq!(owes.1.host_state(), Some(LoopState::Failed));
    let (second, device) = plain();
    let second = io.add_queue(second).unwrap();
    let full = io.add_queue(plain().0).unwrap_err();
    assert_eq!(full, QueueError::Full { most: 2 });
    assert!(full.to_string().contains("ring_entries"), "{full}");

    let removed = io.remove_queue(second).unwrap();
    assert_eq!(
        io.remove_queue(second).unwrap_err(),
        unknown(second.raw() as usize)
    );
    let state = LoopState::Stopped;
    let gone = io.add_queue(removed.queue).unwrap_err();
    assert_eq!(gone, QueueError::Gone { state });
    assert_eq!(device.host_state(), Some(state), "it stays");
    // There is room again, and the number of a removed queue names no other one.
    let third = io.add_queue(plain().0).unwrap();
    assert!(third > second);
    assert_eq!(io.queue_counters(second), None);
    assert_eq!(
        io.remove_queue(second).unwrap_err(),
        unknown(second.raw() as usize)
    );
    io.stop().unwrap();
}

/// A loop that ends answers everybody.
#[test]
fn a_loop_that_has_ended_or_ends_meanwhile_says_so() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).stuck(1.0).build());
    let io = tables.builder().spawn_with(move |_| faulty).unwrap();
    let (host, device) = plain();
    let queue = io.add_queue(host).unwrap();
    let read = Request::read(file, 0, 4).into_buffer(pool, 0);
    let ticket = device.submit(read).unwrap();
    eventually("the claim", || {
        io.queue_counters(queue).unwrap().claimed == 1
    });
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| io.remove_queue_within(queue, LIMIT));
        let draining = Some(LoopState::Draining);
        eventually("the drain", || device.host_state() == draining);
        orders.panic_in_submit.store(true, Ordering::Relaxed);
        assert_eq!(removal.join().unwrap().unwrap_err(), QueueError::Ended);
    });
    assert_eq!(outcome_of(&device, ticket), Err(Errno::ECANCELED));
    let (host, device) = plain();
    assert_eq!(io.add_queue(host).unwrap_err(), QueueError::Ended);
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    assert_eq!(io.remove_queue(queue).unwrap_err(), QueueError::Ended);
    assert!(io.stop().is_err(), "it panicked");
}

#[test]
fn a_group_gives_a_new_queue_to_the_loop_with_the_fewest() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let group = LoopGroup::builder()
        .loops(3)
        .files(tables.files)
        .buffers(tables.buffers)
        .options(loop_options())
        .queue_on(0, plain().0)
        .spawn()
        .unwrap();
    let memory = Region::allocate(layout(4).bytes()).unwrap();
    let host = || HostQueue::create(memory.clone(), &layout(4)).unwrap();
    let chosen = group.add_queue_on(2, host()).unwrap();
    let elsewhere = group.add_queue_on(1, host()).unwrap_err();
    assert_eq!(elsewhere, QueueError::Overlaps { queue: chosen });
    let (queue, device) = plain();
    let second = group.add_queue(queue).unwrap();
    let loops = [0.into(), chosen, second].map(|queue: QueueId| group.loop_of(queue));
    assert_eq!(loops, [Some(0), Some(2), Some(1)]);
    let read = Request::read(file, 0, 64).into_buffer(pool, 0);
    let ticket = device.submit(read).unwrap();
    assert_eq!(outcome_of(&device, ticket), Ok(64));
    // Counters lag by a pass.
    eventually("it is counted", || {
        group.queue_counters(second).unwrap().succeeded == 1
    });
    drop(group.remove_queue(chosen).unwrap());
    let unknown = QueueError::Unknown { queue: chosen };
    assert_eq!(group.remove_queue(chosen).unwrap_err(), unknown);
    assert_eq!(
        (group.loop_of(chosen), group.queue_counters(chosen)),
        (None, None)
    );
    // Its memory is free, and its loop has the fewest.
    let third = group.add_queue(host()).unwrap();
    assert_eq!(group.loop_of(third), Some(2));
    let nowhere = group.add_queue_on(3, plain().0).unwrap_err();
    assert_eq!(nowhere, QueueError::NoSuchLoop { index: 3, loops: 3 });
    group.stop().unwrap();
}
