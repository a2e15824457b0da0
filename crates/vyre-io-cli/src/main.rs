//! `vyre-io`: copies files through the queue, serves them to other processes, measures the queue, and diagnoses a machine.

#![deny(unsafe_code)]

mod args;
mod bench;
#[cfg(test)]
#[path = "../../vyre-ioq-cuda/tests/common/mod.rs"]
mod common;
mod copy;
mod doctor;
mod failure;
mod manual;
mod name;
#[cfg(test)]
mod ptx_tests;
mod serve;
mod signals;
mod stack;
#[cfg(test)]
#[path = "../../vyre-ioq-cuda/examples/common/threads.rs"]
mod threads;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    let args = Args::parse();
    signals::survive_file_size_limit();
    let done = match &args.command {
        Command::Copy(args) => copy::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Completions { shell } => manual::complete(*shell),
        Command::Man { directory } => manual::write_pages(directory),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            signals::say!("vyre-io: {failure}");
            ExitCode::from(failure.status())
        }
    }
}
