//! Faults 11 to 19, 21, 24 and 25 of the vyre 0.7 loop: wrong answers, and bytes where none belong.
//! Faults 9 and 10, about its end, are in `stop.rs`.

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::faulty::Faulty;
use common::*;
use vyre_ioloop::{Engine, Rights};
use vyre_ioq::abi::{MAX_SLOTS, op, status, word};
use vyre_ioq::{Errno, FileHandle, Queue, QueueLayout, Request};
use vyre_uring::{BufferSlot, SimTransport};

/// Fault 11.
#[test]
fn a_short_read_says_how_many_bytes_it_moved() {
    let tables = Tables::new(100, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    memory.write_at(0, &[0xee; 4096]).unwrap();
    let mut rig = tables.on_ring(8, 4);
    assert_eq!(rig.run(Request::read(file, 40, 4096).into(pool, 0)), Ok(60));
    assert_eq!(contents(&memory, 0, 60), pattern(1, 100)[40..]);
    assert_eq!(contents(&memory, 60, 100), [0xee; 100], "stays as it was");
}

/// Fault 11.
#[test]
fn the_end_of_the_file_is_told_as_zero_bytes() {
    let tables = Tables::new(100, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    memory.write_at(0, &[0xee; 64]).unwrap();
    let mut rig = tables.on_ring(8, 4);
    for offset in [100, 101, 1 << 40] {
        let read = Request::read(file, offset, 64).into(pool, 0);
        assert_eq!(rig.run(read), Ok(0));
        assert_eq!(rig.run(read.exact()), Err(Errno::ENODATA));
    }
    assert_eq!(contents(&memory, 0, 64), [0xee; 64]);
}

/// Fault 12.
#[test]
fn the_device_learns_the_kernel_s_errno() {
    let mut tables = Tables::new(16, 4096);
    let unmapped = File::open("/proc/self/mem").unwrap();
    let unmapped = tables.files.insert(unmapped, Rights::READ).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let full = tables.files.insert(full, Rights::WRITE).unwrap();
    let (closed, writer) = std::io::pipe().unwrap();
    drop(closed);
    let broken = tables.files.insert(writer, Rights::WRITE).unwrap();
    let pool = tables.pool;
    let mut rig = tables.on_ring(8, 4);
    let errno = |result: Result<u32, Errno>| result.unwrap_err().raw() as i32;
    let read = Request::read(unmapped, 0, 64).into(pool, 0);
    assert_eq!(errno(rig.run(read)), libc::EIO);
    let write = Request::write(full, 0, 64).from(pool, 0);
    assert_eq!(errno(rig.run(write)), libc::ENOSPC);
    let write = Request::write(broken, 0, 64).from(pool, 0);
    assert_eq!(errno(rig.run(write)), libc::EPIPE);
}

/// Fault 13.
#[test]
fn a_fence_behind_63_reads_completes_after_all_of_them() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_ring(64, 64);
    let reads: Vec<_> = (0..63)
        .map(|n| rig.submit(Request::read(pipe, 0, 1).into(pool, n)))
        .collect();
    let fence = rig.submit(Request::fence());
    for done in 0..63 {
        rig.engine.wait(Duration::from_micros(10));
        let _ = rig.engine.step();
        assert!(rig.pending(&fence), "with {done} of 63 reads done");
        writer.write_all(b"x").unwrap();
        let out = |rig: &Rig<_>| reads.iter().filter(|read| rig.pending(read)).count();
        while out(&rig) > 62 - done {
            rig.engine.wait(Duration::from_millis(1));
            let _ = rig.engine.step();
        }
    }
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert!(reads.iter().all(|read| !rig.pending(read)));
}

/// Fault 14.
#[test]
fn a_descriptor_s_number_names_nothing() {
    let tables = Tables::new(16, 4096);
    let secret = file_of(b"secret");
    let number = secret.as_raw_fd() as u32;
    let (granted, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let mut rig = tables.on_ring(8, 4);
    assert_ne!(number, granted.raw());
    // That one, and every other that may be open.
    for number in std::iter::once(number).chain(0..1100) {
        let handle = FileHandle::from_raw(number);
        if handle != granted {
            let read = Request::read(handle, 0, 6).into(pool, 0);
            assert_eq!(rig.run(read), Err(Errno::EBADF), "descriptor {number}");
            let write = Request::write(handle, 0, 6).from(pool, 0);
            assert_eq!(rig.run(write), Err(Errno::EBADF), "descriptor {number}");
        }
    }
    assert_eq!(contents(&memory, 0, 6), [0; 6]);
}

/// Fault 15.
#[test]
fn a_read_cannot_run_over_into_the_next_handle() {
    let mut tables = Tables::new(8192, 64);
    let pages = memory(4 * 256);
    pages.write_at(0, &[0xee; 1024]).unwrap();
    let all = Rights::READ | Rights::WRITE;
    let handles = tables
        .buffers
        .insert_pages(pages.clone(), 256, all)
        .unwrap();
    let file = tables.file;
    let mut rig = tables.on_ring(8, 4);
    for (count, offset) in [(257, 0), (256, 1), (1, 256), (8192, 0), (1, u64::MAX)] {
        let read = Request::read(file, 0, count).into(handles[1], offset);
        assert_eq!(rig.run(read), Err(Errno::ERANGE), "{count} at {offset}");
    }
    assert_eq!(contents(&pages, 0, 1024), [0xee; 1024]);
    assert_eq!(
        rig.run(Request::read(file, 0, 256).into(handles[1], 0)),
        Ok(256)
    );
    assert_eq!(contents(&pages, 256, 256), pattern(1, 256));
    assert_eq!(contents(&pages, 0, 256), [0xee; 256]);
    assert_eq!(contents(&pages, 512, 512), [0xee; 512]);
}

/// Fault 15, of files: what is outside a handle's range can be neither read nor written.
#[test]
fn a_file_handle_s_range_cannot_be_left() {
    let mut tables = Tables::new(4096, 4096);
    let disk = tables.disk.try_clone().unwrap();
    let part = disk.try_clone().unwrap();
    let part = tables
        .files
        .insert_range(part, 1000..1100, Rights::all())
        .unwrap();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let mut rig = tables.on_ring(8, 4);
    for (offset, count) in [
        (0, 101),
        (100, 1),
        (101, 0),
        (u64::MAX, 2),
        (u64::MAX - 999, 1),
    ] {
        let read = Request::read(part, offset, count).into(pool, 0);
        assert_eq!(rig.run(read), Err(Errno::ERANGE), "{count} at {offset}");
        let write = Request::write(part, offset, count).from(pool, 0);
        assert_eq!(rig.run(write), Err(Errno::ERANGE), "{count} at {offset}");
        let ahead = Request::prefetch(part, offset, count);
        assert_eq!(rig.run(ahead), Err(Errno::ERANGE), "{count} at {offset}");
    }
    assert_eq!(rig.run(Request::read(part, 1, 99).into(pool, 0)), Ok(99));
    let expected = pattern(1, 4096);
    assert_eq!(contents(&memory, 0, 99), expected[1001..1100]);
    memory.write_at(0, &[0xee; 100]).unwrap();
    assert_eq!(rig.run(Request::write(part, 0, 100).from(pool, 0)), Ok(100));
    let mut now = vec![0; 4096];
    disk.read_exact_at(&mut now, 0).unwrap();
    assert_eq!(now[..1000], expected[..1000]);
    assert_eq!(now[1000..1100], [0xee; 100]);
    assert_eq!(now[1100..], expected[1100..]);
}

/// Fault 16.
#[test]
fn buffers_are_registered_with_the_kernel() {
    let tables = Tables::new(16, 4096);
    let rig = tables.on_ring(8, 4);
    let ring = rig.engine.transport();
    assert!(ring.setup_report().buffers().in_use() && ring.setup_report().files().in_use());
    assert!(ring.is_buffer_registered(BufferSlot::new(0)));
}

/// Fault 17.
#[test]
fn a_write_writes() {
    let tables = Tables::new(0, 4096);
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    let bytes = pattern(17, 4096);
    tables.memory.write_at(0, &bytes).unwrap();
    let mut rig = tables.on_ring(8, 4);
    assert_eq!(
        rig.run(Request::write(file, 7, 4000).from(pool, 96)),
        Ok(4000)
    );
    let mut written = vec![0; 4007];
    disk.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written[..7], [0; 7]);
    assert_eq!(written[7..], bytes[96..]);
}

/// Fault 18. Lanes and loop share every line without a lock: each lane finds the bytes that it
/// asked for as soon as it sees the outcome, and its own tag.
#[test]
fn lanes_and_loop_may_touch_the_memory_at_the_same_time() {
    const LANES: u64 = 4;
    let tables = Tables::new(1 << 16, 1 << 16);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let expected = pattern(1, 1 << 16);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(8)).unwrap();
    let io = tables.loop_on(host);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (device, memory, expected) = (&device, &memory, &expected);
            scope.spawn(move || {
                let base = lane << 14;
                for round in 0..500_u64 {
                    let offset = (round * 7919 + lane * 31) % (60 << 10);
                    let request = Request::read(file, offset, 512).into(pool, base);
                    let tag = (lane << 16 | round) as u32;
                    let ticket = device.submit(request.tag(tag)).unwrap();
                    let outcome = device.wait_for(ticket, LIMIT).unwrap();
                    assert_eq!((outcome.result, outcome.tag), (Ok(512), tag));
                    let offset = offset as usize;
                    let read = contents(memory, base as usize, 512);
                    assert_eq!(read, expected[offset..offset + 512]);
                }
            });
        }
    });
    assert_eq!(io.queue_counters(0).unwrap().device_faults, 0);
    io.stop().unwrap();
}

