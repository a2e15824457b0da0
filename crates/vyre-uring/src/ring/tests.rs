use std::fs::File;

use super::*;
use crate::op::Token;

fn ring() -> Ring {
    let mut ring = Ring::builder()
        .entries(4)
        .register_buffers(false)
        .build()
        .unwrap();
    let file = File::open("/dev/zero").unwrap();
    ring.set_file(FileSlot::new(0), Some(Arc::new(file.into())))
        .unwrap();
    ring.set_buffer(BufferSlot::new(0), Some(Buffer::anonymous(4096).unwrap()))
        .unwrap();
    ring
}

const READ: Op = Op::Read {
    file: FileSlot::new(0),
    offset: 0,
    buffer: BufferSlot::new(0),
    buffer_offset: 0,
    len: 1,
};

#[test]
fn a_late_completion_is_a_stray_and_spares_the_next_tenant() {
    let mut ring = ring();
    let old = ring.push(READ, 1).unwrap();
    ring.wait(None).unwrap();
    assert_eq!(ring.reap(|_| ()), 1);
    let mut next = None;
    // The places are taken in turn: use them until the old one is in use again.
    while next.is_none() {
        let token = ring.push(READ, 2).unwrap();
        next = (token.index() == old.index()).then_some(token);
    }
    let live = ring.in_flight();
    assert_eq!(ring.settle(old.0, 1), None);
    assert_eq!(ring.settle(u64::MAX, 0), None);
    assert_eq!(ring.settle(Token::pack(0, 0).0, 0), None);
    assert_eq!((ring.stray_completions(), ring.in_flight()), (3, live));
}

#[test]
fn one_outcome_put_by_twice_is_reaped_once() {
    let mut ring = ring();
    let token = ring.push(READ, 1).unwrap();
    ring.wait(None).unwrap();
    assert_eq!(ring.collect(), 0);
    ring.put_by(token.0, 9);
    let mut results = Vec::new();
    ring.reap(|completion| results.push(completion.result));
    assert_eq!(results, [Ok(1)]);
    assert_eq!(ring.stray_completions(), 1);
}

#[test]
fn a_fatal_error_answers_for_cancels_too() {
    let mut ring = ring();
    let token = ring.push(READ, 1).unwrap();
    assert!(ring.cancel(token));
    assert_eq!(ring.poison(Errno::BADF), EnterError::Fatal(Errno::BADF));
    assert_eq!(ring.cancels, 0);
    let mut results = Vec::new();
    ring.reap(|completion| results.push((completion.user, completion.result)));
    assert_eq!(results, [(1, Err(Errno::BADF))]);
    assert_eq!(ring.in_flight(), 0);
    ring.quiesce(Duration::ZERO).unwrap();
}

#[test]
fn operations_are_cancelled_one_by_one_where_the_kernel_has_no_other_way() {
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let mut ring = ring();
    ring.set_file(FileSlot::new(0), Some(Arc::new(reader)))
        .unwrap();
    for user in 0..4 {
        ring.push(READ, user).unwrap();
    }
    ring.submit().unwrap();
    ring.cancel_each();
    let mut left = 4;
    while left > 0 {
        ring.wait(None).unwrap();
        left -= ring.reap(|completion| assert_eq!(completion.result, Err(Errno::CANCELED)));
    }
    // The answers to the requests themselves may come a little later.
    while ring.cancels > 0 {
        ring.wait(Some(Duration::from_millis(1))).unwrap();
        ring.reap(|_| panic!("a completion too many"));
    }
    assert_eq!(ring.stray_completions(), 0);
}

#[test]
fn the_kernels_limit_clamps_a_transfer() {
    let mut ring = ring();
    // Never touched, so never there.
    ring.set_buffer(
        BufferSlot::new(0),
        Some(Buffer::anonymous(5 << 30).unwrap()),
    )
    .unwrap();
    for (asked, given) in [(u32::MAX, 0x7fff_f000), (0x7fff_f000, 0x7fff_f000), (9, 9)] {
        assert_eq!(
            ring.span(BufferSlot::new(0), 0, asked).map(|span| span.len),
            Ok(given)
        );
    }
}

/// Longer than anything takes: what is woken never sleeps for so long.
const HANG: Duration = Duration::from_secs(3600);

#[test]
fn a_wake_up_ends_a_wait_whether_it_comes_before_or_during_it() {
    let mut ring = ring();
    let waker = ring.waker().expect("an eventfd");
    for _ in 0..3 {
        waker.wake_by_ref();
        waker.wake_by_ref();
        ring.wait(Some(HANG)).unwrap();
        assert_eq!(ring.reap(|_| ()), 0);
        let (asleep, now) = std::sync::mpsc::channel();
        let waker = ring.waker().expect("an eventfd");
        let other = std::thread::spawn(move || {
            now.recv().unwrap();
            waker.wake();
        });
        asleep.send(()).unwrap();
        ring.wait(Some(HANG)).unwrap();
        assert_eq!(ring.reap(|_| ()), 0);
        other.join().unwrap();
    }
    assert_eq!((ring.stray_completions(), ring.in_flight()), (0, 0));
}

#[test]
fn a_wake_up_is_seen_while_operations_wait_and_after_they_were_cancelled() {
    let mut ring = ring();
    let (reader, _writer) = std::io::pipe().unwrap();
    ring.set_file(FileSlot::new(1), Some(Arc::new(reader.into())))
        .unwrap();
    let waiting = Op::Read {
        file: FileSlot::new(1),
        offset: 0,
        buffer: BufferSlot::new(0),
        buffer_offset: 0,
        len: 1,
    };
    let waker = ring.waker().expect("an eventfd");
    for _ in 0..2 {
        // As many as the ring takes: the poll of the eventfd needs no place among them.
        while ring.push(waiting, 0).is_ok() {}
        assert_eq!(ring.in_flight(), ring.capacity());
        waker.wake_by_ref();
        ring.wait(Some(HANG)).unwrap();
        assert_eq!(ring.reap(|_| ()), 0);
        // It takes the poll with it.
        ring.quiesce(HANG).unwrap();
        assert_eq!(ring.reap(|_| ()), ring.capacity());
    }
    assert_eq!(ring.stray_completions(), 0);
}
