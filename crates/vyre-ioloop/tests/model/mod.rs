//! Honest lanes, a hostile device, and the invariants that must hold.

mod actions;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use vyre_ioloop::{BufferTable, Engine, FileTable, Revocation, Rights};
use vyre_ioq::abi::{status, word};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Op, Request, Ticket};
use vyre_uring::{Buffer, SimTransport};

use crate::common::{self, Slots, contents, pattern};
pub(crate) use actions::{Action, Faults, action, faults};

/// Slots of the honest lanes, which come first, and of the hostile one.
pub(crate) const HONEST: u32 = 6;
pub(crate) const HOSTILE: u32 = 6;
/// Bytes of the file that is read, and of what one request may move.
pub(crate) const FILE: usize = 2000;
pub(crate) const PIECE: usize = 256;
const FILL: u8 = 0xee;

/// A request without an outcome, as far as the lane knows.
struct Published {
    id: u32,
    slot: u32,
    ticket: Option<Ticket>,
    request: Request,
    /// Index of the revocable handle that it uses, if it uses one.
    file: Option<usize>,
    /// Set if that handle was revoked before.
    too_late: bool,
    /// Offset of a WRITE in the written file, which no other write shares.
    place: u64,
    /// The requests that must complete before this one may succeed.
    before: Vec<u32>,
}

pub(crate) struct World {
    engine: Engine<SimTransport>,
    slots: Slots,
    device: DeviceQueue,
    memory: Buffer,
    pool: BufferHandle,
    readable: [FileHandle; 3],
    revoked: [Option<Revocation>; 3],
    writable: FileHandle,
    written: File,
    hostile_file: FileHandle,
    hostile_buffer: BufferHandle,
    published: Vec<Published>,
    /// Slots of the published requests, by id.
    places: HashMap<u32, u32>,
    /// Status and count that the last outcome left in each slot.
    left: HashMap<u32, [u32; 2]>,
    next: u32,
    draining: bool,
    may_fail: bool,
}

pub(crate) fn file_in_memory(bytes: &[u8]) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create("props", flags).expect("a file"));
    file.write_all_at(bytes, 0).expect("room");
    file
}

