//! The end of service: everything is answered, and nothing touches a buffer afterwards. Faults 9
//! and 10 of the vyre 0.7 loop are here.

mod common;

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::desk::Desk;
use common::faulty::Faulty;
use common::*;
use vyre_ioloop::{Engine, IoLoop, LiveError, Policy, StopError};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, LoopState, Queue, QueueLayout};
use vyre_ioq::{Request, Ticket, WaitError};
use vyre_uring::{Busy, SimTransport};

const SOON: Duration = Duration::from_millis(20);

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
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let io = tables
        .builder()
        .queue(host)
        .drain_timeout(drain)
        .spawn()
        .unwrap();
    let read = device
        .submit(Request::read(pipe, 0, 64).into(pool, 0))
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

#[test]
fn stopping_finishes_what_is_claimed() {
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
    assert_eq!(answer(&w.device, w.read), Ok(64));
    assert_eq!(contents(&w.memory, 0, 64), [7; 64]);
    assert_eq!(w.device.host_state(), Some(LoopState::Stopped));
}

#[test]
fn what_is_published_while_the_loop_drains_is_cancelled() {
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
                Request::read(file, 0, 64).into(pool, 64),
                Request::fence(),
                Request::sync(file),
            ] {
                let late = device.submit(request).unwrap();
                assert_eq!(answer(device, late), Err(Errno::ECANCELED));
            }
            writer.write_all(&[7; 64]).unwrap();
        });
        w.io.stop().unwrap();
    });
    assert_eq!(answer(&w.device, w.read), Ok(64));
    assert_eq!(answer(&w.device, before), Ok(0));
    assert_eq!(contents(&w.memory, 64, 64), [0; 64]);
}

#[test]
fn aborting_cancels_at_once() {
    let w = waiting(LIMIT);
    let thread_id = w.io.thread_id();
    w.io.abort().unwrap();
    assert_eq!(answer(&w.device, w.read), Err(Errno::ECANCELED));
    assert_eq!(w.device.host_state(), Some(LoopState::Stopped));
    eventually("the end of the thread", || !thread_lives(thread_id));
}

/// Fault 9.
#[test]
fn after_the_end_nothing_lands_in_a_buffer_any_more() {
    for abort in [true, false] {
        let mut w = waiting(SOON);
        if abort { w.io.abort() } else { w.io.stop() }.unwrap();
        w.writer.write_all(&[7; 64]).unwrap();
        std::thread::sleep(SOON);
        assert_eq!(contents(&w.memory, 0, 64), [0; 64], "as it was");
        let mut still_there = [0; 64];
        w.reader.read_exact(&mut still_there).unwrap();
        assert_eq!(still_there, [7; 64], "nobody took them from the pipe");
        assert_eq!(answer(&w.device, w.read), Err(Errno::ECANCELED));
    }
}

/// Fault 9, without a thread: the ring lives on and is even waited on, with nothing in it.
#[test]
fn a_stopped_engine_s_ring_holds_nothing() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (pool, memory) = (tables.pool, tables.memory.clone());
    let mut rig = tables.on_ring(8, 64);
    let read = rig.submit(Request::read(pipe, 0, 64).into(pool, 0));
    rig.linger();
    rig.engine.stop(LIMIT).unwrap();
    assert_eq!(rig.engine.transport().in_flight(), 0);
    writer.write_all(&[7; 64]).unwrap();
    rig.linger();
    assert_eq!(contents(&memory, 0, 64), [0; 64]);
    assert_eq!(rig.wait(read).result, Err(Errno::ECANCELED));
}

/// Fault 10.
#[test]
fn dropping_the_loop_drains_it_and_ends_its_thread() {
    let mut w = waiting(LIMIT);
    let thread_id = w.io.thread_id();
    assert!(thread_lives(thread_id));
    w.writer.write_all(&[7; 64]).unwrap();
    drop(w.io);
    eventually("the end of the thread", || !thread_lives(thread_id));
    assert_eq!(answer(&w.device, w.read), Ok(64), "drained");
    assert_eq!(w.device.host_state(), Some(LoopState::Stopped));
}

/// Fault 10, where the drain cannot come to an end.
#[test]
fn dropping_a_loop_that_cannot_drain_cancels() {
    let w = waiting(SOON);
    let thread_id = w.io.thread_id();
    drop(w.io);
    eventually("the end of the thread", || !thread_lives(thread_id));
    assert_eq!(answer(&w.device, w.read), Err(Errno::ECANCELED));
}

#[test]
fn a_drain_may_be_given_all_the_time_there_is() {
    let mut w = waiting(Duration::MAX);
    w.writer.write_all(&[7; 64]).unwrap();
    w.io.stop().unwrap();
    assert_eq!(answer(&w.device, w.read), Ok(64));
}

