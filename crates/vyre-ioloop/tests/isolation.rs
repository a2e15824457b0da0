//! A device has access to the ranges of its handles and nothing else, and harms no other device.

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use common::faulty::Faulty;
use common::live::plain;
use common::*;
use vyre_ioloop::{
    BufferOptions, FileOptions, IoLoopBuilder, LoopGroup, LoopGroupBuilder, QueueId, Rights,
};
use vyre_ioq::abi::{op, status, word};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, NotOwed, Queue, Request};
use vyre_uring::SimTransport;

/// Rule: SEC-1.
#[test]
fn a_descriptor_number_is_not_a_handle() {
    let tables = Tables::new(16, 4096);
    let secret = file_of(b"secret");
    let number = secret.as_raw_fd() as u32;
    let (granted, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let mut rig = tables.on_transport(8, 4);
    assert_ne!(number, granted.raw());
    // That descriptor, and every other that may be open.
    for number in std::iter::once(number).chain(0..1100) {
        let handle = FileHandle::from_raw(number);
        if handle != granted {
            let read = Request::read(handle, 0, 6).into_buffer(pool, 0);
            assert_eq!(rig.run(read), Err(Errno::EBADF), "descriptor {number}");
            let write = Request::write(handle, 0, 6).from_buffer(pool, 0);
            assert_eq!(rig.run(write), Err(Errno::EBADF), "descriptor {number}");
        }
    }
    assert_eq!(contents(&memory, 0, 6), [0; 6]);
}

/// Rule: SEC-2.
#[test]
fn a_read_cannot_run_into_the_next_buffer_handle() {
    let mut tables = Tables::new(8192, 64);
    let pages = memory(4 * 256);
    pages.write_at(0, &[0xee; 1024]).unwrap();
    let all = Rights::READ | Rights::WRITE;
    let handles = tables
        .buffers
        .insert_pages(pages.clone(), 256, all)
        .unwrap();
    let file = tables.file;
    let mut rig = tables.on_transport(8, 4);
    for (count, offset) in [(257, 0), (256, 1), (1, 256), (8192, 0), (1, u64::MAX)] {
        let read = Request::read(file, 0, count).into_buffer(handles[1], offset);
        assert_eq!(rig.run(read), Err(Errno::ERANGE), "{count} at {offset}");
    }
    assert_eq!(contents(&pages, 0, 1024), [0xee; 1024]);
    assert_eq!(
        rig.run(Request::read(file, 0, 256).into_buffer(handles[1], 0)),
        Ok(256)
    );
    assert_eq!(contents(&pages, 256, 256), pattern(1, 256));
    assert_eq!(contents(&pages, 0, 256), [0xee; 256]);
    assert_eq!(contents(&pages, 512, 512), [0xee; 512]);
}

/// Bytes outside the range of the handle can be neither read nor written.
///
/// Rules: ABI-6.1, SEC-2.
#[test]
fn a_request_cannot_leave_the_range_of_its_file_handle() {
    let mut tables = Tables::new(4096, 4096);
    let disk = tables.disk.try_clone().unwrap();
    let part = disk.try_clone().unwrap();
    let part = tables
        .files
        .insert_range(part, 1000..1100, Rights::all())
        .unwrap();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let mut rig = tables.on_transport(8, 4);
    for (offset, count) in [
        (0, 101),
        (100, 1),
        (101, 0),
        (u64::MAX, 2),
        (u64::MAX - 999, 1),
    ] {
        let read = Request::read(part, offset, count).into_buffer(pool, 0);
        assert_eq!(rig.run(read), Err(Errno::ERANGE), "{count} at {offset}");
        let write = Request::write(part, offset, count).from_buffer(pool, 0);
        assert_eq!(rig.run(write), Err(Errno::ERANGE), "{count} at {offset}");
        let ahead = Request::prefetch(part, offset, count);
        assert_eq!(rig.run(ahead), Err(Errno::ERANGE), "{count} at {offset}");
    }
    assert_eq!(
        rig.run(Request::read(part, 1, 99).into_buffer(pool, 0)),
        Ok(99)
    );
    let expected = pattern(1, 4096);
    assert_eq!(contents(&memory, 0, 99), expected[1001..1100]);
    memory.write_at(0, &[0xee; 100]).unwrap();
    assert_eq!(
        rig.run(Request::write(part, 0, 100).from_buffer(pool, 0)),
        Ok(100)
    );
    let mut now = vec![0; 4096];
    disk.read_exact_at(&mut now, 0).unwrap();
    assert_eq!(now[..1000], expected[..1000]);
    assert_eq!(now[1000..1100], [0xee; 100]);
    assert_eq!(now[1100..], expected[1100..]);
}

/// A running loop and a queue of 64 slots: one odd request among 63 good reads.
fn one_among_good_ones(tables: Tables, odd: Request, errno: Errno) {
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(layout(64)).unwrap();
    let io = tables.loop_on(host);
    for round in 0..3 {
        let tickets: Vec<_> = (0..64_u64)
            .map(|n| match n {
                20 => device.submit(odd).unwrap(),
                n => device
                    .submit(Request::read(file, n * 64, 64).into_buffer(pool, n * 64))
                    .unwrap(),
            })
            .collect();
        for (n, ticket) in tickets.into_iter().enumerate() {
            let expected = if n == 20 { Err(errno) } else { Ok(64) };
            assert_eq!(outcome_of(&device, ticket), expected, "round {round}, {n}");
        }
    }
    let read = contents(&memory, 0, 4096);
    let expected = pattern(1, 4096);
    assert_eq!(read[..20 * 64], expected[..20 * 64]);
    assert_eq!(read[21 * 64..], expected[21 * 64..]);
    io.stop().unwrap();
}

/// Rule: ABI-6.18.
#[test]
fn an_unknown_handle_fails_one_request_and_the_rest_are_served() {
    let tables = Tables::new(4096, 4096);
    let unknown = Request::read(FileHandle::from_raw(777), 0, 64).into_buffer(tables.pool, 0);
    one_among_good_ones(tables, unknown, Errno::EBADF);
    let tables = Tables::new(4096, 4096);
    let unknown = Request::read(tables.file, 0, 64).into_buffer(BufferHandle::from_raw(777), 0);
    one_among_good_ones(tables, unknown, Errno::EBADF);
}

/// Rule: ABI-6.18.
#[test]
fn a_count_past_the_buffer_fails_one_request_and_the_rest_are_served() {
    for (count, offset) in [(4097, 0), (u32::MAX, 0), (1, 4096), (64, u64::MAX)] {
        let tables = Tables::new(4096, 4096);
        let long = Request::read(tables.file, 0, count).into_buffer(tables.pool, offset);
        one_among_good_ones(tables, long, Errno::ERANGE);
    }
}

/// Rule: ABI-4.16.
#[test]
fn a_device_that_overwrites_a_claimed_slot_harms_only_itself() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(64);
    let io = tables.loop_on(host);
    for garbage in [status::EMPTY, status::OK, status::PUBLISHED, 0xdead_beef] {
        let before = io.queue_counters(0).unwrap();
        slots.publish(3, &Request::read(pipe, 0, 4).into_buffer(pool, 0));
        eventually("the claim", || {
            io.queue_counters(0).unwrap().claimed == before.claimed + 1
        });
        slots.store(3, word::STATUS, garbage);
        for slot in 4..20 {
            slots.publish(slot, &Request::read(file, 0, 64).into_buffer(pool, 64));
        }
        for slot in 4..20 {
            eventually("a good read", || slots.outcome(slot) == Some(Ok(64)));
        }
        writer.write_all(b"data").unwrap();
        eventually("the first outcome", || slots.outcome(3) == Some(Ok(4)));
        // The slot of a request in service may say PUBLISHED.
        let faults = before.device_faults + u64::from(garbage != status::PUBLISHED);
        eventually("the count of faults", || {
            io.queue_counters(0).unwrap().device_faults == faults
        });
        let claimed = io.queue_counters(0).unwrap().claimed - before.claimed;
        assert_eq!(claimed, 17, "over {garbage:#x}");
        for slot in 3..20 {
            slots.store(slot, word::STATUS, status::EMPTY);
        }
    }
    io.stop().unwrap();
}

