//! A random stress of the engine: up to four queues, on a transport whose operations end only when the
//! test says so, in any order and with any result.
//!
//! After each step it checks that:
//! - every slot is completed exactly once, and not while the transport holds its operation;
//! - a FENCE's OK comes after everything that was published before it;
//! - a SYNC is flushed, and its OK comes, after the writes to the same file that were published before
//!   it; and the OK needs a flush that was pushed since the SYNC was published, and has ended;
//! - the OK of a READ, WRITE, PREFETCH or MAP needs an operation that was pushed since it was published, or a copy;
//! - only a request with a deadline ends with ETIMEDOUT.
//!
//! At the end, everything was completed. Unless the engine was stopped while busy, every queue can then
//! use its whole share of the transport again.

mod dice;
mod shares;

use std::collections::BTreeMap;
use std::time::Duration;

use vyre_ioloop::{Engine, FileOptions, Revocation, Rights, TestClock};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Op, Request};
use vyre_uring::{Errno as OsErrno, Operation};

use crate::common::manual::{Control, Flight, ManualTransport};
use crate::common::{Slots, Tables, memfd_of};
use dice::Dice;

/// Number of passes in which requests are published.
const STEPS: u32 = 60;
/// Number of passes within which every request gets an outcome once all operations succeed. It only
/// catches a hang.
const PASSES: u32 = 20_000;

/// Handle, the number of its registered file, and a number that handles of one file share.
#[derive(Clone, Copy, Debug)]
struct Named {
    handle: FileHandle,
    index: u32,
    identity: u32,
}

/// Request without an outcome.
#[derive(Clone, Copy, Debug)]
struct Published {
    op: Op,
    /// Number of the request among all that were published.
    number: u64,
    /// Number of operations that had been pushed before.
    pushed: usize,
    file: Named,
    len: u32,
    has_deadline: bool,
}

struct Stress {
    dice: Dice,
    capacity: u32,
    slots: u32,
    control: Control,
    clock: TestClock,
    engine: Engine<ManualTransport>,
    memory: Vec<Slots>,
    pool: BufferHandle,
    files: Vec<Named>,
    revocations: Vec<Revocation>,
    published: Vec<BTreeMap<u32, Published>>,
    count: u64,
    /// Number of operations pushed by the time of the last check.
    seen: usize,
    _devices: Vec<DeviceQueue>,
}

/// Runs the stress of `seed`. Panics if an invariant is broken.
pub(crate) fn run(seed: u64) {
    let mut stress = Stress::new(seed);
    for _ in 0..STEPS {
        stress.publish_some();
        stress.step();
        stress.pass_time();
        stress.revoke_some();
        stress.check();
        for _ in 0..stress.dice.below(stress.capacity / 2 + 2) {
            stress.end_one();
        }
    }
    if stress.dice.one_in(3) {
        stress.stop();
        return;
    }
    stress.drain();
    stress.check_shares();
    stress.stop();
}

