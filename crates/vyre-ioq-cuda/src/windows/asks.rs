//! The windows that kernels ask for, between the loops and the thread that maps.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use vyre_uring::Errno;

/// The time for which the thread looks for new requests before it sleeps: to be woken takes some 10 to 50 µs.
const SPIN: Duration = Duration::from_micros(50);

/// A MAP that waits for windows.
#[derive(Debug)]
pub(super) struct Ask {
    /// The windows that are not known to be mapped: the first of them is not.
    pub(super) windows: Range<u32>,
    /// Set once the kernel was told to read the next windows in.
    pub(super) is_read_ahead: bool,
    /// Names the request in its transport.
    pub(super) number: u64,
    pub(super) port: Arc<Port>,
}

/// The answers for one transport.
#[derive(Debug)]
pub(super) struct Port {
    answers: Mutex<Vec<Answer>>,
    /// The number of answers, so that a look for them takes no lock.
    count: AtomicU32,
    waker: Option<Waker>,
}

/// The end of a MAP: its number, and its result.
pub(super) type Answer = (u64, Result<(), Errno>);

/// Answers, and where they go.
pub(super) type Answers = Vec<(Arc<Port>, Answer)>;

impl Port {
    pub(super) fn new(capacity: u32, waker: Option<Waker>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(Vec::with_capacity(capacity as usize)),
            count: AtomicU32::new(0),
            waker,
        })
    }

    /// Returns whether [`answer`](Self::answer) ends a wait of the transport.
    pub(super) fn wakes(&self) -> bool {
        self.waker.is_some()
    }

    fn answer(&self, answer: Answer) {
        let mut answers = lock(&self.answers);
        answers.push(answer);
        // Relaxed: the lock orders what is behind it.
        self.count.store(answers.len() as u32, Ordering::Relaxed);
        drop(answers);
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Passes all answers on.
    pub(super) fn take(&self, sink: impl FnMut(Answer)) {
        // Relaxed: as above. An answer that is missed now wakes the transport, and is found then.
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut answers = lock(&self.answers);
        self.count.store(0, Ordering::Relaxed);
        answers.drain(..).for_each(sink);
    }
}

/// Counts of the requests for windows of one file, and of their ends.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) asked: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) mapped: AtomicU64,
    pub(super) ahead: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Counts {
    /// Adds to a count. Relaxed: a count guards no other memory.
    pub(super) fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }
}

/// The result of a request for windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of them were mapped already.
    Mapped,
    /// The port gets an answer.
    Queued,
    /// More requests wait than the transports have in flight.
    Full,
    /// The thread has ended.
    Closed,
}

