//! Bare servers: the smallest programs that serve slots of shared memory, without handles and without
//! checks. One thread, on the core of the loop that is compared.

mod mapping;
mod ring;
pub(crate) mod slots;

use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use vyre_io_cli::measure::cores::pin;

use crate::checker::Checked;
use crate::error::CompareError;
use crate::lane::{self, Work};
use crate::run::Bench;
use slots::{Lane, Slots};

/// Sweeps without a request before a server offers its core to others, which matters where cores are shared.
const SWEEPS: u32 = 2048;

/// The way in which a bare server performs reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// READ_FIXED on a raw ring.
    Ring,
    /// Copies out of a mapping whose pages are all there.
    Mapping,
}

pub(crate) fn measure(
    bench: &Bench,
    server: Server,
    work: &Work,
) -> Result<(f64, Checked), CompareError> {
    let buffer = work.buffer()?;
    let slots = Slots::private(work.depth)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            pin(bench.loop_core());
            match server {
                Server::Ring => ring::serve(&bench.target, &slots, &buffer, work.size, &stop),
                Server::Mapping => {
                    mapping::serve(bench.target.mapping(), &slots, &buffer, work.size, &stop);
                    Ok(())
                }
            }
        });
        let lane = Lane::new(&slots, work);
        let measured = lane::run(lane, work, &buffer, bench.lane_core());
        stop.store(true, Ordering::Relaxed);
        let served = serving
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if served.is_err() {
            // The kernel may still be at work on it.
            std::mem::forget(buffer.clone());
        }
        served.map_err(CompareError::Bare)?;
        measured
    })
}

/// Returns the bytes per second that the loop's core copies out of the mapping, in blocks of the work.
pub(crate) fn copy_rate(bench: &Bench, work: &Work) -> Result<f64, CompareError> {
    let buffer = work.buffer()?;
    let rate = thread::scope(|scope| {
        let copying = scope.spawn(|| {
            pin(bench.loop_core());
            mapping::copy_rate(bench.target.mapping(), &buffer, work.size, work.time)
        });
        copying
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    Ok(rate)
}

/// Calls `pass`, which returns whether it found work, until it is told to stop.
fn until_stopped(stop: &AtomicBool, mut pass: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let mut idle = 0;
    while !stop.load(Ordering::Relaxed) {
        if pass()? {
            idle = 0;
            continue;
        }
        std::hint::spin_loop();
        idle += 1;
        if idle == SWEEPS {
            idle = 0;
            thread::yield_now();
        }
    }
    Ok(())
}
