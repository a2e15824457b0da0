//! Page-cache reads of a file that changes, compared with what pread(2) could have given.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::fs::{fallocate, fcntl_add_seals, ftruncate, memfd_create};
use vyre_uring::vyre_mapped::MapError;
use vyre_uring::{
    Buffer, BufferSlot, CachedFile, Errno, FileSlot, MAX_BUNDLE, Operation, PageCacheCounters,
    PageCacheTransport, PushError, RegisterError, SimTransport, Token, Transport,
};

use crate::engine::Faults;
use crate::mix;

const FILE: FileSlot = FileSlot::new(1);
const BUFFER: BufferSlot = BufferSlot::new(0);
/// Largest size of the file: more than one copy may have.
const FILE_BYTES: u64 = 36 * 4096 + 100;
const BUFFER_BYTES: usize = 48 * 4096;
/// Contents of the buffer at first.
static ZEROS: [u8; BUFFER_BYTES] = [0; BUFFER_BYTES];
/// Steps that are more than enough to end every operation, and attempts to read one piece.
const STEPS: u32 = 1000;
/// Bytes of a piece that is read at the end.
const PIECE: u32 = 20_001;

/// A file in memory, its mapping, and the transport that reads it.
#[derive(Debug)]
pub struct PageCache {
    transport: PageCacheTransport<SimTransport>,
    faults: Faults,
    file: File,
    cached: Arc<CachedFile>,
    /// Set if the file cannot shrink.
    is_sealed: bool,
    /// Contents of the file since the oldest pending read was pushed; the last are the present ones.
    versions: Vec<Arc<Vec<u8>>>,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    buffer: Buffer,
    /// Result of the completion that was reaped last.
    last: Result<u32, Errno>,
    /// Ranges of the buffer that reads may have changed.
    targeted: Vec<Range<usize>>,
}

/// A range of the file, and where its bytes go.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes.
    pub len: u32,
    /// Bytes from the start of the buffer.
    pub at: u64,
}

impl Wanted {
    fn operation(self) -> Operation {
        Operation::Read {
            file: FILE,
            offset: self.offset,
            buffer: BUFFER,
            buffer_offset: self.at,
            len: self.len,
        }
    }

    fn is_inside(self) -> bool {
        let end = self.at.checked_add(self.len.into());
        end.is_some_and(|end| end <= BUFFER_BYTES as u64)
    }

    fn overlaps(self, at: u64, len: u32) -> bool {
        at < self.at + u64::from(self.len) && self.at < at + u64::from(len)
    }
}

/// A read in flight.
#[derive(Debug)]
struct Pending {
    token: Token,
    offset: u64,
    len: u32,
    at: u64,
    /// Index of the contents at the push.
    since: usize,
    /// Set if another read in flight has bytes of the buffer in common with it.
    is_shared: bool,
    is_cancelled: bool,
}

impl PageCache {
    /// Makes a file of up to `size` bytes, of which `range` is mapped, and which may be sealed against
    /// shrinking.
    ///
    /// # Panics
    /// If memory or a file in memory cannot be created.
    pub fn new(faults: Faults, size: u64, range: Range<u64>, is_sealed: bool) -> Self {
        let inner = SimTransport::builder(faults.seed)
            .files(2)
            .buffers(1)
            .capacity(faults.capacity)
            .max_latency(faults.latency)
            .reorder(true)
            .short(faults.disturbed)
            .interrupted(faults.disturbed)
            .build();
        let buffer = Buffer::anonymous(BUFFER_BYTES).expect("memory");
        let mut transport = PageCacheTransport::new(inner);
        let set = transport.set_buffer(BUFFER, Some(buffer.clone()));
        set.expect("an empty slot");
        let contents = contents(faults.seed as u8, size.min(FILE_BYTES));
        let (file, cached) =
            insert(&mut transport, &contents, range, is_sealed, true).expect("idle");
        Self {
            transport,
            faults,
            file,
            cached,
            is_sealed,
            versions: vec![Arc::new(contents)],
            pending: BTreeMap::new(),
            next: 0,
            buffer,
            last: Ok(0),
            targeted: Vec::new(),
        }
    }

