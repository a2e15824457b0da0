//! Runs at volume: hostile words, a soak of producers, and hostile packets.

use std::time::Instant;

use clap::{Parser, Subcommand};
use vyre_fuzz_harness::{handshake, soak, volume};

#[derive(Parser)]
#[command(
    name = "vyre-fuzz-harness",
    about = "Attacks the queue, the loop and the handshake, at volume"
)]
struct Cli {
    #[command(subcommand)]
    run: Run,
}

#[derive(Subcommand)]
enum Run {
    /// Store hostile words against the host end and the engine
    Words {
        /// Number of them, such as 1000000 or 1e9
        #[arg(value_parser = count)]
        words: u64,
        /// Seed of all that happens
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Have several producers submit requests, each with a checksum
    Soak {
        /// Number of them, such as 1000000 or 1e9
        #[arg(value_parser = count)]
        operations: u64,
        /// Number of producer threads
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=4))]
        producers: u32,
    },
    /// Feed both sides of the handshake with random inputs, each a conversation of hostile packets
    Handshake {
        /// Number of them, such as 1000000 or 1e8
        #[arg(value_parser = count)]
        executions: u64,
        /// Seed of all that happens
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() {
    let start = Instant::now();
    match Cli::parse().run {
        Run::Words { words, seed } => {
            let report = volume::run(words, seed);
            for (index, against) in ["the host's end", "the engine"].into_iter().enumerate() {
                println!(
                    "{} hostile words against {against}: {} requests claimed, {} outcomes, in {} \
                     queues or engines",
                    report.words[index],
                    report.claimed[index],
                    report.completed[index],
                    report.worlds[index],
                );
            }
            println!(
                "{} hostile words in all, {} honest outcomes checked beside them, in {:.1} s: \
                 nothing served twice, nothing lost, nothing outside",
                report.words.iter().sum::<u64>(),
                report.honest,
                start.elapsed().as_secs_f64(),
            );
        }
        Run::Soak {
            operations,
            producers,
        } => {
            let report = soak::run(operations, producers);
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{} requests of {producers} producers, {} outcomes, no free slot {} times: 0 lost, \
                 0 doubled, 0 torn; {seconds:.1} s, {:.2} M/s",
                report.claimed,
                report.taken,
                report.full,
                report.taken as f64 / seconds / 1e6,
            );
        }
        Run::Handshake { executions, seed } => {
            let report = handshake::run(executions, seed);
            let counts = report.counts;
            println!(
                "{} executions, {} packets: {} calls, {} refusals, {} ends by a refusal, {} answers \
                 accepted; {:.1} s: none failed",
                report.executions,
                counts.packets,
                counts.calls,
                counts.refusals,
                counts.cuts,
                counts.answers,
                report.elapsed.as_secs_f64(),
            );
        }
    }
}

/// Parses `1000000`, `1_000_000` or `1e6`, but not zero.
fn count(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = match digits.split_once('e') {
        None => digits.parse().ok(),
        Some((digits, power)) => power
            .parse()
            .ok()
            .and_then(|power| 10_u64.checked_pow(power))
            .zip(digits.parse::<u64>().ok())
            .and_then(|(power, digits)| digits.checked_mul(power)),
    };
    number
        .filter(|&number| number > 0)
        .ok_or_else(|| format!("`{text}` is no number of times; say 1000000 or 1e6"))
}
