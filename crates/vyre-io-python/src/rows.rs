//! Rows of a file, copied by several threads in the order of a list of numbers.

use std::io;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use vyre_io::mapped::{Mapping, Recovery};

use crate::memory::Span;
use crate::open_file::OpenFile;

/// The bytes for which a further thread is worth its start, which takes some 30 µs.
const BYTES_OF_THREAD: usize = 256 << 10;
/// The largest number of threads. More gained nothing on 16 cores.
const MOST_THREADS: usize = 16;
/// The bytes that a thread takes on at once: some 100 µs of work, so that all threads end together.
const BYTES_OF_SHARE: usize = 512 << 10;
/// The rows after which the size of the file is asked for again, as it is before each pread(2).
const ROWS_OF_QUESTION: usize = 256;
/// Rows that are loaded into the processor's cache before the one that is copied.
const ROWS_AHEAD: usize = 8;
/// Longer rows are left to the processor, which notices that they are read in order.
const MOST_AHEAD: usize = 1024;

/// Rows of equal length, without gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// The offset of row 0 in bytes.
    pub(crate) first: u64,
    /// The length of a row in bytes, which is not zero.
    pub(crate) len: usize,
}

/// Reason that rows were not copied.
#[derive(Debug)]
pub(crate) enum GatherError {
    /// The number at this index names no row.
    NoRow {
        index: usize,
        id: i64,
        rows: u64,
    },
    Io(io::Error),
}

impl Rows {
    /// Copies the rows that `ids` names, each a number of 64 bits, to `out`, where there is room for them.
    pub(crate) fn gather(
        self,
        file: &OpenFile,
        (ids, out): (&Span, &Span),
        threads: Option<usize>,
    ) -> Result<(), GatherError> {
        let count = ids.len() / size_of::<i64>();
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(|| processors().min(MOST_THREADS));
        let worth = (count * self.len).div_ceil(BYTES_OF_THREAD);
        let threads = threads.min(worth).clamp(1, count.max(1));
        let size = file.file.metadata().map_err(GatherError::Io)?.len();
        let work = Work {
            rows: self,
            count: size.saturating_sub(self.first) / self.len as u64,
            file,
            mapping: file.mapping(size),
            ids,
            out,
            asked: count,
            taken: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        };
        let work = &work;
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads)
                // Without a thread, the others do its part.
                .filter_map(|_| {
                    let thread = thread::Builder::new();
                    thread.spawn_scoped(scope, move || work.run()).ok()
                })
                .collect();
            let own = work.run();
            others.into_iter().fold(own, |result, other| {
                let other = other.join().unwrap_or_else(|cause| resume_unwind(cause));
                result.and(other)
            })
        })
    }
}

/// The work that the threads share.
struct Work<'a> {
    rows: Rows,
    /// The number of rows in the file.
    count: u64,
    file: &'a OpenFile,
    mapping: Option<Arc<Mapping>>,
    ids: &'a Span,
    out: &'a Span,
    /// The number of rows to copy, and how many of them threads have taken on.
    asked: usize,
    taken: AtomicUsize,
    /// Set once a thread has failed.
    is_over: AtomicBool,
}

impl Work<'_> {
    fn run(&self) -> Result<(), GatherError> {
        // A thread that blocks SIGBUS, or whose handler was replaced, reads by system calls.
        let recovery = self.mapping.as_ref().and_then(|_| Recovery::new().ok());
        let share = (BYTES_OF_SHARE / self.rows.len).max(1);
        // Relaxed: each thread learns its own rows from the count, and nothing of the others.
        while !self.is_over.load(Relaxed) {
            let first = self.taken.fetch_add(share, Relaxed);
            if first >= self.asked {
                break;
            }
            let part = first..self.asked.min(first + share);
            let copied = match (&self.mapping, &recovery) {
                (Some(mapping), Some(recovery)) => self.copy(part, mapping, recovery),
                _ => self.read(part),
            };
            if copied.is_err() {
                // Relaxed: the flag guards no other memory.
                self.is_over.store(true, Relaxed);
                return copied;
            }
        }
        Ok(())
    }

    /// Returns the offset in the file of the row that the number at `index` names.
    fn offset(&self, index: usize) -> Result<u64, GatherError> {
        let id = self.ids.number(index);
        match u64::try_from(id) {
            Ok(row) if row < self.count => Ok(self.rows.first + row * self.rows.len as u64),
            _ => Err(GatherError::NoRow {
                index,
                id,
                rows: self.count,
            }),
        }
    }

    fn copy(
        &self,
        part: Range<usize>,
        mapping: &Mapping,
        recovery: &Recovery,
    ) -> Result<(), GatherError> {
        let len = self.rows.len as u64;
        let load = |index: usize| {
            if len <= MOST_AHEAD as u64
                && index < part.end
                && let Ok(offset) = self.offset(index)
            {
                mapping.hint(offset).prefetch(self.rows.len);
            }
        };
        (part.start..part.start + ROWS_AHEAD).for_each(load);
        let mut size = u64::MAX;
        for index in part.clone() {
            if (index - part.start).is_multiple_of(ROWS_OF_QUESTION) && mapping.checks_size() {
                let asked = mapping.file_size();
                size = asked.map_err(|errno| GatherError::Io(errno.into()))?;
            }
            let offset = self.offset(index)?;
            load(index + ROWS_AHEAD);
            let copied = offset + len <= size
                && self.out.copy_mapped(
                    index * self.rows.len,
                    mapping,
                    recovery,
                    offset..offset + len,
                );
            if !copied {
                self.read(index..index + 1)?;
            }
        }
        Ok(())
    }

    fn read(&self, part: Range<usize>) -> Result<(), GatherError> {
        for index in part {
            let offset = self.offset(index)?;
            let at = index * self.rows.len;
            let row = self.out.part(at, self.rows.len);
            row.read_all(&self.file.file, offset)
                .map_err(GatherError::Io)?;
        }
        Ok(())
    }
}
