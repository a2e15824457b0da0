//! Changes to the tables while the loop runs.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::faulty::Faulty;
use common::*;
use vyre_ioloop::{Rights, TableError};
use vyre_ioq::{DeviceQueue, Errno, FileHandle, Queue, Request};
use vyre_uring::{AnyTransport, Buffer, BufferSlot, SimTransport};

fn queue() -> (vyre_ioq::HostQueue, DeviceQueue) {
    Queue::anonymous(layout(64)).unwrap()
}

fn run(device: &DeviceQueue, request: Request) -> Result<u32, Errno> {
    outcome_of(device, device.submit(request).unwrap())
}

#[test]
fn entries_added_while_the_loop_runs_can_be_used_at_once() {
    let (host, device) = queue();
    let io = Tables::new(16, 64).loop_on(host);
    let bytes = pattern(8, 1000);
    let memory = memory(4096);
    let file = io
        .insert_file(file_of(&bytes), 100..900, Rights::READ)
        .unwrap();
    let both = Rights::READ | Rights::WRITE;
    let low = io.insert_buffer(memory.clone(), 0..2048, both).unwrap();
    let high = io.insert_buffer(memory.clone(), 2048..4096, both).unwrap();
    assert_eq!(
        run(&device, Request::read(file, 0, 800).into_buffer(low, 0)),
        Ok(800)
    );
    assert_eq!(
        run(&device, Request::read(file, 1, 799).into_buffer(high, 8)),
        Ok(799)
    );
    assert_eq!(contents(&memory, 0, 800), bytes[100..900]);
    assert_eq!(contents(&memory, 2056, 799), bytes[101..900]);
    io.stop().unwrap();
}

#[test]
fn invalid_entries_are_refused_and_leave_no_trace() {
    let (host, device) = queue();
    let tables = Tables::new(16, 64);
    let io = tables
        .builder()
        .queue(host)
        .options(loop_options().live_entries(1))
        .spawn()
        .unwrap();
    let memory = memory(64);
    let refused = io
        .insert_buffer(memory.clone(), 0..65, Rights::READ)
        .unwrap_err();
    assert!(matches!(refused, TableError::BadRange { .. }), "{refused}");
    let file = || file_of(b"abc");
    let first = io.insert_file(file(), 0..3, Rights::READ).unwrap();
    let refused = io.insert_file(file(), 0..3, Rights::READ).unwrap_err();
    let full = |error: &TableError| matches!(error, TableError::NoRoom { what: "file" });
    assert!(full(&refused), "{refused}");
    assert!(refused.to_string().contains("live_entries()"), "{refused}");
    // The place of the first is free once it is revoked.
    io.revoke_file(first).unwrap();
    let second = io.insert_file(file(), 0..3, Rights::READ).unwrap();
    let pool = io.insert_buffer(memory, 0..64, Rights::WRITE).unwrap();
    assert_eq!(
        run(&device, Request::read(second, 0, 3).into_buffer(pool, 0)),
        Ok(3)
    );
    io.stop().unwrap();
}

