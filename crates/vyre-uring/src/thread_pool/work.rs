//! The operations that the threads of a pool are to perform, and the order in which they start.
//!
//! This is plain data without threads: `shared` puts it under a lock. Operations are linked into lists
//! by their index, so nothing here allocates after set-up.

use std::collections::VecDeque;

use rustix::io::Errno;

use super::lists::{List, NONE};
use super::perform::{Job, encode};
use crate::completion::Token;

/// The lists of a file: who performs an operation, and under which condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A worker performs it, beside others on the same file.
    Any,
    /// A worker performs it, one at a time: buffered writes of a file exclude each other in the
    /// kernel, where they would occupy a thread each.
    Alone,
    /// The poller performs it once the file can be read, or written.
    PollRead,
    PollWrite,
}

impl Lane {
    pub(super) const COUNT: usize = 4;
    pub(super) const POLLED: [Self; 2] = [Self::PollRead, Self::PollWrite];

    const fn is_polled(self) -> bool {
        matches!(self, Self::PollRead | Self::PollWrite)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// In a list.
    Queued,
    /// A thread performs it.
    Taken,
}

/// An operation in the hands of the pool.
#[derive(Debug)]
pub(super) struct Entry {
    token: Token,
    file: u32,
    lane: Lane,
    state: State,
    /// Set if it is to end early.
    cancelled: bool,
    /// Its place in the order of arrival.
    arrival: u64,
    job: Option<Job>,
    pub(super) next: u32,
    pub(super) previous: u32,
}

/// State of a polled list: how far its first operation has passed to a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Handed {
    #[default]
    No,
    /// The next worker takes it.
    Offered,
    /// A worker performs it.
    Taken,
}

/// The operations on one file.
#[derive(Debug, Default)]
struct FileQueue {
    lists: [List; Lane::COUNT],
    /// The number of workers that the file occupies.
    running: u32,
    /// Set while a worker performs an operation of `Lane::Alone`.
    alone: bool,
    /// Set while the file is in `Work::startable` or `Work::polled`.
    is_startable: bool,
    is_polled: bool,
    /// For each polled lane, whether a worker is to perform its first operation.
    handed: [Handed; 2],
}

/// All operations in the hands of the pool.
#[derive(Debug)]
pub(super) struct Work {
    entries: Box<[Entry]>,
    files: Box<[FileQueue]>,
    /// The files with an operation for a worker, in turn.
    startable: VecDeque<u32>,
    /// The files with an operation for the poller.
    polled: Vec<u32>,
    /// Set when the poller is to look at `polled` again.
    pub(super) poll_changed: bool,
    /// Results that the owner has not collected.
    done: Vec<(Token, i32)>,
    /// The number of operations without a result.
    unfinished: u32,
    arrivals: u64,
    /// The largest number of workers, and how many perform an operation.
    most: u32,
    busy: u32,
}

/// An operation that a thread performs.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) index: u32,
    pub(super) job: Job,
    /// Set if the poller has handed it over because the kernel cannot tell whether it would wait.
    pub(super) check_first: bool,
}

impl Work {
    pub(super) fn new(operations: u32, files: u32, workers: u32) -> Self {
        let entry = |_| Entry {
            token: Token::from_raw(0),
            file: 0,
            lane: Lane::Any,
            state: State::Free,
            cancelled: false,
            arrival: 0,
            job: None,
            next: NONE,
            previous: NONE,
        };
        Self {
            entries: (0..operations).map(entry).collect(),
            files: (0..files).map(|_| FileQueue::default()).collect(),
            startable: VecDeque::with_capacity(files as usize),
            polled: Vec::with_capacity(files as usize),
            poll_changed: false,
            done: Vec::with_capacity(operations as usize),
            unfinished: 0,
            arrivals: 0,
            most: workers,
            busy: 0,
        }
    }

    /// Takes an operation over. Its token must not be in the hands of the pool yet.
    pub(super) fn add(&mut self, token: Token, file: u32, lane: Lane, job: Job) {
        self.arrivals += 1;
        let entry = &mut self.entries[token.index() as usize];
        debug_assert_eq!(entry.state, State::Free);
        entry.token = token;
        entry.file = file;
        entry.lane = lane;
        entry.cancelled = false;
        entry.arrival = self.arrivals;
        entry.job = Some(job);
        self.unfinished += 1;
        self.queue(token.index(), false);
    }

