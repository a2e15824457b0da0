//! Faults 1 to 7 and 20 of the vyre 0.7 loop, which ended it or made it wait for ever.

mod common;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use rustix::thread::gettid;
use vyre_ioloop::{IoLoop, Policy, Rights, SpawnError};
use vyre_ioq::abi::{op, status, word};
use vyre_ioq::{
    AttachError, BufferHandle, Errno, FileHandle, HostQueue, LoopState, Queue, QueueLayout, Region,
    Request,
};
use vyre_uring::SimTransport;

/// Sleeps whenever there is nothing to do.
const SLEEPY: Policy = Policy::Adaptive {
    spins: 0,
    cap: Duration::from_millis(1),
};

/// A queue of 64 slots on a running loop: the request at `index`, and 63 good reads around it.
fn one_among_good_ones(tables: Tables, odd: Request, errno: Errno) {
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let io = tables.loop_on(host);
    for round in 0..3 {
        let tickets: Vec<_> = (0..64_u64)
            .map(|n| match n {
                20 => device.submit(odd).unwrap(),
                n => device
                    .submit(Request::read(file, n * 64, 64).into(pool, n * 64))
                    .unwrap(),
            })
            .collect();
        for (n, ticket) in tickets.into_iter().enumerate() {
            let expected = if n == 20 { Err(errno) } else { Ok(64) };
            assert_eq!(answer(&device, ticket), expected, "round {round}, {n}");
        }
    }
    let read = contents(&memory, 0, 4096);
    let expected = pattern(1, 4096);
    assert_eq!(read[..20 * 64], expected[..20 * 64]);
    assert_eq!(read[21 * 64..], expected[21 * 64..]);
    io.stop().unwrap();
}

/// Fault 1.
#[test]
fn an_unregistered_handle_fails_one_request_and_the_rest_are_served() {
    let tables = Tables::new(4096, 4096);
    let unknown = Request::read(FileHandle::from_raw(777), 0, 64).into(tables.pool, 0);
    one_among_good_ones(tables, unknown, Errno::EBADF);
    let tables = Tables::new(4096, 4096);
    let unknown = Request::read(tables.file, 0, 64).into(BufferHandle::from_raw(777), 0);
    one_among_good_ones(tables, unknown, Errno::EBADF);
}

/// Fault 2.
#[test]
fn a_count_past_the_buffer_fails_one_request_and_the_rest_are_served() {
    for (count, offset) in [(4097, 0), (u32::MAX, 0), (1, 4096), (64, u64::MAX)] {
        let tables = Tables::new(4096, 4096);
        let long = Request::read(tables.file, 0, count).into(tables.pool, offset);
        one_among_good_ones(tables, long, Errno::ERANGE);
    }
}

/// Fault 3.
#[test]
fn more_requests_than_the_ring_has_entries_are_all_served() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let io = tables
        .builder()
        .queue(host)
        .ring_entries(8)
        .spawn()
        .unwrap();
    let tickets: Vec<_> = (0..64_u64)
        .map(|n| Request::read(file, n * 64, 64).into(pool, n * 64))
        .map(|request| device.submit(request).unwrap())
        .collect();
    for ticket in tickets {
        assert_eq!(answer(&device, ticket), Ok(64));
    }
    assert_eq!(contents(&memory, 0, 4096), pattern(1, 4096));
    io.stop().unwrap();
}

/// Fault 4, on the kernel's side: signals interrupt a thread that drives an engine, asleep and at
/// work. A loop's own thread blocks them.
#[test]
fn signals_do_not_end_the_loop() {
    let_signals_interrupt();
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let (started, thread_id) = std::sync::mpsc::channel();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut engine = tables.engine(ring(64), vec![host]);
            started
                .send(gettid().as_raw_nonzero().get() as u32)
                .unwrap();
            let end = Instant::now() + LIMIT;
            while !done.load(Ordering::Relaxed) && Instant::now() < end {
                if engine.step().is_idle() {
                    engine.wait(Duration::from_micros(100));
                }
            }
            assert_eq!(engine.failure(), None);
            engine.stop(LIMIT).unwrap();
        });
        let thread_id = thread_id.recv().unwrap();
        let asleep = device
            .submit(Request::read(pipe, 0, 4).into(pool, 64))
            .unwrap();
        for n in 0..500_u64 {
            signal(thread_id);
            let read = Request::read(file, n, 8).into(pool, 0);
            let ticket = device.submit(read).unwrap();
            signal(thread_id);
            assert_eq!(answer(&device, ticket), Ok(8));
        }
        writer.write_all(b"data").unwrap();
        assert_eq!(answer(&device, asleep), Ok(4));
        done.store(true, Ordering::Relaxed);
    });
}

