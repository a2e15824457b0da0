//! Lost writes stay known: the flush failures of each file, for every loop of this process.
//!
//! The kernel reports a failed write-back once to each open file description, and a failed flush of the
//! drive's cache once to whoever asked for it. Several queues and loops flush through one description,
//! or write to one file through several. A failure is therefore recorded here by the identity of the
//! file. From then on, no flush of the file succeeds through a description that was inserted before.
//!
//! A description that was opened later is clean when it is inserted: the bytes written through it are
//! not the lost ones. The older descriptions are kept open, because a duplicate of one may be inserted
//! under a new handle and must not count as new.
//!
//! # Overlapping flushes
//!
//! Of two overlapping flushes through one description, the kernel may report the failure to one and
//! success to the other. The order in which a loop sees the completions means nothing. A success is
//! therefore believed only after every flush of the file that had started when the success was seen has
//! ended, in whichever loop, and none of them has failed. [`FlushLog::rounds`] counts flushes by round:
//! a flush joins the current round, and the next round starts when somebody waits and the previous
//! round is empty. So nobody waits for flushes that start later.

mod same;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;

use crate::file_identity::FileIdentity;
use same::is_same_description;

/// The largest number of descriptions from before a failure that the process keeps open.
const MAX_KEPT: usize = 256;

/// Returns whether a flush that ends with this errno may have lost bytes: every errno except those that
/// say that the kernel did nothing.
pub(crate) const fn may_lose(errno: Errno) -> bool {
    !matches!(
        errno,
        Errno::INVAL
            | Errno::BADF
            | Errno::ROFS
            | Errno::INTR
            | Errno::AGAIN
            | Errno::CANCELED
            | Errno::OPNOTSUPP
            | Errno::NOSYS
    )
}

/// A round of flushes, which a flush joins and whose end a waiter awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round(u16);

/// The flushes of one file in all loops of the process.
#[derive(Debug)]
struct FlushLog {
    identity: FileIdentity,
    /// The number of failures so far. It is stored under the registry's lock.
    failures: AtomicU32,
    /// The errno of the last failure.
    errno: AtomicU32,
    /// The flushes in flight. The upper 16 bits are the number of the current round. 24 bits each count
    /// the flushes of even and of odd rounds; only the current round and the previous one can have any.
    rounds: AtomicU64,
}

const ROUND_SHIFT: u32 = 48;
const COUNT_BITS: u32 = 24;

const fn round_of(rounds: u64) -> Round {
    Round((rounds >> ROUND_SHIFT) as u16)
}

const fn shift_of(round: Round) -> u32 {
    COUNT_BITS * (round.0 as u32 & 1)
}

const fn count_of(rounds: u64, round: Round) -> u64 {
    rounds >> shift_of(round) & ((1 << COUNT_BITS) - 1)
}

impl FlushLog {
    const fn new(identity: FileIdentity) -> Self {
        Self {
            identity,
            failures: AtomicU32::new(0),
            errno: AtomicU32::new(0),
            rounds: AtomicU64::new(0),
        }
    }

    /// Adds a flush to the current round. Acquire, paired with the release in `end`: a flush that joins
    /// after a failed flush has ended sees the failure.
    fn begin(&self) -> Round {
        let join = |rounds| Some(rounds + (1 << shift_of(round_of(rounds))));
        let joined = self
            .rounds
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, join);
        round_of(joined.unwrap_or_else(|rounds| rounds))
    }

    /// Removes a flush from its round. If other flushes are in flight, returns the round to wait for
    /// before a success is believed.
    ///
    /// Release, so that whoever sees the count also sees a failure recorded before. Acquire, so that
    /// the failures of ended flushes are visible here.
    fn end(&self, round: Round) -> Option<Round> {
        let one = 1 << shift_of(round);
        let left = self.rounds.fetch_sub(one, Ordering::AcqRel) - one;
        let current = round_of(left);
        (left != u64::from(current.0) << ROUND_SHIFT).then_some(current)
    }

    /// Returns whether every flush of a round and of earlier rounds has ended. Starts the next round if
    /// possible. Acquire, as in `end`.
    ///
    /// Round numbers wrap. A waiter that slept through a whole cycle is told to wait longer, never that
    /// running flushes have ended.
    fn has_ended(&self, round: Round) -> bool {
        let rounds = self.rounds.load(Ordering::Acquire);
        let current = round_of(rounds);
        match current.0.wrapping_sub(round.0) {
            0 => {
                let before = Round(round.0.wrapping_sub(1));
                if count_of(rounds, before) > 0 {
                    return false;
                }
                let next = rounds.wrapping_add(1 << ROUND_SHIFT);
                let begun =
                    self.rounds
                        .compare_exchange(rounds, next, Ordering::AcqRel, Ordering::Relaxed);
                begun.is_ok() && count_of(rounds, round) == 0
            }
            1 => count_of(rounds, round) == 0,
            _ => true,
        }
    }
}

/// The flushes of a file as one table entry sees them.
#[derive(Clone, Debug)]
pub(crate) struct Flushes {
    log: Arc<FlushLog>,
    /// The number of failures when the description was inserted, if it was new.
    clean_since: u32,
    /// True if writes may be repeated: each states its offset.
    pub(crate) repeats: bool,
    /// True if every write is flushed even without DURABLE: the file is open with O_DSYNC or O_SYNC.
    pub(crate) always: bool,
}

/// The value of `clean_since` for a description from before a failure. No file ever has that many
/// failures.
const NEVER: u32 = u32::MAX;

impl Flushes {
    /// Registers a description that is inserted into a table.
    pub(crate) fn of(identity: FileIdentity, file: &Arc<OwnedFd>, repeats: bool) -> Self {
        registry().insert(identity, file, repeats)
    }

