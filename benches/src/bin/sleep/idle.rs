//! Loops without work.

use std::thread::sleep;
use std::time::{Duration, Instant};

use vyre_io::{RingMeans, WaitPolicy};
use vyre_io_cli::measure::cores::cpu_time;

use crate::Result;
use crate::rig::{Cores, spawn, switches};

pub(crate) fn measure(seconds: f64) -> Result<()> {
    let caps = [2, 4, 8].map(|millis| WaitPolicy::adaptive(2_000, Duration::from_millis(millis)));
    let [two, four, eight] = caps;
    println!(
        "| idle, after a second of quiet | share of a core | wake-ups/s | core time of each |"
    );
    println!("| --- | --- | --- | --- |");
    for (name, policy) in [
        ("DOORBELL", WaitPolicy::DOORBELL),
        ("ADAPTIVE", WaitPolicy::ADAPTIVE),
        (
            "adaptive, cap 100 µs",
            WaitPolicy::adaptive(2_000, Duration::from_micros(100)),
        ),
        ("adaptive, cap 2 ms", two),
        ("adaptive, cap 4 ms", four),
        ("adaptive, cap 8 ms", eight),
    ] {
        let (io, _device) = spawn(policy, RingMeans::Futex, Cores::choose(), None)?;
        sleep(Duration::from_secs(1));
        let thread = io.thread_id();
        let (began, used, slept) = (Instant::now(), cpu_time(thread), switches(thread));
        sleep(Duration::from_secs_f64(seconds));
        let (used, slept) = (cpu_time(thread) - used, switches(thread) - slept);
        let took = began.elapsed();
        println!(
            "| {name} | {:.3} % | {:.1} | {:.1} µs |",
            used.as_secs_f64() / took.as_secs_f64() * 100.0,
            slept as f64 / took.as_secs_f64(),
            used.as_secs_f64() * 1e6 / slept.max(1) as f64,
        );
        io.stop()?;
    }
    println!();
    Ok(())
}
