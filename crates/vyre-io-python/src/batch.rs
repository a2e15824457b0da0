//! Results of operations that were begun together.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use vyre_io::Errno;

use crate::ended::Ended;
use crate::fork;
use crate::op::pause;
use crate::open_file::OpenFile;

/// Results of operations that were begun together: the number of bytes of each, or its errno.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The files in the order of the operations, each with the number of operations up to its last one.
    files: Box<[(usize, Arc<OpenFile>)]>,
    /// A number of bytes, or the negative of an errno.
    results: Box<[AtomicI64]>,
    left: AtomicUsize,
    cancelled: AtomicBool,
    watchers: Mutex<Vec<Watcher>>,
    born: u32,
}

/// Somebody who is told of the end of a batch, once.
#[derive(Debug)]
struct Watcher {
    key: u64,
    to: Weak<Ended>,
    /// Told when the batch is given up, and not only when its memory is free.
    at_cancel: bool,
}

impl Batch {
    /// A batch of operations, by the number of those that follow each other on one file.
    pub(crate) fn new(files: impl IntoIterator<Item = (usize, Arc<OpenFile>)>) -> Arc<Self> {
        let mut count = 0;
        let mut runs: Vec<(usize, Arc<OpenFile>)> = Vec::new();
        for (more, file) in files {
            count += more;
            match runs.last_mut() {
                Some((end, last)) if last.number == file.number => *end = count,
                _ => runs.push((count, file)),
            }
        }
        Arc::new(Self {
            files: runs.into(),
            results: (0..count).map(|_| AtomicI64::new(0)).collect(),
            left: AtomicUsize::new(count),
            cancelled: AtomicBool::new(false),
            watchers: Mutex::default(),
            born: fork::generation(),
        })
    }

    /// Records the end of an operation, once.
    pub(crate) fn end(self: &Arc<Self>, index: usize, result: Result<usize, Errno>) {
        self.record(index, result);
        self.ended(1);
    }

    /// Records the result of an operation, whose end is to be [counted](Self::ended).
    pub(crate) fn record(&self, index: usize, result: Result<usize, Errno>) {
        let word = match result {
            Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
            Err(errno) => -i64::from(errno.raw()),
        };
        // Relaxed: the release in `ended` passes it on.
        self.results[index].store(word, Ordering::Relaxed);
    }

    /// Counts operations whose results were recorded.
    pub(crate) fn ended(self: &Arc<Self>, count: usize) {
        // Release, paired with the acquire in `is_done`: who finds the batch done finds the results and the bytes.
        if self.left.fetch_sub(count, Ordering::Release) == count && count > 0 {
            self.tell(|_| true);
        }
    }

    /// Returns whether all operations have ended.
    pub(crate) fn is_done(&self) -> bool {
        // Acquire: as in `ended`.
        self.left.load(Ordering::Acquire) == 0
    }

    /// Waits until the batch is done, but not for long after `limit`. `began` is the time of the first call for it.
    /// Returns whether it is done.
    pub(crate) fn wait(&self, began: Instant, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.is_done() {
            if !pause(began, until) {
                return false;
            }
        }
        true
    }

    /// Has nobody look at the results any more. Returns whether that is so: not if the batch was done.
    pub(crate) fn cancel(self: &Arc<Self>) -> bool {
        if !self.is_done() {
            // Relaxed: the flag guards no other memory.
            self.cancelled.store(true, Ordering::Relaxed);
            self.tell(|watcher| watcher.at_cancel);
        }
        self.is_cancelled()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: as in `cancel`.
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Has the end of the batch told to somebody. Does so at once if it has ended.
    pub(crate) fn watch(self: &Arc<Self>, key: u64, to: &Arc<Ended>, at_cancel: bool) {
        let mut watchers = self.watchers();
        // Under the lock, which `tell` takes after the last end was counted: either this finds that, or `tell` finds the
        // watcher.
        if self.is_done() || at_cancel && self.is_cancelled() {
            drop(watchers);
            to.push(key, Arc::clone(self));
            return;
        }
        watchers.push(Watcher {
            key,
            to: Arc::downgrade(to),
            at_cancel,
        });
    }

    /// Tells those watchers of the end, and forgets them.
    fn tell(self: &Arc<Self>, whom: impl Fn(&Watcher) -> bool) {
        if self.born != fork::generation() {
            // The memory of a fork, where a thread that does not exist may have locked the list.
            return;
        }
        let mut watchers = self.watchers();
        if watchers.is_empty() {
            return;
        }
        let (told, left) = std::mem::take(&mut *watchers).into_iter().partition(whom);
        *watchers = left;
        drop(watchers);
        let told: Vec<Watcher> = told;
        for Watcher { key, to, .. } in told {
            if let Some(to) = to.upgrade() {
                to.push(key, Arc::clone(self));
            }
        }
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.results.len()
    }

    /// Returns the result of an operation, once the batch is done: a number of bytes, or the negative of an errno.
    pub(crate) fn word(&self, index: usize) -> i64 {
        // Relaxed: `is_done` has acquired it.
        self.results[index].load(Ordering::Relaxed)
    }

    /// Returns the result of an operation, once the batch is done.
    pub(crate) fn result(&self, index: usize) -> Result<i64, i32> {
        match self.word(index) {
            errno @ ..0 => Err(i32::try_from(-errno).unwrap_or(libc::EIO)),
            count => Ok(count),
        }
    }

    /// Returns the file of an operation.
    pub(crate) fn file(&self, index: usize) -> &Arc<OpenFile> {
        let run = self.files.partition_point(|(end, _)| *end <= index);
        &self.files[run].1
    }
}
