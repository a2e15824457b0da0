//! A device of vyre-runtime 0.7 on our host: the queue is made, published and judged by the
//! original's own functions, and served by the adapter.

#![expect(unsafe_code, reason = "a test maps memory for both ends of a queue")]
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use consumer_vyre_runtime::{RegisteredIoDestination, ResidentIoLoop, StartError, Stream};
use vyre_io::{Buffer, Region};
use vyre_runtime::resident_work_queue::io::{
    IO_SLOT_WORDS, ResidentIoQueue, claim_io_requests_into, complete_io_request,
    encode_empty_io_queue, io_op, io_status, io_word, try_poll_io_requests,
    validate_io_queue_bytes,
};

const EMPTY: u32 = 0;
const PUBLISHED: u32 = 1;
const CLAIMED: u32 = 2;

/// Handle of the only destination, and its offset in the buffer.
const DESTINATION: u32 = 7;
const TARGET: usize = 512;

/// Memory that the device and the host map, with the original's handle to its contents.
struct Device {
    mapped: &'static [AtomicU32],
    queue: ResidentIoQueue,
}

impl Device {
    fn new(slots: u32) -> Self {
        let bytes = encode_empty_io_queue(slots).expect("a valid length");
        let words = bytes
            .chunks_exact(4)
            .map(|word| AtomicU32::new(u32::from_le_bytes(word.try_into().expect("four bytes"))));
        Self {
            mapped: Vec::leak(words.collect()),
            queue: ResidentIoQueue::new(slots).expect("a valid length"),
        }
    }

    fn region(&self) -> Region {
        let base = NonNull::from(self.mapped).cast();
        // SAFETY: the memory is never freed, and everyone uses it by 32-bit atomics alone.
        unsafe { Region::from_raw_parts(base, size_of_val(self.mapped)) }.expect("aligned")
    }

    fn word(&self, slot: u32, word: u32) -> &AtomicU32 {
        &self.mapped[(slot * IO_SLOT_WORDS + word) as usize]
    }

    fn status(&self, slot: u32) -> u32 {
        self.word(slot, io_word::STATUS).load(Ordering::Acquire)
    }

    /// Copies a slot that the original's functions wrote to the mapped memory, STATUS last.
    fn upload(&self, slot: u32) {
        let first = (slot * IO_SLOT_WORDS * 4) as usize;
        let bytes = &self.queue.as_bytes()[first..][..IO_SLOT_WORDS as usize * 4];
        let word = |word: u32| {
            let at = word as usize * 4;
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
        };
        for index in (0..IO_SLOT_WORDS).filter(|&index| index != io_word::STATUS) {
            self.word(slot, index).store(word(index), Ordering::Relaxed);
        }
        self.publish_again(slot);
        assert_eq!(word(io_word::STATUS), PUBLISHED);
    }

    /// Publishes the slot by STATUS alone, as devices of the original may.
    fn publish_again(&self, slot: u32) {
        self.word(slot, io_word::STATUS)
            .store(PUBLISHED, Ordering::Release);
    }

    /// Returns a copy of the mapped memory.
    fn bytes(&self) -> Vec<u8> {
        let words = self.mapped.iter();
        words
            .flat_map(|word| word.load(Ordering::Acquire).to_le_bytes())
            .collect()
    }

    /// Copies the mapped memory back to the original's queue.
    fn read_back(&mut self) {
        let bytes = self.bytes();
        self.queue.as_mut_bytes().copy_from_slice(&bytes);
    }

    fn read(&mut self, slot: u32, fd: u32, count: u32) {
        self.queue
            .submit_dma_read(slot, fd, DESTINATION, count, slot)
            .expect("an empty slot");
        self.upload(slot);
    }

    fn outcome(&self, slot: u32) -> u32 {
        eventually("an outcome", || {
            [io_status::OK, io_status::ERROR].contains(&self.status(slot))
        });
        self.status(slot)
    }

