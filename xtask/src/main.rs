//! The contributor's one door: `cargo xtask ci` runs everything that a change must pass,
//! and the hosted checks run nothing else.

mod cargo_steps;
mod ci;
mod consumers;
mod faults;
mod features;
mod fuzz;
mod header;
mod minimal;
mod orderings;
mod package;
mod proofs;
mod props;
mod ptx;
mod readme;
mod sh;
mod steps;
mod tally;
mod test_steps;
mod tidy;
mod tools;
mod volume;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Any failure of the tooling: what went wrong, in words for the person at the terminal.
type Error = Box<dyn std::error::Error>;
type Result<T> = std::result::Result<T, Error>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Contributor tooling of vyre-io")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check that a change must pass
    Ci {
        #[command(flatten)]
        options: ci::Options,
        /// List the steps and leave
        #[arg(long)]
        list: bool,
    },
    /// Run the property tests for long, with fresh seeds every round
    Props {
        /// Cases per property and round
        #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
        cases: u32,
        /// Start no further round after this many seconds
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Write the C header with the ABI's numbers anew, from the Rust constants
    Header,
    /// Compile the CUDA kernels of vyre-ioq-cuda anew; needs NVRTC 12.4, and no GPU
    Ptx,
    /// Run the fuzz targets, and count executions
    Fuzz {
        #[command(flatten)]
        options: fuzz::Options,
    },
    /// Store hostile words against the host's end and the engine
    Hostile {
        /// How many, such as 1000000 or 1e9
        #[arg(long, default_value = "1e8")]
        words: String,
        /// Seed of all that happens
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Have several producers ask, and lose nothing
    Soak {
        /// How many requests, such as 1000000 or 1e9
        #[arg(long, default_value = "1e8")]
        ops: String,
        /// Threads that ask
        #[arg(long)]
        producers: Option<u32>,
    },
    /// Run the README's first command and check what it did
    Readme,
    /// Build with the oldest versions of the dependencies; needs a nightly toolchain beside
    MinimalVersions,
    /// Run the models of vyre-ioq under loom
    Loom,
    /// Run the tests of vyre-ioq under Miri, with both aliasing models
    Miri {
        /// With this aliasing model alone
        #[arg(long)]
        model: Option<proofs::Model>,
    },
    /// Run the tests of vyre-ioq that have threads under ThreadSanitizer
    Tsan,
    /// Weaken each memory ordering of vyre-ioq in a copy, and see that what should catch it does
    Orderings {
        /// With these catchers alone (may be given more than once)
        #[arg(long = "tool")]
        tools: Vec<orderings::Tool>,
        /// In these functions alone
        functions: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Ci { list: true, .. } => {
            ci::list();
            Ok(true)
        }
        Command::Ci { options, .. } => Workspace::load().and_then(|ws| ci::run(&ws, &options)),
        Command::Props { cases, seconds } => Workspace::load()
            .and_then(|ws| props::soak(&ws, cases, Duration::from_secs(seconds)))
            .map(|()| true),
        Command::Header => Workspace::load()
            .and_then(|ws| header::write(&ws))
            .map(|note| println!("header: {note}"))
            .map(|()| true),
        Command::Ptx => Workspace::load()
            .and_then(|ws| ptx::write(&ws))
            .map(|()| true),
        Command::Fuzz { options } => Workspace::load()
            .and_then(|ws| fuzz::run(&ws, &options))
            .map(|()| true),
        Command::Hostile { words, seed } => Workspace::load()
            .and_then(|ws| volume::words(&ws, &words, seed))
            .map(|()| true),
        Command::Soak { ops, producers } => Workspace::load()
            .and_then(|ws| volume::soak(&ws, &ops, producers))
            .map(|()| true),
        Command::Readme => Workspace::load()
            .and_then(|ws| readme::run(&ws))
            .map(|note| println!("readme: {note}"))
            .map(|()| true),
        Command::MinimalVersions => Workspace::load()
            .and_then(|ws| minimal::run(&ws))
            .map(|()| true),
        Command::Loom => Workspace::load()
            .and_then(|ws| proofs::loom(&ws))
            .map(|_| true),
        Command::Miri { model } => Workspace::load()
            .and_then(|ws| proofs::miri(&ws, model))
            .map(|()| true),
        Command::Tsan => Workspace::load()
            .and_then(|ws| proofs::tsan(&ws))
            .map(|()| true),
        Command::Orderings { tools, functions } => Workspace::load()
            .and_then(|ws| orderings::run(&ws, &tools, &functions))
            .map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