    /// Finds out which pages of a range are in memory.
    pub fn scan(&self, range: Range<u64>) {
        let scanned = self.cached.residency().scan(range.clone());
        let mapped = self.cached.residency().mapping().range();
        let is_inside =
            mapped.start <= range.start && range.start <= range.end && range.end <= mapped.end;
        assert_eq!(scanned.is_ok(), is_inside, "{range:?}: {scanned:?}");
    }

    /// Finds out which pages of the mapping are in memory.
    pub fn scan_all(&self) {
        self.scan(self.cached.residency().mapping().range());
    }

    /// Forgets that the pages of a range are in memory.
    pub fn forget(&self, range: Range<u64>) {
        self.cached.residency().forget(range);
    }

    /// Changes the size of the file, if its seal allows that.
    pub fn resize(&mut self, size: u64) {
        let size = size.min(FILE_BYTES);
        if ftruncate(&self.file, size).is_ok() {
            self.change(|contents| contents.resize(size as usize, 0));
        } else {
            let present = self.versions.last().map_or(0, |contents| contents.len());
            assert!(self.is_sealed && size < present as u64, "{size}");
        }
    }

    /// Overwrites or appends.
    pub fn write(&mut self, offset: u64, len: u64, seed: u8) {
        let end = offset.saturating_add(len).min(FILE_BYTES);
        let bytes = contents(seed, end.saturating_sub(offset));
        if bytes.is_empty() {
            return;
        }
        self.file.write_all_at(&bytes, offset).expect("written");
        self.change(|contents| {
            let len = contents.len().max(end as usize);
            contents.resize(len, 0);
            contents[offset as usize..end as usize].copy_from_slice(&bytes);
        });
    }

