//! Page-cache reads give what `pread` could have given, whatever happens to the file meanwhile.

mod common;
#[path = "page_cache/own_handler.rs"]
mod own_handler;

use std::fs::File;
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fdatasync, ftruncate};
use vyre_ioloop::{BufferTable, FileOptions, FileTable, IoLoop, LoopGroup, Rights, TableError};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, Queue, Request};
use vyre_uring::{Buffer, MAX_COPY_BYTES};

use common::outcome_of;

const PAGE: u64 = 4096;
/// The pages below this one are written anew, and nothing else.
const WRITTEN: u64 = 16;
/// The pages from `WRITTEN` to here are also punched out. The file is never shorter.
const PUNCHED: u64 = 32;
/// The file ends between `PUNCHED` and here.
const PAGES: u64 = 64;
const WORD: u64 = 8;
/// The largest read of the test, in bytes, and the number of reads that a thread has in flight.
const LONGEST: u64 = 3 * PAGE;
const DEPTH: u64 = 4;

/// Returns a word of the file: where it is, and in which version of its page.
fn word(offset: u64, version: u64) -> u64 {
    (offset / WORD) << 32 | version
}

fn page_of(page: u64, version: u64) -> Vec<u8> {
    let words = (page * PAGE..(page + 1) * PAGE).step_by(WORD as usize);
    words
        .flat_map(|at| word(at, version).to_le_bytes())
        .collect()
}

/// A small generator of random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        (self.0 >> 33) % end
    }
}

/// A file, and what is known of it at any time.
struct Disturbed {
    file: File,
    /// For each page, the version that is being written, and the last one that is whole.
    begun: Vec<AtomicU64>,
    whole: Vec<AtomicU64>,
    /// Odd while the size changes.
    changes: AtomicU64,
    size: AtomicU64,
    ended: AtomicBool,
}

impl Disturbed {
    fn new(file: File) -> Self {
        for page in 0..PAGES {
            file.write_all_at(&page_of(page, 1), page * PAGE).unwrap();
        }
        let ones = || (0..PAGES).map(|_| AtomicU64::new(1)).collect();
        Self {
            file,
            begun: ones(),
            whole: ones(),
            changes: AtomicU64::new(0),
            size: AtomicU64::new(PAGES * PAGE),
            ended: AtomicBool::new(false),
        }
    }

    fn write(&self, page: u64) {
        let index = page as usize;
        let version = self.begun[index].load(SeqCst) + 1;
        self.begun[index].store(version, SeqCst);
        self.file
            .write_all_at(&page_of(page, version), page * PAGE)
            .unwrap();
        self.whole[index].store(version, SeqCst);
    }

    fn punch(&self, page: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, page * PAGE, PAGE).unwrap();
    }

    /// Changes the size, which readers know before and after.
    fn resize(&self, size: u64, change: impl FnOnce()) {
        self.changes.fetch_add(1, SeqCst);
        change();
        self.size.store(size, SeqCst);
        self.changes.fetch_add(1, SeqCst);
    }

    fn overwrite_and_punch(&self) {
        let mut random = Random(1);
        while !self.ended.load(SeqCst) {
            let page = random.below(PUNCHED);
            if page >= WRITTEN && random.below(2) == 0 {
                self.punch(page);
            } else {
                self.write(page);
            }
        }
    }

    fn truncate_and_extend(&self) {
        let mut random = Random(2);
        let full = PAGES * PAGE;
        while !self.ended.load(SeqCst) {
            let least = PUNCHED * PAGE;
            let size = least + random.below((full - least) / WORD) * WORD;
            self.resize(size, || ftruncate(&self.file, size).unwrap());
            thread::sleep(Duration::from_micros(random.below(100)));
            self.resize(full, || {
                if random.below(2) == 0 {
                    ftruncate(&self.file, full).unwrap();
                } else {
                    // An append, whose zeros before are nobody's to see.
                    let rest: Vec<u8> = (size..full)
                        .step_by(WORD as usize)
                        .flat_map(|at| word(at, 1).to_le_bytes())
                        .collect();
                    self.file.write_all_at(&rest, size).unwrap();
                }
            });
            thread::sleep(Duration::from_micros(random.below(100)));
        }
    }

    fn evict(&self) {
        while !self.ended.load(SeqCst) {
            fdatasync(&self.file).unwrap();
            fadvise(&self.file, 0, None, Advice::DontNeed).unwrap();
            thread::sleep(Duration::from_millis(3));
        }
    }
}