#[test]
fn a_device_that_waits_on_a_stopped_loop_learns_that_it_is_gone() {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let io = Tables::new(16, 64).loop_on(host);
    io.stop().unwrap();
    let late = device.submit(Request::fence()).unwrap();
    let gone = device.wait_for(late, LIMIT);
    assert!(matches!(gone, Err(WaitError::HostGone(_))), "{gone:?}");
}

#[test]
fn everything_unserved_is_answered_by_a_stop() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    // Four entries: most of it waits in the host.
    let (desk, _clerk) = Desk::new(4);
    let mut rig = tables.on(desk, 64);
    let mut cancelled: Vec<_> = (0..20)
        .map(|n| match n % 2 {
            0 => Request::read(pipe, 0, 1).into(pool, n),
            _ => Request::read(file, 0, 1).into(pool, n),
        })
        .map(|read| rig.submit(read))
        .collect();
    cancelled.push(rig.submit(Request::write(file, 0, 8).from(pool, 0)));
    cancelled.push(rig.submit(Request::sync(file)));
    let fence = rig.submit(Request::fence());
    rig.linger();
    assert_eq!(rig.engine.in_flight(), 23);
    cancelled.push(rig.submit(Request::read(file, 0, 1).into(pool, 0)));
    cancelled.push(rig.submit(Request::fence()));
    rig.engine.stop(LIMIT).unwrap();
    assert_eq!(rig.engine.in_flight(), 0);
    for ticket in cancelled {
        assert!(!rig.pending(&ticket), "by the stop itself");
        assert_eq!(rig.wait(ticket).result, Err(Errno::ECANCELED));
    }
    // All that it waited for has ended, if not well.
    assert_eq!(rig.wait(fence).result, Ok(0));
    assert_eq!(rig.device.host_state(), Some(LoopState::Stopped));
}

#[test]
fn a_panic_is_shown_to_devices_and_leaves_nothing_unanswered() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).stuck(1.0).build());
    let mut rig = tables.on(faulty, 64);
    let mut tickets = vec![rig.submit(Request::read(file, 0, 64).into(pool, 0))];
    let _ = rig.engine.step();
    tickets.push(rig.submit(Request::read(file, 0, 64).into(pool, 0)));
    tickets.push(rig.submit(Request::fence()));
    orders.panic_in_submit.store(true, Ordering::Relaxed);
    let Rig { mut engine, device } = rig;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ = engine.step();
        unreachable!("it panics, and drops the engine on its way");
    }));
    assert!(panicked.is_err());
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    for ticket in tickets {
        assert!(device.poll(&ticket).is_some(), "slot {}", ticket.slot());
    }
}

#[test]
fn a_submit_that_fails_for_good_answers_its_batch_with_the_errno() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(1).fatal_submit(1, vyre_uring::Errno::BADF);
    let mut rig = tables.on_sim(sim.build(), 64);
    assert_eq!(rig.run(Request::read(file, 0, 64).into(pool, 0)), Ok(64));
    assert_eq!(rig.engine.failure(), None);
    let batch: Vec<_> = (0..5)
        .map(|n| rig.submit(Request::read(file, 0, 64).into(pool, n * 64)))
        .collect();
    let outcomes = rig.wait_all(batch);
    assert!(outcomes.iter().all(|o| o.result == Err(Errno::EBADF)));
    assert_eq!(rig.engine.failure(), Some(vyre_uring::Errno::BADF));
    // Nothing can be served any more, and everything is answered.
    let late = Request::read(file, 0, 64).into(pool, 0);
    assert_eq!(rig.run(late), Err(Errno::EBADF));
    rig.engine.fail(LIMIT).unwrap();
    assert_eq!(rig.device.host_state(), Some(LoopState::Failed));
}

#[test]
fn a_wait_that_fails_for_good_is_noticed() {
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).build());
    let mut rig = Tables::new(16, 64).on(faulty, 4);
    orders.fail_wait.store(true, Ordering::Relaxed);
    rig.engine.wait(SOON);
    assert_eq!(rig.engine.failure(), Some(vyre_uring::Errno::BADF));
}