    /// Sets whether all writes through the description are flushed.
    pub(crate) fn always(mut self, always: bool) -> Self {
        self.always = always;
        self
    }

    /// Returns the errno with which every flush of the file through this entry fails, if bytes were
    /// lost.
    #[inline]
    pub(crate) fn lost(&self) -> Option<Errno> {
        // Acquire, paired with the release in `note`: the errno is that of this failure or a later one.
        let failures = self.log.failures.load(Ordering::Acquire);
        (failures != self.clean_since).then(|| {
            let errno = self.log.errno.load(Ordering::Relaxed);
            Errno::from_raw_os_error(errno as i32)
        })
    }

    /// Records the start of a flush, before it is given to the kernel. Each started flush must be
    /// ended.
    pub(crate) fn begin(&self) -> Round {
        self.log.begin()
    }

    /// Records the end of a flush, after its failure, if any, was recorded. Returns the round to wait
    /// for before its success is believed.
    pub(crate) fn end(&self, round: Round) -> Option<Round> {
        self.log.end(round)
    }

    /// Returns whether the round has ended, so that a success may be believed unless something is
    /// [lost](Self::lost).
    pub(crate) fn has_ended(&self, round: Round) -> bool {
        self.log.has_ended(round)
    }

    /// Records a failure permanently, for all loops.
    #[cold]
    pub(crate) fn note(&self, errno: Errno) {
        let spared = registry().note(&self.log, errno);
        // Whoever has the last of them closes it, which can take long: not under the lock.
        drop(spared);
    }
}

/// The record of one file.
#[derive(Debug)]
struct Known {
    log: Weak<FlushLog>,
    /// The clean descriptions.
    clean: Vec<Weak<OwnedFd>>,
    lost: Option<Lost>,
}

/// The record of a file that lost writes.
#[derive(Debug)]
struct Lost {
    /// The flushes of the file. They are kept even while no entry names the file.
    log: Arc<FlushLog>,
    /// The descriptions from before the last failure.
    before: Vec<Arc<OwnedFd>>,
    /// True if there were more than could be kept, so that no description counts as new.
    more: bool,
}

/// The files of every table in the process.
#[derive(Debug)]
struct Registry {
    files: BTreeMap<FileIdentity, Known>,
    /// When this many files are known, those that no entry names are dropped.
    prune_at: usize,
    kept: usize,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry::new());

fn registry() -> MutexGuard<'static, Registry> {
    // Nothing in it is ever half changed by a panic that could matter: it only grows stricter.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    const fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            prune_at: 64,
            kept: 0,
        }
    }

    fn insert(&mut self, identity: FileIdentity, file: &Arc<OwnedFd>, repeats: bool) -> Flushes {
        self.prune();
        let known = self.files.entry(identity).or_insert(Known {
            log: Weak::new(),
            clean: Vec::new(),
            lost: None,
        });
        let log = known.log().unwrap_or_else(|| {
            let log = Arc::new(FlushLog::new(identity));
            known.log = Arc::downgrade(&log);
            log
        });
        let is_clean = known.lost.as_ref().is_none_or(|lost| lost.is_new(file));
        let mut clean_since = NEVER;
        if is_clean {
            clean_since = log.failures.load(Ordering::Relaxed);
            known.add(file);
        }
        Flushes {
            log,
            clean_since,
            repeats,
            always: false,
        }
    }

    fn note(&mut self, log: &Arc<FlushLog>, errno: Errno) -> Vec<Arc<OwnedFd>> {
        let mut spared = Vec::new();
        log.errno
            .store(errno.raw_os_error().unsigned_abs(), Ordering::Relaxed);
        let failures = log.failures.load(Ordering::Relaxed);
        // Release, paired with the acquire in `lost`.
        log.failures
            .store((failures + 1).min(NEVER - 1), Ordering::Release);
        let Some(known) = self.files.get_mut(&log.identity) else {
            return spared;
        };
        let lost = known.lost.get_or_insert_with(|| Lost {
            log: log.clone(),
            before: Vec::new(),
            more: false,
        });
        for file in known.clean.drain(..).filter_map(|file| file.upgrade()) {
            if lost.more || !lost.is_new(&file) {
                spared.push(file);
            } else if self.kept == MAX_KEPT {
                lost.more = true;
                spared.push(file);
            } else {
                lost.before.push(file);
                self.kept += 1;
            }
        }
        spared
    }

    /// Forgets the files that no entry names and that have lost nothing, once there are many.
    fn prune(&mut self) {
        if self.files.len() < self.prune_at {
            return;
        }
        self.files
            .retain(|_, known| known.lost.is_some() || known.log.strong_count() > 0);
        self.prune_at = 64.max(2 * self.files.len());
    }
}

impl Known {
    fn log(&self) -> Option<Arc<FlushLog>> {
        match &self.lost {
            Some(lost) => Some(lost.log.clone()),
            None => self.log.upgrade(),
        }
    }

    fn add(&mut self, file: &Arc<OwnedFd>) {
        if self.clean.len() == self.clean.capacity() {
            self.clean.retain(|file| file.strong_count() > 0);
            // So that the next time is as far away as this one was dear.
            self.clean.reserve(self.clean.len() + 1);
        }
        self.clean.push(Arc::downgrade(file));
    }
}

impl Lost {
    /// Returns whether the description is new: not one from before the failure. If the kernel cannot
    /// compare descriptions, it counts as old.
    fn is_new(&self, file: &Arc<OwnedFd>) -> bool {
        let differs = |old: &Arc<OwnedFd>| {
            !Arc::ptr_eq(old, file) && is_same_description(old, file) == Some(false)
        };
        !self.more && self.before.iter().all(differs)
    }
}

#[cfg(test)]
mod tests;