/// Rule: SEC-9.
#[test]
fn a_revoked_handle_stays_unknown_when_its_index_is_reused() {
    let (host, device) = queue();
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let io = tables.loop_on(host);
    let old = io.insert_file(file_of(b"old"), 0..3, Rights::READ).unwrap();
    let old_memory = memory(64);
    let old_buffer = io
        .insert_buffer(old_memory.clone(), 0..64, Rights::WRITE)
        .unwrap();
    assert_eq!(
        run(&device, Request::read(old, 0, 3).into_buffer(old_buffer, 0)),
        Ok(3)
    );
    io.revoke_file(old).unwrap();
    io.revoke_buffer(old_buffer).unwrap();
    let new = io.insert_file(file_of(b"new"), 0..3, Rights::READ).unwrap();
    let new_buffer = io.insert_buffer(memory(64), 0..64, Rights::WRITE).unwrap();
    assert_eq!(new.raw() & 0xf_ffff, old.raw() & 0xf_ffff, "the same place");
    assert_ne!(new, old);
    assert_ne!(new_buffer, old_buffer);
    let read = Request::read(old, 0, 3).into_buffer(pool, 0);
    assert_eq!(run(&device, read), Err(Errno::EBADF));
    let read = Request::read(file, 0, 3).into_buffer(old_buffer, 0);
    assert_eq!(run(&device, read), Err(Errno::EBADF));
    assert_eq!(
        run(&device, Request::read(new, 0, 3).into_buffer(new_buffer, 0)),
        Ok(3)
    );
    let twice = io.revoke_file(old).unwrap_err();
    assert!(matches!(
        twice,
        TableError::Unknown { handle } if handle == old.raw()
    ));
    io.stop().unwrap();
}

/// Rule: SEC-7.
#[test]
fn a_revocation_waits_only_for_operations_of_its_own_entry() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (other_pipe, _other_writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = queue();
    let io = tables.loop_on(host);
    let memory = memory(64);
    let buffer = io
        .insert_buffer(memory.clone(), 0..64, Rights::WRITE)
        .unwrap();
    let read = device
        .submit(Request::read(pipe, 0, 4).into_buffer(buffer, 0))
        .unwrap();
    let other = Request::read(other_pipe, 0, 4).into_buffer(pool, 0);
    let other = device.submit(other).unwrap();
    eventually("the claims", || io.queue_counters(0).unwrap().claimed == 2);
    let revoked = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            io.revoke_buffer(buffer).unwrap();
            revoked.store(true, Ordering::Release);
        });
        // The handle is unknown at once, and other requests are served.
        eventually("the revocation", || {
            let probe = Request::read(file, 0, 1).into_buffer(buffer, 60);
            run(&device, probe) == Err(Errno::EBADF)
        });
        std::thread::sleep(std::time::Duration::from_millis(10));
        assert!(!revoked.load(Ordering::Acquire), "the read is in flight");
        assert_eq!(
            run(&device, Request::read(file, 0, 8).into_buffer(pool, 8)),
            Ok(8)
        );
        // Another entry is revoked at once, although a read is in flight on a third.
        io.revoke_file(file).unwrap();
        writer.write_all(b"data").unwrap();
    });
    assert!(revoked.load(Ordering::Acquire));
    assert_eq!(outcome_of(&device, read), Ok(4), "it was not cut short");
    assert_eq!(contents(&memory, 0, 4), b"data");
    assert!(device.poll(&other).is_none());
    io.abort().unwrap();
}

#[test]
fn a_buffer_is_unregistered_with_its_last_handle() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    let mut rig = tables.on_transport(8, 8);
    let memory = memory(4096);
    let first = rig
        .engine
        .insert_buffer(memory.clone(), 0..64, Rights::WRITE)
        .unwrap();
    let second = rig
        .engine
        .insert_buffer(memory, 64..128, Rights::WRITE)
        .unwrap();
    let registered = |rig: &Rig<AnyTransport>| {
        let test = "a_buffer_is_unregistered_with_its_last_handle";
        let ring = ring_of(rig.engine.transport(), test)?;
        Some(ring.is_buffer_registered(BufferSlot::new(1)))
    };
    let Some(is_registered) = registered(&rig) else {
        return;
    };
    assert!(is_registered);
    let revocation = rig.engine.revoke_buffer(first).unwrap();
    assert!(rig.engine.is_revoked(revocation));
    assert_eq!(registered(&rig), Some(true));
    assert_eq!(
        rig.run(Request::read(file, 0, 64).into_buffer(second, 0)),
        Ok(64)
    );
    let _ = rig.engine.revoke_buffer(second).unwrap();
    assert_eq!(registered(&rig), Some(false));
}

