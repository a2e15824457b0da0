//! Compares cached random reads through vyre-io with the other ways to do them, interleaved and on
//! bound cores: `cargo xtask compare`. Writes tables, plots and `results.json`.

mod args;
mod bare;
mod cases;
mod checker;
mod contestant;
mod error;
mod fio;
mod lane;
mod machine;
mod original;
mod ours;
mod plots;
mod pread;
mod quiet;
mod report;
mod results;
mod rounds;
mod run;
mod target;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;

fn main() -> ExitCode {
    match run::run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}