/// State of the file when a read was submitted.
struct Before {
    offset: u64,
    len: u64,
    changes: u64,
    size: u64,
    whole: Vec<u64>,
}

impl Before {
    fn of(disturbed: &Disturbed, random: &mut Random) -> Self {
        let offset = random.below(PAGES * PAGE / WORD) * WORD;
        let len = (1 + random.below(LONGEST / WORD)) * WORD;
        let changes = disturbed.changes.load(SeqCst);
        Self {
            offset,
            len,
            changes,
            size: disturbed.size.load(SeqCst),
            whole: disturbed.whole.iter().map(|it| it.load(SeqCst)).collect(),
        }
    }

    /// Checks the outcome of the read: the count, and each word.
    fn check(&self, disturbed: &Disturbed, count: u64, bytes: &[u8]) {
        let Self { offset, len, .. } = *self;
        let upto = |size: u64| size.saturating_sub(offset).min(len);
        let is_known =
            self.changes.is_multiple_of(2) && disturbed.changes.load(SeqCst) == self.changes;
        if is_known {
            assert_eq!(count, upto(self.size), "{len} bytes at {offset}");
        }
        assert!(count <= upto(PAGES * PAGE), "{count} bytes at {offset}");
        assert!(count >= upto(PUNCHED * PAGE), "{count} bytes at {offset}");
        let words = bytes[..count as usize].chunks_exact(WORD as usize);
        for (at, seen) in (offset..).step_by(WORD as usize).zip(words) {
            let page = (at / PAGE) as usize;
            let versions = self.whole[page]..=disturbed.begun[page].load(SeqCst);
            let may_be_zero = at >= WRITTEN * PAGE;
            assert!(
                is_possible(at, seen, versions.clone(), may_be_zero),
                "{seen:x?} at {at}, versions {versions:?}"
            );
        }
    }
}

/// Returns whether a read that was in flight during these versions of a page can show these bytes of a
/// word. Each byte for itself: neither a copy nor pread promises more beside a write, and a copy that
/// is interrupted can go on in the middle of a word.
fn is_possible(at: u64, seen: &[u8], versions: RangeInclusive<u64>, may_be_zero: bool) -> bool {
    let whole = u64::from_le_bytes(seen.try_into().unwrap());
    if whole == word(at, whole & 0xffff_ffff) && versions.contains(&(whole & 0xffff_ffff)) {
        return true;
    }
    seen.iter().enumerate().all(|(index, &byte)| {
        let is_of = |version| word(at, version).to_le_bytes()[index] == byte;
        byte == 0 && may_be_zero || versions.clone().any(is_of)
    })
}

/// Reads until the time is over. Returns the number of reads.
fn read_on(
    disturbed: &Disturbed,
    device: &DeviceQueue,
    (file, pool): (FileHandle, BufferHandle),
    memory: &Buffer,
    (seed, until): (u64, Instant),
) -> u64 {
    let mut random = Random(seed);
    let mut reads = 0;
    let mut bytes = vec![0; LONGEST as usize];
    let first = seed * DEPTH * LONGEST;
    while Instant::now() < until {
        let begun: Vec<_> = (0..DEPTH)
            .map(|index| {
                let to = first + index * LONGEST;
                let before = Before::of(disturbed, &mut random);
                let read = Request::read(file, before.offset, before.len as u32);
                (
                    device.submit(read.into_buffer(pool, to)).unwrap(),
                    before,
                    to,
                )
            })
            .collect();
        for (ticket, before, to) in begun {
            let count = outcome_of(device, ticket).unwrap();
            memory.read_at(to as usize, &mut bytes).unwrap();
            before.check(disturbed, count.into(), &bytes);
            reads += 1;
        }
    }
    reads
}

