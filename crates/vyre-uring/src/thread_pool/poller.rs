//! The thread that waits for pipes, sockets, terminals and all other files without offsets, so that no
//! worker does.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::shared::{Shared, State};
use super::sleeper::WOKEN;
use super::work::{Lane, Taken};

/// The pause after a round in which files were said to be ready, and none was.
const BACK_OFF: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// A file that operations wait for.
struct Waiting {
    slot: u32,
    file: Arc<OwnedFd>,
    events: PollFlags,
}

/// Performs operations as their files become ready, until the pool ends.
pub(super) fn run(shared: &Shared) {
    let mut progress = true;
    loop {
        let mut state = shared.lock();
        if state.closed {
            break;
        }
        let waiting = collect(&mut state);
        state.polling = true;
        state.poller_holds = !waiting.is_empty();
        shared.unlock(state);
        let ready = wait(shared, &waiting, progress);
        let mut state = shared.lock();
        state.polling = false;
        shared.unlock(state);
        progress = ready.is_empty();
        for (slot, lane) in ready {
            progress |= serve(shared, slot, lane);
        }
        drop(waiting);
        let mut state = shared.lock();
        state.poller_holds = false;
        state.poll_rounds += 1;
        shared.round_over.notify_all();
        shared.unlock(state);
    }
}

/// Lists the files to wait for.
fn collect(state: &mut State) -> Vec<Waiting> {
    state.work.poll_changed = false;
    state.work.tidy_polled();
    let polled = state.work.polled();
    let waiting = polled.map(|(slot, job, [reads, writes])| {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, reads);
        events.set(PollFlags::OUT, writes);
        let file = job.file.clone();
        Waiting { slot, file, events }
    });
    waiting.collect()
}

/// Waits until a file is ready or the pool pokes. Returns what can be performed.
fn wait(shared: &Shared, waiting: &[Waiting], progress: bool) -> Vec<(u32, Lane)> {
    // After a round without progress, the files are left alone for a while.
    let watched = if progress { waiting } else { &[] };
    let mut fds: Vec<PollFd<'_>> = watched
        .iter()
        .map(|waiting| PollFd::new(&waiting.file, waiting.events))
        .collect();
    fds.push(PollFd::new(&shared.poke, PollFlags::IN));
    let rings = shared.polled_rings();
    fds.extend(rings.map(|rings| PollFd::new(rings, PollFlags::IN)));
    if poll(&mut fds, (!progress).then_some(&BACK_OFF)).is_err() {
        // A signal, or no memory: an endless round would be worse than a pause.
        std::thread::sleep(Duration::from_millis(1));
        return Vec::new();
    }
    if let Some(rings) = rings
        && fds.pop().is_some_and(|fd| !fd.revents().is_empty())
    {
        let _ = rustix::io::read(rings, &mut [0; 8]);
        shared.sleeper.notify(WOKEN);
    }
    if fds.pop().is_some_and(|poke| !poke.revents().is_empty()) {
        let _ = rustix::io::read(&shared.poke, &mut [0; 8]);
    }
    let ends = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    let mut ready = Vec::new();
    for (waiting, fd) in watched.iter().zip(&fds) {
        for (lane, event) in Lane::POLLED
            .into_iter()
            .zip([PollFlags::IN, PollFlags::OUT])
        {
            if waiting.events.contains(event) && fd.revents().intersects(event | ends) {
                ready.push((waiting.slot, lane));
            }
        }
    }
    ready
}

/// Performs the operations of a list until one would wait. Returns whether any could be performed.
fn serve(shared: &Shared, slot: u32, lane: Lane) -> bool {
    let mut progress = false;
    loop {
        let mut state = shared.lock();
        let taken = state.work.take_polled(slot, lane);
        shared.unlock(state);
        let Some(Taken { index, job, .. }) = taken else {
            return progress;
        };
        match job.perform_ready() {
            Ok(result) => {
                // Before the result is known: afterwards, the owner may close the file.
                drop(job);
                let mut state = shared.lock();
                state.work.finish_polled(index, result);
                shared.unlock(state);
                progress = true;
            }
            Err(errno) => {
                let mut state = shared.lock();
                if errno == Errno::AGAIN {
                    state.work.put_back(index, job);
                } else {
                    // The kernel does not tell whether this would wait, but says that it would not.
                    state.work.hand_over(index, job);
                    progress = true;
                }
                shared.unlock(state);
                return progress;
            }
        }
    }
}