/// Fault 4, on the operation's side: one that ends in EINTR or EAGAIN is tried again.
#[test]
fn an_interrupted_operation_is_tried_again() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, memory) = (tables.file, tables.pool, tables.memory.clone());
    let sim = SimTransport::builder(4).interrupted(0.7).build();
    let mut rig = tables.on_sim(sim, 64);
    let tickets: Vec<_> = (0..64)
        .map(|n| rig.submit(Request::read(file, n * 64, 64).into(pool, n * 64)))
        .collect();
    assert!(rig.wait_all(tickets).iter().all(|o| o.result == Ok(64)));
    assert_eq!(contents(&memory, 0, 4096), pattern(1, 4096));
    assert!(rig.engine.counters().retried > 20);
}

/// Fault 5.
#[test]
fn a_device_that_empties_a_claimed_slot_harms_only_itself() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, mut writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(64);
    let io = tables.loop_on(host);
    for garbage in [status::EMPTY, status::OK, status::PUBLISHED, 0xdead_beef] {
        let before = io.queue_counters(0).unwrap();
        slots.publish(3, &Request::read(pipe, 0, 4).into(pool, 0));
        eventually("the claim", || {
            io.queue_counters(0).unwrap().claimed == before.claimed + 1
        });
        slots.store(3, word::STATUS, garbage);
        for slot in 4..20 {
            slots.publish(slot, &Request::read(file, 0, 64).into(pool, 64));
        }
        for slot in 4..20 {
            eventually("a good read", || slots.outcome(slot) == Some(Ok(64)));
        }
        writer.write_all(b"data").unwrap();
        eventually("the first outcome", || slots.outcome(3) == Some(Ok(4)));
        // PUBLISHED is what the slot of a request in service may say.
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

/// Fault 6. The loop may sleep, but never for as long as an operation takes: a request that comes
/// while another waits for the kernel is served.
#[test]
fn a_request_is_served_while_an_older_one_waits_for_the_kernel() {
    for policy in [SLEEPY, Policy::ADAPTIVE, Policy::Spin] {
        let mut tables = Tables::new(4096, 4096);
        let (pipe, mut writer) = tables.add_pipe();
        let (file, pool) = (tables.file, tables.pool);
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
        let (other_host, other_device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
        let builder = tables.builder().queue(host).queue(other_host);
        let io = builder.policy(policy).spawn().unwrap();
        let waiting = device
            .submit(Request::read(pipe, 0, 4).into(pool, 0))
            .unwrap();
        for _ in 0..5 {
            let sleeps = io.counters().sleeps;
            eventually("sleep", || {
                policy == Policy::Spin || io.counters().sleeps > sleeps + 1
            });
            let read = device
                .submit(Request::read(file, 0, 8).into(pool, 64))
                .unwrap();
            assert_eq!(answer(&device, read), Ok(8));
            let fence = other_device.submit(Request::fence()).unwrap();
            assert_eq!(answer(&other_device, fence), Ok(0));
        }
        assert!(device.poll(&waiting).is_none());
        writer.write_all(b"data").unwrap();
        assert_eq!(answer(&device, waiting), Ok(4));
        io.stop().unwrap();
    }
}

/// Fault 7.
#[test]
fn stopping_ends_a_read_that_would_never_end() {
    let mut tables = Tables::new(4096, 4096);
    let (pipe, _writer) = tables.add_pipe();
    let pool = tables.pool;
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let builder = tables.builder().queue(host).policy(SLEEPY);
    let io = builder
        .drain_timeout(Duration::from_millis(20))
        .spawn()
        .unwrap();
    let waiting = device
        .submit(Request::read(pipe, 0, 4).into(pool, 0))
        .unwrap();
    eventually("the claim", || io.queue_counters(0).unwrap().claimed == 1);
    eventually("sleep", || io.counters().sleeps > 2);
    let thread_id = io.thread_id();
    io.stop().unwrap();
    assert_eq!(answer(&device, waiting), Err(Errno::ECANCELED));
    assert_eq!(device.host_state(), Some(LoopState::Stopped));
    eventually("the end of the thread", || !thread_lives(thread_id));
}

/// Fault 20.
#[test]
fn an_unfit_queue_is_refused_before_anything_runs() {
    let bare = |len| HostQueue::attach_bare(Region::allocate(len).unwrap());
    assert_eq!(bare(31).unwrap_err(), AttachError::BareLength { len: 31 });
    let count = |slots, most| AttachError::BadSlotCount { slots, most };
    assert_eq!(bare(0).unwrap_err(), count(0, 64));
    assert_eq!(bare(65 * 32).unwrap_err(), count(65, 64));
    for slots in [0, 4097] {
        let layout = QueueLayout::with_slots(slots);
        let refused = Queue::anonymous(layout).unwrap_err();
        assert_eq!(refused, count(slots.into(), 4096));
    }
    let refused = IoLoop::builder().spawn();
    assert!(matches!(refused, Err(SpawnError::NoQueue)));
}

/// Fault 20: a loop that cannot start says so to whoever starts it, and to the devices.
#[test]
fn a_loop_that_cannot_start_says_so_and_its_devices_see_failed() {
    let queue = || Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let (host, device) = queue();
    let refused = IoLoop::builder().queue(host).ring_entries(0).spawn();
    assert!(matches!(refused, Err(SpawnError::Setup(_))), "{refused:?}");
    assert_eq!(device.host_state(), Some(LoopState::Failed));

    let (host, device) = queue();
    let refused = IoLoop::builder().queue(host).name("a\0b").spawn();
    let text = refused.as_ref().map_err(ToString::to_string).err();
    assert!(matches!(refused, Err(SpawnError::Name { .. })), "{text:?}");
    assert!(text.is_some_and(|text| text.contains(r#""a\0b""#)));
    assert_eq!(device.host_state(), Some(LoopState::Failed));

    let (host, device) = queue();
    let refused = IoLoop::builder().queue(host).live_entries(u32::MAX).spawn();
    assert!(matches!(refused, Err(SpawnError::Setup(_))), "{refused:?}");
    assert_eq!(device.host_state(), Some(LoopState::Failed));

    for core in [1023, usize::MAX] {
        let (host, device) = queue();
        let refused = IoLoop::builder().queue(host).pin_to(core).spawn();
        assert!(
            matches!(refused, Err(SpawnError::Pin { .. })),
            "{refused:?}"
        );
        assert_eq!(device.host_state(), Some(LoopState::Failed));
    }
}

/// Fault 1, as a device would provoke it for good: every handle, operation and status in turn.
#[test]
fn a_device_that_publishes_nothing_but_nonsense_does_not_stop_the_others() {
    let tables = Tables::new(4096, 4096);
    let (file, pool, disk) = (tables.file, tables.pool, tables.disk.try_clone().unwrap());
    let (hostile, hostile_host, _end) = Slots::queue(64);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let builder = tables.builder().queue(hostile_host).queue(host);
    let io = builder.spawn().unwrap();
    let mut noise = pattern(99, 1 << 16).into_iter().cycle();
    let mut word_of_noise = || u32::from_le_bytes([0; 4].map(|_| noise.next().unwrap()));
    for round in 0..200_u64 {
        for slot in 0..64 {
            let mut words = [0_u32; 16].map(|_| word_of_noise());
            if slot % 2 == 0 {
                // Nearly right.
                words[word::OP] = op::READ + slot % 5;
                words[10..].fill(0);
            }
            // Never a write to the file that the good requests read.
            words[word::DESTINATION] |= 1 << 31;
            words[word::SOURCE] |= 1 << 31;
            hostile.publish_words(slot, &words);
            hostile.store(
                slot,
                word::STATUS,
                [1, 1, 0x10, 2, 77][(round % 5) as usize],
            );
        }
        let read = Request::read(file, round, 16).into(pool, 0);
        let ticket = device.submit(read).unwrap();
        assert_eq!(answer(&device, ticket), Ok(16));
    }
    let mut still = vec![0; 4096];
    disk.read_exact_at(&mut still, 0).unwrap();
    assert_eq!(still, pattern(1, 4096));
    io.stop().unwrap();
}

/// The guard of fault 14 from the loop's side: a table cannot promise more than the file allows.
#[test]
fn rights_beyond_what_the_file_is_open_for_are_refused_early() {
    let mut tables = Tables::new(16, 4096);
    let (reader, writer) = std::io::pipe().unwrap();
    assert!(tables.files.insert(reader, Rights::WRITE).is_err());
    assert!(tables.files.insert(writer, Rights::READ).is_err());
}