/// Rule: SEC-7.
#[test]
fn a_revoked_file_is_closed_after_its_last_request() {
    let mut tables = Tables::new(16, 64);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_transport(8, 8);
    let read = rig.submit(Request::read(pipe, 0, 1).into_buffer(pool, 0));
    rig.linger();
    let revocation = rig.engine.revoke_file(pipe).unwrap();
    rig.linger();
    assert!(!rig.engine.is_revoked(revocation));
    writer.write_all(b"x").unwrap();
    assert_eq!(rig.wait(read).result, Ok(1));
    assert!(rig.engine.is_revoked(revocation));
    // The kernel closes a registered file some time later.
    eventually("the reading end closes", || {
        rig.linger();
        writer.write_all(b"x").is_err()
    });
}

/// Each index has 4,096 handles. Indexes are used up, slots of the transport are not.
#[test]
fn files_can_be_inserted_and_revoked_without_end() {
    let tables = Tables::new(64, 64);
    let (pool, disk) = (tables.pool, tables.disk.try_clone().unwrap());
    let mut rig = tables.on_sim(SimTransport::builder(1).files(2).build(), 8);
    let mut handles = std::collections::HashSet::new();
    for _ in 0..10_000 {
        let file = disk.try_clone().unwrap();
        let handle = rig.engine.insert_file(file, 0..64, Rights::READ).unwrap();
        assert!(handles.insert(handle.raw()), "{handle:?} twice");
        let revocation = rig.engine.revoke_file(handle).unwrap();
        assert!(rig.engine.is_revoked(revocation));
    }
    let last = rig.engine.insert_file(disk, 0..64, Rights::READ).unwrap();
    assert_eq!(
        rig.run(Request::read(last, 0, 64).into_buffer(pool, 0)),
        Ok(64)
    );
}

#[test]
fn the_highest_handle_takes_one_place_in_the_transport() {
    let mut tables = Tables::new(64, 64);
    let pool = tables.pool;
    let highest = FileHandle::from_raw((1 << 20) - 1);
    let disk = tables.disk.try_clone().unwrap();
    let inserted = tables.files.insert_at(highest, disk, 0..64, Rights::READ);
    inserted.unwrap();
    let mut rig = tables.on_sim(SimTransport::builder(1).files(2).build(), 8);
    let read = Request::read(highest, 0, 64).into_buffer(pool, 0);
    assert_eq!(rig.run(read), Ok(64));
}

#[test]
fn a_revocation_stays_complete_when_its_index_is_reused() {
    let mut tables = Tables::new(16, 64);
    let (pipe, mut writer) = tables.add_pipe();
    let pool = tables.pool;
    let mut rig = tables.on_transport(8, 8);
    let (successor, _silent) = std::io::pipe().unwrap();
    let read = rig.submit(Request::read(pipe, 0, 1).into_buffer(pool, 0));
    rig.linger();
    let first = rig.engine.revoke_file(pipe).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(rig.wait(read).result, Ok(1));
    let second = rig
        .engine
        .insert_file(successor, 0..1, Rights::READ)
        .unwrap();
    assert_eq!(second.raw() & 0xf_ffff, pipe.raw(), "its index");
    let _for_ever = rig.submit(Request::read(second, 0, 1).into_buffer(pool, 0));
    rig.linger();
    let second = rig.engine.revoke_file(second).unwrap();
    assert!(rig.engine.is_revoked(first));
    assert!(!rig.engine.is_revoked(second));
}

#[test]
fn a_running_loop_reports_its_state_and_counters() {
    let (host, device) = queue();
    let io = Tables::new(16, 64).loop_on(host);
    assert!(io.is_running());
    assert!(io.report().to_string().contains("entries"));
    assert!(thread_lives(io.thread_id()));
    assert_eq!(run(&device, Request::fence()), Ok(0));
    eventually("the counts", || {
        let queue = io.queue_counters(0).unwrap();
        (queue.claimed, queue.succeeded, queue.failed) == (1, 1, 0)
    });
    assert_eq!(io.queue_counters(1), None);
    io.stop().unwrap();
}

