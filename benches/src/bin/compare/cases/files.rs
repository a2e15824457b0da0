//! Many cached files, of which every second one has page-cache reads, or none.

use std::fs::File;
use std::io;

use super::{Case, pair};
use crate::args::Args;
use crate::contestant::Measured;
use crate::error::CompareError;
use crate::lane::Work;
use crate::ours::{self, Pages, Path, Source};
use crate::results::Pair;
use crate::run::{Bench, DEPTH, SIZE};
use crate::target::{nameless, path, reopen, size};

const COUNT: u64 = 16;
const NAMES: [&str; 2] = ["all by the ring", "page-cache reads of every second file"];

/// Files of equal size in the page cache, with the stamps of one file.
pub(super) struct Files {
    files: Vec<File>,
    /// Size of one.
    size: u64,
}

impl Files {
    pub(super) fn make(args: &Args) -> Result<Self, CompareError> {
        let (dir, size) = (args.dir(), size(args) / COUNT);
        let file = |nth| {
            let made = nameless(dir, nth * size, size)?;
            io::copy(&mut &made, &mut io::sink())?;
            Ok(made)
        };
        let files = (0..COUNT).map(file).collect::<io::Result<_>>();
        let files = files.map_err(CompareError::file("make files in", dir))?;
        Ok(Self { files, size })
    }

    pub(super) fn compare(
        &self,
        args: &Args,
        bench: &Bench,
        rounds: (usize, usize),
    ) -> Result<Pair, CompareError> {
        let work = Work {
            blocks: COUNT * self.size / u64::from(SIZE),
            ..bench.work(DEPTH, SIZE, args.time(), false)
        };
        pair(Case::Files, NAMES, &work, rounds, |nth| {
            self.measure(bench, nth == 1, &work)
        })
    }

    fn measure(&self, bench: &Bench, allowed: bool, work: &Work) -> Result<Measured, CompareError> {
        let open = |(nth, file): (usize, &File)| {
            let way = match allowed && nth % 2 == 1 {
                true => Path::PageCache,
                false => Path::Ring,
            };
            let opened = reopen(file).map_err(CompareError::file("open", path(file)))?;
            Ok((opened, way))
        };
        let files = self.files.iter().enumerate().map(open);
        let files = files.collect::<Result<_, CompareError>>()?;
        let source = |files: &[_]| Source {
            files: files.to_vec(),
            shift: self.size.trailing_zeros(),
        };
        let (rate, checked, copied) = ours::serve(bench, files, Pages::Mapped, source, work)?;
        Measured::of(NAMES[usize::from(allowed)], rate, checked, Some(copied))
    }
}
