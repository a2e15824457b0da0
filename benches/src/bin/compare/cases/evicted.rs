//! A file whose pages are not in memory: page-cache reads must cost nothing where there is nothing to copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::Advice;
use vyre_io::mapped::{Mapping, Residency};

use super::{Case, pair};
use crate::args::Args;
use crate::contestant::Measured;
use crate::error::CompareError;
use crate::lane::Work;
use crate::ours::{self, Pages, Path};
use crate::results::Pair;
use crate::run::{Bench, DEPTH, SIZE};
use crate::target::{nameless, path, reopen, size};

const NAMES: [&str; 2] = ["without page-cache reads", "with page-cache reads"];
const DIRECT_NAMES: [&str; 2] = [
    "direct I/O, no page-cache reads",
    "direct I/O, page-cache reads of another file",
];
/// Share of the blocks after which a measurement ends: later reads would often find pages of earlier ones.
const SHARE: u64 = 4;
/// Share of the pages that may remain in memory.
const REMAINS: usize = 100;
/// Attempts to drop the pages, and the time between two: the mapping of the measurement before may not be
/// gone yet, and the kernel drops no page that is mapped.
const ATTEMPTS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Evicted {
    file: File,
    len: u64,
    /// Another file of the table, in memory.
    beside: File,
}

impl Evicted {
    pub(super) fn make(args: &Args, case: Case) -> Result<Self, CompareError> {
        let (dir, len) = (args.dir(), size(args));
        let make = |size| nameless(dir, 0, size).map_err(CompareError::file("make a file in", dir));
        let made = Self {
            file: make(len)?,
            len,
            beside: make(SIZE.into())?,
        };
        // One of the two fails where the file system keeps pages, or has no direct I/O.
        made.evict()?;
        made.open(case == Case::Direct)?;
        Ok(made)
    }

    pub(super) fn compare(
        &self,
        args: &Args,
        bench: &Bench,
        rounds: (usize, usize),
    ) -> Result<Pair, CompareError> {
        let work = self.work(args, bench);
        pair(Case::Evicted, NAMES, &work, rounds, |nth| {
            let way = [Path::Ring, Path::PageCache][nth];
            self.measure(bench, vec![(self.open(false)?, way)], &work, NAMES[nth])
        })
    }

    /// The same by direct I/O, for which page-cache reads cannot be allowed: they are allowed for another
    /// file.
    pub(super) fn compare_direct(
        &self,
        args: &Args,
        bench: &Bench,
        rounds: (usize, usize),
    ) -> Result<Pair, CompareError> {
        let work = self.work(args, bench);
        pair(Case::Direct, DIRECT_NAMES, &work, rounds, |nth| {
            let beside = &self.beside;
            let beside = reopen(beside).map_err(CompareError::file("open", path(beside)))?;
            let way = [Path::Ring, Path::PageCache][nth];
            let files = vec![(self.open(true)?, Path::Ring), (beside, way)];
            self.measure(bench, files, &work, DIRECT_NAMES[nth])
        })
    }

    fn work(&self, args: &Args, bench: &Bench) -> Work {
        let blocks = self.len / u64::from(SIZE);
        Work {
            blocks,
            most: blocks / SHARE,
            ..bench.work(DEPTH, SIZE, args.time(), false)
        }
    }

    fn measure(
        &self,
        bench: &Bench,
        files: Vec<(File, Path)>,
        work: &Work,
        name: &'static str,
    ) -> Result<Measured, CompareError> {
        self.evict()?;
        let (rate, checked, copied) = ours::serve(bench, files, Pages::Unknown, ours::whole, work)?;
        Measured::of(name, rate, checked, Some(copied))
    }

    /// Opens the file anew.
    fn open(&self, direct: bool) -> Result<File, CompareError> {
        let path = path(&self.file);
        let flags = if direct { libc::O_DIRECT } else { 0 };
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path);
        opened.map_err(CompareError::file("open", path))
    }

    /// Drops the pages of the file from memory, and sees that they are gone.
    fn evict(&self) -> Result<(), CompareError> {
        let failed = |error: io::Error| CompareError::File {
            what: "evict",
            path: path(&self.file),
            source: error,
        };
        self.file.sync_all().map_err(failed)?;
        let pages = self.len / Mapping::page_size();
        let mut resident = 0;
        for _ in 0..ATTEMPTS {
            let dropped = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
            dropped.map_err(|errno| failed(errno.into()))?;
            resident = self.resident().map_err(failed)?;
            if resident <= pages as usize / REMAINS {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(CompareError::NotEvicted { resident, pages })
    }

    /// Returns the number of pages in memory.
    fn resident(&self) -> io::Result<usize> {
        let mapping = Mapping::new(&self.file, 0..self.len).map_err(io::Error::other)?;
        let residency = Residency::new(Arc::new(mapping));
        residency.scan(0..self.len)?;
        Ok(residency.count())
    }
}
