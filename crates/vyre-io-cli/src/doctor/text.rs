//! The report for people.

use std::fmt::{self, Display, Formatter};

use super::gpu;
use super::page_cache::POSSIBLE;
use super::report::{Alignment, Gpu, IoUring, PathReport, Report, Ring, Seccomp, StepReport};
use super::units::bytes;

/// The column at which values start.
const COLUMN: usize = 18;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, "kernel", &self.kernel)?;
        self.io_uring.show(f)?;
        row(f, "transport", self.transport.unwrap_or("none"))?;
        if let Some(means) = &self.wakes_by {
            row(f, "  wakes by", means)?;
        }
        if let Some(ring) = &self.ring {
            ring.show(f)?;
        }
        row(f, "memlock limit", self.memlock.describe())?;
        self.gpu.show(f)?;
        for path in &self.paths {
            path.show(f)?;
        }
        writeln!(f, "\nfindings")?;
        for finding in &self.findings {
            writeln!(f, "  {:<8}{}", finding.level.name(), finding.what)?;
            if let Some(advice) = &finding.advice {
                writeln!(f, "  {:<8}-> {advice}", "")?;
            }
        }
        Ok(())
    }
}

impl IoUring {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match &self.by {
            Some(by) => format!("forbidden by {by}"),
            None if self.allowed => "allowed".to_owned(),
            None => "forbidden".to_owned(),
        };
        row(f, "io_uring", verdict)?;
        let known = self
            .io_uring_disabled
            .map_or("not there".to_owned(), |value| value.to_string());
        let group = match self.io_uring_group {
            Some(group @ 0..) => format!(", group {group}"),
            _ => String::new(),
        };
        row(f, "  disabled sysctl", format!("{known}{group}"))?;
        row(f, "  seccomp", self.seccomp.name())?;
        match &self.error {
            Some(error) => row(f, "  error", error),
            None => Ok(()),
        }
    }
}

impl Gpu {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let parts = (&self.name, &self.compute_capability, &self.driver);
        let (Some(name), Some(compute), Some(driver)) = parts else {
            return row(f, "gpu", self.why.as_deref().unwrap_or("none"));
        };
        row(f, "gpu", name)?;
        row(f, "  compute", compute)?;
        row(f, "  driver", format!("CUDA {driver}"))?;
        if let Some(path) = &self.data_path {
            row(f, "  data path", path)?;
        }
        Ok(())
    }
}

impl Seccomp {
    const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Strict => "strict",
            Self::Filter => "filter",
            Self::Unknown => "unknown",
        }
    }
}

impl Ring {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        row(f, "ring", flags(&self.flags))?;
        for rung in &self.refused {
            let what = format!("{} ({})", flags(&rung.flags), rung.why);
            row(f, "  refused", what)?;
        }
        let entries = format!(
            "{} to submit, {} to complete",
            self.sq_entries, self.cq_entries
        );
        row(f, "  entries", entries)?;
        row(f, "  registered", "")?;
        row(f, "    descriptor", &self.registered_ring_fd)?;
        row(f, "    files", &self.registered_files)?;
        row(f, "    buffers", &self.registered_buffers)?;
        if !self.missing_operations.is_empty() {
            row(f, "  lacks", self.missing_operations.join(" "))?;
        }
        row(f, "  data path", self.data_path)
    }
}

impl Display for StepReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.why, self.in_use) {
            (_, true) => f.write_str("yes"),
            (Some(why), false) => write!(f, "no ({why})"),
            (None, false) => f.write_str("no"),
        }
    }
}

impl PathReport {
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.path)?;
        if let Some(error) = &self.error {
            return row(f, "  error", error);
        }
        if let Some(system) = &self.file_system {
            row(f, "  file system", system)?;
        }
        if let Some(kind) = self.kind {
            let size = self.size.map(|size| format!(", {}", bytes(size)));
            row(f, "  kind", format!("{kind}{}", size.unwrap_or_default()))?;
        }
        match (self.direct_opens, self.alignment) {
            (Some(true), Some(align)) => row(f, "  direct I/O", align)?,
            (Some(true), None) => row(f, "  direct I/O", "O_DIRECT opens, but means nothing")?,
            (Some(false), _) => row(f, "  direct I/O", "refused")?,
            (None, _) => {}
        }
        match self.page_cache.as_deref() {
            Some(POSSIBLE) => row(f, "  page cache", "page-cache reads are possible")?,
            Some(why) => row(f, "  page cache", format!("no page-cache reads: {why}"))?,
            None => {}
        }
        match self.view.as_deref() {
            Some(gpu::POSSIBLE) => {
                row(f, "  view", "kernels can read its pages by themselves")?;
                row(f, "  windows", "running kernels can ask for parts of it")?;
            }
            Some(gpu::WITHOUT_WINDOWS) => {
                row(f, "  view", "kernels can read its pages by themselves")?;
                row(
                    f,
                    "  windows",
                    "none: the GPU gives pinned pages addresses of its own",
                )?;
            }
            Some(why) => row(f, "  view", format!("none: {why}"))?,
            None => {}
        }
        row(f, "  data path", self.data_path.unwrap_or("unknown"))?;
        row(f, "    because", &self.reason)
    }
}

impl Display for Alignment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "yes, aligned to {} bytes in the file, {} in memory ({})",
            self.offset,
            self.memory,
            self.from.describe()
        )
    }
}

fn row(f: &mut Formatter<'_>, label: &str, value: impl Display) -> fmt::Result {
    let line = format!("{label:<COLUMN$}{value}");
    writeln!(f, "{}", line.trim_end())
}

fn flags(flags: &[&str]) -> String {
    match flags {
        [] => "no flags".to_owned(),
        flags => flags.join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_step_says_why_it_is_not_in_use() {
        assert_eq!(StepReport::in_use().to_string(), "yes");
        let refused = StepReport::refused(Errno::MFILE);
        assert_eq!(refused.to_string(), "no (Too many open files)");
    }
}