    /// Takes the next operation for a worker. A file may occupy at most as many workers as it leaves
    /// free: half of them if no other file occupies any.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let at = self.position()?;
        let slot = self.startable.remove(at)?;
        let file = &mut self.files[slot as usize];
        file.is_startable = false;
        let lane = file.first(&self.entries)?;
        let index = file.lists[lane as usize].pop(&mut self.entries)?;
        file.running += 1;
        match lane {
            Lane::Any => {}
            Lane::Alone => file.alone = true,
            Lane::PollRead | Lane::PollWrite => file.handed[handed(lane)] = Handed::Taken,
        }
        self.busy += 1;
        self.list_startable(slot);
        self.begin(index, lane.is_polled())
    }

    /// Returns whether a further worker would find an operation that may start.
    pub(super) fn may_start(&self) -> bool {
        self.position().is_some()
    }

    /// Returns the place in `startable` of the first file that may occupy a worker. A file that may not
    /// occupies one, so at most as many files are passed over as there are workers.
    fn position(&self) -> Option<usize> {
        let free = self.most.checked_sub(self.busy).filter(|&free| free > 0)?;
        let mut files = self.startable.iter();
        files.position(|&slot| self.files[slot as usize].running < free)
    }

    /// Ends an operation that a worker has performed.
    pub(super) fn finish(&mut self, index: u32, result: i32) {
        self.release_worker(index);
        self.end(index, result);
    }

    /// Ends an operation that the poller has performed.
    pub(super) fn finish_polled(&mut self, index: u32, result: i32) {
        self.end(index, result);
    }

    /// Puts an operation back into its polled list, in front of the others: it would wait.
    pub(super) fn put_back(&mut self, index: u32, job: Job) {
        if self.entries[index as usize].cancelled {
            return self.end(index, encode(Err(Errno::CANCELED)));
        }
        self.entries[index as usize].job = Some(job);
        self.queue(index, true);
    }

    /// Puts back an operation that a worker was handed.
    pub(super) fn put_back_from_worker(&mut self, index: u32, job: Job) {
        self.release_worker(index);
        self.put_back(index, job);
    }

    /// Hands an operation of the poller to a worker. The file is not polled for others of its kind
    /// until that worker is done.
    pub(super) fn hand_over(&mut self, index: u32, job: Job) {
        self.put_back(index, job);
        let entry = &self.entries[index as usize];
        if entry.state == State::Queued {
            let (slot, lane) = (entry.file, entry.lane);
            self.files[slot as usize].handed[handed(lane)] = Handed::Offered;
            self.list_startable(slot);
        }
    }

    /// Returns the files that are to be polled, by slot, with an open descriptor and what is waited for.
    pub(super) fn polled(&self) -> impl Iterator<Item = (u32, &Job, [bool; 2])> {
        self.polled.iter().filter_map(|&slot| {
            let file = &self.files[slot as usize];
            let first = |lane: Lane| file.lists[lane as usize].first();
            let waits = Lane::POLLED
                .map(|lane| first(lane).is_some() && file.handed[handed(lane)] == Handed::No);
            let lane = Lane::POLLED[usize::from(!waits[0])];
            let entry = &self.entries[first(lane).filter(|_| waits != [false; 2])? as usize];
            Some((slot, entry.job.as_ref()?, waits))
        })
    }

    /// Takes the next operation of a polled list.
    pub(super) fn take_polled(&mut self, slot: u32, lane: Lane) -> Option<Taken> {
        let file = &mut self.files[slot as usize];
        if file.handed[handed(lane)] != Handed::No {
            return None;
        }
        let index = file.lists[lane as usize].pop(&mut self.entries)?;
        self.begin(index, false)
    }

    /// Forgets the files for which nothing waits any more.
    pub(super) fn tidy_polled(&mut self) {
        let files = &mut self.files;
        self.polled.retain(|&slot| {
            let file = &mut files[slot as usize];
            let lists = Lane::POLLED.map(|lane| file.lists[lane as usize].first());
            file.is_polled = lists != [None, None];
            file.is_polled
        });
    }

    /// Cancels an operation: at once if no thread performs it. Returns whether the pool has it.
    pub(super) fn cancel(&mut self, token: Token) -> bool {
        let Some(entry) = self.entries.get_mut(token.index() as usize) else {
            return false;
        };
        if entry.token != token || entry.state == State::Free {
            return false;
        }
        entry.cancelled = true;
        if entry.state == State::Queued {
            self.unlink(token.index());
            self.end(token.index(), encode(Err(Errno::CANCELED)));
        }
        true
    }

    /// Cancels all operations that no thread performs.
    pub(super) fn cancel_all(&mut self) {
        for index in 0..self.entries.len() {
            let entry = &self.entries[index];
            if entry.state != State::Free {
                self.cancel(entry.token);
            }
        }
    }

    /// Returns the number of operations without a result.
    pub(super) const fn unfinished(&self) -> u32 {
        self.unfinished
    }

    /// Returns the number of workers that perform an operation.
    #[cfg(test)]
    pub(super) const fn busy(&self) -> u32 {
        self.busy
    }

    pub(super) const fn done(&self) -> &Vec<(Token, i32)> {
        &self.done
    }

    /// Passes on the results that were not collected.
    pub(super) fn collect(&mut self, into: &mut VecDeque<(Token, i32)>) {
        into.extend(self.done.drain(..));
    }

    fn begin(&mut self, index: u32, check_first: bool) -> Option<Taken> {
        let entry = &mut self.entries[index as usize];
        entry.state = State::Taken;
        let job = entry.job.take()?;
        Some(Taken {
            index,
            job,
            check_first,
        })
    }

    fn end(&mut self, index: u32, result: i32) {
        let entry = &mut self.entries[index as usize];
        entry.state = State::Free;
        entry.job = None;
        // What was interrupted because it was cancelled was cancelled.
        let interrupted = [Errno::INTR, Errno::AGAIN].map(|errno| encode(Err(errno)));
        let result = match entry.cancelled && interrupted.contains(&result) {
            true => encode(Err(Errno::CANCELED)),
            false => result,
        };
        self.done.push((entry.token, result));
        self.unfinished -= 1;
    }

    fn release_worker(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (slot, lane) = (entry.file, entry.lane);
        let file = &mut self.files[slot as usize];
        file.running -= 1;
        self.busy -= 1;
        match lane {
            Lane::Any => {}
            Lane::Alone => file.alone = false,
            Lane::PollRead | Lane::PollWrite => {
                file.handed[handed(lane)] = Handed::No;
                self.poll_changed = true;
            }
        }
        self.list_startable(slot);
    }

    /// Puts an operation into its list.
    fn queue(&mut self, index: u32, first: bool) {
        let entry = &mut self.entries[index as usize];
        entry.state = State::Queued;
        let (slot, lane) = (entry.file, entry.lane);
        let file = &mut self.files[slot as usize];
        let list = &mut file.lists[lane as usize];
        match first {
            true => list.push_front(index, &mut self.entries),
            false => list.push_back(index, &mut self.entries),
        }
        if !lane.is_polled() {
            return self.list_startable(slot);
        }
        self.poll_changed = true;
        if !file.is_polled {
            file.is_polled = true;
            self.polled.push(slot);
        }
    }

    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (slot, lane) = (entry.file, entry.lane);
        let file = &mut self.files[slot as usize];
        file.lists[lane as usize].unlink(index, &mut self.entries);
        self.poll_changed |= lane.is_polled();
        let is_offered = lane.is_polled() && file.handed[handed(lane)] == Handed::Offered;
        if is_offered && file.lists[lane as usize].first().is_none() {
            file.handed[handed(lane)] = Handed::No;
        }
        if file.is_startable && file.first(&self.entries).is_none() {
            file.is_startable = false;
            self.startable.retain(|&other| other != slot);
        }
    }

    /// Lists a file as startable if it has an operation that a worker may perform.
    fn list_startable(&mut self, slot: u32) {
        let file = &mut self.files[slot as usize];
        if !file.is_startable && file.first(&self.entries).is_some() {
            file.is_startable = true;
            self.startable.push_back(slot);
        }
    }
}

