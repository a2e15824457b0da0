//! Those who are compared.

use hdrhistogram::Histogram;
use vyre_io_cli::measure::block_numbers::BlockNumbers;
use vyre_io_cli::measure::raw_loop::RawLoop;

use crate::bare::{self, Server};
use crate::checker::{Checked, Checker};
use crate::error::CompareError;
use crate::lane::Work;
use crate::ours::{self, Path};
use crate::run::Bench;
use crate::{fio, original, pread};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// One thread with a raw ring and no queue. The others are compared with it.
    RawRing,
    Ours(Path),
    Bare(Server),
    Original,
    Fio,
    Pread,
}

/// In the order of the tables.
pub(crate) const ALL: &[Contestant] = &[
    Contestant::RawRing,
    Contestant::Ours(Path::Ring),
    Contestant::Ours(Path::PageCache),
    Contestant::Bare(Server::Ring),
    Contestant::Bare(Server::Mapping),
    Contestant::Original,
    Contestant::Fio,
    Contestant::Pread,
];

/// One measurement.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Reads per second.
    pub(crate) rate: f64,
    pub(crate) verified: u64,
    /// Share of the reads that were copied out of the page cache. `None` for all but vyre-io.
    pub(crate) copied: Option<f64>,
    pub(crate) latency: Option<Histogram<u64>>,
}

impl Contestant {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RawRing => "raw ring",
            Self::Ours(Path::Ring) => "vyre-io, ring",
            Self::Ours(Path::PageCache) => "vyre-io, page cache",
            Self::Bare(Server::Ring) => "bare server, ring",
            Self::Bare(Server::Mapping) => "bare server, mapping",
            Self::Original => "original loop",
            Self::Fio => "fio",
            Self::Pread => "pread pool",
        }
    }

    /// Returns what it is, in one line.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::RawRing => {
                "one thread, READ_FIXED on a registered file and buffer, deferred task work, no queue"
            }
            Self::Ours(Path::Ring) => {
                "one lane, one loop with the policy `spin`, served by the ring"
            }
            Self::Ours(Path::PageCache) => {
                "the same, with page-cache reads: blocks in memory are copied"
            }
            Self::Bare(Server::Ring) => {
                "one lane, one thread that serves slots by READ_FIXED, no handles and no checks"
            }
            Self::Bare(Server::Mapping) => {
                "one lane, one thread that serves slots by copies out of a populated mapping and prefetches the next block, no handles and no checks"
            }
            Self::Original => {
                "one lane, the loop of vyre-runtime 0.7.2 in a process of its own; the kernel's polling thread of its ring is not bound"
            }
            Self::Fio => {
                "one job, engine io_uring, fixed buffers, registered files, batches of 16; verifies nothing"
            }
            Self::Pread => "a thread on each of the cores, without a queue",
        }
    }

    /// Returns whether its latencies are compared.
    pub(crate) const fn has_latency(self) -> bool {
        matches!(self, Self::RawRing | Self::Ours(_) | Self::Pread)
    }

    /// Returns why it cannot be measured here, if it cannot.
    pub(crate) fn missing(self, bench: &Bench) -> Option<&str> {
        match self {
            Self::Ours(Path::PageCache) => bench.no_page_cache.as_deref(),
            Self::Original if bench.original.is_none() => {
                Some("no --original: `cargo xtask compare` builds it")
            }
            Self::Fio if bench.fio.is_none() => Some("fio is not installed"),
            _ => None,
        }
    }

    /// Measures it once, and fails if any byte of the sample was wrong.
    pub(crate) fn measure(self, bench: &Bench, work: &Work) -> Result<Measured, CompareError> {
        let mut copied = None;
        let (rate, checked) = match self {
            Self::RawRing => raw_ring(bench, work)?,
            Self::Ours(path) => {
                let (rate, checked, share) = ours::measure(bench, path, work)?;
                copied = Some(share);
                (rate, checked)
            }
            Self::Bare(server) => bare::measure(bench, server, work)?,
            Self::Original => match &bench.original {
                Some(program) => original::measure(bench, program, work)?,
                None => unreachable!("it is left out"),
            },
            Self::Fio => {
                return fio::measure(bench, work).map(|rate| Measured {
                    rate,
                    verified: 0,
                    copied: None,
                    latency: None,
                });
            }
            Self::Pread => pread::measure(bench, work)?,
        };
        Measured::of(self.name(), rate, checked, copied)
    }
}

impl Measured {
    /// Fails if a block was wrong, or if none was verified.
    pub(crate) fn of(
        who: &'static str,
        rate: f64,
        checked: Checked,
        copied: Option<f64>,
    ) -> Result<Self, CompareError> {
        if let Some(offset) = checked.wrong {
            return Err(CompareError::WrongBytes { who, offset });
        }
        if checked.verified == 0 {
            return Err(CompareError::NothingVerified { who });
        }
        Ok(Self {
            rate,
            verified: checked.verified,
            copied,
            latency: checked.latency,
        })
    }
}

fn raw_ring(bench: &Bench, work: &Work) -> Result<(f64, Checked), CompareError> {
    let buffer = work.buffer()?;
    let mut checker = Checker::new(work.depth, work.size, work.latency);
    let raw = RawLoop {
        file: bench
            .target
            .reopen_for_ring()
            .map_err(CompareError::RawRing)?
            .into(),
        buffer: buffer.clone(),
        depth: work.depth,
        block_size: work.size,
        writes: false,
        polls: false,
        numbers: BlockNumbers::new(0, work.blocks, true),
        core: bench.loop_core(),
    };
    let completed = |place, block| checker.completed(&buffer, place, block * u64::from(work.size));
    let rate = raw.run(work.time, completed);
    Ok((rate.map_err(CompareError::RawRing)?, checker.finish()))
}
