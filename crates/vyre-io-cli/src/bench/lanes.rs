//! The device's part of a benchmark: threads that keep requests in flight.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{Buffer, DeviceQueue, Errno, FileHandle, LoopState, Request, Reservation, Ticket};
use vyre_io_cli::measure::block_numbers::BlockNumbers;
use vyre_io_cli::measure::cores::pin;
use vyre_io_cli::measure::stamp;

use super::loops::Handles;
use super::plan::Plan;
use super::tally::{SAMPLE, Tally, VERIFY};
use super::target::Target;
use super::untimed::Untimed;
use super::written;
use crate::args::BenchOp;
use crate::failure::Failure;

/// Polls of the oldest request before the lane offers its core to others: some 50 µs for a lane
/// that has a core to itself, and less where lanes share one.
const POLLS: u32 = 2048;
const POLLS_CROWDED: u32 = 64;
/// The maximum number of times that `POLLS` pass before the lane polls its younger requests. That takes
/// cache lines away from the loop that is about to write to them, so it becomes rare where requests
/// complete in order.
const MAX_ROUNDS: u32 = 64;

/// All lanes, and what they share.
pub(super) struct Lanes<'a> {
    plan: &'a Plan,
    target: Option<&'a Target>,
    random: bool,
    buffer: Buffer,
}

