//! Settings of a loop.
#![expect(unsafe_code, reason = "exports functions")]

use std::mem::MaybeUninit;
use std::time::Duration;

use vyre_io::{RingMeans, TransportChoice, WaitPolicy};

use crate::code::Code;
use crate::error::{Error, Place, free, given, guard};
use crate::failure::Failure;

/// Settings of a loop or of each loop of a group. A builder takes a copy.
///
/// Threads: one at a time.
pub struct LoopOptions(pub(crate) vyre_io::LoopOptions);

/// Means by which a loop performs operations.
#[repr(C)]
pub enum Transport {
    /// io_uring, or threads where the kernel or a sandbox refuses it. This is the default.
    Auto = 0,
    /// io_uring, or the loop does not start.
    Ring = 1,
    /// Threads.
    Threads = 2,
}

/// Means by which a device that rings the doorbell wakes a loop.
#[repr(C)]
pub enum Means {
    /// By FUTEX_WAKE on the doorbell word, as vyre_ioq_ring_and_wake does. The loop needs Linux 6.7 for it, or Linux 5.16
    /// on threads, and otherwise sleeps for short times only. This is the default.
    Futex = 0,
    /// By vyre_io_loop_wake, or by the descriptor of vyre_io_loop_wake_fd in another process.
    Waker = 1,
}

/// Makes options with the defaults that each function states.
///
/// @param[out] options The options, or NULL after an error. Free them with vyre_io_loop_options_free.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_new(
    options: Option<&mut MaybeUninit<Option<Box<LoopOptions>>>>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    guard(error, || {
        let place = Place::of(options, "options")?;
        place.put(LoopOptions(vyre_io::LoopOptions::new()));
        Ok(())
    })
}

/// Changes options by one of their methods.
fn set(
    options: Option<&mut LoopOptions>,
    error: Option<&mut MaybeUninit<Error>>,
    change: impl FnOnce(vyre_io::LoopOptions) -> Result<vyre_io::LoopOptions, Failure>,
) -> Code {
    guard(error, || {
        let options = given(options, "options")?;
        options.0 = change(options.0)?;
        Ok(())
    })
}

/// The loop never sleeps: the latency is lowest, and the cost is a core.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_spin(
    options: Option<&mut LoopOptions>,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| {
        Ok(options.wait_policy(WaitPolicy::Spin))
    })
}

/// The loop polls, and then sleeps for a sixteenth of the time since there was work. This is the default, with 2,000 spins
/// and a cap of 10 ms.
///
/// @param spins  Passes without work before the first sleep.
/// @param cap_ns The longest sleep in nanoseconds.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_adaptive(
    options: Option<&mut LoopOptions>,
    spins: u32,
    cap_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| {
        let policy = WaitPolicy::adaptive(spins, Duration::from_nanos(cap_ns));
        Ok(options.wait_policy(policy))
    })
}

/// The loop polls, and then sleeps until a device rings. Devices that cannot ring, such as GPUs, need a guard from
/// vyre_io_loop_active while they run. Queues need VYRE_IO_QUEUE_DOORBELL.
///
/// @param spins    Passes without work before a sleep; 50 is a good number.
/// @param bound_ns The longest sleep in nanoseconds; 100 ms is a good one. Devices see a heartbeat before each sleep, so
///                 it should be below a second.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_doorbell(
    options: Option<&mut LoopOptions>,
    spins: u32,
    bound_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| {
        let policy = WaitPolicy::doorbell(spins, Duration::from_nanos(bound_ns));
        Ok(options.wait_policy(policy))
    })
}

/// Sets what performs the operations.
///
/// @param transport A VYRE_IO_TRANSPORT_... number.
/// @return BAD_ARGUMENT for any other number.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_transport(
    options: Option<&mut LoopOptions>,
    transport: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| {
        const AUTO: u32 = Transport::Auto as u32;
        const RING: u32 = Transport::Ring as u32;
        const THREADS: u32 = Transport::Threads as u32;
        Ok(options.transport(match transport {
            AUTO => TransportChoice::Auto,
            RING => TransportChoice::Ring,
            THREADS => TransportChoice::ThreadPool,
            _ => return Err(Failure::argument(format!("{transport} is no transport"))),
        }))
    })
}

/// Sets how devices that ring wake the loop.
///
/// @param means A VYRE_IO_MEANS_... number.
/// @return BAD_ARGUMENT for any other number.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_rung_by(
    options: Option<&mut LoopOptions>,
    means: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| {
        const FUTEX: u32 = Means::Futex as u32;
        const WAKER: u32 = Means::Waker as u32;
        Ok(options.rung_by(match means {
            FUTEX => RingMeans::Futex,
            WAKER => RingMeans::Waker,
            _ => return Err(Failure::argument(format!("{means} names no means"))),
        }))
    })
}

/// Sets how many operations of a loop can be in flight. The default is 256. Further requests wait in the host; none is
/// rejected. A number that no ring can have is an error of the spawn: ENTRIES.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_ring_entries(
    options: Option<&mut LoopOptions>,
    entries: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| Ok(options.ring_entries(entries)))
}

/// Sets how many files, and how many buffers, can be added while the loop runs. The default is 64 of each.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_live_entries(
    options: Option<&mut LoopOptions>,
    entries: u32,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| Ok(options.live_entries(entries)))
}

/// Sets how long a stop lets claimed requests run before it cancels them. The default is 30 seconds.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_drain_timeout(
    options: Option<&mut LoopOptions>,
    timeout_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| {
        Ok(options.drain_timeout(Duration::from_nanos(timeout_ns)))
    })
}

/// Sets how long the loop waits for the kernel to give cancelled requests back before it leaks their buffers. The default
/// is 5 seconds.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_set_abort_timeout(
    options: Option<&mut LoopOptions>,
    timeout_ns: u64,
    error: Option<&mut MaybeUninit<Error>>,
) -> Code {
    set(options, error, |options| {
        Ok(options.abort_timeout(Duration::from_nanos(timeout_ns)))
    })
}

/// Frees the options. Does nothing for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn vyre_io_loop_options_free(options: Option<Box<LoopOptions>>) {
    free(options);
}
