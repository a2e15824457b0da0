//! The threads that perform operations.

use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::poller;
use super::shared::{Shared, State};
use super::work::Taken;
use crate::service_thread::spawn;

/// The time after which a worker without work ends. One stays.
const IDLE: Duration = Duration::from_secs(5);

/// Starts a worker. The lock must be held by the caller, who has counted the worker.
pub(super) fn start(shared: &Arc<Shared>, state: &mut State) -> Result<(), Errno> {
    let thread = shared.clone();
    let cores = &shared.settings.cores;
    let started = spawn("vyre-io-worker", cores, move || run(&thread))?;
    state.threads.retain(|thread| !thread.is_finished());
    state.threads.push(started);
    Ok(())
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
    let cores = &shared.settings.cores;
    match spawn("vyre-io-poller", cores, move || poller::run(&thread)) {
        Ok(started) => state.threads.push(started),
        // The next operation that needs it tries again.
        Err(_) => state.has_poller = false,
    }
}

/// Has the poller wake the owner when something is written to an eventfd. Returns `None` if there is no eventfd or no
/// poller.
pub(super) fn poll_rings(shared: &Arc<Shared>) -> Option<&OwnedFd> {
    let rings = shared.rings()?;
    let mut state = shared.lock();
    if state.wants_poller || !state.has_poller {
        state.wants_poller = false;
        state.has_poller = true;
        start_poller(shared, &mut state);
    }
    let polled = state.has_poller;
    state.work.poll_changed = true;
    shared.unlock(state);
    polled.then_some(rings)
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
