//! A given number of requests of honest producers: none is lost, doubled or torn.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vyre_ioq::test_utils::GuardedMemory;
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, HostQueue, Queue, QueueLayout, Request, Ticket,
};

use crate::mix;

/// Slots of the queue. They are few, so that each is reused at once and sometimes none is free.
const SLOTS: u32 = 32;
/// Most requests that a producer has in flight.
const HELD: usize = 16;
/// Largest distance between the numbers of the oldest and the newest of them.
const WINDOW: u64 = 64;
/// A producer that waits longer has lost a request.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Counts of a run.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Requests that were claimed, each for the first time and with a right checksum.
    pub claimed: u64,
    /// Outcomes that the producers took, each with a right checksum.
    pub taken: u64,
    /// Times that the producers found every slot in use.
    pub full: u64,
}

/// Returns the request with this number: its words come from a mix, and its buffer handle is a checksum over
/// all others.
fn numbered(producer: u32, id: u64) -> Request {
    let (a, b) = (mix(id << 8 | u64::from(producer)), mix(!id));
    let read = Request::read(FileHandle::from_raw(producer), id, b as u32);
    let into = |buffer: u32| {
        let request = read
            .into_buffer(BufferHandle::from_raw(buffer), a)
            .with_deadline((b >> 32) as u32)
            .with_tag(a as u32);
        if a >> 32 & 1 == 1 {
            request.exact()
        } else {
            request
        }
    };
    into(checksum(&into(0)))
}

fn checksum(request: &Request) -> u32 {
    let words = [
        u64::from(request.op().word()) << 32 | u64::from(request.file().raw()),
        request.file_offset(),
        u64::from(request.count()) << 32 | u64::from(request.tag()),
        request.buffer_offset(),
        u64::from(request.flags().bits()) << 32 | u64::from(request.deadline()),
    ];
    words.iter().fold(1, |sum, &word| mix(sum ^ word)) as u32
}

/// Returns the outcome of a request, which is a function of all its words. A checksum tells outcomes
/// apart.
fn outcome_of(checksum: u32) -> Result<u32, Errno> {
    let value = mix(checksum.into()) as u32;
    if checksum.is_multiple_of(7) {
        Err(Errno::from_raw(value))
    } else {
        Ok(value)
    }
}

/// The claimed requests of one producer: all below `low`, and those whose bits are set.
#[derive(Clone, Debug, Default)]
struct Seen {
    low: u64,
    above: u64,
}

impl Seen {
    fn note(&mut self, id: u64) {
        let ahead = id.checked_sub(self.low);
        let ahead = ahead.unwrap_or_else(|| panic!("request {id} was served twice"));
        assert!(ahead < WINDOW, "request {} was lost", self.low);
        let bit = 1 << ahead;
        assert_eq!(self.above & bit, 0, "request {id} was served twice");
        self.above |= bit;
        let done = self.above.trailing_ones();
        self.low += u64::from(done);
        self.above = self.above.checked_shr(done).unwrap_or(0);
    }
}

/// Has `producers` threads submit `operations` requests in all, and one thread complete them.
///
/// # Panics
/// If a request or an outcome is lost, doubled or torn.
pub fn run(operations: u64, producers: u32) -> Report {
    let layout = QueueLayout::with_slots(SLOTS);
    let memory = GuardedMemory::new(layout.bytes()).expect("memory");
    let (mut host, device) = Queue::in_region(memory.region(), layout).expect("fit");
    let running = AtomicU32::new(producers);
    let share = |producer: u32| {
        let (producer, producers) = (u64::from(producer), u64::from(producers));
        operations * (producer + 1) / producers - operations * producer / producers
    };
    let (seen, made) = thread::scope(|scope| {
        let lanes: Vec<_> = (0..producers)
            .map(|producer| {
                let (device, running) = (&device, Running(&running));
                scope.spawn(move || {
                    let _running = running;
                    produce(device, producer, share(producer))
                })
            })
            .collect();
        let seen = consume(&mut host, &running, producers);
        let made = lanes.into_iter().map(|lane| lane.join().expect("no fault"));
        (seen, made.collect::<Vec<_>>())
    });
    for (producer, seen) in (0..producers).zip(&seen) {
        assert_eq!(
            (seen.low, seen.above),
            (share(producer), 0),
            "lost at the end"
        );
    }
    assert_eq!((host.owed(), host.faults().total()), (0, 0));
    assert!(memory.is_intact(), "a store outside the queue");
    Report {
        claimed: seen.iter().map(|seen| seen.low).sum(),
        taken: made.iter().map(|made| made.0).sum(),
        full: made.iter().map(|made| made.1).sum(),
    }
}