    /// Punches a hole.
    pub fn punch(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(FILE_BYTES);
        if end <= offset {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&self.file, flags, offset, end - offset).expect("a hole");
        self.change(|contents| {
            let end = contents.len().min(end as usize);
            let start = end.min(offset as usize);
            contents[start..end].fill(0);
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut contents = self.versions.last().expect("a version").to_vec();
        change(&mut contents);
        if self.pending.is_empty() {
            self.versions.clear();
        }
        self.versions.push(Arc::new(contents));
    }

    /// Pushes a read of any range into any range of the buffer. Returns whether it was accepted.
    ///
    /// # Panics
    /// If a range outside the buffer is accepted.
    pub fn push(&mut self, offset: u64, len: u32, at: u64) -> bool {
        let wanted = Wanted { offset, len, at };
        let read = wanted.operation();
        let user = self.next;
        let is_inside = wanted.is_inside();
        let token = match self.transport.push(read, user) {
            Ok(token) => token,
            Err(PushError::Full) => {
                assert!(self.transport.in_flight() >= self.transport.capacity());
                return false;
            }
            Err(PushError::OutOfRange) => {
                let fits = offset.checked_add(len.into());
                let fits = fits.is_some_and(|end| i64::try_from(end).is_ok());
                assert!(!is_inside || !fits, "{offset} {len} {at}");
                return false;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(is_inside, "{at} and {len} are outside the buffer");
        self.next += 1;
        let is_shared = self.target(wanted);
        let pending = Pending {
            token,
            offset,
            len,
            at,
            since: self.versions.len() - 1,
            is_shared,
            is_cancelled: false,
        };
        assert!(self.pending.insert(user, pending).is_none());
        let in_flight = self.transport.in_flight();
        assert_eq!(in_flight as usize, self.pending.len());
        assert!(in_flight <= self.transport.capacity());
        true
    }

    /// Bundles reads, copies them, and compares each with the file as it is. Those that could not be copied are pushed.
    ///
    /// # Panics
    /// If a range outside the buffer is accepted, or if a byte or a counter is wrong.
    pub fn bundle(&mut self, reads: impl IntoIterator<Item = Wanted>) {
        let mut bundled = Vec::new();
        for wanted in reads {
            if self.transport.bundle(wanted.operation()) {
                assert!(wanted.is_inside(), "{wanted:?}");
                bundled.push(wanted);
            }
        }
        assert!(bundled.len() <= MAX_BUNDLE);
        let in_flight = self.transport.in_flight();
        let before = self.transport.page_cache_counters().copied;
        let failed = self.transport.copy_bundle();
        let copied = self.transport.page_cache_counters().copied - before;
        assert_eq!(self.transport.in_flight(), in_flight);
        assert_eq!(
            copied,
            bundled.len() as u64 - u64::from(failed.count_ones())
        );
        assert_eq!(failed.checked_shr(bundled.len() as u32).unwrap_or(0), 0);
        for &wanted in &bundled {
            self.target(wanted);
        }
        let contents = self.versions.last().expect("a version").clone();
        for (nth, wanted) in bundled.iter().enumerate() {
            if failed >> nth & 1 == 1 {
                self.push(wanted.offset, wanted.len, wanted.at);
                continue;
            }
            let mut bytes = vec![0; wanted.len as usize];
            let read = self.buffer.read_at(wanted.at as usize, &mut bytes);
            read.expect("inside");
            let expected = contents.get(wanted.offset as usize..).unwrap_or_default();
            assert!(
                bytes.len() <= expected.len(),
                "{wanted:?} is not in the file"
            );
            let is_overwritten = bundled[nth + 1..]
                .iter()
                .any(|later| wanted.overlaps(later.at, later.len));
            assert!(
                is_overwritten || bytes == expected[..bytes.len()],
                "{wanted:?}"
            );
        }
    }

    /// Records that a read may change a range of the buffer. Returns whether another one in flight has bytes of it.
    fn target(&mut self, wanted: Wanted) -> bool {
        let start = wanted.at as usize;
        self.targeted.push(start..start + wanted.len as usize);
        let mut is_shared = false;
        for other in self.pending.values_mut() {
            if wanted.overlaps(other.at, other.len) {
                other.is_shared = true;
                is_shared = true;
            }
        }
        is_shared
    }

    /// Submits what was pushed.
    pub fn submit(&mut self) {
        self.transport.submit().expect("no submission fails");
    }

    /// Reaps, and compares each result with what pread(2) could have given since the push.
    ///
    /// # Panics
    /// If a result or a byte is another one.
    pub fn reap(&mut self) {
        let mut completed = Vec::new();
        let count = self.transport.reap(|it| completed.push(it));
        assert_eq!(count as usize, completed.len());
        for it in &completed {
            let pending = self.pending.get(&it.user);
            let pending = pending.expect("it was pushed and has not been reaped");
            self.check(pending, it.result);
        }
        for it in &completed {
            self.last = it.result;
            self.pending.remove(&it.user);
        }
        assert_eq!(self.transport.in_flight() as usize, self.pending.len());
        if self.pending.is_empty() {
            self.versions.drain(..self.versions.len() - 1);
        }
    }

    fn check(&self, pending: &Pending, result: Result<u32, Errno>) {
        let count = match result {
            Ok(count) => count as usize,
            // The caller tries again.
            Err(Errno::INTR | Errno::AGAIN) => return,
            Err(Errno::CANCELED) if pending.is_cancelled => return,
            Err(errno) => panic!("{errno} for {pending:?}"),
        };
        let mut bytes = vec![0; count];
        let read = self.buffer.read_at(pending.at as usize, &mut bytes);
        read.expect("not more than was asked for");
        assert!(count <= pending.len as usize, "{count} for {pending:?}");
        let agrees = |contents: &Arc<Vec<u8>>| {
            let start = contents.len().min(pending.offset as usize);
            let end = contents.len().min(start + pending.len as usize);
            let expected = &contents[start..end];
            let is_short = self.faults.disturbed > 0.0 && 0 < count && count < expected.len();
            (count == expected.len() || is_short)
                && (pending.is_shared || bytes == expected[..count])
        };
        assert!(
            self.versions[pending.since..].iter().any(agrees),
            "{count} bytes for {pending:?}"
        );
    }

    /// Cancels the nth read in flight.
    pub fn cancel(&mut self, nth: usize) {
        if let Some(pending) = self.pending.values_mut().nth(nth) {
            pending.is_cancelled = true;
            self.transport.cancel(pending.token);
        }
    }

    /// Cancels all reads in flight.
    pub fn quiesce(&mut self) {
        let quiet = self.transport.quiesce(Duration::ZERO);
        quiet.expect("nothing hangs");
        for pending in self.pending.values_mut() {
            pending.is_cancelled = true;
        }
    }

    /// Waits for a completion. Queued copies are submitted.
    pub fn wait(&mut self) {
        let waited = self.transport.wait(Some(Duration::ZERO));
        waited.expect("no submission fails");
    }

    /// Puts another file into the slot, unless the slot is busy. Those with an odd seed have no page-cache reads.
    pub fn replace(&mut self, seed: u8, size: u64, range: Range<u64>) {
        let allowed = seed.is_multiple_of(2);
        let contents = contents(seed, size.min(FILE_BYTES));
        let inserted = insert(
            &mut self.transport,
            &contents,
            range,
            self.is_sealed,
            allowed,
        );
        assert_eq!(inserted.is_some(), self.pending.is_empty());
        if let Some((file, cached)) = inserted {
            (self.file, self.cached) = (file, cached);
            self.versions = vec![Arc::new(contents)];
        }
    }

    /// Ends what is in flight, and reads all of the file. Returns what the transport counted.
    ///
    /// # Panics
    /// If something does not end, or if a byte is wrong.
    pub fn finish(mut self) -> PageCacheCounters {
        self.drain();
        self.scan_all();
        let size = self.versions.last().map_or(0, |contents| contents.len());
        for offset in (0..size as u64).step_by(PIECE as usize) {
            let is_read = (0..STEPS).any(|_| {
                assert!(self.push(offset, PIECE, 0), "room");
                self.drain();
                self.last.is_ok()
            });
            assert!(is_read, "{offset}");
        }
        self.check_others();
        self.transport.page_cache_counters()
    }

    /// Checks the bytes of the buffer that nobody asked for.
    fn check_others(&mut self) {
        self.targeted.sort_unstable_by_key(|range| range.start);
        let mut bytes = vec![0; BUFFER_BYTES];
        self.buffer.read_at(0, &mut bytes).expect("inside");
        let mut at = 0;
        for range in &self.targeted {
            if range.start > at {
                assert_eq!(bytes[at..range.start], ZEROS[at..range.start], "{at}");
            }
            at = at.max(range.end);
        }
        assert_eq!(bytes[at..], ZEROS[at..], "{at}");
    }

    fn drain(&mut self) {
        let is_idle = (0..STEPS).any(|_| {
            self.submit();
            self.reap();
            self.pending.is_empty()
        });
        assert!(is_idle, "{:?}", self.pending);
    }
}

/// Returns bytes of a file, the same for a seed.
fn contents(seed: u8, len: u64) -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let words = || (0..FILE_BYTES / 8 + 256).flat_map(|word| mix(word).to_le_bytes());
    let bytes = BYTES.get_or_init(|| words().collect());
    bytes[usize::from(seed) * 8..][..len as usize].to_vec()
}

/// Puts a new file with these contents into the slot. Returns `None` if the slot is busy.
fn insert(
    transport: &mut PageCacheTransport<SimTransport>,
    contents: &[u8],
    range: Range<u64>,
    is_sealed: bool,
    allowed: bool,
) -> Option<(File, Arc<CachedFile>)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create("vyre-fuzz", flags).expect("a file in memory");
    let file = File::from(memfd);
    file.write_all_at(contents, 0).expect("memory");
    if is_sealed {
        fcntl_add_seals(&file, SealFlags::SHRINK).expect("a new file");
    }
    let descriptor: OwnedFd = file.try_clone().expect("a descriptor").into();
    match transport.set_file(FILE, Some(Arc::new(descriptor))) {
        Ok(()) => {}
        Err(RegisterError::Busy { .. }) => return None,
        Err(error) => panic!("{error}"),
    }
    let cached = CachedFile::new(&file, range.clone()).or_else(|error| {
        let is_far = range.start > FILE_BYTES;
        match error {
            MapError::EmptyRange => assert!(range.is_empty(), "{range:?}"),
            MapError::RangeTooLong | MapError::Map(_) => assert!(is_far, "{range:?}: {error}"),
            _ => panic!("{error}"),
        }
        CachedFile::new(&file, 0..u64::MAX)
    });
    let cached = Arc::new(cached.expect("a memfd is allowed"));
    if allowed {
        let set = transport.set_page_cache(FILE, cached.clone());
        set.expect("this thread recovers from SIGBUS");
    }
    Some((file, cached))
}
