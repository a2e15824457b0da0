//! Boots Debian's kernels in QEMU, and reports what works on each: set-up, file systems, tests.

mod cpio;
mod guest;
mod initramfs;
mod left_out;
mod modules;
mod packages;
mod programs;
mod results;
mod table;

use std::path::PathBuf;

use crate::workspace::{Result, Workspace};
use packages::{KERNELS, Kernel};
use results::Results;

/// Options of `cargo xtask kernels`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Boot this kernel alone (may be given more than once)
    #[arg(long = "kernel", value_name = "NAME", value_parser = KERNELS.map(|kernel| kernel.name))]
    only: Vec<String>,
    /// Take the packages from DIR/NAME/*.deb instead of apt's mirror
    #[arg(long, value_name = "DIR")]
    packages: Option<PathBuf>,
    /// Check the file systems alone, and run no tests
    #[arg(long)]
    no_tests: bool,
    /// Run the tests alone, and check no file system
    #[arg(long)]
    no_checks: bool,
    /// Run only the test programs whose name, PACKAGE::FILE, contains this. With `::`, no other package is built. May be
    /// given more than once
    #[arg(long, value_name = "PART")]
    test: Vec<String>,
    /// Boot nothing, and make the tables of what each guest said last
    #[arg(long)]
    report: bool,
    /// Minutes after which a guest is ended
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    limit: u64,
}

/// Boots the kernels one after the other; `true` when nothing failed on any.
pub(crate) fn run(ws: &Workspace, options: &Options) -> Result<bool> {
    let chosen = |kernel: &&Kernel| options.only.is_empty() || options.only.iter().any(|name| name == kernel.name);
    let kernels = KERNELS.iter().filter(chosen);
    if options.report {
        return report(ws, &kernels.map(|kernel| guest::last(ws, kernel)).collect::<Result<Vec<_>>>()?);
    }
    guest::need_programs(ws)?;
    let programs = programs::build(ws, !options.no_tests, &options.test)?;
    let mut all = Vec::new();
    for kernel in kernels {
        println!("\n==> {}", kernel.name);
        let debs = packages::get(ws, kernel, options.packages.as_deref())?;
        let image = initramfs::build(ws, kernel, &debs, &programs)?;
        let results = guest::boot(ws, kernel, &image, options)?;
        println!("==> {}: {}", kernel.name, results.summary());
        all.push(results);
    }
    report(ws, &all)
}

/// Prints the tables, and writes them to a file; `true` when nothing failed.
fn report(ws: &Workspace, all: &[Results]) -> Result<bool> {
    let text = table::all(all);
    let path = ws.target.join("kernels/kernels.md");
    ws.sh.write_file(&path, &text)?;
    println!("\n{text}\nwritten to {}", path.display());
    Ok(!all.is_empty() && all.iter().all(Results::passed))
}

#[cfg(test)]
mod tests;
