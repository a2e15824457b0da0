//! What the loop does: rows S1 to S11 of the vyre 0.7 loop, done right, and the five operations.

mod common;

use std::os::unix::fs::FileExt;
use std::time::Duration;

use common::faulty::Faulty;
use common::*;
use vyre_ioloop::{BufferTable, FileTable, IoLoop, Policy, Rights, SpawnError};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{BufferHandle, Errno, FileHandle, HostQueue, LoopState, Queue, QueueLayout};
use vyre_ioq::{NotOwed, Region, Request};
use vyre_uring::{Operation, SimTransport};

/// Row S1.
#[test]
fn a_loop_is_spawned_on_tables_and_a_queue_and_stops_with_its_error() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let io = tables.builder().queue(host).name("served").spawn().unwrap();
    assert_eq!(device.host_state(), Some(LoopState::Running));
    let name = format!("/proc/self/task/{}/comm", io.thread_id());
    assert_eq!(std::fs::read_to_string(name).unwrap(), "served\n");
    let ticket = device
        .submit(Request::read(file, 0, 64).into(pool, 0))
        .unwrap();
    assert_eq!(answer(&device, ticket), Ok(64));
    assert_eq!(io.stop(), Ok(()));
    assert_eq!(device.host_state(), Some(LoopState::Stopped));
}

#[test]
fn a_loop_works_by_what_is_put_around_its_ring() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let mut sim = SimTransport::builder(0).build();
    sim.fail_next(vyre_uring::Errno::NOSPC);
    let (faulty, orders) = Faulty::new(sim);
    let builder = tables.builder().queue(host);
    let io = builder
        .spawn_with(move |ring| {
            assert_eq!(ring.in_flight(), 0);
            faulty
        })
        .unwrap();
    let read = || Request::read(file, 0, 64).into(pool, 0);
    for expected in [Err(Errno::ENOSPC), Ok(64)] {
        let ticket = device.submit(read()).unwrap();
        assert_eq!(answer(&device, ticket), expected);
    }
    assert_eq!(orders.pushed.lock().unwrap().len(), 2);
    assert!(!io.report().to_string().is_empty(), "the ring's");
    io.stop().unwrap();
}

/// Row S1: an empty table is a table.
#[test]
fn a_loop_without_files_or_buffers_serves_fences() {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let io = IoLoop::builder().queue(host).spawn().unwrap();
    let fence = device.submit(Request::fence()).unwrap();
    assert_eq!(answer(&device, fence), Ok(0));
    io.stop().unwrap();
}

/// Row S2.
#[test]
fn one_pass_reaps_all_claims_all_and_submits_in_one_batch() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(0).build();
    let mut rig = tables.on_sim(sim, 64);
    let read = |n: u64| Request::read(file, n * 64, 64).into(pool, n * 64);
    let first: Vec<_> = (0..10).map(|n| rig.submit(read(n))).collect();
    let progress = rig.engine.step();
    assert_eq!(
        (progress.reaped, progress.claimed, progress.started),
        (0, 10, 10)
    );
    let second: Vec<_> = (10..15).map(|n| rig.submit(read(n))).collect();
    let progress = rig.engine.step();
    assert_eq!(
        (progress.reaped, progress.claimed, progress.started),
        (10, 5, 5)
    );
    assert!(first.iter().all(|ticket| !rig.pending(ticket)));
    let progress = rig.engine.step();
    assert_eq!(
        (progress.reaped, progress.claimed, progress.started),
        (5, 0, 0)
    );
    assert!(second.iter().all(|ticket| !rig.pending(ticket)));
    assert!(rig.engine.step().is_idle());
}