    fn recycle(&mut self, slot: u32) {
        self.word(slot, io_word::STATUS)
            .store(EMPTY, Ordering::Release);
        self.read_back();
        assert!(self.queue.is_recycled(slot));
    }
}

/// Waits for a condition. The limit only catches hangs.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "no {what}");
        std::thread::yield_now();
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

/// A device of 64 slots, a file, and a host whose buffer has the destination at [`TARGET`].
struct World {
    device: Device,
    file: File,
    /// Descriptor number under which the host has the file.
    fd: u32,
    memory: Buffer,
    host: ResidentIoLoop,
}

impl World {
    fn new(contents: &[u8]) -> Self {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(contents).expect("written");
        Self::serving(file.try_clone().expect("a duplicate").into(), file)
    }

    fn serving(given: OwnedFd, file: File) -> Self {
        let device = Device::new(64);
        let fd = given.as_raw_fd().unsigned_abs();
        let memory = Buffer::anonymous(1 << 16).expect("memory");
        let host = ResidentIoLoop::spawn_with_registered_destinations(
            Stream::new().file(given).buffer(memory.clone()),
            device.region(),
            &[RegisteredIoDestination {
                handle: DESTINATION,
                buf_index: 0,
                target_offset: TARGET as u64,
            }],
        );
        Self {
            device,
            file,
            fd,
            memory,
            host: host.expect("started"),
        }
    }

    fn arrived(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_at(TARGET, &mut bytes).expect("inside");
        bytes
    }
}

/// Returns the words of a slot after the original's own host functions have completed it with
/// `success`.
fn served_by_the_original(mut published: Vec<u8>, slot: u32, success: bool) -> Vec<u8> {
    let mut claimed = Vec::new();
    claim_io_requests_into(&mut published, &mut claimed).expect("a valid queue");
    assert!(claimed.iter().any(|request| request.slot_idx == slot));
    complete_io_request(&mut published, slot, success).expect("claimed");
    published
}

fn slot_of(queue: &[u8], slot: u32) -> &[u8] {
    let len = IO_SLOT_WORDS as usize * 4;
    &queue[slot as usize * len..][..len]
}

#[test]
fn every_slot_is_served_and_ends_with_the_words_that_the_original_leaves() {
    let contents = pattern(4096);
    let mut world = World::new(&contents);
    for slot in 0..64 {
        let device = &mut world.device;
        device.read(slot, world.fd, 4096);
        let published = device.queue.as_bytes().to_vec();
        assert_eq!(device.outcome(slot), io_status::OK);
        let expected = served_by_the_original(published, slot, true);
        assert_eq!(slot_of(&device.bytes(), slot), slot_of(&expected, slot));
        assert!(device.bytes() == expected, "another slot changed");
        device.read_back();
        let completion = device.queue.completion(slot).expect("served");
        assert_eq!(
            (
                completion.mapped_slot,
                completion.byte_count,
                completion.tag
            ),
            (DESTINATION, 4096, slot)
        );
        assert_eq!(world.arrived(4096), contents);
        world.memory.write_at(TARGET, &[0; 4096]).expect("inside");
        world.device.recycle(slot);
    }
    let bytes = world.device.bytes();
    validate_io_queue_bytes(&bytes).expect("a valid queue");
    assert!(
        try_poll_io_requests(&bytes)
            .expect("a valid queue")
            .is_empty()
    );
    world.host.stop().expect("quiet");
}

#[test]
fn all_slots_at_once_are_served() {
    let contents = pattern(4096);
    let mut world = World::new(&contents);
    for slot in 0..64 {
        world.device.read(slot, world.fd, 4096);
    }
    for slot in 0..64 {
        assert_eq!(world.device.outcome(slot), io_status::OK, "slot {slot}");
    }
    assert_eq!(world.arrived(4096), contents);
}

