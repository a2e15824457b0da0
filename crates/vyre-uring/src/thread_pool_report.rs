//! The report on the set-up of a pool of threads.

use std::fmt;

use crate::error::SetupError;
use crate::futex_means::FutexMeans;
use crate::kernel_features::KernelFeatures;

/// Says what a [`ThreadPool`](crate::ThreadPool) was built with. `Display` formats it in a few lines.
#[derive(Debug, Clone)]
pub struct ThreadPoolReport {
    pub(crate) entries: u32,
    pub(crate) workers: u32,
    pub(crate) refused: Option<SetupError>,
    pub(crate) withheld: KernelFeatures,
    pub(crate) futexes: Option<FutexMeans>,
}

impl ThreadPoolReport {
    /// Returns the number of operations that may be in flight at once.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Returns the largest number of workers.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// Returns why there is no ring, or `None` if the pool was asked for.
    pub fn refused(&self) -> Option<SetupError> {
        self.refused
    }

    /// Returns how the pool notices futexes, once [`set_futexes`](crate::Transport::set_futexes) was called.
    pub fn futexes(&self) -> Option<FutexMeans> {
        self.futexes
    }

    /// Returns the features that were [withheld](crate::TransportBuilder::withhold).
    pub fn withheld(&self) -> KernelFeatures {
        self.withheld
    }

    pub(crate) fn summary(&self) -> String {
        match self.refused {
            Some(error) => format!("threads, since {}", error.cause()),
            None => "threads".to_owned(),
        }
    }
}

impl fmt::Display for ThreadPoolReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refused {
            Some(error) => writeln!(f, "transport: threads, since {error}")?,
            None => writeln!(f, "transport: threads, as asked for")?,
        }
        writeln!(f, "entries: {}", self.entries)?;
        write!(f, "workers: at most {}", self.workers)?;
        FutexMeans::fmt_line(self.futexes, f)?;
        self.withheld.fmt_line(f)
    }
}