/// Row S3.
#[test]
fn a_read_goes_to_the_destination_that_its_handle_names() {
    let mut tables = Tables::new(4096, 64);
    let region = memory(1 << 16);
    // Out of order, and far apart.
    let places = [(900_u32, 0_u64), (3, 8192), (70, 4096), (1 << 20 | 40, 512)];
    for (handle, offset) in places {
        let handle = BufferHandle::from_raw(handle);
        let range = offset..offset + 256;
        let inserted = tables
            .buffers
            .insert_at(handle, region.clone(), range, Rights::WRITE);
        inserted.unwrap();
    }
    let file = tables.file;
    let mut rig = tables.on_ring(8, 8);
    for (n, (handle, offset)) in (0..).zip(places) {
        let read = Request::read(file, n * 256, 256).into(BufferHandle::from_raw(handle), 0);
        assert_eq!(rig.run(read), Ok(256));
        let bytes = contents(&region, offset as usize, 256);
        let from = n as usize * 256;
        assert_eq!(bytes, pattern(1, 4096)[from..from + 256]);
    }
}

/// Row S4.
#[test]
fn a_fence_completes_when_there_is_nothing_to_wait_for() {
    let mut rig = Tables::new(16, 64).on_ring(8, 4);
    assert_eq!(rig.run(Request::fence().tag(3)), Ok(0));
}

/// Row S5.
#[test]
fn a_write_is_an_operation() {
    let tables = Tables::new(64, 4096);
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    tables.memory.write_at(0, &pattern(5, 4096)).unwrap();
    let mut rig = tables.on_ring(8, 4);
    assert_eq!(
        rig.run(Request::write(file, 64, 4096).from(pool, 0)),
        Ok(4096)
    );
    let mut bytes = vec![0; 4160];
    disk.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[..64], pattern(1, 64));
    assert_eq!(bytes[64..], pattern(5, 4096));
    assert_eq!(rig.engine.queue_counters(0).unwrap().bytes_written, 4096);
}

/// Row S6.
#[test]
fn an_unknown_operation_completes_with_an_error() {
    let (slots, host, _device) = Slots::bare(4);
    let mut engine = Tables::new(16, 64).engine(ring(8), vec![host]);
    slots.publish_words(1, &[7; 16]);
    let _ = engine.step();
    assert_eq!(slots.load(1, word::STATUS), status::ERROR);
    assert_eq!(slots.load(1, word::COUNT), 7, "the device's own");
}

/// Row S7: on the device an errno, in the host's own errors what to do.
#[test]
fn an_unregistered_destination_is_an_error_that_says_which() {
    let tables = Tables::new(16, 64);
    let read = Request::read(tables.file, 0, 1).into(BufferHandle::from_raw(55), 0);
    let mut rig = tables.on_ring(8, 4);
    assert_eq!(rig.run(read), Err(Errno::EBADF));
    let unknown = rig
        .engine
        .revoke_buffer(BufferHandle::from_raw(55))
        .unwrap_err();
    assert!(unknown.to_string().contains("0x37"), "{unknown}");
    let no_queue = SpawnError::NoQueue.to_string();
    assert!(no_queue.contains("`queue`"), "{no_queue}");
}

/// Row S8: the doubling itself is tested beside the policy. Here: a loop without work sleeps, is
/// woken by neither much nor nothing, and work is found all the same.
#[test]
fn an_idle_loop_sleeps_and_still_finds_work() {
    let tables = Tables::new(16, 64);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let policy = Policy::Adaptive {
        spins: 64,
        cap: Duration::from_millis(2),
    };
    let io = tables.builder().queue(host).policy(policy).spawn().unwrap();
    for _ in 0..3 {
        let before = io.counters().sleeps;
        let beat = device.host_heartbeat();
        eventually("sleep", || io.counters().sleeps >= before + 3);
        assert_ne!(
            device.host_heartbeat(),
            beat,
            "a sleeper shows that it lives"
        );
        let fence = device.submit(Request::fence()).unwrap();
        assert_eq!(answer(&device, fence), Ok(0));
    }
    io.stop().unwrap();
}

/// Row S8: the policy that never sleeps.
#[test]
fn a_spinning_loop_never_sleeps() {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let builder = Tables::new(16, 64).builder().queue(host);
    let io = builder.policy(Policy::Spin).spawn().unwrap();
    let fence = device.submit(Request::fence()).unwrap();
    assert_eq!(answer(&device, fence), Ok(0));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(io.counters().sleeps, 0);
    io.stop().unwrap();
}