impl World {
    pub(crate) fn new(faults: &Faults) -> Self {
        let mut files = FileTable::new();
        let mut buffers = BufferTable::new();
        let disk = file_in_memory(&pattern(1, FILE));
        let readable = [0; 3].map(|_| {
            let file = disk.try_clone().expect("a descriptor");
            files.insert(file, Rights::READ).expect("fit")
        });
        let written = file_in_memory(&[]);
        let file = written.try_clone().expect("a descriptor");
        let rights = Rights::WRITE | Rights::SYNC;
        let writable = files.insert(file, rights).expect("fit");
        let hostile_file = files
            .insert_range(file_in_memory(&[1; 300]), 0..300, Rights::all())
            .expect("fit");
        let memory = common::memory(HONEST as usize * PIECE);
        let pool = buffers.insert(memory.clone()).expect("fit");
        let theirs = common::memory(300);
        let hostile_buffer = buffers.insert(theirs).expect("fit");
        let (slots, host, device) = Slots::queue(HONEST + HOSTILE);
        let transport = faults.transport().build();
        Self {
            engine: Engine::new(transport, files, buffers, vec![host]).expect("accepted"),
            slots,
            device,
            memory,
            pool,
            readable,
            revoked: [None; 3],
            writable,
            written,
            hostile_file,
            hostile_buffer,
            published: Vec::new(),
            places: HashMap::new(),
            left: HashMap::new(),
            next: 0,
            draining: false,
            may_fail: faults.errno > 0.0,
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        let deadline = |timed| u32::from(timed);
        match action {
            Action::Read {
                file,
                offset,
                count,
                exact,
                timed,
            } => {
                let which = file.index(3);
                let mut read = Request::read(self.readable[which], offset.into(), count.into())
                    .into_buffer(self.pool, 0)
                    .with_deadline(deadline(timed));
                if exact {
                    read = read.exact();
                }
                self.publish(read, Some(which));
            }
            Action::Write {
                count,
                durable,
                timed,
            } => {
                let mut write = Request::write(self.writable, 0, count.into())
                    .from_buffer(self.pool, 0)
                    .with_deadline(deadline(timed));
                if durable {
                    write = write.durable();
                }
                self.publish(write, None);
            }
            Action::Fence { timed } => {
                self.publish(Request::fence().with_deadline(deadline(timed)), None);
            }
            Action::Sync { timed } => {
                self.publish(
                    Request::sync(self.writable).with_deadline(deadline(timed)),
                    None,
                );
            }
            Action::Prefetch { file } => {
                let which = file.index(3);
                self.publish(Request::prefetch(self.readable[which], 0, 100), Some(which));
            }
            Action::Scribble { slot, word, value } => {
                let handle = [word::SOURCE, word::DESTINATION].contains(&word);
                // Any handle except those of the honest lanes, which the model would have to follow.
                self.slots
                    .store(slot, word, if handle { value | 1 << 31 } else { value });
            }
            Action::Pretend {
                slot,
                op,
                source,
                count,
                flags,
                deadline,
            } => {
                let mut words = [0; 16];
                let (file, buffer) = (self.hostile_file.raw(), self.hostile_buffer.raw());
                words[word::OP] = op;
                (words[word::SOURCE], words[word::DESTINATION]) = match source {
                    0 => (file, buffer),
                    1 => (buffer, file),
                    2 => (file, file),
                    _ => (1 << 31, 1 << 31),
                };
                words[word::COUNT] = count;
                words[word::FLAGS] = flags;
                words[word::DEADLINE] = deadline;
                self.slots.publish_words(slot, &words);
            }
            Action::Step(times) => (0..times).for_each(|_| self.step()),
            Action::Wait => self.engine.wait(Duration::from_micros(10)),
            Action::Take => self.take(),
            Action::Revoke(which) => {
                let which = which.index(3);
                let begun = self.engine.revoke_file(self.readable[which]);
                assert_eq!(begun.is_ok(), self.revoked[which].is_none());
                self.revoked[which] = self.revoked[which].or(begun.ok());
            }
            Action::Drain => {
                self.engine.drain();
                self.draining = true;
            }
        }
    }

    fn publish(&mut self, mut request: Request, file: Option<usize>) {
        if self.published.len() == HONEST as usize {
            return;
        }
        let reservation = self.device.reserve().expect("a slot of the honest");
        assert!(reservation.slot() < HONEST);
        let id = self.next;
        self.next += 1;
        let base = reservation.slot() as usize * PIECE;
        let place = u64::from(id) * PIECE as u64;
        request = request.with_tag(id);
        match request.op() {
            Op::Read => {
                request = request.with_buffer_offset(base as u64);
                self.memory.write_at(base, &[FILL; PIECE]).expect("inside");
            }
            Op::Write => {
                request = request.with_buffer_offset(base as u64);
                request = request.with_file_offset(place);
                let bytes = pattern(id.into(), PIECE);
                self.memory.write_at(base, &bytes).expect("inside");
            }
            _ => {}
        }
        let precedes = |other: &&Published| match request.op() {
            Op::Fence => true,
            Op::Sync => other.request.op() == Op::Write,
            _ => false,
        };
        let before = self
            .published
            .iter()
            .filter(precedes)
            .map(|other| other.id)
            .collect();
        let ticket = self.device.publish(reservation, &request);
        self.places.insert(id, ticket.slot());
        self.published.push(Published {
            id,
            slot: ticket.slot(),
            ticket: Some(ticket),
            request,
            file,
            too_late: file.is_some_and(|which| self.revoked[which].is_some()),
            place,
            before,
        });
    }

    fn step(&mut self) {
        let _ = self.engine.step();
        assert!(self.engine.outstanding() <= HONEST + HOSTILE, "the ledger");
        for slot in 0..HONEST {
            let used = self.published.iter().find(|other| other.slot == slot);
            let status = self.slots.load(slot, word::STATUS);
            match used {
                None => {
                    let left = self.left.get(&slot).copied();
                    let found = [status, self.slots.load(slot, word::COUNT)];
                    let untouched = left.unwrap_or([status::EMPTY, 0]);
                    assert_eq!(found, untouched, "an outcome that nobody asked for");
                }
                Some(used) => {
                    let gone = |revocation| self.engine.is_revoked(revocation);
                    let revoked = used.file.and_then(|which| self.revoked[which]);
                    // A pass claims everything that is published, and announces it later.
                    let at_work = [status::PUBLISHED, status::CLAIMED].contains(&status);
                    assert!(
                        !(at_work && revoked.is_some_and(gone)),
                        "revoked and in flight"
                    );
                }
            }
        }
        for waiting in &self.published {
            if matches!(self.slots.outcome(waiting.slot), Some(Ok(_))) {
                for id in &waiting.before {
                    let done = self
                        .places
                        .get(id)
                        .is_none_or(|&slot| self.slots.outcome(slot).is_some());
                    assert!(done, "{:?} came before {id}", waiting.request);
                }
            }
        }
    }

    /// Takes all outcomes.
    fn take(&mut self) {
        for mut waiting in std::mem::take(&mut self.published) {
            let Some(ticket) = waiting.ticket.take() else {
                continue;
            };
            match self.device.take(ticket) {
                Ok(outcome) => {
                    self.places.remove(&waiting.id);
                    let left = match outcome.result {
                        Ok(count) => [status::OK, count],
                        Err(errno) => [status::ERROR, errno.raw()],
                    };
                    self.left.insert(waiting.slot, left);
                    assert_eq!(outcome.tag, waiting.id);
                    self.check(&waiting, outcome.result);
                }
                Err(ticket) => {
                    waiting.ticket = Some(ticket);
                    self.published.push(waiting);
                }
            }
        }
    }

    fn check(&self, of: &Published, result: Result<u32, Errno>) {
        let request = &of.request;
        let exact = request.flags().contains(vyre_ioq::Flags::EXACT);
        let count = request.count() as usize;
        match result {
            Ok(moved) => {
                assert!(!of.too_late, "{request:?} on a revoked handle");
                assert!(
                    !exact || moved == request.count(),
                    "{request:?}: {moved} bytes"
                );
            }
            Err(errno) => {
                let fits = match errno {
                    Errno::EIO => self.may_fail,
                    Errno::ETIMEDOUT => request.deadline() > 0,
                    Errno::ECANCELED => self.draining,
                    Errno::EBADF => of.file.is_some_and(|which| self.revoked[which].is_some()),
                    Errno::ENODATA => exact,
                    _ => false,
                };
                assert!(fits, "{request:?}: {errno}");
            }
        }
        let (there, expected, blank) = match request.op() {
            Op::Read => {
                let there = contents(&self.memory, of.slot as usize * PIECE, PIECE);
                let mut expected = pattern(1, FILE);
                expected.drain(..FILE.min(request.file_offset() as usize));
                (there, expected, FILL)
            }
            Op::Write => {
                let mut there = vec![0; PIECE];
                let mut read = 0;
                while let Ok(more @ 1..) = self
                    .written
                    .read_at(&mut there[read..], of.place + read as u64)
                {
                    read += more;
                }
                (there, pattern(of.id.into(), PIECE), 0)
            }
            _ => {
                assert!(result.is_err() || result == Ok(0));
                return;
            }
        };
        let most = count.min(expected.len());
        // After an error, any part of the bytes may have been moved.
        let moved = result.map_or(0, |moved| moved as usize);
        assert!(moved <= most, "{request:?}: {moved} bytes");
        assert_eq!(there[..moved], expected[..moved], "{request:?}");
        let end = if result.is_ok() { moved } else { most };
        for at in moved..end {
            let byte = there[at];
            assert!(byte == blank || byte == expected[at], "{request:?} at {at}");
        }
        assert!(
            there[end..].iter().all(|&byte| byte == blank),
            "{request:?}"
        );
        let undisturbed = request.deadline() == 0 && !self.draining && !self.may_fail;
        assert!(
            !undisturbed || result.is_err() || moved == most,
            "{request:?}: {moved}"
        );
    }

    /// Shuts the engine down. Every request then has an outcome.
    pub(crate) fn finish(&mut self) {
        self.draining = true;
        self.engine.stop(Duration::ZERO).expect("nothing hangs");
        assert_eq!(self.engine.outstanding(), 0);
        self.take();
        assert_eq!(self.published.len(), 0, "without an outcome");
        let counters = self.engine.queue_counters(0).expect("a queue");
        assert_eq!(counters.claimed, counters.succeeded + counters.failed);
        assert_eq!(self.engine.counters().stray, 0);
    }
}
