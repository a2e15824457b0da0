//! Orderly shutdown: claimed requests are finished, new ones are cancelled, and nothing touches a buffer
//! afterwards.

mod common;

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::faulty::Faulty;
use common::manual::ManualTransport;
use common::*;
use vyre_ioloop::{IoLoop, StopError, TableError, WaitPolicy};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, LoopState, Queue, Request, Ticket, WaitError,
};
use vyre_uring::{Busy, SimTransport, Transport};

const SOON: Duration = Duration::from_millis(20);

/// Sleeps whenever there is nothing to do.
const SLEEPY: WaitPolicy = WaitPolicy::adaptive(0, Duration::from_millis(1));

/// A loop with a read of an empty pipe in flight.
struct Waiting {
    io: IoLoop,
    device: DeviceQueue,
    read: Ticket,
    writer: std::io::PipeWriter,
    /// A duplicate of the end that the loop reads from.
    reader: std::io::PipeReader,
    memory: vyre_uring::Buffer,
    pool: BufferHandle,
    file: FileHandle,
}

fn waiting(drain: Duration) -> Waiting {
    let mut tables = Tables::new(4096, 4096);
    let (reader, writer) = std::io::pipe().unwrap();
    let end = reader.try_clone().unwrap();
    let pipe = tables.files.insert(end, vyre_ioloop::Rights::READ).unwrap();
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(layout(64)).unwrap();
    let io = tables
        .builder()
        .queue(host)
        .options(loop_options().drain_timeout(drain))
        .spawn()
        .unwrap();
    let read = device
        .submit(Request::read(pipe, 0, 64).into_buffer(pool, 0))
        .unwrap();
    eventually("the claim", || io.queue_counters(0).unwrap().claimed == 1);
    Waiting {
        io,
        device,
        read,
        writer,
        reader,
        memory,
        pool,
        file,
    }
}

/// Rule: ABI-7.4.
#[test]
fn a_stop_finishes_claimed_requests() {
    let mut w = waiting(LIMIT);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("draining", || {
                w.device.host_state() == Some(LoopState::Draining)
            });
            w.writer.write_all(&[7; 64]).unwrap();
        });
        w.io.stop().unwrap();
    });
    assert_eq!(outcome_of(&w.device, w.read), Ok(64));
    assert_eq!(contents(&w.memory, 0, 64), [7; 64]);
    assert_eq!(w.device.host_state(), Some(LoopState::Stopped));
}

/// Rule: ABI-7.4.
#[test]
fn requests_published_during_a_drain_get_ecanceled() {
    let mut w = waiting(LIMIT);
    let before = w.device.submit(Request::fence()).unwrap();
    eventually("the claim", || w.io.queue_counters(0).unwrap().claimed == 2);
    std::thread::scope(|scope| {
        let device = &w.device;
        let (file, pool, writer) = (w.file, w.pool, &mut w.writer);
        scope.spawn(move || {
            eventually("draining", || {
                device.host_state() == Some(LoopState::Draining)
            });
            for request in [
                Request::read(file, 0, 64).into_buffer(pool, 64),
                Request::fence(),
                Request::sync(file),
            ] {
                let late = device.submit(request).unwrap();
                assert_eq!(outcome_of(device, late), Err(Errno::ECANCELED));
            }
            writer.write_all(&[7; 64]).unwrap();
        });
        w.io.stop().unwrap();
    });
    assert_eq!(outcome_of(&w.device, w.read), Ok(64));
    assert_eq!(outcome_of(&w.device, before), Ok(0));
    assert_eq!(contents(&w.memory, 64, 64), [0; 64]);
}

/// Rule: ABI-4.11.
#[test]
fn an_abort_cancels_at_once() {
    let w = waiting(LIMIT);
    let thread_id = w.io.thread_id();
    w.io.abort().unwrap();
    assert_eq!(outcome_of(&w.device, w.read), Err(Errno::ECANCELED));
    assert_eq!(w.device.host_state(), Some(LoopState::Stopped));
    eventually("the end of the thread", || !thread_lives(thread_id));
}

