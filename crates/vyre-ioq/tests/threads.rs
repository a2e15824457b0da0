//! Both ends on their own threads: no request is lost, served twice or torn, and a hostile device may rewrite a
//! request while it is being claimed.

#![cfg(feature = "std")]

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Memory, SetOnDrop, checksum, mix};
use vyre_ioq::abi::word;
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, HostQueue, LoopState, Queue, QueueLayout,
    Request, Ticket,
};

const PRODUCERS: u32 = 4;
/// Longest time between two outcomes: something was lost. How many come in a second is up to the machine.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Returns the request with number `id`: its words come from a mix, and its buffer handle is a checksum over
/// all others.
fn numbered(id: u32, bare: bool) -> Request {
    let [a, b, c] = [0, 1, 2].map(|part| mix(u64::from(id) << 2 | part));
    let at = if bare { 0 } else { a };
    let read = Request::read(FileHandle::from_raw(a as u32), b, c as u32);
    let into = |buffer: u32| {
        let buffer = BufferHandle::from_raw(buffer);
        let request = read.into_buffer(buffer, at).with_tag(id);
        match (bare, b & 1) {
            (true, _) => request,
            (false, 0) => request.with_deadline((c >> 32) as u32),
            (false, _) => request.with_deadline((c >> 32) as u32).exact(),
        }
    };
    into(checksum(&into(0)))
}

fn answer(id: u32) -> Result<u32, Errno> {
    let value = mix(u64::from(id)) as u32;
    if id.is_multiple_of(7) {
        Err(Errno::from_raw(value))
    } else {
        Ok(value)
    }
}

/// Counts down when its producer ends, even by a panic.
struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Publishes `ids`, up to eight at a time, and checks every outcome.
fn produce(device: &DeviceQueue, ids: std::ops::Range<u32>, bare: bool) {
    let mut held = VecDeque::<(Ticket, u32)>::new();
    let mut latest = Instant::now();
    let mut ids = ids.peekable();
    while ids.peek().is_some() || !held.is_empty() {
        assert!(latest.elapsed() < WAIT_LIMIT, "lost: {held:?}");
        while let (true, Some(&id)) = (held.len() < 8, ids.peek()) {
            let Ok(ticket) = device.submit(numbered(id, bare)) else {
                break;
            };
            held.push_back((ticket, id));
            ids.next();
        }
        for _ in 0..held.len() {
            let (ticket, id) = held.pop_front().expect("counted");
            match device.take(ticket) {
                Ok(outcome) => {
                    assert_eq!(
                        (outcome.tag, outcome.result),
                        (id, answer(id)),
                        "torn outcome"
                    );
                    latest = Instant::now();
                }
                Err(ticket) => held.push_back((ticket, id)),
            }
        }
        thread::yield_now();
    }
}

/// Serves until no producer is left. Returns how often each request came.
fn consume(host: &mut HostQueue, running: &AtomicUsize, total: u32, bare: bool) -> Vec<u8> {
    let mut seen = vec![0u8; total as usize];
    let mut claimed = VecDeque::new();
    loop {
        let last = running.load(Ordering::Acquire) == 0;
        let many = host.claim_published(0..u32::MAX, |claim| {
            let request = Request::decode(&claim.image).expect("a good request");
            assert_eq!(request.buffer().raw(), checksum(&request), "torn request");
            assert_eq!(request, numbered(request.tag(), bare), "not what was asked");
            seen[request.tag() as usize] += 1;
            claimed.push_back((claim.slot, request.tag()));
        });
        // Some requests are kept for the next pass, and the order differs from that of the claims.
        // Some requests are announced, and some are not.
        if many == 1 {
            host.announce_claims();
        }
        while claimed.len() > if many == 0 { 0 } else { 3 } {
            let (slot, id) = claimed.swap_remove_back(claimed.len() / 2).expect("some");
            host.complete(slot, answer(id)).expect("owed once");
        }
        if last {
            return seen;
        }
        if many == 0 {
            thread::yield_now();
        }
    }
}

