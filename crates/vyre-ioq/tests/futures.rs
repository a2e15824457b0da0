//! Outcomes as futures: each is woken for, and none costs a slot.

#![cfg(feature = "std")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use vyre_ioq::{
    AsyncQueue, Errno, Features, HostQueue, LoopState, OutcomeFuture, Queue, QueueLayout, Request,
    Unanswered, WakeNotOffered,
};

/// Time limit of a run in which a wake-up was lost.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

fn queue(slots: u32) -> (HostQueue, AsyncQueue) {
    let layout = QueueLayout::with_slots(slots).with_features(Features::WAKE);
    let (mut host, device) = Queue::anonymous(layout).expect("memory");
    let queue = AsyncQueue::new(&mut host, device).expect("offered");
    (host, queue)
}

/// Serves what is published, in the reverse order. Returns the number.
fn serve(host: &mut HostQueue) -> u32 {
    let mut claims = Vec::new();
    let claimed = host.claim_published(0..u32::MAX, |claim| claims.push(claim));
    for claim in claims.into_iter().rev() {
        let result = match claim.image.tag % 3 {
            2 => Err(Errno::EIO),
            count => Ok(count),
        };
        host.complete(claim.slot, result).expect("owed");
    }
    claimed
}

fn expected(tag: u32) -> Result<u32, Errno> {
    match tag % 3 {
        2 => Err(Errno::EIO),
        count => Ok(count),
    }
}

/// Counts its wake-ups.
#[derive(Default)]
struct Count(AtomicU32);

impl Count {
    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll(future: &mut OutcomeFuture, count: &Arc<Count>) -> Option<Result<u32, Errno>> {
    let waker = Waker::from(count.clone());
    match Pin::new(future).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(outcome) => Some(outcome.expect("the host serves").result),
        Poll::Pending => None,
    }
}

/// Wakes a thread that is parked.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future whenever it was woken.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let end = Instant::now() + WAIT_LIMIT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park_timeout(WAIT_LIMIT);
        assert!(Instant::now() < end, "a wake-up was lost");
    }
}

#[test]
fn a_queue_that_wakes_nobody_has_no_futures() {
    let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
    let refused = AsyncQueue::new(&mut host, device).expect_err("not offered");
    assert_eq!(refused, WakeNotOffered);
    assert!(refused.to_string().contains("Features::WAKE"));
}

/// Rules: ABI-7.21, ABI-7.22.
#[test]
fn only_the_tasks_whose_outcomes_are_there_are_woken() {
    let (mut host, queue) = queue(8);
    let counts = [(); 3].map(|()| Arc::new(Count::default()));
    let mut futures =
        [0, 1, 2].map(|tag| queue.submit(Request::fence().with_tag(tag)).expect("free"));
    for (future, count) in futures.iter_mut().zip(&counts) {
        assert_eq!(poll(future, count), None);
    }
    let mut claims = Vec::new();
    host.claim_published(0..8, |claim| claims.push(claim.slot));
    for (done, &slot) in claims.iter().enumerate() {
        host.complete(slot, Ok(7)).expect("owed");
        assert!(host.wake_device(), "the others still wait");
        let woken = counts.each_ref().map(|count| count.get());
        let expected = [0, 1, 2].map(|number| u32::from(number <= done));
        assert_eq!(woken, expected);
        assert_eq!(poll(&mut futures[done], &counts[done]), Some(Ok(7)));
    }
    // Nobody waits any more.
    let future = queue.submit(Request::fence()).expect("free");
    assert_eq!(serve(&mut host), 1);
    assert!(!host.wake_device());
    drop(future);
}

/// A thousand futures are dropped while their requests are in flight, polled or not, and every slot is free once their
/// outcomes are there.
///
/// Rules: ABI-4.13, ABI-4.14.
#[test]
fn a_thousand_dropped_futures_leak_no_slot() {
    const SLOTS: u32 = 64;
    let (mut host, queue) = queue(SLOTS);
    let count = Arc::new(Count::default());
    let mut dropped = 0;
    while dropped < 1_000 {
        let mut futures = Vec::new();
        while let Ok(future) = queue.submit(Request::fence()) {
            futures.push(future);
        }
        assert_eq!(futures.len(), SLOTS as usize, "a slot was lost");
        for future in futures.iter_mut().step_by(2) {
            assert_eq!(poll(future, &count), None);
        }
        dropped += futures.len();
        // Some before the claim, and some after.
        futures.truncate(SLOTS as usize / 2);
        let mut slots = Vec::new();
        host.claim_published(0..SLOTS, |claim| slots.push(claim.slot));
        drop(futures);
        assert!(
            queue.submit(Request::fence()).is_err(),
            "the host serves them"
        );
        for slot in slots {
            host.complete(slot, Ok(0)).expect("owed");
        }
        host.wake_device();
    }
    assert_eq!(count.get(), 0, "nobody waits");
    let reserved: Vec<_> = std::iter::from_fn(|| queue.device().reserve().ok()).collect();
    assert_eq!(reserved.len(), SLOTS as usize);
}

