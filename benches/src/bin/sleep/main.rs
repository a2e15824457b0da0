//! Measures how loops and devices sleep, and what wakes them. DESIGN.md, "Waiting", says what is measured.
//!
//! ```text
//! cargo run --release -p vyre-benches --bin sleep -- [idle|wake|outcome|late|cpu|memory]... [--dir DIR] [--seconds S]
//! ```
//!
//! The loop runs on one core and the device on another. Figures mean nothing beside other work.

mod cpu;
mod idle;
mod late;
mod memory;
mod outcome;
mod rig;
mod wake;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Resident memory of a loop
    Memory,
    /// Processor time and wake-ups of loops without work
    Idle,
    /// Time to wake a loop by a ring, beside a bare futex and a bare eventfd
    Wake,
    /// Time from an outcome to a tokio task, beside bare tokio with an eventfd; processor time of an idle tokio program
    Outcome,
    /// Delay of a request after quiet times, by the default policy and without a ring
    Late,
    /// Processor time of direct reads, beside a raw ring that sleeps
    Cpu,
}

#[derive(Debug, Parser)]
#[command(about = "Measures how loops sleep, and what wakes them", long_about = None)]
struct Args {
    /// Measurements [default: all]
    what: Vec<What>,
    /// Directory for a temporary file of 256 MiB
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    dir: PathBuf,
    /// Seconds of each part of a measurement
    #[arg(long, value_name = "S", default_value_t = 4.0)]
    seconds: f64,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args = Args::parse();
    rig::Cores::choose();
    let asked = |what| args.what.is_empty() || args.what.contains(&what);
    // First, before anything else has touched memory.
    if asked(What::Memory) {
        memory::measure()?;
    }
    if asked(What::Idle) {
        idle::measure(args.seconds)?;
    }
    if asked(What::Wake) {
        wake::measure(args.seconds)?;
    }
    if asked(What::Outcome) {
        outcome::measure(args.seconds)?;
    }
    if asked(What::Late) {
        late::measure()?;
    }
    if asked(What::Cpu) {
        cpu::measure(&args.dir, args.seconds)?;
    }
    Ok(())
}