fn none_lost_doubled_or_torn(layout: QueueLayout, total: u32) {
    let (mut host, device) = Queue::anonymous(layout).expect("memory");
    let bare = device.geometry().is_bare();
    let running = AtomicUsize::new(PRODUCERS as usize);
    let seen = thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (device, running) = (&device, Running(&running));
            let part = total / PRODUCERS;
            scope.spawn(move || {
                let _running = running;
                produce(device, producer * part..(producer + 1) * part, bare);
            });
        }
        consume(&mut host, &running, total, bare)
    });
    let lost = seen.iter().filter(|&&times| times == 0).count();
    let doubled = seen.iter().filter(|&&times| times > 1).count();
    assert_eq!((lost, doubled), (0, 0), "lost and doubled of {total}");
    assert_eq!((host.owed(), host.faults().total()), (0, 0));
    println!("{total} requests by {PRODUCERS} producers: 0 lost, 0 doubled, 0 torn");
}

/// Rules: ABI-1.2, ABI-4.11.
#[test]
fn none_of_many_requests_is_lost_doubled_or_torn() {
    let total = if cfg!(miri) { 80 } else { 200_000 };
    none_lost_doubled_or_torn(QueueLayout::with_slots(24), total);
}

/// Rules: ABI-1.2, ABI-4.11.
#[test]
fn none_of_many_requests_is_lost_doubled_or_torn_in_the_bare_layout() {
    let total = if cfg!(miri) { 80 } else { 100_000 };
    none_lost_doubled_or_torn(QueueLayout::bare(24).with_counts(), total);
}

/// The host completes a request and stops at once, while the device is about to load the outcome or the state.
///
/// Rule: ABI-7.1.
#[test]
fn outcomes_written_before_stopped_are_seen() {
    let laps = if cfg!(miri) { 40 } else { 40_000 };
    let (mut host, device) = Queue::anonymous(QueueLayout::with_slots(1)).expect("memory");
    let (ready, taken, done) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    let wait_until = |counter: &AtomicU32, value| {
        while counter.load(Ordering::Acquire) != value && !done.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for lap in 1..=laps {
                host.set_state(LoopState::Running);
                ready.store(lap, Ordering::Release);
                while host.claim_published(0..1, drop) == 0 {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::yield_now();
                }
                host.complete(0, Ok(lap)).expect("owed");
                host.set_state(LoopState::Stopped);
                wait_until(&taken, lap);
            }
        });
        let _done = SetOnDrop(&done);
        for lap in 1..=laps {
            wait_until(&ready, lap);
            let ticket = device.submit(numbered(lap, false)).expect("free");
            let outcome = device.wait(ticket).expect("never HostGone");
            assert_eq!(outcome.bytes(), Ok(lap));
            taken.store(lap, Ordering::Release);
        }
    });
}

/// Calls `claim` on a bare queue again and again, while a thread keeps storing `values` in word `at` of slot 0
/// and PUBLISHED in its status.
fn against_a_rewriter(at: usize, values: [u32; 2], mut claim: impl FnMut(&mut HostQueue) -> u32) {
    let memory = Memory::new(QueueLayout::bare(1).bytes());
    let mut host = HostQueue::attach_bare(memory.region()).expect("fit");
    memory.store(word::OP, 1);
    let done = AtomicBool::new(false);
    let claims = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for value in values {
                    memory.store(word::STATUS, 1);
                    memory.store(at, value);
                }
            }
        });
        let _done = SetOnDrop(&done);
        let enough = if cfg!(miri) { 30 } else { 50_000 };
        let deadline = Instant::now() + Duration::from_secs(3);
        let mut claims = 0;
        while claims < enough && Instant::now() < deadline {
            let claimed = claim(&mut host);
            claims += claimed;
            match host.complete(0, Ok(0)) {
                Ok(()) => assert_eq!(claimed, 1),
                Err(_) => thread::yield_now(),
            }
        }
        claims
    });
    assert!(claims > 0, "nothing was ever claimed");
    println!("{claims} claims while word {at} changed");
}

/// Rules: ABI-1.5, SEC-3.
#[test]
fn the_status_in_an_image_is_the_one_that_was_judged() {
    against_a_rewriter(word::STATUS, [0x77, 2], |host| {
        host.claim_published(0..1, |claim| {
            assert_eq!(claim.image.status, 1, "status read twice");
        })
    });
}
