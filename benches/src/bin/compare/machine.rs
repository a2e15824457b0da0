//! Description of the machine, for the head of the tables.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::quiet::Noise;
use crate::run::Bench;

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Cores that this program may use.
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    pub(crate) file_bytes: u64,
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) command: String,
    pub(crate) fio: Option<String>,
    /// Cores that were used: the loop's first. Empty if nothing was bound.
    pub(crate) bound: Vec<usize>,
    /// Before the measurements.
    pub(crate) noise: Noise,
    /// Share of the cores' time that the machine's host took away during the measurements.
    pub(crate) stolen: f64,
}

impl Machine {
    pub(crate) fn new(bench: &Bench, noise: Noise, stolen: f64) -> Self {
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        // The option that `cargo xtask compare` adds.
        let typed = |word: &String| !word.starts_with("--original=");
        let command: Vec<String> = std::env::args().skip(1).filter(typed).collect();
        Self {
            processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: bench.allowed,
            memory_gib: rustix::system::sysinfo().totalram as u64 >> 30,
            kernel: format!("{} {}", text(system.sysname()), text(system.release())),
            file_system: bench.target.file_system(),
            file_bytes: bench.target.len,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            commit: commit(),
            command: format!("cargo xtask compare {}", command.join(" "))
                .trim_end()
                .into(),
            fio: bench.fio.clone(),
            bound: bench.cores.list.clone(),
            noise,
            stolen,
        }
    }
}

/// Returns the name that the kernel shows for the processor, if it shows one.
fn processor(cpuinfo: &str) -> String {
    let named = cpuinfo.lines().find_map(|line| {
        let (field, name) = line.split_once(':')?;
        (field.trim() == "model name").then(|| name.trim().to_owned())
    });
    named.unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// Returns the commit of the working tree, marked if there are changes.
fn commit() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let arguments = [
        "describe",
        "--always",
        "--dirty",
        "--abbrev=7",
        "--exclude=*",
    ];
    let output = Command::new("git")
        .current_dir(here)
        .args(arguments)
        .output();
    let commit = output.ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    commit.unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC: a Processor\nmodel\t: 1\n";
        assert_eq!(processor(cpuinfo), "AMD EPYC: a Processor");
        assert_eq!(processor("processor : 0\n"), std::env::consts::ARCH);
    }
}