/// Rules: ABI-4.12, ABI-7.13, SEC-7.
#[test]
fn after_shutdown_no_transfer_reaches_a_buffer() {
    for abort in [true, false] {
        let mut w = waiting(SOON);
        if abort { w.io.abort() } else { w.io.stop() }.unwrap();
        w.writer.write_all(&[7; 64]).unwrap();
        std::thread::sleep(SOON);
        assert_eq!(contents(&w.memory, 0, 64), [0; 64], "as it was");
        let mut still_there = [0; 64];
        w.reader.read_exact(&mut still_there).unwrap();
        assert_eq!(still_there, [7; 64], "nobody took them from the pipe");
        assert_eq!(outcome_of(&w.device, w.read), Err(Errno::ECANCELED));
    }
}

/// Without a thread: the ring outlives the shutdown and is waited on, and holds nothing.
///
/// Rule: SEC-7.
#[test]
fn the_ring_of_a_stopped_engine_holds_no_operation() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let mut rig = tables.on_transport(8, 64);
    let read = rig.submit(Request::read(pipe, 0, 64).into_buffer(pool, 0));
    rig.linger();
    rig.engine.stop(LIMIT).unwrap();
    assert_eq!(rig.engine.transport().in_flight(), 0);
    writer.write_all(&[7; 64]).unwrap();
    rig.linger();
    assert_eq!(contents(&memory, 0, 64), [0; 64]);
    assert_eq!(rig.wait(read).result, Err(Errno::ECANCELED));
}

/// Rule: ABI-7.4.
#[test]
fn dropping_the_loop_drains_it_and_ends_its_thread() {
    let mut w = waiting(LIMIT);
    let thread_id = w.io.thread_id();
    assert!(thread_lives(thread_id));
    w.writer.write_all(&[7; 64]).unwrap();
    drop(w.io);
    eventually("the end of the thread", || !thread_lives(thread_id));
    assert_eq!(outcome_of(&w.device, w.read), Ok(64), "drained");
    assert_eq!(w.device.host_state(), Some(LoopState::Stopped));
}

/// The drain cannot finish.
///
/// Rule: SEC-14.
#[test]
fn dropping_a_loop_that_cannot_drain_cancels() {
    let w = waiting(SOON);
    let thread_id = w.io.thread_id();
    drop(w.io);
    eventually("the end of the thread", || !thread_lives(thread_id));
    assert_eq!(outcome_of(&w.device, w.read), Err(Errno::ECANCELED));
}

#[test]
fn a_drain_accepts_the_longest_timeout() {
    let mut w = waiting(Duration::MAX);
    w.writer.write_all(&[7; 64]).unwrap();
    w.io.stop().unwrap();
    assert_eq!(outcome_of(&w.device, w.read), Ok(64));
}

/// Rule: ABI-7.3.
#[test]
fn a_wait_on_a_stopped_loop_reports_that_the_host_is_gone() {
    let (host, device) = Queue::anonymous(layout(4)).unwrap();
    let io = Tables::new(16, 64).loop_on(host);
    io.stop().unwrap();
    let late = device.submit(Request::fence()).unwrap();
    let gone = device.wait_for(late, LIMIT);
    assert!(matches!(gone, Err(WaitError::HostGone(_))), "{gone:?}");
}

/// Rule: ABI-4.11.
#[test]
fn a_stop_completes_everything_that_was_not_served() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    // Four entries, so most requests are in the backlog.
    let (transport, _control) = ManualTransport::new(4);
    let mut rig = tables.on(transport, 64);
    let mut cancelled: Vec<_> = (0..20)
        .map(|n| match n % 2 {
            0 => Request::read(pipe, 0, 1).into_buffer(pool, n),
            _ => Request::read(file, 0, 1).into_buffer(pool, n),
        })
        .map(|read| rig.submit(read))
        .collect();
    cancelled.push(rig.submit(Request::write(file, 0, 8).from_buffer(pool, 0)));
    cancelled.push(rig.submit(Request::sync(file)));
    let fence = rig.submit(Request::fence());
    rig.linger();
    assert_eq!(rig.engine.outstanding(), 23);
    cancelled.push(rig.submit(Request::read(file, 0, 1).into_buffer(pool, 0)));
    cancelled.push(rig.submit(Request::fence()));
    rig.engine.stop(LIMIT).unwrap();
    assert_eq!(rig.engine.outstanding(), 0);
    for ticket in cancelled {
        assert!(!rig.pending(&ticket), "by the stop itself");
        assert_eq!(rig.wait(ticket).result, Err(Errno::ECANCELED));
    }
    // Everything that the fence waited for has ended, if with an error.
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert_eq!(rig.device.host_state(), Some(LoopState::Stopped));
}

