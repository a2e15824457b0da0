//! Contributor tooling. `cargo xtask ci` runs the checks that a change must pass; `cargo xtask ci --full`
//! adds the slow ones, and the hosted workflow runs all of them.

mod aarch64;
mod capi;
mod checks;
mod ci;
mod compare;
mod header;
mod kernels;
mod orderings;
mod proofs;
mod python;
mod refuse;
mod report;
mod static_build;
mod suites;
mod tidy;
mod tools;
mod volume;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::{Result, Workspace, cmd};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Contributor tooling of vyre-io")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the checks that a change must pass
    Ci(ci::Options),
    /// Write the headers, the tables of ABI.md and the list of libvyre_io's interface anew, from the Rust sources
    Header,
    /// Compile the CUDA kernels of vyre-ioq-cuda anew; needs NVRTC 12.4, and no GPU
    Ptx,
    /// Compare cached reads with a raw ring, fio and others on this machine; `--help` lists the options
    #[command(disable_help_flag = true)]
    Compare {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Run a command where io_uring is refused with EPERM or ENOSYS, as in a container
    Refuse {
        #[arg(value_name = "ERRNO")]
        errno: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Boot Debian's kernels in QEMU, and check the file systems and run the tests on each
    Kernels(kernels::Options),
    /// Weaken each memory ordering of vyre-ioq in a copy, and see that what should catch it does
    Orderings(orderings::mutate::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `false` for a failure that has been reported.
fn run(command: Command) -> Result<bool> {
    let ws = Workspace::load()?;
    match command {
        Command::Ci(options) => return Ok(ci::run(&ws, &options)),
        Command::Kernels(options) => return kernels::run(&ws, &options),
        Command::Header => write_headers(&ws),
        Command::Ptx => ptx(&ws),
        Command::Compare { options } => compare::run(&ws, "release", &options, |_| ()),
        Command::Refuse { errno, command } => refuse::exec(&errno, &command),
        Command::Orderings(options) => orderings::mutate::run(&ws, &options),
    }?;
    Ok(true)
}

fn write_headers(ws: &Workspace) -> Result<()> {
    println!("{}", header::write(ws)?);
    println!("{}", capi::write(ws)?);
    Ok(())
}

/// Writes the output of NVRTC 12.4 for the kernels of the command line, for machines without a suitable
/// NVRTC. A test of the crate fails when the kernels have changed since.
fn ptx(ws: &Workspace) -> Result<()> {
    let kernels = [("vyre-io-cli", "bench"), ("vyre-io-cli", "copy"), ("vyre-ioq-cuda", "gather_rows")];
    for (krate, kernel) in kernels {
        let source = format!("crates/{krate}/kernels/{kernel}.cuh");
        let output = format!("crates/{krate}/ptx/{kernel}.ptx");
        let files = [source, format!("vyre_ioq_{kernel}"), output];
        cmd!(ws, "cargo run -q -p vyre-ioq-cuda --example ptx -- {files...}").run()?;
    }
    Ok(())
}
