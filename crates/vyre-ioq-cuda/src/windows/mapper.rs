//! The thread beside the loops that maps windows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use vyre_uring::Errno;

use super::asks::{Answers, Ask, Board, Counts, deliver};
use super::streams::Streams;

/// The pages of a file, as far as the thread has to do with them.
pub(super) trait Pages {
    /// Returns whether a window seems to be in memory.
    fn seems_cached(&self, window: u32) -> bool;

    /// Has the kernel begin to read windows in.
    fn read_ahead(&self, windows: &Range<u32>);

    /// Reads windows in, and waits for that.
    ///
    /// # Errors
    /// An errno of the kernel.
    fn fill(&self, windows: &Range<u32>) -> Result<(), Errno>;

    /// Pins windows in one call, and enters them into the kernels' table.
    ///
    /// # Errors
    /// [`Errno::NOBUFS`] if no more bytes may be pinned, and another errno if they cannot be.
    fn pin(&mut self, windows: &Range<u32>) -> Result<(), Errno>;
}

/// The largest number of windows that are read in and mapped at once: other requests wait meanwhile.
const COLD: u32 = 4;

/// Windows to map for the sake of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Job {
    /// The windows around the first one that others ask for, too.
    windows: Range<u32>,
    /// The next window of the request.
    first: u32,
    /// Set once the kernel was told to read the windows in.
    is_read_ahead: bool,
}

/// The next work of the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    Map(Job),
    /// Nothing is asked for.
    Idle,
    /// The thread ends.
    End,
}

/// Maps windows until the board is closed, and gives their pages back when it is dropped.
#[derive(Debug)]
pub(super) struct Mapper<P> {
    board: Arc<Board>,
    pages: P,
    streams: Streams,
    /// The largest number of windows of one call of the driver.
    most: u32,
    /// Kept for its memory.
    answers: Answers,
}

impl<P: Pages> Mapper<P> {
    pub(super) fn new(board: Arc<Board>, pages: P, most: u32, ahead: u32) -> Self {
        Self {
            board,
            pages,
            streams: Streams::new(ahead),
            most: most.max(1),
            answers: Vec::new(),
        }
    }

    /// Maps what is asked for, and what is likely to be asked for next, until the board is closed.
    pub(super) fn run(&mut self) {
        while !self.board.is_closed() {
            if !self.step() {
                self.board.wait();
            }
        }
    }

    /// Does one call's worth of work, if there is any. Returns whether there was.
    pub(super) fn step(&mut self) -> bool {
        let work = self.next_work();
        deliver(&mut self.answers);
        match work {
            Work::Map(job) => self.serve(&job),
            Work::Idle => return self.map_ahead(),
            Work::End => return false,
        }
        true
    }

    fn next_work(&mut self) -> Work {
        let board = Arc::clone(&self.board);
        let mut asks = board.asks();
        if asks.is_closed {
            return Work::End;
        }
        if let Some(window) = asks.hit.take() {
            self.streams.asked(&(window..window + 1));
        }
        // A window may have been mapped between the look of a loop at it and its request.
        board.settle(&mut asks.queue, &mut self.answers);
        // Those that wait for the drive come after all others.
        let fresh = asks.queue.iter().position(|ask| !ask.is_read_ahead);
        let Some(ask) = asks.queue.remove(fresh.unwrap_or(0)) else {
            return Work::Idle;
        };
        let (first, is_read_ahead) = (ask.windows.start, ask.is_read_ahead);
        // Another one has its turn after this call.
        asks.queue.push_back(ask);
        let windows = self.run_around(first, &asks.queue);
        Work::Map(Job {
            windows,
            first,
            is_read_ahead,
        })
    }

    fn serve(&mut self, job: &Job) {
        if job.is_read_ahead {
            let end = job.windows.end.min(job.first + COLD);
            return self.map(&(job.first..end), job.first, true);
        }
        if self.pages.seems_cached(job.first) {
            return self.map(&self.cached_around(job), job.first, false);
        }
        self.pages.read_ahead(&job.windows);
        self.board.set_read_ahead(job.first);
    }

    /// Returns the windows of a job around its first one that seem to be in memory: others would have the driver wait
    /// for the drive, and with it every other request.
    fn cached_around(&self, job: &Job) -> Range<u32> {
        let Range { start, end } = job.windows;
        let is_cold = |window: &u32| !self.pages.seems_cached(*window);
        let until = (job.first + 1..end).find(is_cold).unwrap_or(end);
        let before = (start..job.first).rev().find(is_cold);
        before.map_or(start, |cold| cold + 1)..until
    }

    /// Returns the windows around one that are asked for and not mapped, as many as one call maps.
    fn run_around(&self, window: u32, asks: &VecDeque<Ask>) -> Range<u32> {
        let is_wanted = |window: u32| {
            !self.board.is_mapped(window) && asks.iter().any(|ask| ask.windows.contains(&window))
        };
        let (mut start, mut end) = (window, window + 1);
        while end - start < self.most && end < self.board.count && is_wanted(end) {
            end += 1;
        }
        while end - start < self.most && start > 0 && is_wanted(start - 1) {
            start -= 1;
        }
        start..end
    }

    fn map(&mut self, windows: &Range<u32>, first: u32, is_cold: bool) {
        let mut mapped = self.pin(windows, is_cold);
        if mapped.is_err() && windows.end - windows.start > 1 {
            // There may be room for less, or another window be at fault.
            mapped = self.pin(&(first..first + 1), is_cold);
        }
        let Err(errno) = mapped else {
            return self.streams.asked(windows);
        };
        let counts = &self.board.counts;
        let count = match errno {
            Errno::NOBUFS => &counts.refused,
            _ => &counts.failed,
        };
        Counts::add(count, 1);
        self.board.fail(first, errno, &mut self.answers);
    }

    /// Maps the next windows of a sequence. Returns whether there were any.
    fn map_ahead(&mut self) -> bool {
        let Some(run) = self.streams.next(self.most, self.board.count) else {
            return false;
        };
        let start = self.board.first_unmapped(run.clone());
        let end = (start..run.end).find(|&window| self.board.is_mapped(window));
        let mut part = start..end.unwrap_or(run.end);
        if !part.is_empty() {
            let cold = part
                .clone()
                .find(|&window| !self.pages.seems_cached(window));
            let is_cold = cold == Some(part.start);
            if is_cold {
                self.pages.read_ahead(&part);
                part.end = part.end.min(part.start + COLD);
            } else {
                part.end = cold.unwrap_or(part.end);
            }
            if self.pin(&part, is_cold).is_err() {
                // The requests that come will say what is wrong.
                self.streams.clear();
                return true;
            }
            Counts::add(&self.board.counts.ahead, part.len() as u64);
        }
        self.streams.advanced(run.start, part.end);
        true
    }

    fn pin(&mut self, windows: &Range<u32>, is_cold: bool) -> Result<(), Errno> {
        if is_cold {
            self.pages.fill(windows)?;
        }
        self.pages.pin(windows)?;
        self.board.set_mapped(windows.clone());
        Counts::add(&self.board.counts.calls, 1);
        Counts::add(&self.board.counts.mapped, windows.len() as u64);
        Ok(())
    }
}

impl<P> Drop for Mapper<P> {
    /// Ends every request, also where the thread panics. The pages are given back afterwards.
    fn drop(&mut self) {
        self.board.end(&mut self.answers);
        deliver(&mut self.answers);
    }
}

#[cfg(test)]
mod tests;