/// Rule: ABI-7.5.
#[test]
fn the_heartbeat_advances_while_shutdown_waits_for_the_kernel() {
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    let mut rig = Tables::new(16, 64).on(faulty, 4);
    orders.linger.store(true, Ordering::Relaxed);
    let before = rig.device.host_heartbeat().unwrap();
    let deadline = Duration::from_millis(250);
    assert_eq!(rig.engine.stop(deadline), Err(Busy::new(1)));
    let quiesced = orders.quiesced.lock().unwrap().clone();
    let beats = rig.device.host_heartbeat().unwrap() - before;
    assert!(beats as usize >= quiesced.len(), "{beats} in {quiesced:?}");
    assert!(
        quiesced.iter().sum::<Duration>() <= deadline,
        "{quiesced:?}"
    );
    let longest = Duration::from_millis(100);
    assert!(quiesced.iter().all(|&step| step <= longest), "{quiesced:?}");
}

#[test]
fn a_stop_ends_a_sleeping_loop() {
    let policy = WaitPolicy::adaptive(0, Duration::from_millis(5));
    let (host, device) = Queue::anonymous(layout(4)).unwrap();
    let builder = Tables::new(16, 64)
        .builder()
        .queue(host)
        .options(loop_options().wait_policy(policy));
    let io = builder.spawn().unwrap();
    eventually("some sleeps", || io.counters().sleeps > 20);
    assert!(io.is_running());
    io.stop().unwrap();
    assert_eq!(device.host_state(), Some(LoopState::Stopped));
}

/// A child has only the thread that forked, and not that of the loop.
#[test]
fn a_forked_child_does_not_affect_the_loop() {
    for stops in [false, true] {
        let w = waiting(LIMIT);
        let io = std::cell::Cell::new(Some(w.io));
        let alone = in_fork(|| {
            let io = io.take().unwrap();
            let ended = matches!(io.revoke_file(w.file), Err(TableError::Ended));
            let running = io.is_running();
            let stopped = !stops || io.stop() == Err(StopError::Forked);
            ended && !running && stopped
        });
        assert!(alone);
        let io = io.take().unwrap();
        let mut writer = w.writer;
        writer.write_all(&[7; 64]).unwrap();
        assert_eq!(
            outcome_of(&w.device, w.read),
            Ok(64),
            "the parent's goes on"
        );
        io.stop().unwrap();
    }
}

/// Rule: SEC-14.
#[test]
fn a_stop_ends_a_read_that_would_never_end() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let pool = tables.pool;
    let (host, device) = Queue::anonymous(layout(64)).unwrap();
    let builder = tables.builder().queue(host);
    let options = loop_options().wait_policy(SLEEPY);
    let io = builder
        .options(options.drain_timeout(Duration::from_millis(20)))
        .spawn()
        .unwrap();
    let waiting = device
        .submit(Request::read(pipe, 0, 4).into_buffer(pool, 0))
        .unwrap();
    eventually("the claim", || io.queue_counters(0).unwrap().claimed == 1);
    eventually("sleep", || io.counters().sleeps > 2);
    let thread_id = io.thread_id();
    io.stop().unwrap();
    assert_eq!(outcome_of(&device, waiting), Err(Errno::ECANCELED));
    assert_eq!(device.host_state(), Some(LoopState::Stopped));
    eventually("the end of the thread", || !thread_lives(thread_id));
}