/// Fault 19: a slot whose operation is in flight is not served anew, whatever is stored over it.
#[test]
fn a_slot_in_flight_is_not_claimed_again() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (slots, host, _device) = Slots::queue(4);
    let mut engine = tables.engine(ring(8), vec![host]);
    slots.publish(0, &Request::read(pipe, 0, 4).into(pool, 0));
    linger(&mut engine);
    slots.store(0, word::STATUS, status::EMPTY);
    slots.publish(0, &Request::read(file, 0, 100).into(pool, 1000));
    linger(&mut engine);
    assert_eq!(engine.queue_counters(0).unwrap().claimed, 1);
    assert_eq!(slots.outcome(0), None);
    writer.write_all(b"data").unwrap();
    linger(&mut engine);
    assert_eq!(slots.outcome(0), Some(Ok(4)), "the outcome of the first");
    assert_eq!(contents(&memory, 1000, 100), [0; 100]);
    assert_eq!(engine.in_flight(), 0);
}

/// Fault 19: what completes late, or twice, is told from the slot's present request.
#[test]
fn a_stale_completion_does_not_answer_the_slot_s_next_request() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let sim = SimTransport::builder(1).max_latency(50).build();
    let (faulty, orders) = Faulty::new(sim);
    let mut rig = tables.on(faulty, 1);
    assert_eq!(rig.run(Request::read(file, 0, 64).into(pool, 0)), Ok(64));
    orders.replay.store(true, Ordering::Relaxed);
    let _ = rig.engine.step();
    assert!(rig.engine.counters().stray > 0, "an empty slot");
    // The same slot, and other bytes; the old completion comes again at every pass.
    let next = rig.submit(Request::read(file, 4000, 64).into(pool, 0).exact());
    assert_eq!(rig.wait(next).result, Ok(64));
    let read = contents(&memory, 0, 64);
    assert_eq!(read, pattern(1, 4096)[4000..4064], "answered too early");
    assert_eq!(rig.engine.queue_counters(0).unwrap().bytes_read, 128);
    assert_eq!(rig.engine.in_flight(), 0);
}