#[test]
fn operations_that_the_kernel_keeps_are_told_apart_from_a_clean_end() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let sim = SimTransport::builder(1).hung(1.0).build();
    let mut rig = tables.on_sim(sim, 64);
    let kept: Vec<_> = (0..3)
        .map(|n| rig.submit(Request::read(file, 0, 64).into(pool, n * 64)))
        .collect();
    let fence = rig.submit(Request::fence());
    let _ = rig.engine.step();
    let busy = Busy::new(3);
    assert_eq!(rig.engine.stop(Duration::ZERO), Err(busy));
    assert_eq!(
        rig.engine.stop(Duration::ZERO),
        Err(busy),
        "asked again, it does not claim that the buffers are free"
    );
    assert_eq!(rig.device.host_state(), Some(LoopState::Failed));
    assert_eq!(rig.engine.in_flight(), 4);
    for ticket in kept.into_iter().chain([fence]) {
        assert!(rig.pending(&ticket), "the kernel may write to the buffer");
    }
}

/// The requests that the kernel does not hold are answered, and the fences that wait for none.
#[test]
fn beside_what_the_kernel_keeps_everything_is_answered() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    // One operation at a time: the first read hangs in the transport, the rest waits for room.
    let sim = SimTransport::builder(1).hung(1.0).capacity(1).build();
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(16)).unwrap();
    let (other_host, other) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let mut engine = tables.engine(sim, vec![host, other_host]);
    let read = |n: u64| Request::read(file, 0, 64).into(pool, n * 64);
    let submit = |device: &DeviceQueue, request| device.submit(request).unwrap();
    let before = submit(&device, Request::write(file, 0, 8).from(pool, 0));
    let kept = [before, submit(&device, Request::fence())];
    let mut answered = vec![
        submit(&device, read(1)),
        // Waits for the write, and touches no buffer.
        submit(&device, Request::sync(file)),
    ];
    let _ = engine.step();
    let late = submit(&device, read(2));
    let elsewhere = submit(&other, read(3));
    let fence = submit(&other, Request::fence());
    let _ = engine.step();
    answered.push(late);
    assert_eq!(engine.stop(Duration::ZERO), Err(Busy::new(1)));
    for ticket in answered {
        assert_eq!(device.poll(&ticket).unwrap().result, Err(Errno::ECANCELED));
    }
    assert_eq!(
        other.poll(&elsewhere).unwrap().result,
        Err(Errno::ECANCELED)
    );
    assert_eq!(
        other.poll(&fence).unwrap().result,
        Ok(0),
        "all before it have ended"
    );
    for ticket in kept {
        assert!(device.poll(&ticket).is_none(), "slot {}", ticket.slot());
    }
    for device in [device, other] {
        assert_eq!(device.host_state(), Some(LoopState::Failed));
    }
}

#[test]
fn devices_see_a_heartbeat_while_the_kernel_is_waited_for() {
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

/// FAILED says that every outcome that there will be is there.
#[test]
fn a_completion_that_comes_after_the_end_answers_nothing() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (slots, host, device) = Slots::queue(4);
    let (faulty, orders) = Faulty::new(SimTransport::builder(3).max_latency(9).build());
    let mut engine: Engine<_> = tables.engine(faulty, vec![host]);
    slots.publish(0, &Request::read(file, 0, 64).into(pool, 0));
    let _ = engine.step();
    orders.busy.store(1, Ordering::Relaxed);
    assert_eq!(engine.stop(SOON), Err(Busy::new(1)));
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    assert_eq!(slots.outcome(0), None);
    let revoked = engine.revoke_buffer(pool).unwrap();
    assert!(!engine.is_revoked(revoked), "the kernel may write to it");
    slots.publish(1, &Request::read(file, 0, 64).into(pool, 0));
    for _ in 0..20 {
        let progress = engine.step();
        assert_eq!((progress.claimed, progress.started), (0, 0));
    }
    assert_eq!(contents(&memory, 0, 64), pattern(1, 64), "it came late");
    assert!(engine.is_revoked(revoked), "and is over");
    orders.busy.store(0, Ordering::Relaxed);
    assert_eq!(engine.stop(SOON), Ok(()));
    for slot in 0..2 {
        assert_eq!(slots.outcome(slot), None, "slot {slot}");
    }
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    assert_eq!(engine.in_flight(), 1);
}

/// A bare queue has no state: CLAIMED keeps the device and the next host from the slot.
#[test]
fn a_bare_slot_that_the_kernel_keeps_stays_claimed() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::bare(2);
    let sim = SimTransport::builder(1).hung(1.0).build();
    let mut engine = tables.engine(sim, vec![host]);
    slots.publish(0, &Request::read(file, 0, 64).into(pool, 0));
    let _ = engine.step();
    slots.publish(1, &Request::read(file, 0, 64).into(pool, 0));
    assert_eq!(engine.stop(Duration::ZERO), Err(Busy::new(1)));
    drop(engine);
    assert_eq!(slots.load(0, word::STATUS), status::CLAIMED);
    assert_eq!(slots.load(1, word::STATUS), status::ERROR);
}

