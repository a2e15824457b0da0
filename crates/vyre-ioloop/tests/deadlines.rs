//! A deadline ends a request wherever it waits: in the kernel, for room, behind others.

mod common;

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::faulty::Faulty;
use common::*;
use vyre_ioloop::Rights;
use vyre_ioq::{Errno, Queue, QueueLayout, Request};
use vyre_uring::SimTransport;

const SOON: u32 = 2_000;

#[test]
fn a_read_of_an_empty_pipe_times_out() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let io = tables.loop_on(host);
    let started = Instant::now();
    let read = Request::read(pipe, 0, 4).into(pool, 0).deadline(SOON);
    let ticket = device.submit(read).unwrap();
    assert_eq!(answer(&device, ticket), Err(Errno::ETIMEDOUT));
    assert!(started.elapsed() >= Duration::from_micros(SOON.into()));
    // The kernel has let go of the buffer: what comes now is for the next.
    writer.write_all(b"late").unwrap();
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(contents(&memory, 0, 4), [0; 4]);
    let next = Request::read(pipe, 0, 4).into(pool, 100);
    let ticket = device.submit(next).unwrap();
    assert_eq!(answer(&device, ticket), Ok(4));
    assert_eq!(contents(&memory, 100, 4), b"late");
    assert!(io.counters().timed_out >= 1);
    io.stop().unwrap();
}

#[test]
fn a_request_that_waits_for_room_times_out() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let mut rig = tables.on_ring(4, 8);
    let blockers = [0; 4].map(|_| rig.submit(Request::read(pipe, 0, 4).into(pool, 0)));
    let patient = rig.submit(Request::read(file, 0, 64).into(pool, 128));
    let timed = rig.submit(Request::read(file, 0, 64).into(pool, 64).deadline(SOON));
    let slot = timed.slot();
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    assert!(blockers.iter().all(|blocker| rig.pending(blocker)) && rig.pending(&patient));
    assert_eq!(contents(&memory, 64, 64), [0; 64]);
    assert_eq!(rig.engine.in_flight(), 5);
    // Its slot's next request is served once, not in its stead as well.
    let next = rig.submit(Request::read(file, 0, 64).into(pool, 64));
    assert_eq!(next.slot(), slot, "used again");
    rig.linger();
    writer.write_all(&[1; 16]).unwrap();
    for outcome in rig.wait_all(blockers.into_iter().chain([patient, next]).collect()) {
        assert!(outcome.result.is_ok());
    }
    rig.linger();
    let counters = rig.engine.counters();
    let again = counters.retried + counters.resumed;
    assert_eq!((counters.operations - again, counters.stray), (6, 0));
}

#[test]
fn a_fence_times_out_and_its_slot_s_next_request_is_none_the_worse() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (other_pipe, _other_writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_ring(8, 8);
    let read = rig.submit(Request::read(pipe, 0, 4).into(pool, 0));
    let patient = rig.submit(Request::fence());
    let timed = rig.submit(Request::fence().deadline(SOON));
    let slot = timed.slot();
    assert_eq!(rig.wait(timed).result, Err(Errno::ETIMEDOUT));
    assert!(rig.pending(&patient));
    let tenant = rig.submit(Request::read(other_pipe, 0, 4).into(pool, 8));
    assert_eq!(tenant.slot(), slot, "used again");
    rig.linger();
    writer.write_all(b"data").unwrap();
    assert_eq!(rig.wait(read).result, Ok(4));
    assert_eq!(rig.wait(patient).result, Ok(0));
    rig.linger();
    assert!(rig.pending(&tenant), "not taken for the fence");
}

#[test]
fn a_sync_that_waits_for_writes_times_out_and_the_next_one_waits_as_well() {
    let mut tables = Tables::new(4096, 4096);
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while (&writer).write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let rights = Rights::WRITE | Rights::SYNC;
    let full = tables.files.insert(writer, rights).unwrap();
    let pool = tables.pool;
    let mut rig = tables.on_ring(8, 8);
    let write = || rig.submit(Request::write(full, 0, 4096).from(pool, 0));
    let writes = [write(), write()];
    let sync = rig.submit(Request::sync(full).deadline(SOON));
    let slot = sync.slot();
    assert_eq!(rig.wait(sync).result, Err(Errno::ETIMEDOUT));
    let out = |rig: &Rig<_>| writes.iter().filter(|write| rig.pending(write)).count();
    assert_eq!(out(&rig), 2);
    // The next one in its slot waits for both.
    let next = rig.submit(Request::sync(full));
    assert_eq!(next.slot(), slot, "used again");
    rig.linger();
    reader.read_exact(&mut [0; 4096]).unwrap();
    while out(&rig) == 2 {
        rig.linger();
    }
    assert_eq!(out(&rig), 1, "room for one");
    assert!(rig.pending(&next));
    rig.engine.stop(LIMIT).unwrap();
    assert_eq!(rig.wait(next).result, Err(Errno::ECANCELED));
}

#[test]
fn what_is_done_in_time_knows_nothing_of_its_deadline() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_ring(8, 8);
    for request in [
        Request::read(file, 0, 64).into(pool, 0),
        Request::write(file, 0, 64).from(pool, 0),
        Request::prefetch(file, 0, 64),
        Request::sync(file),
        Request::fence(),
    ] {
        assert!(rig.run(request.deadline(u32::MAX)).is_ok());
    }
    assert_eq!(rig.engine.counters().timed_out, 0);
}

/// A cancellation for which there is no room at first is asked for again.
#[test]
fn a_deadline_holds_though_the_transport_has_no_room_to_cancel() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).stuck(1.0).build());
    let mut rig = tables.on(faulty, 8);
    orders.refuse_cancel.store(true, Ordering::Relaxed);
    let read = rig.submit(Request::read(file, 0, 64).into(pool, 0).deadline(1));
    for _ in 0..50 {
        let _ = rig.engine.step();
        std::thread::sleep(Duration::from_micros(50));
    }
    assert!(rig.pending(&read));
    orders.refuse_cancel.store(false, Ordering::Relaxed);
    assert_eq!(rig.wait(read).result, Err(Errno::ETIMEDOUT));
}

#[test]
fn many_deadlines_at_once_are_all_kept() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_ring(4, 256);
    let tickets: Vec<_> = (0..256)
        .map(|n| match n % 4 {
            0 => Request::fence(),
            1 => Request::sync(file),
            _ => Request::read(pipe, 0, 1).into(pool, n),
        })
        .enumerate()
        .map(|(n, request)| rig.submit(request.deadline(500 + n as u32)))
        .collect();
    for outcome in rig.wait_all(tickets) {
        assert_eq!(outcome.result, Err(Errno::ETIMEDOUT));
    }
    assert_eq!(rig.engine.in_flight(), 0);
}