/// A request in flight.
struct Flight {
    ticket: Ticket,
    since: Instant,
    offset: u64,
    /// Place of its block in the lane's part of the buffer.
    place: u64,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        target: Option<&'a Target>,
        random: bool,
    ) -> Result<Self, Failure> {
        let bytes = u64::from(plan.depth()) * u64::from(plan.block_size);
        let len = usize::try_from(bytes).map_err(|_| {
            Failure::Usage("--depth times --block-size does not fit the address space".into())
        })?;
        let buffer = Buffer::anonymous(len)?;
        if let (BenchOp::Write, Some(target)) = (plan.op, target) {
            written::prepare(&buffer, target, plan.block_size);
        }
        Ok(Self {
            plan,
            target,
            random,
            buffer,
        })
    }

    pub(super) const fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Runs all lanes for `time`, counted from the moment when the last of them is ready.
    pub(super) fn run(
        &self,
        devices: &[DeviceQueue],
        handles: Handles,
        time: Duration,
    ) -> Result<Tally, Failure> {
        let barrier = Barrier::new(self.plan.lanes() as usize);
        let results: Vec<Result<Tally, Failure>> = thread::scope(|scope| {
            let lanes: Vec<_> = (0..self.plan.lanes())
                .map(|number| {
                    let device = &devices[self.plan.queue_of(number) as usize];
                    let barrier = &barrier;
                    let lane = move || {
                        pin(self.plan.lane_core(number));
                        let mut lane = Lane::new(self, device, handles, number);
                        barrier.wait();
                        lane.run(time)
                    };
                    thread::Builder::new()
                        .name(format!("lane-{number}"))
                        .spawn_scoped(scope, lane)
                        .unwrap_or_else(|error| panic!("no thread for a lane: {error}"))
                })
                .collect();
            lanes
                .into_iter()
                .map(|lane| {
                    lane.join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        let mut total = Tally::new();
        for result in results {
            let tally = result?;
            total.elapsed = total.elapsed.max(tally.elapsed);
            total.add_lane(&tally);
        }
        Ok(total)
    }

    /// Reads some blocks again and checks each of their sectors.
    pub(super) fn verify(
        &self,
        devices: &[DeviceQueue],
        handles: Handles,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let Handles { file, pool } = handles;
        let (Some(target), Some(file), Some(device)) = (self.target, file, devices.first()) else {
            return Ok(());
        };
        if !target.stamped || self.plan.op == BenchOp::Write {
            return Ok(());
        }
        let mut numbers = BlockNumbers::new(1, target.blocks, target.blocks > VERIFY);
        let blocks = (0..target.blocks.min(VERIFY)).map(|_| numbers.draw());
        let untimed = Untimed {
            device,
            depth: self.plan.depth().min(self.plan.slots()),
            buffer: &self.buffer,
            pool,
            file,
            size: self.plan.block_size,
        };
        untimed.read(blocks, tally, stamp::is_intact)
    }

    /// Copies a block out of the buffer.
    fn read_block(&self, place: u64, bytes: &mut [u8]) {
        let read = self.buffer.read_at(place as usize, bytes);
        debug_assert!(read.is_ok(), "every place is inside the buffer");
    }
}

/// One thread.
struct Lane<'a> {
    lanes: &'a Lanes<'a>,
    device: &'a DeviceQueue,
    handles: Handles,
    numbers: Option<BlockNumbers>,
    flights: VecDeque<Flight>,
    depth: u32,
    first_place: u64,
    bytes: Vec<u8>,
    tally: Tally,
    polls: u32,
    rounds: u32,
}

impl<'a> Lane<'a> {
    fn new(lanes: &'a Lanes<'a>, device: &'a DeviceQueue, handles: Handles, number: u32) -> Self {
        let plan = lanes.plan;
        let size = u64::from(plan.block_size);
        let numbers = lanes.target.map(|target| {
            let share = target.blocks * u64::from(number) / u64::from(plan.lanes());
            BlockNumbers::new(share, target.blocks, lanes.random)
        });
        let depth = plan.depth_of(number);
        Self {
            lanes,
            device,
            handles,
            numbers,
            flights: VecDeque::with_capacity(depth as usize),
            depth,
            first_place: u64::from(plan.depth_before(number)) * size,
            bytes: vec![0; plan.block_size as usize],
            tally: Tally::new(),
            polls: if plan.is_crowded() {
                POLLS_CROWDED
            } else {
                POLLS
            },
            rounds: 1,
        }
    }

    fn run(&mut self, time: Duration) -> Result<Tally, Failure> {
        let started = Instant::now();
        let end = started + time;
        for index in 0..self.depth {
            let place = self.first_place + u64::from(index) * u64::from(self.lanes.plan.block_size);
            let slot = self.device.reserve()?;
            self.submit(slot, place, Instant::now());
        }
        self.device.ring_and_wake();
        let mut last = started;
        while let Some(flight) = self.flights.pop_front() {
            let (done, place, slot) = self.wait_for_one(flight)?;
            last = done;
            if done < end {
                self.submit(slot, place, done);
                self.device.ring_and_wake();
            } else {
                self.device.unreserve(slot);
            }
        }
        let mut tally = std::mem::replace(&mut self.tally, Tally::new());
        tally.elapsed = last - started;
        Ok(tally)
    }

    fn submit(&mut self, slot: Reservation, place: u64, now: Instant) {
        let size = self.lanes.plan.block_size;
        let (request, offset) = match (self.handles.file, &mut self.numbers) {
            (Some(file), Some(numbers)) => {
                let offset = numbers.draw() * u64::from(size);
                (self.transfer(file, offset, place), offset)
            }
            _ => (Request::fence(), 0),
        };
        let ticket = self.device.publish(slot, &request);
        self.flights.push_back(Flight {
            ticket,
            since: now,
            offset,
            place,
        });
    }

    fn transfer(&self, file: FileHandle, offset: u64, place: u64) -> Request {
        let (size, pool) = (self.lanes.plan.block_size, self.handles.pool);
        match self.lanes.plan.op {
            BenchOp::Write => Request::write(file, offset, size).from_buffer(pool, place),
            _ => Request::read(file, offset, size).into_buffer(pool, place),
        }
        .exact()
    }

    /// Waits for the oldest request, or for a younger one that completes first. Returns when it
    /// completed, and the place and the slot that are free again.
    fn wait_for_one(&mut self, mut flight: Flight) -> Result<(Instant, u64, Reservation), Failure> {
        let (mut polls, mut waits) = (self.polls, self.rounds);
        loop {
            match self.device.take_and_keep(flight.ticket) {
                Ok((outcome, slot)) => {
                    let now = Instant::now();
                    let took = now - flight.since;
                    self.count(flight.offset, flight.place, outcome.bytes(), took);
                    return Ok((now, flight.place, slot));
                }
                Err(ticket) => flight.ticket = ticket,
            }
            std::hint::spin_loop();
            polls -= 1;
            if polls > 0 {
                continue;
            }
            polls = self.polls;
            waits -= 1;
            if waits == 0 {
                self.prefer_a_faster(&mut flight);
                waits = self.rounds;
            }
            if self.device.host_state().is_some_and(LoopState::is_gone) {
                return Err(Failure::Requests {
                    failed: self.flights.len() as u64 + 1,
                    first: Errno::ECANCELED.into(),
                });
            }
            thread::yield_now();
        }
    }

    /// Swaps the request with a younger one that has completed already, if there is one.
    fn prefer_a_faster(&mut self, flight: &mut Flight) {
        let done = |other: &Flight| self.device.poll(&other.ticket).is_some();
        let faster = self.flights.iter().position(done);
        if let Some(other) = faster.and_then(|index| self.flights.get_mut(index)) {
            std::mem::swap(other, flight);
            self.rounds = (self.rounds / 2).max(1);
        } else {
            self.rounds = (self.rounds * 2).min(MAX_ROUNDS);
        }
    }

    fn count(&mut self, offset: u64, place: u64, result: Result<u32, Errno>, took: Duration) {
        let _ = self.tally.latency.record(took.as_nanos() as u64);
        self.tally.ops += 1;
        match result {
            Ok(moved) => self.tally.bytes += u64::from(moved),
            Err(errno) => {
                self.tally.note_failure(errno);
                return;
            }
        }
        let Some(target) = self.lanes.target else {
            return;
        };
        if self.lanes.plan.op == BenchOp::Write {
            target
                .written
                .mark(offset / u64::from(self.lanes.plan.block_size));
        } else if target.stamped && self.tally.ops.is_multiple_of(SAMPLE) {
            self.lanes.read_block(place, &mut self.bytes);
            self.tally
                .note_block(offset, stamp::is_intact(offset, &self.bytes));
        }
    }
}