/// Every handle, operation and status in turn.
///
/// Rules: ABI-6.18, SEC-5.
#[test]
fn a_device_that_publishes_random_words_does_not_stop_the_others() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    let (hostile, hostile_host, _end) = Slots::queue(64);
    let (host, device) = Queue::anonymous(layout(64)).unwrap();
    let builder = tables.builder().queue(hostile_host).queue(host);
    let io = builder.spawn().unwrap();
    let mut noise = pattern(99, 1 << 16).into_iter().cycle();
    let mut word_of_noise = || u32::from_le_bytes([0; 4].map(|_| noise.next().unwrap()));
    for round in 0..200_u64 {
        for slot in 0..64 {
            let mut words = [0_u32; 16].map(|_| word_of_noise());
            if slot % 2 == 0 {
                // Nearly valid.
                words[word::OP] = op::READ + slot % 5;
                words[10..].fill(0);
            }
            // No write goes to the file that the good requests read.
            words[word::DESTINATION] |= 1 << 31;
            words[word::SOURCE] |= 1 << 31;
            hostile.publish_words(slot, &words);
            hostile.store(
                slot,
                word::STATUS,
                [1, 1, 0x10, 2, 77][(round % 5) as usize],
            );
        }
        let read = Request::read(file, round, 16).into_buffer(pool, 0);
        let ticket = device.submit(read).unwrap();
        assert_eq!(outcome_of(&device, ticket), Ok(16));
    }
    let mut still = vec![0; 4096];
    disk.read_exact_at(&mut still, 0).unwrap();
    assert_eq!(still, pattern(1, 4096));
    io.stop().unwrap();
}

