//! READ and WRITE: which bytes move, how many, and what makes a count short.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::manual::ManualTransport;
use common::*;
use vyre_ioloop::Rights;
use vyre_ioq::{BufferHandle, Errno, Queue, Request};
use vyre_uring::{BufferSlot, Errno as OsErrno, SimTransport};

/// Rule: ABI-6.1.
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
    let mut rig = tables.on_transport(8, 8);
    for (n, (handle, offset)) in (0..).zip(places) {
        let read = Request::read(file, n * 256, 256).into_buffer(BufferHandle::from_raw(handle), 0);
        assert_eq!(rig.run(read), Ok(256));
        let bytes = contents(&region, offset as usize, 256);
        let from = n as usize * 256;
        assert_eq!(bytes, pattern(1, 4096)[from..from + 256]);
    }
}

#[test]
fn a_write_moves_bytes_to_its_file() {
    let tables = Tables::new(64, 4096);
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    tables.memory.write_at(0, &pattern(5, 4096)).unwrap();
    let mut rig = tables.on_transport(8, 4);
    assert_eq!(
        rig.run(Request::write(file, 64, 4096).from_buffer(pool, 0)),
        Ok(4096)
    );
    let mut bytes = vec![0; 4160];
    disk.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes[..64], pattern(1, 64));
    assert_eq!(bytes[64..], pattern(5, 4096));
    assert_eq!(rig.engine.queue_counters(0).unwrap().bytes_written, 4096);
}

#[test]
fn a_write_extends_an_empty_file() {
    let tables = Tables::new(0, 4096);
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    let bytes = pattern(17, 4096);
    tables.memory.write_at(0, &bytes).unwrap();
    let mut rig = tables.on_transport(8, 4);
    assert_eq!(
        rig.run(Request::write(file, 7, 4000).from_buffer(pool, 96)),
        Ok(4000)
    );
    let mut written = vec![0; 4007];
    disk.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written[..7], [0; 7]);
    assert_eq!(written[7..], bytes[96..]);
}

/// Rule: ABI-6.2.
#[test]
fn reads_and_writes_of_nothing_succeed() {
    let tables = Tables::new(16, 64);
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_transport(8, 4);
    assert_eq!(
        rig.run(Request::read(file, 0, 0).into_buffer(pool, 64)),
        Ok(0)
    );
    assert_eq!(
        rig.run(Request::read(file, 99, 0).into_buffer(pool, 0).exact()),
        Ok(0)
    );
    let write = Request::write(file, 0, 0).from_buffer(pool, 0);
    assert_eq!(rig.run(write.durable().exact()), Ok(0));
    assert_eq!(rig.run(Request::prefetch(file, 0, 0)), Ok(0));
}

