//! Resident memory of a loop.

use vyre_io::{RingMeans, WaitPolicy};

use crate::Result;
use crate::rig::{Cores, spawn, status};

pub(crate) fn measure() -> Result<()> {
    let resident = || status("/proc/self/status", "VmRSS:");
    let before = resident();
    let (io, _device) = spawn(
        WaitPolicy::DOORBELL,
        RingMeans::Futex,
        Cores::choose(),
        None,
    )?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    let after = resident();
    io.stop()?;
    println!(
        "memory: a loop with one queue of 64 slots adds {} KiB",
        after.saturating_sub(before)
    );
    println!("memory: the process has {after} KiB, with its code and the loop\n");
    Ok(())
}
