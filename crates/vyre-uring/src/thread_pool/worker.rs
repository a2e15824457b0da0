//! The threads that perform operations.

use std::sync::{Arc, MutexGuard};
use std::thread::{self, Builder};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::CpuSet;

use super::poller;
use super::shared::{Shared, State};
use super::work::Taken;

/// The stack of a thread. It makes system calls and little else.
const STACK: usize = 128 << 10;

/// The time after which a worker without work ends. One stays.
const IDLE: Duration = Duration::from_secs(5);

/// Signals that report a fault of the thread itself. All others belong to other threads, or an
/// operation could raise them: SIGXFSZ, SIGPIPE.
const FAULTS: [Signal; 7] = [
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// Starts a worker. The lock must be held by the caller, who has counted the worker.
pub(super) fn start(shared: &Arc<Shared>, state: &mut State) -> Result<(), Errno> {
    let thread = shared.clone();
    let started = spawn(shared, "vyre-io-worker", move || run(&thread))?;
    state.threads.retain(|thread| !thread.is_finished());
    state.threads.push(started);
    Ok(())
}

fn spawn(
    shared: &Arc<Shared>,
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, Errno> {
    let shared = shared.clone();
    let body = move || {
        let mut blocked = SigSet::all();
        FAULTS.into_iter().for_each(|signal| blocked.remove(signal));
        // Where a filter forbids that, the mask of the thread that built the pool holds.
        let _ = blocked.thread_block();
        let cores = &shared.settings.cores;
        if !cores.is_empty() {
            let mut set = CpuSet::new();
            let known = cores.iter().filter(|&&core| core < CpuSet::MAX_CPU);
            known.for_each(|&core| set.set(core));
            // A failure costs speed at worst.
            let _ = rustix::thread::sched_setaffinity(None, &set);
        }
        drop(shared);
        run();
    };
    let builder = Builder::new().name(name.into()).stack_size(STACK);
    let refused = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
    builder.spawn(body).map_err(refused)
}

/// Performs operations until the pool ends, or until there was nothing to do for a while.
fn run(shared: &Arc<Shared>) {
    let mut state = shared.lock();
    state.waking = false;
    loop {
        if state.wants_poller {
            state.wants_poller = false;
            start_poller(shared, &mut state);
        }
        if let Some(taken) = state.work.take() {
            provide_next(shared, &mut state);
            shared.unlock(state);
            state = perform(shared, taken);
            continue;
        }
        if state.closed {
            break;
        }
        match rest(shared, state) {
            Ok(woken) => state = woken,
            Err(last) => {
                state = last;
                break;
            }
        }
    }
    state.workers -= 1;
    shared.unlock(state);
}

/// Waits for work. Returns an error if the worker is to end.
fn rest<'a>(
    shared: &'a Shared,
    mut state: MutexGuard<'a, State>,
) -> Result<MutexGuard<'a, State>, MutexGuard<'a, State>> {
    // What others were told to wake for may have been taken since.
    let wakes = state.wakes();
    shared.publish(&state);
    if wakes.worker || wakes.owner || wakes.poller {
        drop(state);
        shared.wake(wakes);
        state = shared.lock();
        if state.work.may_start() || state.wants_poller || state.closed {
            return Ok(state);
        }
    }
    state.idle += 1;
    let waited = shared.work_came.wait_timeout(state, IDLE);
    let (mut state, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
    state.idle -= 1;
    let spare = timeout.timed_out() && state.idle > 0 && !state.waking && !state.work.may_start();
    // Whether or not it was this one that was woken: a wake-up too many does no harm.
    state.waking = false;
    match spare {
        true => Err(state),
        false => Ok(state),
    }
}

/// Makes sure that a worker is idle or about to be, so that a later operation does not wait until a
/// thread has started.
fn provide_next(shared: &Arc<Shared>, state: &mut State) {
    let settings = &shared.settings;
    if state.idle == 0 && !state.waking && state.workers < settings.most && !state.closed {
        state.workers += 1;
        state.waking = true;
        if start(shared, state).is_err() {
            // The existing ones go on alone.
            state.workers -= 1;
            state.waking = false;
        }
    }
}

fn start_poller(shared: &Arc<Shared>, state: &mut State) {
    let thread = shared.clone();
    match spawn(shared, "vyre-io-poller", move || poller::run(&thread)) {
        Ok(started) => state.threads.push(started),
        // The next operation that needs it tries again.
        Err(_) => state.has_poller = false,
    }
}

/// Performs an operation without the lock, and returns with the lock.
fn perform<'a>(shared: &'a Shared, taken: Taken) -> MutexGuard<'a, State> {
    let Taken {
        index,
        mut job,
        check_first,
    } = taken;
    if check_first {
        // Another reader may have been faster than the poller's word.
        if !is_ready(&job.file, job.is_read()) {
            let mut state = shared.lock();
            state.work.put_back_from_worker(index, job);
            return state;
        }
        job.shorten();
    }
    let result = job.perform();
    // Before the result is known: afterwards, the owner may close the file and free the memory.
    drop(job);
    let mut state = shared.lock();
    state.work.finish(index, result);
    state
}

/// Returns whether a file can be read or written without waiting, as far as the kernel tells.
fn is_ready(file: &impl std::os::fd::AsFd, reads: bool) -> bool {
    let events = if reads { PollFlags::IN } else { PollFlags::OUT };
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    !matches!(poll(&mut [PollFd::new(file, events)], Some(&now)), Ok(0))
}