#[test]
fn tasks_get_the_outcomes_of_their_requests_and_wait_for_slots() {
    let each = if cfg!(miri) { 10 } else { 500 };
    let (mut host, queue) = queue(3);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if serve(&mut host) > 0 {
                    host.wake_device();
                }
                thread::yield_now();
            }
        });
        let tasks = [0, 1, 2, 3, 4, 5].map(|task| {
            let queue = queue.clone();
            scope.spawn(move || {
                for round in 0..each {
                    let tag = task * each + round;
                    let outcome = block_on(queue.perform(Request::fence().with_tag(tag)));
                    let outcome = outcome.expect("served");
                    assert_eq!((outcome.tag, outcome.result), (tag, expected(tag)));
                    // Every fifth is given up in flight.
                    if round % 5 == 0
                        && let Ok(future) = queue.submit(Request::fence())
                    {
                        drop(future);
                    }
                }
            })
        });
        let ended = tasks.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        server.join().expect("no panic in the host");
        ended
            .into_iter()
            .for_each(|it| it.expect("no panic in a task"));
    });
}

#[test]
fn a_batch_returns_every_outcome_once_however_many_slots_there_are() {
    for slots in [1, 3, 64] {
        let (mut host, queue) = queue(slots);
        let done = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            let server = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if serve(&mut host) > 0 {
                        host.wake_device();
                    }
                    thread::yield_now();
                }
            });
            let seen = block_on(async {
                let mut batch =
                    queue.submit_all((0..100).map(|tag| Request::fence().with_tag(tag)));
                assert_eq!(batch.remaining(), 100);
                let mut seen = 0_u128;
                while let Some((number, outcome)) = batch.next_outcome().await {
                    let outcome = outcome.expect("served");
                    assert_eq!(outcome.tag as usize, number);
                    assert_eq!(outcome.result, expected(outcome.tag));
                    assert_eq!(seen >> number & 1, 0, "twice");
                    seen |= 1 << number;
                }
                seen
            });
            done.store(true, Ordering::Relaxed);
            server.join().expect("no panic in the host");
            seen
        });
        assert_eq!(seen, (1 << 100) - 1);
    }
}

/// Rules: ABI-7.3, ABI-7.21, ABI-7.22.
#[test]
fn the_end_of_the_host_ends_every_wait() {
    let (mut host, queue) = queue(2);
    thread::scope(|scope| {
        let one = scope.spawn(|| block_on(queue.perform(Request::fence())));
        let all = scope.spawn(|| {
            block_on(async {
                let mut batch = queue.submit_all([Request::fence(); 5]);
                let mut gone = 0;
                while let Some((_, outcome)) = batch.next_outcome().await {
                    gone += u32::from(outcome == Err(Unanswered::HostGone));
                }
                gone
            })
        });
        thread::sleep(Duration::from_millis(20));
        host.set_state(LoopState::Failed);
        let one = one.join().expect("no panic");
        assert_eq!(one, Err(Unanswered::HostGone));
        assert_eq!(all.join().expect("no panic"), 5);
    });
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn an_eventfd_is_readable_when_an_outcome_has_come() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use vyre_ioq::OutcomeEvent;

    let layout = QueueLayout::with_slots(4).with_features(Features::WAKE);
    let (mut host, device) = Queue::anonymous(layout).expect("memory");
    let event = OutcomeEvent::new().expect("a descriptor");
    host.wake_device_by(event.waker());
    assert!(device.expect_wakeups());
    let readable = |limit: i64| {
        let limit = Timespec {
            tv_sec: limit,
            tv_nsec: 0,
        };
        poll(&mut [PollFd::new(&event, PollFlags::IN)], Some(&limit)) == Ok(1)
    };
    for _ in 0..3 {
        let ticket = device.submit(Request::fence()).expect("free");
        let _before = device.arm();
        assert!(!readable(0) && device.poll(&ticket).is_none());
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(serve(&mut host), 1);
                assert!(host.wake_device());
            });
            assert!(readable(60));
        });
        assert!(event.clear() && !event.clear() && !readable(0));
        assert!(device.take(ticket).is_ok());
    }
}