impl Stress {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let queues = 1 + dice.below(4);
        let capacity = 1 + dice.below(12);
        let slots = 4 + dice.below(140);
        let (transport, control) = ManualTransport::new(capacity);
        control.state().cancels = dice.one_in(2);
        control.state().bundles = dice.one_in(2);
        let mut tables = Tables::new(4096, 64 << 20);
        let pool = tables.pool;
        let files = name_files(&mut tables);
        let (mut memory, mut hosts, mut devices) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..queues {
            let (slots, host, device) = Slots::queue(slots);
            memory.push(slots);
            hosts.push(host);
            devices.push(device);
        }
        let mut engine = tables.engine(transport, hosts);
        Self {
            dice,
            capacity,
            slots,
            control,
            clock: engine.drive_clock(),
            engine,
            published: vec![BTreeMap::new(); memory.len()],
            memory,
            pool,
            files,
            revocations: Vec::new(),
            count: 0,
            seen: 0,
            _devices: devices,
        }
    }

    fn publish_some(&mut self) {
        for _ in 0..self.dice.below(8) {
            let queue = self.dice.below(self.memory.len() as u32) as usize;
            let slot = self.dice.below(self.slots);
            if !self.published[queue].contains_key(&slot) {
                let file = *self.dice.choose(&self.files);
                let request = self.request(file.handle);
                self.publish(queue, slot, &request, file);
            }
        }
    }

    fn request(&mut self, file: FileHandle) -> Request {
        let len = *self.dice.choose(&[0, 1, 4096, 1 << 20, 3 << 20, 40 << 20]);
        let request = match self.dice.below(11) {
            // The offset names the request where it is copied in a bundle.
            0..=2 => Request::read(file, self.count, len).into_buffer(self.pool, 0),
            3..=4 => Request::write(file, 0, len).from_buffer(self.pool, 0),
            5 => Request::write(file, 0, len)
                .from_buffer(self.pool, 0)
                .durable(),
            6 => Request::fence(),
            7..=8 => Request::sync(file),
            9 => Request::prefetch(file, 0, len),
            _ => Request::map(file, 0, len),
        };
        if self.dice.one_in(3) {
            return request.with_deadline(1 + self.dice.below(200));
        }
        request
    }

    fn publish(&mut self, queue: usize, slot: u32, request: &Request, file: Named) {
        assert_eq!(
            self.memory[queue].outcome(slot),
            None,
            "queue {queue}, slot {slot}: completed once more"
        );
        let published = Published {
            op: request.op(),
            number: self.count,
            pushed: self.control.state().pushed.len(),
            file,
            len: request.count(),
            has_deadline: request.deadline() != 0,
        };
        self.count += 1;
        self.published[queue].insert(slot, published);
        self.memory[queue].publish(slot, request);
    }

    fn step(&mut self) {
        let failing = u64::from(self.dice.below(u32::MAX));
        self.control.state().failing = if self.dice.one_in(2) { failing } else { 0 };
        let _ = self.engine.step();
        self.check();
    }

    fn pass_time(&mut self) {
        if self.dice.one_in(3) {
            let micros = self.dice.below(100);
            self.clock.advance(Duration::from_micros(micros.into()));
        }
        if self.dice.one_in(50) {
            // The engine repeats cancellations without effect.
            self.clock.advance(Duration::from_millis(25));
        }
    }

    /// Revokes a file now and then, and cancels what is in flight on a revoked one. The first file and
    /// the last, a pipe, stay.
    fn revoke_some(&mut self) {
        if self.dice.one_in(40) && self.files.len() > 2 {
            let file = self.files.remove(1);
            let revocation = self.engine.revoke_file(file.handle).expect("known");
            self.revocations.push(revocation);
        }
        if self.dice.one_in(15) && !self.revocations.is_empty() {
            let revocation = *self.dice.choose(&self.revocations);
            self.engine.cancel_revoked(revocation);
        }
    }

    /// Returns any of the operations in flight.
    fn flight(&mut self) -> Option<Flight> {
        let state = self.control.state();
        (!state.flights.is_empty()).then(|| *self.dice.choose(&state.flights))
    }

    /// Ends an operation, often with a fault.
    fn end_one(&mut self) {
        let Some(flight) = self.flight() else { return };
        let how = self.dice.below(12);
        let mut state = self.control.state();
        let this = |other: &Flight| other.is(&flight);
        let is_sync = matches!(flight.op, Operation::Sync { .. });
        match how {
            0 => state.fail(OsErrno::INTR, this),
            1 => state.fail(OsErrno::AGAIN, this),
            2 if !is_sync => state.fail(OsErrno::INVAL, this),
            3 => state.end(this, |flight| Ok(flight.bytes() / 2)),
            4 => state.fail(OsErrno::CANCELED, this),
            5 if flight.bytes() > 0 => state.fail(OsErrno::NOSPC, this),
            _ => state.complete(this),
        }
    }

    /// Steps until every request has an outcome. Operations succeed from here on.
    fn drain(&mut self) {
        for _ in 0..PASSES {
            self.step();
            for _ in 0..=self.dice.below(self.capacity) {
                if let Some(flight) = self.flight() {
                    self.control.state().complete(|other| other.is(&flight));
                }
            }
            self.clock.advance(Duration::from_millis(1));
            if self.published.iter().all(BTreeMap::is_empty) {
                break;
            }
        }
        self.check_all_answered();
        self.step();
        self.step();
        assert_eq!(self.engine.outstanding(), 0);
        assert_eq!(self.engine.counters().stray, 0);
        for &revocation in &self.revocations {
            assert!(self.engine.is_revoked(revocation), "{revocation:?}");
        }
    }

    fn stop(&mut self) {
        self.control.state().cancels = true;
        self.engine.stop(Duration::from_millis(1)).expect("quiet");
        self.check();
        self.check_all_answered();
    }

    fn check_all_answered(&self) {
        for (queue, published) in self.published.iter().enumerate() {
            assert!(published.is_empty(), "queue {queue}: {published:?}");
            for slot in 0..self.slots {
                let again = self.memory[queue].outcome(slot);
                assert_eq!(again, None, "queue {queue}, slot {slot}");
            }
        }
    }

    /// Takes and checks the outcomes.
    fn check(&mut self) {
        for queue in 0..self.memory.len() {
            let memory = &self.memory[queue];
            let slots = self.published[queue].keys().copied();
            let outcomes = slots.filter_map(|slot| Some((slot, memory.outcome(slot)?)));
            let outcomes: Vec<_> = outcomes.collect();
            let mut completed = Vec::new();
            for (slot, result) in outcomes {
                memory.store(slot, word::STATUS, status::EMPTY);
                let published = self.published[queue].remove(&slot).expect("a key");
                completed.push((slot, published, result));
            }
            // Checked after all were taken: within a pass, outcomes have no order.
            for (slot, published, result) in completed {
                self.check_outcome((queue, slot), published, result);
            }
        }
        self.check_flushes();
    }

    fn check_outcome(
        &self,
        (queue, slot): (usize, u32),
        completed: Published,
        result: Result<u32, Errno>,
    ) {
        let state = self.control.state();
        let user = user(queue, slot);
        assert!(
            state.flights.iter().all(|flight| flight.user != user),
            "queue {queue}, slot {slot}: {result:?} while in flight: {completed:?}"
        );
        if let Err(errno) = result {
            let is_late = errno == Errno::ETIMEDOUT;
            assert!(
                !is_late || completed.has_deadline,
                "{errno:?}: {completed:?}"
            );
            return;
        }
        let since = &state.pushed[completed.pushed..];
        let waiting = self.earlier(queue, &completed);
        match completed.op {
            Op::Fence => {
                let others: Vec<_> = waiting.filter(|other| other.op != Op::Fence).collect();
                assert!(others.is_empty(), "{completed:?} before {others:?}");
            }
            Op::Sync => {
                let flushed = since.iter().any(|flight| {
                    let in_flight = state.flights.iter().any(|other| other.is(flight));
                    !in_flight && flushed_file(flight) == Some(completed.file.index)
                });
                assert!(flushed, "{completed:?} without a flush of its own time");
                self.check_writes(queue, &completed);
            }
            _ if completed.len > 0 => {
                let is_copy = |op: &Operation| matches!(*op, Operation::Read { offset, .. } if offset == completed.number);
                let carried_out = since.iter().any(|flight| flight.user == user)
                    || state.copied.iter().flatten().any(is_copy);
                assert!(
                    carried_out,
                    "{completed:?}: {result:?} without an operation"
                );
            }
            _ => {}
        }
    }

    /// Returns the requests of a queue that were published before and have no outcome yet.
    fn earlier(&self, queue: usize, than: &Published) -> impl Iterator<Item = &Published> {
        let number = than.number;
        let all = self.published[queue].values();
        all.filter(move |other| other.number < number)
    }

    /// Checks that no earlier write to the file of a SYNC is without an outcome.
    fn check_writes(&self, queue: usize, sync: &Published) {
        let is_same = |other: &&Published| other.file.identity == sync.file.identity;
        let writes = self.earlier(queue, sync).filter(is_same);
        let writes: Vec<_> = writes.filter(|other| other.op == Op::Write).collect();
        assert!(writes.is_empty(), "{sync:?} before {writes:?}");
    }

    /// Checks that the flushes pushed since the last check were not pushed too early.
    fn check_flushes(&mut self) {
        let state = self.control.state();
        for flight in &state.pushed[self.seen..] {
            let (queue, slot) = (flight.queue as usize, flight.user as u32);
            if flushed_file(flight).is_some()
                && let Some(sync) = self.published[queue].get(&slot)
            {
                self.check_writes(queue, sync);
            }
        }
        self.seen = state.pushed.len();
    }
}

/// Returns the number by which the engine names a request.
fn user(queue: usize, slot: u32) -> u64 {
    (queue as u64) << 32 | u64::from(slot)
}

/// Returns the registered file that an operation flushes, if it is a flush.
fn flushed_file(flight: &Flight) -> Option<u32> {
    match flight.op {
        Operation::Sync { file, .. } => Some(file.index()),
        _ => None,
    }
}

/// Inserts three files, one of them twice, and two pipes, and names them in the order of the table.
fn name_files(tables: &mut Tables) -> Vec<Named> {
    let mut handles = vec![tables.file];
    let again = tables.disk.try_clone().expect("a descriptor");
    let options = FileOptions::new(Rights::all());
    let bundled = options.page_cache_reads(true);
    for (file, options) in [
        (memfd_of(b"x"), bundled),
        (memfd_of(b"x"), bundled),
        (again, options),
    ] {
        handles.push(tables.files.insert(file, options).expect("fit"));
    }
    for _ in 0..2 {
        // Nothing is read from it: the transport moves no bytes.
        handles.push(tables.add_pipe().0);
    }
    let named = (0..).zip(handles).map(|(index, handle)| Named {
        handle,
        index,
        identity: if index == 3 { 0 } else { index },
    });
    named.collect()
}