#[test]
fn a_short_read_leaves_count_so_that_a_republication_by_status_asks_for_the_same() {
    let mut world = World::new(&pattern(10));
    world.device.read(3, world.fd, 40);
    assert_eq!(world.device.outcome(3), io_status::OK);
    let count = |world: &World| {
        let count = world.device.word(3, io_word::BYTE_COUNT);
        count.load(Ordering::Relaxed)
    };
    assert_eq!(count(&world), 40);
    assert_eq!(world.arrived(10), pattern(10));

    world.file.write_all_at(&pattern(40), 0).expect("written");
    world.device.publish_again(3);
    assert_eq!(world.device.outcome(3), io_status::OK);
    assert_eq!(world.arrived(40), pattern(40));
    assert_eq!(count(&world), 40);
}

#[test]
fn errors_leave_every_word_but_status_and_the_loop_goes_on() {
    let contents = pattern(64);
    let mut world = World::new(&contents);
    let past_the_end = (1 << 16) - TARGET as u32 + 1;
    let unknown = world.fd + 1000;
    for (fd, destination, count) in [
        (unknown, DESTINATION, 64),
        (world.fd, DESTINATION + 1, 64),
        (world.fd, DESTINATION, past_the_end),
    ] {
        let device = &mut world.device;
        device
            .queue
            .submit_dma_read(5, fd, destination, count, 9)
            .expect("an empty slot");
        let published = device.queue.as_bytes().to_vec();
        device.upload(5);
        assert_eq!(device.outcome(5), io_status::ERROR);
        let expected = served_by_the_original(published, 5, false);
        assert_eq!(slot_of(&device.bytes(), 5), slot_of(&expected, 5));
        assert!(device.bytes() == expected, "another slot changed");
        // Again by STATUS alone: the same request, not one of errno bytes.
        device.publish_again(5);
        assert_eq!(device.outcome(5), io_status::ERROR);
        assert_eq!(
            device.word(5, io_word::BYTE_COUNT).load(Ordering::Relaxed),
            count
        );
        device.recycle(5);
    }
    world.device.read(5, world.fd, 64);
    assert_eq!(world.device.outcome(5), io_status::OK);
    assert_eq!(world.arrived(64), contents);
}

#[test]
fn a_request_that_lasts_shows_claimed_at_once() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let file = tempfile::tempfile().expect("a file");
    let mut world = World::serving(reader.into(), file);
    world.device.read(0, world.fd, 4);
    eventually("claim", || world.device.status(0) == CLAIMED);
    writer.write_all(b"late").expect("written");
    assert_eq!(world.device.outcome(0), io_status::OK);
    assert_eq!(world.arrived(4), b"late");
}

#[test]
fn a_fence_succeeds_and_a_write_and_an_unknown_operation_fail() {
    let world = World::new(b"");
    for (slot, operation, status) in [
        (0, io_op::FENCE, io_status::OK),
        (1, io_op::WRITE, io_status::ERROR),
        (2, 0x77, io_status::ERROR),
    ] {
        let op = world.device.word(slot, io_word::OP_TYPE);
        op.store(operation, Ordering::Relaxed);
        world.device.publish_again(slot);
        assert_eq!(world.device.outcome(slot), status, "operation {operation}");
    }
}

#[test]
fn a_loop_without_destinations_answers_and_stops_twice() {
    let mut device = Device::new(1);
    let mut host = ResidentIoLoop::spawn(Stream::new(), device.region()).expect("started");
    device.read(0, 0, 1);
    assert_eq!(device.outcome(0), io_status::ERROR);
    host.stop().expect("quiet");
    host.stop().expect("ended before");
}

#[test]
fn a_destination_in_a_buffer_that_is_not_there_is_refused() {
    let destinations = [RegisteredIoDestination {
        handle: 1,
        buf_index: 2,
        target_offset: 0,
    }];
    let device = Device::new(1);
    let refused = ResidentIoLoop::spawn_with_registered_destinations(
        Stream::new(),
        device.region(),
        &destinations,
    );
    assert!(
        matches!(
            refused,
            Err(StartError::NoBuffer {
                handle: 1,
                index: 2,
                count: 0
            })
        ),
        "{refused:?}"
    );
}
