//! Against the simulated transport, whose operations are seen by its counters of operations in flight.

mod bundles;

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::ftruncate;
use rustix::param::page_size;

use super::file_state::ASK_SIZE_EVERY;
use super::*;
use crate::sim::SimTransport;

const FILE: FileSlot = FileSlot::new(1);
const BUFFER: BufferSlot = BufferSlot::new(0);

/// A transport with one file of 40 pages in the page cache.
struct Fixture {
    transport: PageCacheTransport<SimTransport>,
    file: File,
    contents: Vec<u8>,
    cached: Arc<CachedFile>,
    buffer: Buffer,
}

fn page() -> u64 {
    page_size() as u64
}

fn fixture() -> Fixture {
    fixture_of(8)
}

/// With room for a number of operations in flight.
fn fixture_of(capacity: u32) -> Fixture {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    let contents: Vec<u8> = (0..40 * page()).map(|at| (at % 251 + 1) as u8).collect();
    file.write_all_at(&contents, 0).unwrap();
    let inner = SimTransport::builder(7)
        .files(2)
        .buffers(1)
        .capacity(capacity)
        .build();
    let mut transport = PageCacheTransport::new(inner);
    let descriptor: OwnedFd = file.try_clone().unwrap().into();
    transport
        .set_file(FILE, Some(Arc::new(descriptor)))
        .unwrap();
    let buffer = Buffer::anonymous(8 << 20).unwrap();
    transport.set_buffer(BUFFER, Some(buffer.clone())).unwrap();
    let cached = Arc::new(CachedFile::new(&file, 0..u64::MAX).unwrap());
    transport.set_page_cache(FILE, cached.clone()).unwrap();
    Fixture {
        transport,
        file,
        contents,
        cached,
        buffer,
    }
}

impl Fixture {
    fn scan(&self) {
        let residency = self.cached.residency();
        residency.scan(residency.mapping().range()).unwrap();
    }

    fn push(&mut self, offset: u64, len: u32) -> Result<Token, PushError> {
        self.transport.push(read(offset, len), offset)
    }

    /// Returns whether the inner transport got the read that is pushed.
    fn is_passed_on(&mut self, offset: u64, len: u32) -> bool {
        let before = self.transport.inner().in_flight();
        self.push(offset, len).unwrap();
        self.transport.inner().in_flight() > before
    }

    fn reap(&mut self) -> Vec<(u64, Result<u32, Errno>)> {
        let mut seen = Vec::new();
        for _ in 0..100 {
            self.transport.submit().unwrap();
            self.transport.reap(|it| seen.push((it.user, it.result)));
        }
        seen
    }

    /// Makes one submission. Returns the users of the operations that have ended.
    fn submit_and_reap(&mut self) -> Vec<u64> {
        self.transport.submit().unwrap();
        let mut users = Vec::new();
        self.transport.reap(|it| users.push(it.user));
        users
    }

    fn check(&self, offset: u64, count: u32) {
        let mut bytes = vec![0; count as usize];
        self.buffer.read_at(offset as usize, &mut bytes).unwrap();
        assert_eq!(bytes, self.contents[offset as usize..][..count as usize]);
    }
}

/// A read into the same offset of the buffer.
fn read(offset: u64, len: u32) -> Operation {
    Operation::Read {
        file: FILE,
        offset,
        buffer: BUFFER,
        buffer_offset: offset,
        len,
    }
}

#[test]
fn bytes_in_memory_are_copied_and_the_inner_transport_sees_nothing() {
    let mut fixture = fixture();
    fixture.scan();
    let reads = [(0, 1), (3 * page() - 7, 5000), (39 * page(), page() as u32)];
    for (offset, len) in reads {
        assert!(!fixture.is_passed_on(offset, len), "{offset}");
    }
    assert_eq!(fixture.transport.in_flight(), 3);
    let expected = reads.map(|(offset, len)| (offset, Ok(len)));
    assert_eq!(fixture.reap(), expected);
    for (offset, len) in reads {
        fixture.check(offset, len);
    }
    let counters = fixture.transport.page_cache_counters();
    assert_eq!((counters.copied, counters.passed_on), (3, 0));
    assert_eq!(counters.bytes, 1 + 5000 + page());
    assert_eq!(fixture.transport.in_flight(), 0);
}

#[test]
fn what_cannot_be_copied_goes_to_the_inner_transport() {
    let mut fixture = fixture();
    assert!(fixture.is_passed_on(0, 100), "nothing was scanned");
    fixture.scan();
    assert!(fixture.is_passed_on(0, MAX_COPY_BYTES + 1), "too long");
    assert!(!fixture.is_passed_on(0, MAX_COPY_BYTES));
    assert!(fixture.is_passed_on(0, 0), "no bytes");
    let past_mapping = 40 * page();
    assert!(fixture.is_passed_on(past_mapping - 1, 2), "past the end");
    let write = Operation::Prefetch {
        file: FILE,
        offset: 0,
        len: 1,
    };
    let before = fixture.transport.inner().in_flight();
    fixture.transport.push(write, 0).unwrap();
    assert_eq!(fixture.transport.inner().in_flight(), before + 1);
    assert_eq!(fixture.reap().len(), 6);
    assert_eq!(fixture.transport.page_cache_counters().passed_on, 4);
}