/// Row S9: in the queue's ledger, an outcome that nobody is owed is an error. Completions that
/// nobody asked for are in `faults_safety.rs`.
#[test]
fn an_outcome_that_is_not_owed_is_an_error_and_no_wrap_around() {
    let (slots, mut host, _device) = Slots::queue(4);
    for slot in [0, 3, 4, u32::MAX] {
        assert_eq!(host.complete(slot, Ok(0)), Err(NotOwed { slot }));
    }
    assert_eq!(host.in_flight(), 0);
    assert_eq!(slots.load(0, word::STATUS), status::EMPTY);
}

/// Row S10. Then the ring is replaced by failing: see `stop.rs`.
#[test]
fn a_failed_flush_answers_its_batch_with_the_errno() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(0).fatal_submit(0, vyre_uring::Errno::NOMEM);
    let mut rig = tables.on_sim(sim.build(), 8);
    let tickets: Vec<_> = (0..8)
        .map(|_| rig.submit(Request::read(file, 0, 64).into(pool, 0)))
        .collect();
    for outcome in rig.wait_all(tickets) {
        assert_eq!(outcome.result, Err(Errno::from_raw(libc::ENOMEM as u32)));
    }
}

/// Row S11: a queue that a device made and filled before there was a host is taken over as it is.
#[test]
fn requests_published_before_the_loop_began_are_served() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let memory = Slots::new(16 * 32, 0, 8);
    memory.publish(7, &Request::read(file, 0, 64).into(pool, 0));
    let host = HostQueue::attach_bare(memory.region()).unwrap();
    assert_eq!(
        host.published().collect::<Vec<_>>(),
        [7],
        "polled, not claimed"
    );
    let io = tables.loop_on(host);
    eventually("the read", || memory.outcome(7) == Some(Ok(64)));
    io.stop().unwrap();
    let unfit = HostQueue::attach_bare(Region::allocate(33).unwrap()).unwrap_err();
    assert!(unfit.to_string().contains("multiple of 32"), "{unfit}");
}

#[test]
fn reads_and_writes_of_nothing_succeed() {
    let tables = Tables::new(16, 64);
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_ring(8, 4);
    assert_eq!(rig.run(Request::read(file, 0, 0).into(pool, 64)), Ok(0));
    assert_eq!(
        rig.run(Request::read(file, 99, 0).into(pool, 0).exact()),
        Ok(0)
    );
    let write = Request::write(file, 0, 0).from(pool, 0);
    assert_eq!(rig.run(write.durable().exact()), Ok(0));
    assert_eq!(rig.run(Request::prefetch(file, 0, 0)), Ok(0));
}

#[test]
fn a_prefetch_completes_and_moves_no_bytes() {
    let tables = Tables::new(4096, 4096);
    let (file, memory) = (tables.file, tables.memory.clone());
    let mut rig = tables.on_ring(8, 4);
    for (offset, count) in [(0, 4096), (1 << 40, 1), (5, u32::MAX)] {
        assert_eq!(rig.run(Request::prefetch(file, offset, count)), Ok(0));
    }
    assert_eq!(contents(&memory, 0, 4096), [0; 4096]);
}