/// Fault 21. Compared with one bare sweep of a queue of the same length, at the same time: the
/// least of many measurements, so that what else runs on the machine does not count.
#[test]
fn an_idle_pass_looks_at_each_slot_once() {
    let queue = || Queue::anonymous(QueueLayout::with_slots(MAX_SLOTS)).unwrap();
    let (mut bare, _) = queue();
    let (host, _device) = queue();
    let tables = Tables::new(16, 4096);
    let mut engine: Engine<_> = tables.engine(SimTransport::builder(0).build(), vec![host]);
    let time = |pass: &mut dyn FnMut()| {
        let started = Instant::now();
        (0..4).for_each(|_| pass());
        started.elapsed()
    };
    let (mut once, mut pass) = (Duration::MAX, Duration::MAX);
    for _ in 0..200 {
        once = once.min(time(&mut || {
            let claimed = bare.claim_published(0..u32::MAX, |_| {});
            assert_eq!(claimed, 0);
        }));
        pass = pass.min(time(&mut || assert!(engine.step().is_idle())));
    }
    assert!(
        pass < once * 8 / 5,
        "a pass takes {pass:?}, a sweep {once:?}"
    );
}

/// Fault 24. PUBLISHED is a request and nothing else: the host never stores it, and takes no other
/// status for one.
#[test]
fn only_published_is_a_request_and_only_the_device_publishes() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::bare(8);
    let mut engine = tables.engine(ring(8), vec![host]);
    let read = words_of(&Request::read(file, 0, 8).into(pool, 0));
    let others = (0..=64).filter(|&other| other != status::PUBLISHED);
    for other in others.chain([u32::MAX, 1 << 8, 1 << 31 | 1]) {
        for (number, &value) in read.iter().enumerate().take(8) {
            slots.store(2, number, value);
        }
        slots.store(2, word::STATUS, other);
        let _ = engine.step();
        assert_eq!(engine.in_flight(), 0, "status {other:#x}");
        assert_eq!(slots.load(2, word::STATUS), other, "left as it is");
    }
    for op in [op::READ, op::FENCE, 99] {
        let mut words = read;
        words[word::OP] = op;
        let claimed = |engine: &Engine<_>| engine.queue_counters(0).unwrap().claimed;
        let before = claimed(&engine);
        slots.publish_words(2, &words);
        while slots.outcome(2).is_none() {
            let _ = engine.step();
            assert_eq!(claimed(&engine), before + 1, "seen by now, and once");
        }
        for _ in 0..3 {
            let _ = engine.step();
            assert!(slots.outcome(2).is_some(), "an outcome stays");
            assert_eq!(claimed(&engine), before + 1);
        }
    }
}

/// Fault 25. Each entry of the ring carries operations with flags and without in turn.
#[test]
fn flags_of_one_operation_do_not_stick_to_the_next() {
    let mut tables = Tables::new(4096, 4096);
    let read_only = tables.disk.try_clone().unwrap();
    let read_only = tables.files.insert(read_only, Rights::READ).unwrap();
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_ring(4, 16);
    for round in 0..20 {
        let requests = [
            Request::write(file, 0, 512).from(pool, 0).durable(),
            Request::read(read_only, 512, 512).into(pool, 512),
            Request::sync(file),
            Request::read(read_only, 0, 512).into(pool, 1024).exact(),
            Request::prefetch(read_only, 0, 4096),
            Request::write(file, 0, 512).from(pool, 0),
            Request::fence(),
        ];
        // Of another length than the ring, so that each kind comes to each entry.
        let tickets: Vec<_> = requests
            .iter()
            .map(|&request| rig.submit(request))
            .collect();
        for (ticket, request) in tickets.into_iter().zip(&requests) {
            let moved = match request.count {
                512 => 512,
                _ => 0,
            };
            assert_eq!(rig.wait(ticket).result, Ok(moved), "{round}: {request:?}");
        }
    }
}