/// The windows of one file: which of them are mapped, and which are asked for.
#[derive(Debug)]
pub(super) struct Board {
    /// The number of windows.
    pub(super) count: u32,
    /// One bit for each window, set for good once it is mapped.
    mapped: Box<[AtomicU64]>,
    asks: Mutex<Asks>,
    changed: Condvar,
    /// Set while there may be something to take, so that the thread can look without the lock.
    has_news: AtomicBool,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
pub(super) struct Asks {
    /// The oldest first.
    pub(super) queue: VecDeque<Ask>,
    /// The requests that the transports have in flight at most.
    room: usize,
    /// The last window that was asked for and was mapped already.
    pub(super) hit: Option<u32>,
    pub(super) is_closed: bool,
    sleeps: bool,
}

impl Board {
    pub(super) fn new(count: u32) -> Self {
        let words = (count as usize).div_ceil(64);
        Self {
            count,
            mapped: (0..words).map(|_| AtomicU64::new(0)).collect(),
            asks: Mutex::default(),
            changed: Condvar::new(),
            has_news: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    pub(super) fn is_mapped(&self, window: u32) -> bool {
        // Acquire, paired with the release in `set_mapped`: the window is in the kernels' table.
        let word = self.mapped[window as usize / 64].load(Ordering::Acquire);
        word >> (window % 64) & 1 != 0
    }

    /// Notes that windows are mapped, after they are in the kernels' table.
    pub(super) fn set_mapped(&self, windows: Range<u32>) {
        for window in windows {
            // Release, paired with the acquire in `is_mapped`.
            self.mapped[window as usize / 64].fetch_or(1 << (window % 64), Ordering::Release);
        }
    }

    /// Returns the first window of a range that is not mapped, or the range's end.
    pub(super) fn first_unmapped(&self, mut windows: Range<u32>) -> u32 {
        let end = windows.end;
        windows
            .find(|&window| !self.is_mapped(window))
            .unwrap_or(end)
    }

    /// Makes room for the requests of one more transport, which gets its answers at `port`.
    pub(super) fn room(self: &Arc<Self>, capacity: u32, port: &Arc<Port>) -> Room {
        let mut asks = lock(&self.asks);
        asks.room += capacity as usize;
        let more = asks.room.saturating_sub(asks.queue.len());
        asks.queue.reserve(more);
        Room {
            board: Arc::clone(self),
            port: Arc::clone(port),
            capacity,
        }
    }

    /// Returns whether requests are refused.
    pub(super) fn is_closed(&self) -> bool {
        lock(&self.asks).is_closed
    }

    /// Asks for windows.
    pub(super) fn ask(&self, windows: Range<u32>, number: u64, port: &Arc<Port>) -> Asked {
        let first = self.first_unmapped(windows.clone());
        Counts::add(&self.counts.asked, 1);
        let mut asks = lock(&self.asks);
        if asks.is_closed {
            return Asked::Closed;
        }
        let asked = if first == windows.end {
            Counts::add(&self.counts.hits, 1);
            asks.hit = windows.last();
            Asked::Mapped
        } else if asks.queue.len() >= asks.room {
            return Asked::Full;
        } else {
            asks.queue.push_back(Ask {
                windows: first..windows.end,
                is_read_ahead: false,
                number,
                port: Arc::clone(port),
            });
            Asked::Queued
        };
        self.tell(asks);
        asked
    }

    /// Forgets a request. It may be answered all the same.
    pub(super) fn forget(&self, number: u64, port: &Arc<Port>) {
        let mut asks = lock(&self.asks);
        let is_it = |ask: &Ask| ask.number == number && Arc::ptr_eq(&ask.port, port);
        asks.queue.retain(|ask| !is_it(ask));
    }

    /// Notes that the kernel reads this window in, and the ones behind it, for the requests that wait for it.
    pub(super) fn set_read_ahead(&self, window: u32) {
        let mut asks = lock(&self.asks);
        let waiting = asks.queue.iter_mut();
        waiting
            .filter(|ask| ask.windows.start == window)
            .for_each(|ask| ask.is_read_ahead = true);
    }

    /// Takes all requests, and refuses those that come.
    pub(super) fn end(&self, answers: &mut Answers) {
        let mut asks = lock(&self.asks);
        asks.is_closed = true;
        let taken = asks.queue.drain(..);
        answers.extend(taken.map(|ask| (ask.port, (ask.number, Err(Errno::OPNOTSUPP)))));
    }

    /// Has the thread end.
    pub(super) fn close(&self) {
        let mut asks = lock(&self.asks);
        asks.is_closed = true;
        self.tell(asks);
    }

    fn tell(&self, asks: MutexGuard<'_, Asks>) {
        // Relaxed: the lock orders what is behind it, and a thread that misses it for now is woken below.
        self.has_news.store(true, Ordering::Relaxed);
        let sleeps = asks.sleeps;
        drop(asks);
        if sleeps {
            self.changed.notify_one();
        }
    }

    pub(super) fn asks(&self) -> MutexGuard<'_, Asks> {
        lock(&self.asks)
    }

    /// Waits until there is something to do, for the thread.
    pub(super) fn wait(&self) {
        let began = Instant::now();
        // Relaxed: as in `tell`.
        while !self.has_news.load(Ordering::Relaxed) {
            if began.elapsed() >= SPIN {
                break;
            }
            std::hint::spin_loop();
        }
        let mut asks = lock(&self.asks);
        while asks.queue.is_empty() && asks.hit.is_none() && !asks.is_closed {
            asks.sleeps = true;
            let woken = self.changed.wait(asks);
            asks = woken.unwrap_or_else(PoisonError::into_inner);
            asks.sleeps = false;
        }
        self.has_news.store(false, Ordering::Relaxed);
    }

    /// Takes the requests that wait for a window that cannot be mapped.
    pub(super) fn fail(&self, window: u32, errno: Errno, answers: &mut Answers) {
        lock(&self.asks).queue.retain(|ask| {
            let fails = ask.windows.start == window;
            if fails {
                answers.push((Arc::clone(&ask.port), (ask.number, Err(errno))));
            }
            !fails
        });
    }

    /// Takes the requests of a queue for which nothing is left to map. The first window of every other one is then
    /// not mapped, until the thread maps it.
    pub(super) fn settle(&self, queue: &mut VecDeque<Ask>, answers: &mut Answers) {
        queue.retain_mut(|ask| {
            let first = self.first_unmapped(ask.windows.clone());
            if first != ask.windows.start {
                ask.windows.start = first;
                ask.is_read_ahead = false;
            }
            let is_done = ask.windows.is_empty();
            if is_done {
                answers.push((Arc::clone(&ask.port), (ask.number, Ok(()))));
            }
            !is_done
        });
    }
}

/// The room for the requests of one transport. With it, they are forgotten.
#[derive(Debug)]
pub(super) struct Room {
    board: Arc<Board>,
    port: Arc<Port>,
    capacity: u32,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut asks = lock(&self.board.asks);
        asks.room -= self.capacity as usize;
        asks.queue.retain(|ask| !Arc::ptr_eq(&ask.port, &self.port));
    }
}

/// Passes answers on. No lock is held meanwhile.
pub(super) fn deliver(answers: &mut Answers) {
    for (port, answer) in answers.drain(..) {
        port.answer(answer);
    }
}

/// Takes a lock, also after a panic: the data behind these locks is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