/// The device stores in the slot while the operation is in flight: that has no effect.
///
/// Rules: ABI-1.6, SEC-4.
#[test]
fn a_slot_in_service_is_not_claimed_again() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (slots, host, _device) = Slots::queue(4);
    let mut engine = tables.engine(transport(8), vec![host]);
    slots.publish(0, &Request::read(pipe, 0, 4).into_buffer(pool, 0));
    linger(&mut engine);
    slots.store(0, word::STATUS, status::EMPTY);
    slots.publish(0, &Request::read(file, 0, 100).into_buffer(pool, 1000));
    linger(&mut engine);
    assert_eq!(engine.queue_counters(0).unwrap().claimed, 1);
    assert_eq!(slots.outcome(0), None);
    writer.write_all(b"data").unwrap();
    linger(&mut engine);
    assert_eq!(slots.outcome(0), Some(Ok(4)), "the outcome of the first");
    assert_eq!(contents(&memory, 1000, 100), [0; 100]);
    assert_eq!(engine.outstanding(), 0);
}

/// A completion that comes late, or twice, is not taken for that of the present request.
///
/// Rule: SEC-4.
#[test]
fn a_stale_completion_does_not_complete_the_next_request_of_the_slot() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let sim = SimTransport::builder(1).max_latency(50).build();
    let (faulty, orders) = Faulty::new(sim);
    let mut rig = tables.on(faulty, 1);
    assert_eq!(
        rig.run(Request::read(file, 0, 64).into_buffer(pool, 0)),
        Ok(64)
    );
    orders.replay.store(true, Ordering::Relaxed);
    let _ = rig.engine.step();
    assert!(rig.engine.counters().stray > 0, "an empty slot");
    // The same slot, and other bytes. The old completion is delivered again in every pass.
    let next = rig.submit(Request::read(file, 4000, 64).into_buffer(pool, 0).exact());
    assert_eq!(rig.wait(next).result, Ok(64));
    let read = contents(&memory, 0, 64);
    assert_eq!(read, pattern(1, 4096)[4000..4064], "completed too early");
    assert_eq!(rig.engine.queue_counters(0).unwrap().bytes_read, 128);
    assert_eq!(rig.engine.outstanding(), 0);
}

/// The queue returns an error, and no counter wraps around.
///
/// Rule: ABI-4.11.
#[test]
fn an_outcome_that_is_not_owed_is_refused() {
    let (slots, mut host, _device) = Slots::queue(4);
    for slot in [0, 3, 4, u32::MAX] {
        assert_eq!(host.complete(slot, Ok(0)), Err(NotOwed { slot }));
    }
    assert_eq!(host.owed(), 0);
    assert_eq!(slots.load(0, word::STATUS), status::EMPTY);
}

