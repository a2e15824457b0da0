//! Lanes that follow the protocol and check every outcome.

use std::fs::File;
use std::os::unix::fs::FileExt;

use vyre_ioloop::{BufferTable, FileTable, Rights};
use vyre_ioq::test_utils::GuardedMemory;
use vyre_ioq::{BufferHandle, DeviceQueue, FileHandle, Op, Request, Ticket};
use vyre_uring::Buffer;

use crate::mix;

/// Bytes of the file that is read, and of what one request may move.
const FILE: u32 = 2000;
const PIECE: u32 = 256;
const FILL: u8 = 0xee;

/// The bytes of one slot, and its last request.
#[derive(Debug)]
struct Lane {
    ticket: Ticket,
    request: Request,
}

#[derive(Debug)]
pub(super) struct Honest {
    device: DeviceQueue,
    slots: u32,
    readable: FileHandle,
    writable: FileHandle,
    written: File,
    pool: BufferHandle,
    memory: Buffer,
    lanes: Vec<Lane>,
    next: u32,
    outcomes: u64,
}

impl Honest {
    pub(super) fn new(
        shared: &GuardedMemory,
        files: &mut FileTable,
        buffers: &mut BufferTable,
        slots: u32,
    ) -> Self {
        let read = file(&pattern(0, FILE));
        let written = file(&[]);
        let memory = Buffer::anonymous((slots * PIECE) as usize).expect("memory");
        let twin = written.try_clone().expect("a descriptor");
        let rights = Rights::WRITE | Rights::SYNC;
        Self {
            device: DeviceQueue::attach(shared.region()).expect("a queue"),
            slots,
            readable: files.insert(read, Rights::READ).expect("fit"),
            writable: files.insert(twin, rights).expect("fit"),
            written,
            pool: buffers.insert(memory.clone()).expect("fit"),
            memory,
            lanes: Vec::new(),
            next: 0,
            outcomes: 0,
        }
    }

    pub(super) const fn handles(&self) -> [u32; 3] {
        let (file, other) = (self.readable.raw(), self.writable.raw());
        [file, other, self.pool.raw()]
    }

    pub(super) const fn writable(&self) -> FileHandle {
        self.writable
    }

    pub(super) const fn outcomes(&self) -> u64 {
        self.outcomes
    }

    pub(super) const fn is_done(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn read(&mut self, offset: u32, count: u32) {
        let (offset, count) = (u64::from(offset % (FILE + 50)), count % (PIECE + 1));
        self.publish(Request::read(self.readable, offset, count).into_buffer(self.pool, 0));
    }

    pub(super) fn write(&mut self, count: u32) {
        let count = count % (PIECE + 1);
        self.publish(Request::write(self.writable, 0, count).from_buffer(self.pool, 0));
    }

    /// Publishes a request, if a lane is free. READ and WRITE use the piece of the buffer and of the
    /// written file that belongs to the slot.
    pub(super) fn publish(&mut self, mut request: Request) {
        if self.lanes.len() as u32 == self.slots {
            return;
        }
        let reservation = self.device.reserve().expect("one of the honest");
        assert!(reservation.slot() < self.slots, "the lowest that is free");
        let place = u64::from(reservation.slot() * PIECE);
        request = request.with_tag(self.next).with_buffer_offset(place);
        self.next = self.next.wrapping_add(1);
        let bytes = match request.op() {
            Op::Write => {
                request = request.with_file_offset(place);
                pattern(request.tag().wrapping_add(1), PIECE)
            }
            _ => vec![FILL; PIECE as usize],
        };
        self.memory
            .write_at(place as usize, &bytes)
            .expect("inside");
        let ticket = self.device.publish(reservation, &request);
        self.lanes.push(Lane { ticket, request });
    }

    pub(super) fn take(&mut self) {
        for lane in std::mem::take(&mut self.lanes) {
            let slot = lane.ticket.slot();
            match self.device.take(lane.ticket) {
                Ok(outcome) => {
                    let request = &lane.request;
                    assert_eq!(outcome.tag, request.tag(), "{request:?}");
                    let moved = outcome.result.unwrap_or_else(|errno| {
                        panic!("{request:?}: {errno}");
                    });
                    self.check(slot, request, moved);
                    self.outcomes += 1;
                }
                Err(ticket) => self.lanes.push(Lane { ticket, ..lane }),
            }
        }
    }

    fn check(&self, slot: u32, request: &Request, moved: u32) {
        let place = (slot * PIECE) as usize;
        let mut there = vec![0; PIECE as usize];
        match request.op() {
            Op::Read => {
                let rest = FILE.saturating_sub(request.file_offset() as u32);
                assert_eq!(moved, request.count().min(rest), "{request:?}");
                self.memory.read_at(place, &mut there).expect("inside");
                let from = request.file_offset().min(FILE.into()) as usize;
                let (read, blank) = there.split_at(moved as usize);
                assert_eq!(read, &pattern(0, FILE)[from..][..read.len()], "{request:?}");
                assert!(blank.iter().all(|&byte| byte == FILL), "{request:?}");
            }
            Op::Write => {
                assert_eq!(moved, request.count(), "{request:?}");
                there.truncate(moved as usize);
                let read = self
                    .written
                    .read_exact_at(&mut there, request.file_offset());
                read.expect("what was written");
                let written = pattern(request.tag().wrapping_add(1), moved);
                assert_eq!(there, written, "{request:?}");
            }
            _ => assert_eq!(moved, 0, "{request:?}"),
        }
    }
}

/// Returns bytes that differ from place to place and from seed to seed.
fn pattern(seed: u32, len: u32) -> Vec<u8> {
    let first = u64::from(seed) << 32;
    (first..first + u64::from(len))
        .map(|at| mix(at) as u8)
        .collect()
}

/// Returns a file in memory with these bytes.
pub(super) fn file(bytes: &[u8]) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create("vyre-fuzz-harness", flags).expect("a file"));
    file.write_all_at(bytes, 0).expect("room");
    file
}
