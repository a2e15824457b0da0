//! The delay of a request that nobody rings for, after quiet times.

use std::thread::sleep;
use std::time::{Duration, Instant};

use vyre_io::{Request, RingMeans, WaitPolicy};

use crate::Result;
use crate::rig::{Cores, micros, quantile, spawn};

pub(crate) fn measure() -> Result<()> {
    let cores = Cores::choose();
    let (io, device) = spawn(WaitPolicy::ADAPTIVE, RingMeans::Futex, cores, None)?;
    cores.pin_waker();
    println!("| quiet before | a sixteenth of it | delay, p50 | p90 | longest | requests |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (quiet, count) in [
        (1, 800),
        (4, 400),
        (16, 200),
        (64, 60),
        (250, 16),
        (1_000, 6),
    ] {
        let quiet = Duration::from_millis(quiet);
        let mut times = Vec::new();
        for round in 0..count {
            // So that requests come at every point of a sleep.
            sleep(quiet + quiet / 64 * (round % 5));
            let began = Instant::now();
            let mut ticket = device.submit(Request::fence())?;
            while let Err(again) = device.take(ticket) {
                ticket = again;
                std::hint::spin_loop();
            }
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let [p50, p90, longest] = [0.5, 0.9, 1.0].map(|q| micros(quantile(&times, q)));
        println!(
            "| {quiet:?} | {:.0} µs | {p50:.0} µs | {p90:.0} µs | {longest:.0} µs | {count} |",
            micros(quiet / 16)
        );
    }
    println!();
    io.stop()?;
    Ok(())
}