/// Each request of each queue on each handle: it finds what is bound to its queue or to none.
///
/// Rules: SEC-19, ABI-6.1.
#[test]
fn a_handle_that_is_bound_to_a_queue_is_unknown_to_others() {
    let mut tables = Tables::new(4096, 4096);
    let [first, second, third] = [0, 1, 2].map(QueueId::from_raw);
    let all = Rights::all();
    let disk = tables.disk.try_clone().unwrap();
    let mut file = |owner: Option<QueueId>| {
        let options = owner
            .into_iter()
            .fold(FileOptions::new(all), FileOptions::only_for);
        let handle = tables.files.insert(disk.try_clone().unwrap(), options);
        (owner, handle.unwrap())
    };
    let files = [None, Some(first), Some(second), Some(third)].map(&mut file);
    let rights = Rights::READ | Rights::WRITE;
    let mut buffer = |owner: Option<QueueId>| {
        let options = owner
            .into_iter()
            .fold(BufferOptions::new(rights), BufferOptions::only_for);
        (
            owner,
            tables
                .buffers
                .insert_range(memory(4096), .., options)
                .unwrap(),
        )
    };
    let buffers = [None, Some(first), Some(second), Some(third)].map(&mut buffer);
    let own = |queue: QueueId, owner: Option<QueueId>| owner.is_none_or(|owner| owner == queue);

    let io = tables.builder();
    let (hosts, devices): (Vec<_>, Vec<_>) = (0..2).map(|_| plain()).unzip();
    let io = hosts
        .into_iter()
        .fold(io, IoLoopBuilder::queue)
        .spawn()
        .unwrap();
    let look = |device: &DeviceQueue, queue: QueueId| {
        let run = |request| outcome_of(device, device.submit(request).unwrap());
        let expected = |found: bool, count| if found { Ok(count) } else { Err(Errno::EBADF) };
        for &(owner, file) in &files {
            let found = own(queue, owner);
            for request in [Request::sync(file), Request::prefetch(file, 0, 1)] {
                assert_eq!(run(request), expected(found, 0), "{request:?} of {queue}");
            }
            for &(holder, pool) in &buffers {
                let read = Request::read(file, 0, 7).into_buffer(pool, 0);
                let write = Request::write(file, 0, 7).from_buffer(pool, 0);
                for request in [read, write] {
                    let found = found && own(queue, holder);
                    assert_eq!(run(request), expected(found, 7), "{request:?} of {queue}");
                }
            }
        }
    };
    look(&devices[0], first);
    look(&devices[1], second);

    // A queue that comes later gets what was bound to its number, and not what the removed one had.
    io.remove_queue(first).unwrap();
    let (host, device) = plain();
    assert_eq!(io.add_queue(host).unwrap(), third);
    look(&device, third);
    io.stop().unwrap();
}

/// Rule: SEC-19.
#[test]
fn a_bound_handle_is_bound_in_each_loop_of_a_group() {
    let Tables {
        files,
        buffers,
        disk,
        ..
    } = Tables::new(4096, 4096);
    let group = LoopGroup::builder().loops(2).files(files).buffers(buffers);
    let (hosts, devices): (Vec<_>, Vec<_>) = (0..4).map(|_| plain()).unzip();
    let group = hosts
        .into_iter()
        .fold(group, LoopGroupBuilder::queue)
        .spawn()
        .unwrap();
    for owner in 0..4 {
        let queue = QueueId::from_raw(owner as u64);
        let options = FileOptions::new(Rights::READ).only_for(queue);
        let file = group
            .insert_file(disk.try_clone().unwrap(), .., options)
            .unwrap();
        let options = BufferOptions::new(Rights::WRITE).only_for(queue);
        let pool = group.insert_buffer(memory(4096), .., options).unwrap();
        for (number, device) in devices.iter().enumerate() {
            let read = Request::read(file, 0, 7).into_buffer(pool, 0);
            let expected = if number == owner {
                Ok(7)
            } else {
                Err(Errno::EBADF)
            };
            assert_eq!(outcome_of(device, device.submit(read).unwrap()), expected);
        }
    }
    group.stop().unwrap();
}