/// Returns a socket whose `close` takes an hour, and its other end. Dropping the other end ends the
/// close.
fn lingering() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (receiver, _) = listener.accept().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.write(&[0; 1 << 16]).is_ok() {}
    sender.set_nonblocking(false).unwrap();
    let hour = Some(Duration::from_secs(3600));
    rustix::net::sockopt::set_socket_linger(&sender, hour).unwrap();
    (sender, receiver)
}

#[test]
fn a_file_whose_close_hangs_delays_no_request() {
    let (host, device) = queue();
    let io = Tables::new(16, 64).loop_on(host);
    let (sender, receiver) = lingering();
    let socket = io.insert_file(sender, .., Rights::WRITE).unwrap();
    io.revoke_file_within(socket, Duration::ZERO).unwrap();
    assert_eq!(run(&device, Request::fence()), Ok(0));
    drop(receiver);
    io.stop().unwrap();
}

#[test]
fn a_file_whose_close_hangs_does_not_delay_shutdown() {
    let mut tables = Tables::new(16, 64);
    let (sender, receiver) = lingering();
    tables.files.insert(sender, Rights::WRITE).unwrap();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(tables.on_sim(SimTransport::builder(1).build(), 4));
        done.send(()).unwrap();
    });
    ended.recv_timeout(LIMIT).unwrap();
    drop(receiver);
}

/// Returns the number of page faults of a thread.
fn faults(thread: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(7).unwrap().parse().unwrap()
}

#[test]
fn the_pages_of_a_large_buffer_are_not_faulted_in_by_the_loop_thread() {
    let (host, _device) = queue();
    let io = Tables::new(16, 64).loop_on(host);
    let (buffer, _memfd) = Buffer::memfd(64 << 20).unwrap();
    let before = faults(io.thread_id());
    io.insert_buffer(buffer, .., Rights::WRITE).unwrap();
    let of_loop = faults(io.thread_id()) - before;
    assert!(of_loop < 1000, "{of_loop} of 16,384 pages");
    io.stop().unwrap();
}

/// Owner that reports which thread drops it.
struct Tell(std::sync::mpsc::SyncSender<Option<String>>);

impl Drop for Tell {
    fn drop(&mut self) {
        let name = std::thread::current().name().map(str::to_owned);
        let _ = self.0.send(name);
    }
}

#[test]
fn a_large_buffer_is_not_unmapped_by_the_loop_thread() {
    let (host, _device) = queue();
    let builder = Tables::new(16, 64).builder().queue(host);
    let io = builder.name("the-loop").spawn().unwrap();
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let large = memory_with(32 << 20, Tell(tell));
    let large = io.insert_buffer(large, .., Rights::WRITE).unwrap();
    io.revoke_buffer(large).unwrap();
    let thread = told.recv_timeout(LIMIT).unwrap();
    assert_ne!(thread.as_deref(), Some("the-loop"));
    io.stop().unwrap();
}

/// Linux before 6.4 removes a file a second later, and closing a ring waits for that.
#[test]
fn shutdown_removes_no_file_from_the_transport() {
    let mut tables = Tables::new(16, 64);
    let (pipe, _writer) = tables.add_pipe();
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    let mut rig = tables.on(faulty, 4);
    let _revoked = rig.engine.revoke_file(pipe).unwrap();
    rig.linger();
    assert_eq!(orders.removed.load(Ordering::Relaxed), 1, "a revocation");

    let mut tables = Tables::new(16, 64);
    let (_pipe, mut writer) = tables.add_pipe();
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    drop(tables.on(faulty, 4));
    assert_eq!(orders.removed.load(Ordering::Relaxed), 0);
    eventually("the close", || writer.write(&[1]).is_err());
}