/// Reads a file for a time while it is overwritten, punched, truncated, extended, evicted and removed.
fn disturb(directory: &Path, time: Duration) {
    const READERS: u64 = 3;
    let named = tempfile::NamedTempFile::new_in(directory).unwrap();
    let disturbed = &Disturbed::new(named.reopen().unwrap());
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let options = FileOptions::new(Rights::READ).page_cache_reads(true);
    let handle = match files.insert(named.reopen().unwrap(), options) {
        Ok(handle) => handle,
        Err(TableError::PageCache(why)) => {
            let test = "reads_beside_every_change_of_the_file_are_those_of_pread";
            let text = format!("SKIPPED: {test}: {}: {why}\n", directory.display());
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let memory = Buffer::anonymous((READERS * DEPTH * LONGEST) as usize).unwrap();
    let pool = buffers.insert(memory.clone()).unwrap();
    let mut group = LoopGroup::builder().files(files).buffers(buffers);
    let mut devices = Vec::new();
    for _ in 0..READERS {
        let (host, device) = Queue::anonymous(common::layout(64)).unwrap();
        group = group.queue(host);
        devices.push(device);
    }
    let group = group.spawn().unwrap();
    let until = Instant::now() + time;
    let own_before = own_handler::handled();
    let (reads, own) = thread::scope(|scope| {
        scope.spawn(|| disturbed.overwrite_and_punch());
        scope.spawn(|| disturbed.truncate_and_extend());
        scope.spawn(|| disturbed.evict());
        let own = scope.spawn(|| {
            let mut own = 0;
            while !disturbed.ended.load(SeqCst) {
                own_handler::fault();
                own += 1;
                thread::sleep(Duration::from_millis(1));
            }
            own
        });
        let readers: Vec<_> = (0..READERS)
            .zip(&devices)
            .map(|(seed, device)| {
                let memory = &memory;
                let read =
                    move || read_on(disturbed, device, (handle, pool), memory, (seed, until));
                scope.spawn(read)
            })
            .collect();
        thread::sleep(time / 2);
        named.close().unwrap();
        let reads: Vec<_> = readers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        // Before a panic of a reader goes on: the scope waits for the others.
        disturbed.ended.store(true, SeqCst);
        let reads: u64 = reads.into_iter().map(Result::unwrap).sum();
        (reads, own.join().unwrap())
    });
    let counters = group.counters();
    group.stop().unwrap();
    assert!(own > 0);
    assert_eq!(
        own_handler::handled() - own_before,
        own,
        "faults of the program's own"
    );
    let copied = counters.page_cache_reads;
    assert!(copied > reads / 4, "{copied} of {reads} reads were copied");
    assert!(counters.page_cache_passed_on > 0);

    println!(
        "{}: {reads} reads, {copied} copied, {} passed on, {} faulted, {own} own faults",
        directory.display(),
        counters.page_cache_passed_on,
        counters.page_cache_faults,
    );
}

/// Rules: SEC-17, SEC-18.
#[test]
fn reads_beside_every_change_of_the_file_are_those_of_pread() {
    own_handler::install();
    let seconds = std::env::var("VYRE_IO_PAGE_CACHE_SECONDS");
    let seconds = seconds.map_or(4.0, |it| it.parse().expect("a number of seconds"));
    let time = Duration::from_secs_f64(seconds / 2.0);
    disturb(Path::new("/dev/shm"), time);
    disturb(Path::new(env!("CARGO_TARGET_TMPDIR")), time);
}

/// A file of 40 pages in memory, and a loop that may copy it.
struct Copied {
    io: IoLoop,
    device: DeviceQueue,
    file: File,
    handle: FileHandle,
    pool: BufferHandle,
}

const ALLOWED: FileOptions = FileOptions::new(Rights::READ).page_cache_reads(true);

fn file_of_40_pages() -> File {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    for page in 0..40 {
        file.write_all_at(&page_of(page, 1), page * PAGE).unwrap();
    }
    file
}

impl Copied {
    fn new() -> Self {
        let file = file_of_40_pages();
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let handle = files.insert(file.try_clone().unwrap(), ALLOWED).unwrap();
        let residency = files.residency(handle).unwrap();
        let began = Instant::now();
        while residency.scans() == 0 {
            assert!(began.elapsed() < common::LIMIT);
            thread::sleep(Duration::from_millis(1));
        }
        let pool = buffers.insert(Buffer::anonymous(1 << 20).unwrap()).unwrap();
        let (host, device) = Queue::anonymous(common::layout(64)).unwrap();
        let io = IoLoop::builder().files(files).buffers(buffers).queue(host);
        Self {
            io: io.spawn().unwrap(),
            device,
            file,
            handle,
            pool,
        }
    }

    fn read(&self, handle: FileHandle, offset: u64, len: u32) -> Result<u32, Errno> {
        let read = Request::read(handle, offset, len).into_buffer(self.pool, 0);
        outcome_of(&self.device, self.device.submit(read).unwrap())
    }

    /// Stops the loop. Returns how many reads were copied, and how many were not.
    fn stop(self) -> (u64, u64) {
        // Published at the next pass at the latest.
        thread::sleep(Duration::from_millis(20));
        let counters = self.io.counters();
        self.io.stop().unwrap();
        (counters.page_cache_reads, counters.page_cache_passed_on)
    }
}

#[test]
fn short_and_exact_reads_at_the_end_are_those_of_the_ring() {
    own_handler::install();
    let copied = Copied::new();
    let end = 40 * PAGE;
    assert_eq!(copied.read(copied.handle, 0, 4096), Ok(4096));
    assert_eq!(copied.read(copied.handle, end - 10, 4096), Ok(10));
    assert_eq!(copied.read(copied.handle, end, 4096), Ok(0));
    let exact = Request::read(copied.handle, end - 10, 11)
        .into_buffer(copied.pool, 0)
        .exact();
    let ticket = copied.device.submit(exact).unwrap();
    assert_eq!(outcome_of(&copied.device, ticket), Err(Errno::ENODATA));
    assert_eq!(
        copied.read(copied.handle, 0, MAX_COPY_BYTES + 1),
        Ok(MAX_COPY_BYTES + 1)
    );
    ftruncate(&copied.file, 5 * PAGE + 7).unwrap();
    assert_eq!(copied.read(copied.handle, 5 * PAGE, 4096), Ok(7));
    assert_eq!(copied.read(copied.handle, 5 * PAGE, 7), Ok(7));
    let (copies, others) = copied.stop();
    assert_eq!(copies, 2);
    assert!(others >= 5, "{others}");
}

#[test]
fn files_can_be_allowed_in_a_running_loop_and_revoked() {
    own_handler::install();
    let copied = Copied::new();
    let inserted = copied
        .io
        .insert_file(file_of_40_pages(), PAGE..3 * PAGE, ALLOWED)
        .unwrap();
    let began = Instant::now();
    // The watcher finds the pages at some time.
    while copied.io.counters().page_cache_reads == 0 {
        assert_eq!(copied.read(inserted, PAGE, 4096), Ok(4096));
        assert!(began.elapsed() < common::LIMIT);
    }
    copied.io.revoke_file(inserted).unwrap();
    assert_eq!(copied.read(inserted, 0, 1), Err(Errno::EBADF));
    copied.stop();
}

#[test]
fn files_that_cannot_be_mapped_are_refused_with_the_reason() {
    own_handler::install();
    let mut files = FileTable::new();
    let proc = File::open("/proc/self/status").unwrap();
    let refused = files.insert(proc.try_clone().unwrap(), ALLOWED);
    assert!(
        matches!(refused, Err(TableError::PageCache(_))),
        "{refused:?}"
    );
    let served = files.insert(proc, Rights::READ).unwrap();
    assert!(files.residency(served).is_none());
    let unreadable = FileOptions::new(Rights::SYNC).page_cache_reads(true);
    let handle = files.insert(file_of_40_pages(), unreadable).unwrap();
    assert!(files.residency(handle).is_none(), "no effect without READ");
}
