//! Tests of the start of a loop, and of the errors if it fails.

mod common;

use common::faulty::Faulty;
use common::*;
use vyre_ioloop::{IoLoop, QueueError, SpawnError};
use vyre_ioq::{AttachError, Errno, HostQueue, LoopState, Queue, QueueLayout, Region, Request};
use vyre_uring::{SimTransport, Transport as _};

/// Rule: ABI-7.1.
#[test]
fn a_loop_starts_and_serves_a_request_and_stops() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = Queue::anonymous(layout(4)).unwrap();
    let io = tables.builder().queue(host).name("served").spawn().unwrap();
    assert_eq!(device.host_state(), Some(LoopState::Running));
    let name = format!("/proc/self/task/{}/comm", io.thread_id());
    assert_eq!(std::fs::read_to_string(name).unwrap(), "served\n");
    let ticket = device
        .submit(Request::read(file, 0, 64).into_buffer(pool, 0))
        .unwrap();
    assert_eq!(outcome_of(&device, ticket), Ok(64));
    assert_eq!(io.stop(), Ok(()));
    assert_eq!(device.host_state(), Some(LoopState::Stopped));
}

#[test]
fn a_loop_uses_the_transport_that_wraps_its_own() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = Queue::anonymous(layout(4)).unwrap();
    let mut sim = SimTransport::builder(0).build();
    sim.fail_next(vyre_uring::Errno::NOSPC);
    let (faulty, orders) = Faulty::new(sim);
    let builder = tables.builder().queue(host);
    let io = builder
        .spawn_with(move |base| {
            assert_eq!(base.in_flight(), 0);
            faulty
        })
        .unwrap();
    let read = || Request::read(file, 0, 64).into_buffer(pool, 0);
    for expected in [Err(Errno::ENOSPC), Ok(64)] {
        let ticket = device.submit(read()).unwrap();
        assert_eq!(outcome_of(&device, ticket), expected);
    }
    assert_eq!(orders.pushed.lock().unwrap().len(), 2);
    assert!(!io.report().to_string().is_empty(), "the ring's");
    io.stop().unwrap();
}

#[test]
fn a_loop_without_files_or_buffers_serves_fences() {
    let (host, device) = Queue::anonymous(layout(4)).unwrap();
    let io = IoLoop::builder().queue(host).spawn().unwrap();
    let fence = device.submit(Request::fence()).unwrap();
    assert_eq!(outcome_of(&device, fence), Ok(0));
    io.stop().unwrap();
}

#[test]
fn a_small_ring_has_entries_for_every_queue() {
    let queue = || Queue::anonymous(layout(1)).expect("memory").0;
    let builder = IoLoop::builder().options(loop_options().ring_entries(1));
    let builder = (0..5).fold(builder, |builder, _| builder.queue(queue()));
    let io = builder.spawn().expect("started");
    assert!(io.report().entries() >= 10, "{}", io.report());
    io.stop().expect("quiet");
}

/// Rule: ABI-3.2.
#[test]
fn an_invalid_queue_is_refused_before_a_loop_starts() {
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
    let memory = Region::allocate(layout(4).bytes()).unwrap();
    let host = || HostQueue::create(memory.clone(), &layout(4)).unwrap();
    let refused = IoLoop::builder().queue(host()).queue(host()).spawn();
    let reason = QueueError::Overlaps { queue: 0.into() };
    assert!(
        matches!(&refused, Err(SpawnError::Queue { queue, reason: why }) if queue.raw() == 1 && *why == reason)
    );
    let mut ended = host();
    ended.set_state(LoopState::Stopped);
    let refused = IoLoop::builder().queue(ended).spawn();
    let reason = QueueError::Gone {
        state: LoopState::Stopped,
    };
    assert!(matches!(refused, Err(SpawnError::Queue { reason: why, .. }) if why == reason));
}

#[test]
fn a_loop_that_cannot_start_reports_why_and_its_devices_see_failed() {
    let queue = || Queue::anonymous(layout(4)).unwrap();
    let (host, device) = queue();
    let refused = IoLoop::builder()
        .queue(host)
        .options(loop_options().ring_entries(0))
        .spawn();
    assert!(matches!(refused, Err(SpawnError::Setup(_))), "{refused:?}");
    assert_eq!(device.host_state(), Some(LoopState::Failed));

    let (host, device) = queue();
    let refused = IoLoop::builder().queue(host).name("a\0b").spawn();
    let text = refused.as_ref().map_err(ToString::to_string).err();
    assert!(matches!(refused, Err(SpawnError::Name { .. })), "{text:?}");
    assert!(text.is_some_and(|text| text.contains(r#""a\0b""#)));
    assert_eq!(device.host_state(), Some(LoopState::Failed));

    let (host, device) = queue();
    let refused = IoLoop::builder()
        .queue(host)
        .options(loop_options().live_entries(u32::MAX))
        .spawn();
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