#[test]
fn exact_makes_a_short_count_the_error_enodata() {
    let tables = Tables::new(100, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_ring(8, 4);
    let read = |offset, count| Request::read(file, offset, count).into(pool, 0);
    assert_eq!(rig.run(read(0, 101)), Ok(100));
    assert_eq!(rig.run(read(0, 101).exact()), Err(Errno::ENODATA));
    assert_eq!(rig.run(read(0, 100).exact()), Ok(100));
    assert_eq!(rig.run(read(100, 1).exact()), Err(Errno::ENODATA));
}

/// What the transport is asked for: a durable write is one, and a sync comes after the writes that
/// it covers have completed.
#[test]
fn durability_is_asked_of_the_transport() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(5).max_latency(6).build());
    let mut rig = tables.on(faulty, 64);
    assert_eq!(
        rig.run(Request::write(file, 0, 64).from(pool, 0).durable()),
        Ok(64)
    );
    let durable = orders.pushed.lock().unwrap().pop();
    assert!(
        matches!(durable, Some(Operation::Write { durable: true, .. })),
        "{durable:?}"
    );

    let writes: Vec<_> = (0..10)
        .map(|n| rig.submit(Request::write(file, n * 64, 64).from(pool, 0)))
        .collect();
    let sync = rig.submit(Request::sync(file));
    loop {
        let _ = rig.engine.step();
        let last = orders.pushed.lock().unwrap().last().copied();
        let synced = matches!(last, Some(Operation::Sync { .. }));
        let out = writes.iter().filter(|write| rig.pending(write)).count();
        assert!(!synced || out == 0, "synced with {out} writes out");
        if synced {
            break;
        }
    }
    assert_eq!(rig.wait(sync).result, Ok(0));
    assert!(rig.wait_all(writes).iter().all(|o| o.result == Ok(64)));
}

#[test]
fn short_transfers_are_resumed_until_all_is_moved() {
    let tables = Tables::new(1 << 16, 1 << 16);
    let (file, pool) = (tables.file, tables.pool);
    let (memory, disk) = (tables.memory.clone(), tables.disk.try_clone().unwrap());
    let sim = SimTransport::builder(11)
        .short(0.9)
        .max_latency(3)
        .reorder(true);
    let mut rig = tables.on_sim(sim.build(), 64);
    let reads: Vec<_> = (0..8)
        .map(|n| {
            rig.submit(
                Request::read(file, n << 12, 4096)
                    .into(pool, n << 12)
                    .exact(),
            )
        })
        .collect();
    assert!(rig.wait_all(reads).iter().all(|o| o.result == Ok(4096)));
    assert_eq!(
        contents(&memory, 0, 8 << 12),
        pattern(1, 1 << 16)[..8 << 12]
    );
    memory.write_at(0, &pattern(2, 1 << 16)).unwrap();
    let writes: Vec<_> = (0..8)
        .map(|n| rig.submit(Request::write(file, n << 12, 4096).from(pool, n << 12)))
        .collect();
    assert!(rig.wait_all(writes).iter().all(|o| o.result == Ok(4096)));
    let mut written = vec![0; 8 << 12];
    disk.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written, pattern(2, 1 << 16)[..8 << 12]);
    assert!(rig.engine.counters().resumed > 16);
}