/// Rule: ABI-6.2.
#[test]
fn a_short_read_says_how_many_bytes_it_moved() {
    let tables = Tables::new(100, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    memory.write_at(0, &[0xee; 4096]).unwrap();
    let mut rig = tables.on_transport(8, 4);
    assert_eq!(
        rig.run(Request::read(file, 40, 4096).into_buffer(pool, 0)),
        Ok(60)
    );
    assert_eq!(contents(&memory, 0, 60), pattern(1, 100)[40..]);
    assert_eq!(contents(&memory, 60, 100), [0xee; 100], "stays as it was");
}

/// Rule: ABI-6.3.
#[test]
fn a_read_at_the_end_of_the_file_moves_zero_bytes() {
    let tables = Tables::new(100, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    memory.write_at(0, &[0xee; 64]).unwrap();
    let mut rig = tables.on_transport(8, 4);
    for offset in [100, 101, 1 << 40] {
        let read = Request::read(file, offset, 64).into_buffer(pool, 0);
        assert_eq!(rig.run(read), Ok(0));
        assert_eq!(rig.run(read.exact()), Err(Errno::ENODATA));
    }
    assert_eq!(contents(&memory, 0, 64), [0xee; 64]);
}

/// Rule: ABI-6.20.
#[test]
fn exact_makes_a_short_count_the_error_enodata() {
    let tables = Tables::new(100, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_transport(8, 4);
    let read = |offset, count| Request::read(file, offset, count).into_buffer(pool, 0);
    assert_eq!(rig.run(read(0, 101)), Ok(100));
    assert_eq!(rig.run(read(0, 101).exact()), Err(Errno::ENODATA));
    assert_eq!(rig.run(read(0, 100).exact()), Ok(100));
    assert_eq!(rig.run(read(100, 1).exact()), Err(Errno::ENODATA));
}

/// Rule: ABI-6.4.
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
                    .into_buffer(pool, n << 12)
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
        .map(|n| rig.submit(Request::write(file, n << 12, 4096).from_buffer(pool, n << 12)))
        .collect();
    assert!(rig.wait_all(writes).iter().all(|o| o.result == Ok(4096)));
    let mut written = vec![0; 8 << 12];
    disk.read_exact_at(&mut written, 0).unwrap();
    assert_eq!(written, pattern(2, 1 << 16)[..8 << 12]);
    assert!(rig.engine.counters().resumed > 16);
}

/// On the ring: a pipe gives what it has, and the rest is waited for.
///
/// Rules: ABI-6.4, ABI-6.5.
#[test]
fn a_read_of_a_pipe_is_resumed_until_it_is_full_or_the_pipe_ends() {
    use std::io::Write;
    let mut tables = Tables::new(16, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let mut rig = tables.on_transport(8, 4);
    let read = rig.submit(Request::read(pipe, 0, 10).into_buffer(pool, 0));
    for part in [b"abc".as_slice(), b"def", b"ghij"] {
        rig.linger();
        assert!(rig.pending(&read));
        writer.write_all(part).unwrap();
    }
    assert_eq!(rig.wait(read).result, Ok(10));
    assert_eq!(contents(&memory, 0, 10), b"abcdefghij");
    let read = rig.submit(Request::read(pipe, 0, 10).into_buffer(pool, 0));
    writer.write_all(b"end").unwrap();
    drop(writer);
    assert_eq!(rig.wait(read).result, Ok(3));
}

/// An operation that ends with EINTR or EAGAIN.
///
/// Rule: ABI-6.4.
#[test]
fn an_interrupted_operation_is_tried_again() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let sim = SimTransport::builder(4).interrupted(0.7).build();
    let mut rig = tables.on_sim(sim, 64);
    let tickets: Vec<_> = (0..64)
        .map(|n| rig.submit(Request::read(file, n * 64, 64).into_buffer(pool, n * 64)))
        .collect();
    assert!(rig.wait_all(tickets).iter().all(|o| o.result == Ok(64)));
    assert_eq!(contents(&memory, 0, 4096), pattern(1, 4096));
    assert!(rig.engine.counters().retried > 20);
}

#[test]
fn the_device_gets_the_errno_of_the_kernel() {
    let mut tables = Tables::new(16, 4096);
    let unmapped = File::open("/proc/self/mem").unwrap();
    let unmapped = tables.files.insert(unmapped, Rights::READ).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let full = tables.files.insert(full, Rights::WRITE).unwrap();
    let (closed, writer) = std::io::pipe().unwrap();
    drop(closed);
    let broken = tables.files.insert(writer, Rights::WRITE).unwrap();
    let pool = tables.pool;
    let mut rig = tables.on_transport(8, 4);
    let errno = |result: Result<u32, Errno>| result.unwrap_err().raw() as i32;
    let read = Request::read(unmapped, 0, 64).into_buffer(pool, 0);
    assert_eq!(errno(rig.run(read)), libc::EIO);
    let write = Request::write(full, 0, 64).from_buffer(pool, 0);
    assert_eq!(errno(rig.run(write)), libc::ENOSPC);
    let write = Request::write(broken, 0, 64).from_buffer(pool, 0);
    assert_eq!(errno(rig.run(write)), libc::EPIPE);
}

/// Each entry of the ring carries operations with and without flags in turn.
#[test]
fn the_flags_of_an_operation_do_not_affect_the_next() {
    let mut tables = Tables::new(4096, 4096);
    let read_only = tables.disk.try_clone().unwrap();
    let read_only = tables.files.insert(read_only, Rights::READ).unwrap();
    let (file, pool) = (tables.file, tables.pool);
    let mut rig = tables.on_transport(4, 16);
    for round in 0..20 {
        let requests = [
            Request::write(file, 0, 512).from_buffer(pool, 0).durable(),
            Request::read(read_only, 512, 512).into_buffer(pool, 512),
            Request::sync(file),
            Request::read(read_only, 0, 512)
                .into_buffer(pool, 1024)
                .exact(),
            Request::prefetch(read_only, 0, 4096),
            Request::write(file, 0, 512).from_buffer(pool, 0),
            Request::fence(),
        ];
        // The number of requests differs from that of entries, so that each kind uses each entry.
        let tickets: Vec<_> = requests
            .iter()
            .map(|&request| rig.submit(request))
            .collect();
        for (ticket, request) in tickets.into_iter().zip(&requests) {
            let moved = match request.count() {
                512 => 512,
                _ => 0,
            };
            assert_eq!(rig.wait(ticket).result, Ok(moved), "{round}: {request:?}");
        }
    }
}

/// Lanes and loop share every cache line without a lock. Each lane finds the bytes that it asked for as
/// soon as it sees the outcome, and its own tag.
///
/// Rule: ABI-4.3.
#[test]
fn lanes_and_loop_may_access_the_queue_at_the_same_time() {
    const LANES: u64 = 4;
    let tables = Tables::new(1 << 16, 1 << 16);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let expected = pattern(1, 1 << 16);
    let (host, device) = Queue::anonymous(layout(8)).unwrap();
    let io = tables.loop_on(host);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (device, memory, expected) = (&device, &memory, &expected);
            scope.spawn(move || {
                let base = lane << 14;
                for round in 0..500_u64 {
                    let offset = (round * 7919 + lane * 31) % (60 << 10);
                    let request = Request::read(file, offset, 512).into_buffer(pool, base);
                    let tag = (lane << 16 | round) as u32;
                    let ticket = device.submit(request.with_tag(tag)).unwrap();
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

#[test]
fn buffers_are_registered_with_the_kernel() {
    let tables = Tables::new(16, 4096);
    let rig = tables.on_transport(8, 4);
    let Some(ring) = ring_of(
        rig.engine.transport(),
        "buffers_are_registered_with_the_kernel",
    ) else {
        return;
    };
    assert!(ring.setup_report().buffers().in_use() && ring.setup_report().files().in_use());
    assert!(ring.is_buffer_registered(BufferSlot::new(0)));
}

/// A device would take such an errno of a drive for an outcome that only the host decides.
///
/// Rule: ABI-6.22.
#[test]
fn enodata_etimedout_and_ecanceled_of_a_drive_are_eio() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 4);
    for request in [
        Request::read(file, 0, 64).into_buffer(pool, 0),
        Request::read(file, 0, 64).into_buffer(pool, 0).exact(),
        Request::write(file, 0, 64).from_buffer(pool, 0),
        Request::prefetch(file, 0, 64),
    ] {
        for errno in [OsErrno::NODATA, OsErrno::TIMEDOUT, OsErrno::CANCELED] {
            let ticket = rig.submit(request);
            let _ = rig.engine.step();
            control.state().fail(errno, |_| true);
            let outcome = rig.wait(ticket);
            assert_eq!(outcome.result, Err(Errno::EIO), "{errno}: {request:?}");
        }
    }
}