/// Counts down when its producer ends, even by a panic.
struct Running<'a>(&'a AtomicU32);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Release, paired with the acquire in `consume`: what was published is there.
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Publishes requests and takes outcomes. Returns the number of outcomes, and how often no slot was
/// free.
fn produce(device: &DeviceQueue, producer: u32, requests: u64) -> (u64, u64) {
    let mut held: Vec<(Ticket, u64, Request)> = Vec::with_capacity(HELD);
    let (mut next, mut taken, mut full) = (0, 0, 0);
    let mut last_outcome = Instant::now();
    while taken < requests {
        let oldest = held.iter().map(|held| held.1).min().unwrap_or(next);
        while held.len() < HELD && next < requests && next - oldest < WINDOW {
            let request = numbered(producer, next);
            let Ok(ticket) = device.submit(request) else {
                full += 1;
                break;
            };
            held.push((ticket, next, request));
            next += 1;
        }
        let before = taken;
        for (ticket, id, request) in std::mem::take(&mut held) {
            match device.take(ticket) {
                Ok(outcome) => {
                    let expected = (request.tag(), outcome_of(request.buffer().raw()));
                    assert_eq!((outcome.tag, outcome.result), expected, "torn: {id}");
                    taken += 1;
                }
                Err(ticket) => held.push((ticket, id, request)),
            }
        }
        if taken == before {
            thread::yield_now();
            assert!(last_outcome.elapsed() < WAIT_LIMIT, "lost: {held:?}");
        } else if taken % 1024 < HELD as u64 {
            last_outcome = Instant::now();
        }
    }
    (taken, full)
}

/// Completes requests until no producer is left.
fn consume(host: &mut HostQueue, running: &AtomicU32, producers: u32) -> Vec<Seen> {
    let mut seen = vec![Seen::default(); producers as usize];
    let mut claimed = Vec::with_capacity(SLOTS as usize);
    loop {
        let last = running.load(Ordering::Acquire) == 0;
        let many = host.claim_published(0..SLOTS, |claim| {
            let request = Request::decode(&claim.image).expect("a good request");
            assert_eq!(request.buffer().raw(), checksum(&request), "torn request");
            seen[request.file().raw() as usize].note(request.file_offset());
            claimed.push((claim.slot, request.buffer().raw()));
        });
        // Some are announced before they are completed.
        if many == 1 {
            host.announce_claims();
        }
        // Some are left for the next pass, and the order differs from that of the claims.
        while claimed.len() > if many == 0 { 0 } else { 3 } {
            let (slot, sum) = claimed.swap_remove(claimed.len() / 2);
            host.complete(slot, outcome_of(sum)).expect("owed once");
        }
        if many == 0 {
            if last {
                return seen;
            }
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_request_is_detected() {
        for twice in [0, 1, 5] {
            let mut seen = Seen::default();
            for id in [0, 2, 1, 5, 3] {
                seen.note(id);
            }
            assert_eq!((seen.low, seen.above), (4, 2));
            let again = std::panic::catch_unwind(move || seen.note(twice));
            assert!(again.is_err(), "{twice}");
        }
    }

    #[test]
    fn a_lost_request_is_detected() {
        let mut seen = Seen::default();
        for id in 1..WINDOW {
            seen.note(id);
        }
        let beyond = std::panic::catch_unwind(move || seen.note(WINDOW));
        assert!(beyond.is_err());
    }

    #[test]
    fn a_torn_request_is_detected() {
        let good = numbered(1, 77);
        assert_eq!(good.buffer().raw(), checksum(&good));
        let torn = good.with_buffer_offset(numbered(1, 78).buffer_offset());
        assert_ne!(torn.buffer().raw(), checksum(&torn));
    }
}