/// Rule: SEC-2.
#[test]
fn ranges_outside_the_buffer_are_refused_as_by_the_inner_transport() {
    let mut fixture = fixture();
    fixture.scan();
    let mut outside = |buffer_offset| {
        let read = Operation::Read {
            file: FILE,
            offset: 0,
            buffer: BUFFER,
            buffer_offset,
            len: 9,
        };
        fixture.transport.push(read, 0)
    };
    assert_eq!(outside((8 << 20) - 8), Err(PushError::OutOfRange));
    assert_eq!(outside(u64::MAX), Err(PushError::OutOfRange));
    assert!(outside((8 << 20) - 9).is_ok());
}

/// Rule: SEC-17.
#[test]
fn a_file_that_became_shorter_is_read_by_the_inner_transport() {
    let mut fixture = fixture();
    fixture.scan();
    let offset = 20 * page();
    assert!(!fixture.is_passed_on(offset, 300));
    ftruncate(&fixture.file, offset + 100).unwrap();
    assert_eq!(fixture.reap(), [(offset, Err(Errno::INTR))]);
    assert!(fixture.is_passed_on(offset, 300), "pushed again");
    assert_eq!(fixture.reap(), [(offset, Ok(100))]);
    assert!(!fixture.is_passed_on(offset, 100), "up to the new end");
    assert_eq!(fixture.reap(), [(offset, Ok(100))]);
    fixture.check(offset, 100);
    assert_eq!(fixture.transport.page_cache_counters().past_end, 1);
}

#[test]
fn a_file_that_became_longer_again_is_copied_after_some_reads() {
    let mut fixture = fixture();
    fixture.scan();
    ftruncate(&fixture.file, page()).unwrap();
    assert!(!fixture.is_passed_on(10 * page(), 1));
    assert_eq!(fixture.reap(), [(10 * page(), Err(Errno::INTR))]);
    let contents = fixture.contents.clone();
    fixture.file.write_all_at(&contents, 0).unwrap();
    fixture.scan();
    let copied = (0..ASK_SIZE_EVERY + 1).any(|_| {
        let copied = !fixture.is_passed_on(10 * page(), 5);
        assert_eq!(fixture.reap(), [(10 * page(), Ok(5))]);
        copied
    });
    assert!(copied);
    fixture.check(10 * page(), 5);
    assert!(!fixture.is_passed_on(39 * page(), 5), "the size is known");
}

#[test]
fn one_submission_copies_a_bounded_number_of_bytes() {
    let mut fixture = fixture();
    fixture.scan();
    for _ in 0..3 {
        fixture.push(0, MAX_COPY_BYTES).unwrap();
    }
    assert_eq!(fixture.submit_and_reap(), [0, 0], "SUBMIT_COPY_BYTES");
    assert_eq!(fixture.submit_and_reap(), [0]);
    assert_eq!(fixture.submit_and_reap(), []);
}

#[test]
fn short_reads_and_long_ones_take_turns() {
    let mut fixture = fixture();
    fixture.scan();
    for _ in 0..5 {
        fixture.push(0, MAX_COPY_BYTES).unwrap();
    }
    let push_short = |fixture: &mut Fixture| {
        fixture.transport.push(read(page(), 5), 7).unwrap();
    };
    push_short(&mut fixture);
    assert_eq!(
        fixture.submit_and_reap(),
        [7],
        "the long ones do not delay it"
    );
    push_short(&mut fixture);
    assert_eq!(
        fixture.submit_and_reap(),
        [0],
        "one alone, however many short ones come"
    );
    assert_eq!(fixture.submit_and_reap(), [7]);
    assert_eq!(fixture.submit_and_reap(), [0], "a short one may follow");
    assert_eq!(fixture.submit_and_reap(), [0, 0], "none followed");
    assert_eq!(fixture.submit_and_reap(), [0]);
    assert_eq!(fixture.submit_and_reap(), []);
}

#[test]
fn copies_count_as_operations_in_flight_until_they_are_reaped() {
    let mut fixture = fixture();
    fixture.scan();
    for _ in 0..4 {
        assert!(!fixture.is_passed_on(0, 1));
        assert!(fixture.is_passed_on(0, MAX_COPY_BYTES + 1));
    }
    assert_eq!(fixture.transport.in_flight(), 8);
    assert_eq!(fixture.push(0, 1), Err(PushError::Full));
    assert_eq!(fixture.push(0, MAX_COPY_BYTES + 1), Err(PushError::Full));
    fixture.transport.submit().unwrap();
    assert_eq!(fixture.push(0, 1), Err(PushError::Full), "not reaped");
    assert_eq!(fixture.reap().len(), 8);
    assert!(fixture.push(0, 1).is_ok());
}

