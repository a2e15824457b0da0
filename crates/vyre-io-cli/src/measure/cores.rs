//! Choice of the cores that the threads of a benchmark run on: cores that no other benchmark uses. Processor time.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

/// Directory of lock files. Every user may write to it.
const LOCKS: &str = "/run/lock";

/// Cores named on the command line, such as `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreList(pub Vec<usize>);

impl std::str::FromStr for CoreList {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected numbers and ranges of cores, such as 0-3,8";
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse::<usize>().map_err(|_| EXPECTED);
            let (first, last) = (number(first)?, number(last)?);
            if first > last || last >= rustix::thread::CpuSet::MAX_CPU {
                return Err(EXPECTED);
            }
            cores.extend(first..=last);
        }
        Ok(Self(cores))
    }
}

/// Faults of a list of cores.
#[derive(Debug, thiserror::Error)]
pub enum CoresError {
    #[error(
        "--cores: this process may not use core {core}; those that it may use: {}",
        allowed.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
    )]
    NotAllowed { core: usize, allowed: Vec<usize> },
    #[error("--cores: core {0} is named twice; name each once")]
    Twice(usize),
    #[error("--cores: name at least {0}, one for each loop and one for the lanes")]
    TooFew(usize),
}

/// Cores of a run. They stay reserved until this is dropped.
#[derive(Debug, Default)]
pub struct Cores {
    /// Cores to bind to, the loops' first. Empty if nothing is bound to a core.
    pub list: Vec<usize>,
    /// Number of cores that this process may use, reserved or not.
    pub allowed: usize,
    /// Reason why nothing is bound.
    pub note: Option<String>,
    _locks: Vec<File>,
}

impl Cores {
    /// Takes the named cores. Without them, reserves up to `most` of the cores that this process
    /// may use and no other benchmark has reserved, or none if there are fewer than `least`.
    ///
    /// # Errors
    /// [`CoresError`] if the named cores do not fit.
    pub fn choose(named: Option<&CoreList>, least: usize, most: usize) -> Result<Self, CoresError> {
        let allowed = allowed();
        let mut cores = Self {
            allowed: allowed.len(),
            ..Self::default()
        };
        if let Some(CoreList(named)) = named {
            if let Some(&core) = named.iter().find(|core| !allowed.contains(core)) {
                return Err(CoresError::NotAllowed { core, allowed });
            }
            let twice = |&(nth, core): &(usize, &usize)| named[..nth].contains(core);
            if let Some((_, &core)) = named.iter().enumerate().find(twice) {
                return Err(CoresError::Twice(core));
            }
            if named.len() < least {
                return Err(CoresError::TooFew(least));
            }
            cores.list.clone_from(named);
            return Ok(cores);
        }
        cores.reserve(&allowed, least, most, Path::new(LOCKS));
        Ok(cores)
    }

    fn reserve(&mut self, allowed: &[usize], least: usize, most: usize, locks: &Path) {
        if allowed.len() < least {
            let (have, need) = (allowed.len(), least);
            self.note = Some(format!(
                "threads are not bound: {need} cores are needed, {have} allowed"
            ));
            return;
        }
        if !locks.is_dir() {
            self.note = Some(format!(
                "threads are not bound: no {}, which shows what other benchmarks use; name --cores",
                locks.display()
            ));
            return;
        }
        for &core in allowed {
            if self.list.len() == most {
                break;
            }
            if let Some(lock) = lock(&locks.join(format!("vyre-io-core-{core}"))) {
                self.list.push(core);
                self._locks.push(lock);
            }
        }
        if self.list.len() < least {
            self.list.clear();
            self._locks.clear();
            self.note = Some("threads are not bound: other benchmarks use the cores".into());
        }
    }
}

/// Locks a file for as long as it is open. Returns `None` if another process holds the lock.
fn lock(path: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o666);
    // Where everyone may write, the kernel can refuse to create over another user's file: open that.
    let file = options
        .open(path)
        .or_else(|_| options.clone().write(true).create(true).open(path))
        .ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Returns the cores that this process may use.
pub fn allowed() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect()
}

/// Binds the calling thread to a core. Errors are ignored: binding only makes the figures steadier.
pub fn pin(core: Option<usize>) {
    if let Some(core) = core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// Returns the processor time of a thread of this process, or zero if the kernel does not report it.
pub fn cpu_time(thread: u32) -> Duration {
    let nanos = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))
        .ok()
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(allowed: &[usize], least: usize, most: usize, locks: &Path) -> Cores {
        let mut cores = Cores::default();
        cores.reserve(allowed, least, most, locks);
        cores
    }

    #[test]
    fn two_benchmarks_take_different_cores() {
        let locks = tempfile::tempdir().expect("a directory");
        let allowed = [1, 3, 5, 7, 9];
        let first = reserve(&allowed, 2, 2, locks.path());
        let second = reserve(&allowed, 2, 2, locks.path());
        assert_eq!(
            (&first.list[..], &second.list[..]),
            (&[1, 3][..], &[5, 7][..])
        );
        // One core is left: not enough for a loop and a lane.
        let third = reserve(&allowed, 2, 2, locks.path());
        assert!(third.list.is_empty() && third.note.is_some());
        drop(first);
        let fourth = reserve(&allowed, 2, 4, locks.path());
        assert_eq!(fourth.list, [1, 3, 9]);
    }

    #[test]
    fn without_a_directory_for_locks_nothing_is_bound() {
        let locks = tempfile::tempdir().expect("a directory");
        let cores = reserve(&[0, 1], 2, 2, &locks.path().join("missing"));
        assert!(cores.list.is_empty());
        assert!(cores.note.expect("a reason").contains("--cores"));
    }

    #[test]
    fn lists_of_cores_are_read() {
        let list = |text: &str| text.parse::<CoreList>().map(|list| list.0);
        assert_eq!(list("0-3,8"), Ok(vec![0, 1, 2, 3, 8]));
        assert_eq!(list("5"), Ok(vec![5]));
        for text in ["", "3-1", "a", "1,", "-1", "0-99999"] {
            assert!(list(text).is_err(), "{text}");
        }
    }
}