impl FileQueue {
    /// Returns the lane of the next operation for a worker: of those that may start, the one that came
    /// first.
    fn first(&self, entries: &[Entry]) -> Option<Lane> {
        let may_start = [
            (Lane::Any, true),
            (Lane::Alone, !self.alone),
            (Lane::PollRead, self.handed[0] == Handed::Offered),
            (Lane::PollWrite, self.handed[1] == Handed::Offered),
        ];
        let lanes = may_start.into_iter().filter(|&(_, may)| may);
        let waiting = lanes.filter_map(|(lane, _)| {
            let first = self.lists[lane as usize].first()?;
            Some((entries[first as usize].arrival, lane))
        });
        waiting
            .min_by_key(|&(arrival, _)| arrival)
            .map(|(_, lane)| lane)
    }
}

/// Returns the place of a polled lane in `FileQueue::handed`.
const fn handed(lane: Lane) -> usize {
    match lane {
        Lane::PollWrite => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustix::event::{EventfdFlags, eventfd};

    use super::super::perform::Task;
    use super::*;

    fn work_of(lanes: &[Lane]) -> Work {
        let mut work = Work::new(8, 1, 8);
        for (index, &lane) in (0..).zip(lanes) {
            let file = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
            let task = Task::Sync { data_only: true };
            work.add(Token::from_raw(index), 0, lane, Job { file, task });
        }
        work
    }

    fn next(work: &mut Work) -> Option<u32> {
        work.take().map(|taken| taken.index)
    }

    #[test]
    fn buffered_writes_of_a_file_are_performed_one_after_another() {
        let mut work = work_of(&[Lane::Alone, Lane::Alone, Lane::Any]);
        assert_eq!(next(&mut work), Some(0));
        assert_eq!(next(&mut work), Some(2), "others pass them");
        assert_eq!(next(&mut work), None);
        work.finish(0, 0);
        assert_eq!(next(&mut work), Some(1));
    }

    #[test]
    fn what_is_cancelled_in_the_hands_of_the_poller_is_not_put_back() {
        let mut work = work_of(&[Lane::PollRead]);
        let Taken { index, job, .. } = work.take_polled(0, Lane::PollRead).unwrap();
        assert!(work.cancel(Token::from_raw(0)));
        assert_eq!(work.unfinished(), 1, "it may still be performed");
        work.put_back(index, job);
        let mut done = VecDeque::new();
        work.collect(&mut done);
        assert_eq!(done, [(Token::from_raw(0), encode(Err(Errno::CANCELED)))]);
    }
}