/// On the ring too: a pipe gives what it has, and the rest is waited for.
#[test]
fn a_read_of_a_pipe_is_resumed_until_it_is_full_or_the_pipe_ends() {
    use std::io::Write;
    let mut tables = Tables::new(16, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let mut rig = tables.on_ring(8, 4);
    let read = rig.submit(Request::read(pipe, 0, 10).into(pool, 0));
    for part in [b"abc".as_slice(), b"def", b"ghij"] {
        rig.linger();
        assert!(rig.pending(&read));
        writer.write_all(part).unwrap();
    }
    assert_eq!(rig.wait(read).result, Ok(10));
    assert_eq!(contents(&memory, 0, 10), b"abcdefghij");
    let read = rig.submit(Request::read(pipe, 0, 10).into(pool, 0));
    writer.write_all(b"end").unwrap();
    drop(writer);
    assert_eq!(rig.wait(read).result, Ok(3));
}

#[test]
fn a_bare_queue_is_served_with_handles_for_pages_and_of_the_device_s_choice() {
    let mut files = FileTable::new();
    let mut buffers = BufferTable::new();
    let disk = file_of(&pattern(1, 4096));
    files
        .insert_at(FileHandle::from_raw(9), disk, 0..4096, Rights::READ)
        .unwrap();
    let memory = memory(16 * 256 + 100);
    let pages = buffers
        .insert_pages(memory.clone(), 256, Rights::WRITE)
        .unwrap();
    assert_eq!(pages.len(), 16, "what fills no page is left out");
    let (slots, host, device) = Slots::bare(64);
    let io = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        .queue(host)
        .spawn()
        .unwrap();
    let tickets: Vec<_> = (0..16)
        .map(|n| Request::read(FileHandle::from_raw(9), n * 256, 256).into(pages[n as usize], 0))
        .map(|request| device.submit(request.tag(77)).unwrap())
        .collect();
    for ticket in tickets {
        assert_eq!(answer(&device, ticket), Ok(256));
    }
    assert_eq!(contents(&memory, 0, 4096), pattern(1, 4096));
    assert_eq!(slots.load(0, word::TAG), 77, "the tag is the device's own");
    io.stop().unwrap();
}

#[test]
fn the_largest_queue_is_served_through_a_small_ring() {
    let tables = Tables::new(1 << 16, 1 << 16);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4096)).unwrap();
    let io = tables
        .builder()
        .queue(host)
        .ring_entries(8)
        .spawn()
        .unwrap();
    let tickets: Vec<_> = (0..4096_u64)
        .map(|n| Request::read(file, n * 16, 16).into(pool, n * 16))
        .map(|request| device.submit(request).unwrap())
        .collect();
    for ticket in tickets {
        assert_eq!(answer(&device, ticket), Ok(16));
    }
    assert_eq!(contents(&memory, 0, 1 << 16), pattern(1, 1 << 16));
    eventually("the counts", || {
        io.queue_counters(0).unwrap().succeeded == 4096
    });
    assert!(io.counters().deferred > 0);
    io.stop().unwrap();
}

/// A queue that is always full of work does not keep another from being served: in each pass both
/// are looked at, and who waits for room is served in turn.
#[test]
fn several_queues_are_served_fairly() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let queue = || Queue::anonymous(QueueLayout::with_slots(256)).unwrap();
    let (mut hosts, mut devices) = (Vec::new(), Vec::new());
    for (host, device) in [queue(), queue(), queue()] {
        hosts.push(host);
        devices.push(device);
    }
    let sim = SimTransport::builder(2).capacity(8).build();
    let mut engine = tables.engine(sim, hosts);
    let read = Request::read(file, 0, 16).into(pool, 0);
    // The first two are filled to the brim again after each pass.
    let mut busy: Vec<Vec<_>> = vec![Vec::new(), Vec::new()];
    for _ in 0..50 {
        for (device, tickets) in devices.iter().zip(&mut busy) {
            let old = std::mem::take(tickets);
            tickets.extend(
                old.into_iter()
                    .filter_map(|ticket| device.take(ticket).err()),
            );
            while let Ok(ticket) = device.submit(read) {
                tickets.push(ticket);
            }
        }
        let mut seldom = Some(devices[2].submit(read).unwrap());
        // At most as many passes as the line is long, with 8 served in each.
        for pass in 0.. {
            let _ = engine.step();
            seldom = match devices[2].take(seldom.take().unwrap()) {
                Ok(outcome) => {
                    assert_eq!(outcome.result, Ok(16));
                    break;
                }
                Err(ticket) => Some(ticket),
            };
            assert!(pass < 2 * 512 / 8, "overtaken for ever");
        }
    }
    let served = [0, 1].map(|queue| engine.queue_counters(queue).unwrap().succeeded);
    assert!(
        served[0] * 2 > served[1] && served[1] * 2 > served[0],
        "{served:?}"
    );
}

#[test]
fn a_small_ring_has_entries_for_every_queue() {
    let queue = || {
        Queue::anonymous(QueueLayout::with_slots(1))
            .expect("memory")
            .0
    };
    let builder = IoLoop::builder().ring_entries(1);
    let builder = (0..5).fold(builder, |builder, _| builder.queue(queue()));
    let io = builder.spawn().expect("started");
    assert!(io.report().sq_entries() >= 10, "{}", io.report());
    io.stop().expect("quiet");
}
