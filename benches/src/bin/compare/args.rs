//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use vyre_io_cli::measure::cores::CoreList;

use crate::cases::Case;

/// Compares cached random reads through vyre-io with the other ways to do them.
#[derive(Debug, Parser)]
#[command(name = "compare")]
pub(crate) struct Args {
    /// File to read, with the stamps of `vyre-io bench --create` [default: a new nameless file of 1 GiB]
    #[arg(long, value_name = "PATH", conflicts_with = "dir")]
    pub(crate) file: Option<PathBuf>,
    /// Directory of the new file
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) dir: PathBuf,
    /// Read a memfd that cannot shrink instead of a file
    #[arg(long, conflicts_with_all = ["file", "dir"])]
    pub(crate) memfd: bool,
    /// Seconds of one measurement
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Rounds of each table cell. Up to three times as many follow while they lie too far apart
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Cores to run on, such as 2-3: the loop's, then the lane's. The pread pool uses all of them
    /// [default: two that no other benchmark uses]
    #[arg(long, value_name = "LIST")]
    pub(crate) cores: Option<CoreList>,
    /// Seconds to wait for a quiet machine. The report says if it did not become quiet
    #[arg(long, value_name = "S", default_value = "120")]
    pub(crate) wait: u64,
    /// Directory for tables, plots and results.json
    #[arg(long, value_name = "DIR", default_value = "target/compare")]
    pub(crate) out: PathBuf,
    /// Program that hosts the original loop (built from `consumers/original`)
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) original: Option<PathBuf>,
    /// Measure, besides the raw ring, only those whose name contains this (may be given more than once)
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Measure this special case alone (may be given more than once) [default: all, after the rest; none
    /// with --only]
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) case: Vec<Case>,
    /// Show in a few seconds that everything works: the figures mean nothing
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Args {
    /// Returns whether one with this name is measured.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| name.contains(text.as_str()))
    }

    /// Returns whether a special case is measured.
    pub(crate) fn wants_case(&self, case: Case) -> bool {
        match self.case[..] {
            [] => self.only.is_empty(),
            ref named => named.contains(&case),
        }
    }

    /// Returns the directory of new files.
    pub(crate) fn dir(&self) -> &Path {
        let beside = self.file.as_deref().and_then(Path::parent);
        match beside {
            Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
            Some(dir) => dir,
            None => &self.dir,
        }
    }

    /// Returns the time of one measurement.
    pub(crate) fn time(&self) -> Duration {
        let seconds = if self.quick { 0.05 } else { self.seconds };
        Duration::from_secs_f64(seconds)
    }
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.01 to 3600"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn names_are_chosen_by_their_parts() {
        let wants = |line: &str, name| Args::parse_from(line.split(' ')).wants(name);
        assert!(wants("compare", "fio"));
        assert!(wants(
            "compare --only mapping --only fio",
            "bare server, mapping"
        ));
        assert!(!wants("compare --only mapping --only fio", "pread pool"));
    }

    #[test]
    fn cases_are_measured_alone_or_after_the_rest() {
        let wants = |line: &str, case| Args::parse_from(line.split(' ')).wants_case(case);
        assert!(wants("compare", Case::Flood));
        assert!(!wants("compare --only fio", Case::Flood));
        assert!(wants("compare --case flood --case files", Case::Flood));
        assert!(!wants("compare --case flood", Case::Files));
    }

    #[test]
    fn new_files_lie_beside_the_named_one() {
        let dir = |line: &str| Args::parse_from(line.split(' ')).dir().to_owned();
        assert_eq!(dir("compare --file /data/stamped"), Path::new("/data"));
        assert_eq!(dir("compare --file stamped"), Path::new("."));
        assert_eq!(dir("compare --dir /data"), Path::new("/data"));
    }
}