/// Rule: SEC-7.
#[test]
fn slots_are_busy_while_copies_on_them_are_in_flight() {
    let mut fixture = fixture();
    fixture.scan();
    let busy = Err(RegisterError::Busy { in_flight: 1 });
    fixture.push(0, 1).unwrap();
    for _ in 0..2 {
        assert_eq!(fixture.transport.set_file(FILE, None), busy);
        assert_eq!(fixture.transport.set_buffer(BUFFER, None), busy);
        assert_eq!(fixture.transport.set_file(FileSlot::new(0), None), Ok(()));
        fixture.transport.submit().unwrap();
    }
    fixture.reap();
    assert_eq!(fixture.transport.set_buffer(BUFFER, None), Ok(()));
    let unknown = Err(PushError::UnknownBuffer(BUFFER));
    assert_eq!(fixture.push(0, 1), unknown);
}

/// Rule: SEC-9.
#[test]
fn another_file_in_the_slot_is_not_read_out_of_the_old_mapping() {
    let mut fixture = fixture();
    fixture.scan();
    let other = tempfile::tempfile_in("/dev/shm").unwrap();
    other.write_all_at(&[9; 10], 0).unwrap();
    let other: OwnedFd = other.into();
    let set = fixture.transport.set_file(FILE, Some(Arc::new(other)));
    assert_eq!(set, Ok(()));
    assert!(fixture.is_passed_on(0, 5));
    assert_eq!(fixture.reap(), [(0, Ok(5))]);
    let mut bytes = [0; 5];
    fixture.buffer.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [9; 5]);
}

/// Rule: SEC-7.
#[test]
fn a_slot_that_lost_its_file_is_not_read_out_of_the_mapping() {
    let mut fixture = fixture();
    fixture.scan();
    let refused = Err(RegisterError::Kernel(Errno::NFILE));
    assert_eq!(fixture.transport.forget_replaced(FILE, refused), refused);
    assert!(!fixture.is_passed_on(0, 5), "the slot holds its file");
    fixture.reap();
    let emptied = Err(RegisterError::Emptied(Errno::NFILE));
    assert_eq!(fixture.transport.forget_replaced(FILE, emptied), emptied);
    assert!(fixture.is_passed_on(0, 5));
}

#[test]
fn a_quiesce_ends_copies_without_writing_to_the_buffer() {
    let mut fixture = fixture();
    fixture.scan();
    let token = fixture.push(0, 5).unwrap();
    assert!(fixture.transport.cancel(token), "in flight");
    fixture.transport.quiesce(Duration::ZERO).unwrap();
    assert!(!fixture.transport.cancel(token));
    assert_eq!(fixture.reap(), [(0, Err(Errno::CANCELED))]);
    let mut bytes = [9; 5];
    fixture.buffer.read_at(0, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 5]);
}

#[test]
fn a_wait_with_copies_in_flight_submits_them_and_returns() {
    let mut fixture = fixture();
    fixture.scan();
    fixture.push(7, 5).unwrap();
    // The simulation advances its clock in each wait.
    fixture.transport.wait(None).unwrap();
    let mut seen = Vec::new();
    fixture.transport.reap(|it| seen.push((it.user, it.result)));
    assert_eq!(seen, [(7, Ok(5))]);
}

/// Rule: SEC-17.
#[test]
fn a_thread_that_blocks_sigbus_copies_nothing() {
    use nix::sys::signal::{SigSet, Signal};
    let mut fixture = fixture();
    fixture.scan();
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGBUS);
    mask.thread_block().unwrap();
    // Found out after the wait, before anything is copied.
    fixture.transport.wait(Some(Duration::ZERO)).unwrap();
    assert!(!fixture.is_passed_on(0, 5));
    assert_eq!(fixture.reap(), [(0, Err(Errno::INTR))]);
    assert!(fixture.is_passed_on(0, 5));
    assert_eq!(fixture.reap(), [(0, Ok(5))]);
    let refused = fixture
        .transport
        .set_page_cache(FILE, fixture.cached.clone());
    assert_eq!(refused, Err(RecoveryError::Blocked));
    mask.thread_unblock().unwrap();
    let set = fixture
        .transport
        .set_page_cache(FILE, fixture.cached.clone());
    assert_eq!(set, Ok(()));
    assert!(!fixture.is_passed_on(0, 5));
}

/// Rule: SEC-12.
#[test]
fn a_flood_of_short_reads_starves_no_long_one() {
    let mut fixture = fixture_of(32);
    fixture.scan();
    fixture.push(0, MAX_COPY_BYTES).unwrap();
    let mut pushed = 0;
    for _ in 0..3 {
        // More than one submission copies.
        while pushed < 20 {
            fixture.push(page(), SHORT_BYTES).unwrap();
            pushed += 1;
        }
        fixture.transport.submit().unwrap();
        let mut is_copied = false;
        fixture.transport.reap(|it| {
            is_copied |= it.user == 0;
            pushed -= u32::from(it.user != 0);
        });
        if is_copied {
            return;
        }
    }
    panic!("the long read was not copied");
}