/// The kernel may have an operation that a panic kept from the books: nothing is answered then.
#[test]
fn an_operation_that_a_panic_kept_from_the_books_is_not_answered() {
    for deferred in [false, true] {
        let tables = Tables::new(4096, 4096);
        let (file, pool) = (tables.file, tables.pool);
        let (faulty, orders) = Faulty::new(SimTransport::builder(1).hung(1.0).build());
        let (slots, host, device) = Slots::queue(4);
        let mut engine = tables.engine(faulty, vec![host]);
        orders.full.store(deferred, Ordering::Relaxed);
        slots.publish(0, &Request::read(file, 0, 64).into(pool, 0));
        if deferred {
            let _ = engine.step();
            orders.full.store(false, Ordering::Relaxed);
        }
        orders.panic_after_push.store(true, Ordering::Relaxed);
        let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.step()));
        assert!(stepped.is_err());
        assert_eq!(engine.fail(Duration::ZERO), Err(Busy::new(1)));
        assert_eq!(slots.outcome(0), None);
        assert_eq!(device.host_state(), Some(LoopState::Failed));
    }
}

#[test]
fn an_outcome_that_was_decided_before_a_panic_is_delivered() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).hung(1.0).build());
    let (slots, host, _device) = Slots::queue(4);
    let mut engine = tables.engine(faulty, vec![host]);
    orders.panic_after_push.store(true, Ordering::Relaxed);
    slots.publish(0, &Request::read(file, 0, 0).into(pool, 0));
    slots.publish(1, &Request::read(file, 0, 64).into(pool, 0));
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.step()));
    assert!(stepped.is_err());
    assert_eq!(engine.fail(Duration::ZERO), Err(Busy::new(1)));
    assert_eq!(slots.outcome(0), Some(Ok(0)));
    assert_eq!(slots.outcome(1), None);
}

/// What waited for such an operation is answered once, whatever else is published.
#[test]
fn what_waits_for_an_operation_that_a_panic_kept_from_the_books_is_answered_once() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (faulty, orders) = Faulty::new(SimTransport::builder(1).stuck(1.0).build());
    let (slots, host, device) = Slots::queue(4);
    let mut engine = tables.engine(faulty, vec![host]);
    orders.full.store(true, Ordering::Relaxed);
    slots.publish(0, &Request::write(file, 0, 64).from(pool, 0));
    let _ = engine.step();
    slots.publish(1, &Request::sync(file));
    slots.publish(2, &Request::fence());
    let _ = engine.step();
    orders.full.store(false, Ordering::Relaxed);
    orders.panic_after_push.store(true, Ordering::Relaxed);
    let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.step()));
    assert!(stepped.is_err());
    slots.publish(3, &Request::fence());
    assert_eq!(engine.fail(Duration::ZERO), Ok(()));
    for slot in 0..4 {
        assert_eq!(slots.outcome(slot), Some(Err(Errno::ECANCELED)), "{slot}");
    }
    assert_eq!(engine.queue_counters(0).unwrap().failed, 4);
    assert_eq!(device.host_state(), Some(LoopState::Failed));
}

#[test]
fn the_errors_of_an_end_say_what_became_of_the_memory() {
    let stuck = StopError::Stuck { operations: 3 }.to_string();
    assert!(stuck.contains('3') && stuck.contains("leaked"), "{stuck}");
}

#[test]
fn a_sleeping_loop_sees_a_stop() {
    let policy = Policy::Adaptive {
        spins: 0,
        cap: Duration::from_millis(5),
    };
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let builder = Tables::new(16, 64).builder().queue(host).policy(policy);
    let io = builder.spawn().unwrap();
    eventually("some sleeps", || io.counters().sleeps > 20);
    assert!(io.is_running());
    io.stop().unwrap();
    assert_eq!(device.host_state(), Some(LoopState::Stopped));
}

/// Only the thread that forked goes on in a child; the loop's does not.
#[test]
fn a_forked_child_leaves_the_loop_alone() {
    for stops in [false, true] {
        let w = waiting(LIMIT);
        let io = std::cell::Cell::new(Some(w.io));
        let alone = in_fork(|| {
            let io = io.take().unwrap();
            let ended = matches!(io.revoke_file(w.file), Err(LiveError::Ended));
            let running = io.is_running();
            let stopped = !stops || io.stop() == Err(StopError::Forked);
            ended && !running && stopped
        });
        assert!(alone);
        let io = io.take().unwrap();
        let mut writer = w.writer;
        writer.write_all(&[7; 64]).unwrap();
        assert_eq!(answer(&w.device, w.read), Ok(64), "the parent's goes on");
        io.stop().unwrap();
    }
}
