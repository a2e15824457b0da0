//! A transport that has windows mapped for MAPs.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::thread;
use std::time::Duration;

use vyre_uring::vyre_mapped::RecoveryError;
use vyre_uring::{
    Buffer, BufferSlot, Busy, CachedFile, Completion, EnterError, Errno, FileSlot, FileTraits,
    FutexWord, Operation, PageCacheCounters, PushError, RegisterError, SetupReport, Token,
    Transport,
};

use super::asks::{Asked, Port, Room};
use super::{Shared, Windows};

/// The longest sleep while windows are mapped, where that does not wake the transport.
const NAP: Duration = Duration::from_micros(50);

/// The bit of the tokens of MAPs. No index of a ring's token has it, and no token of another transport of this
/// crate or `vyre-uring`.
const MAP: u64 = 1 << 29;

/// Returns whether this is the token of a MAP.
fn is_of_map(token: Token) -> bool {
    token.raw() & (7 << 29) == MAP
}

/// A transport around another one that performs [`Operation::Map`]: it asks the thread of [`Windows`] to map
/// what is not mapped yet, and completes at once what is. All else goes to the inner transport.
///
/// Give it to a loop by [`IoLoopBuilder::spawn_with`]. Several loops can have transports for the same windows. A MAP
/// fails with these errnos:
///
/// | errno | reason |
/// | --- | --- |
/// | EOPNOTSUPP | no windows are of this file, or the MAP begins past the end that the file had, or [`Windows::close`] was called |
/// | ENOBUFS | the limit of pinned bytes is reached |
/// | EIO | the pages cannot be pinned, as where the file has become shorter; look at dmesg |
///
/// A MAP has no buffer, so it is cancelled at once, whatever the thread does.
///
/// [`IoLoopBuilder::spawn_with`]: https://docs.rs/vyre-ioloop/latest/vyre_ioloop/struct.IoLoopBuilder.html
#[derive(Debug)]
pub struct WindowTransport<T> {
    inner: T,
    windows: Vec<Arc<Shared>>,
    /// One for each of the windows.
    _rooms: Vec<Room>,
    /// The windows of the file in each slot, by their place in `windows`.
    slots: Vec<Option<usize>>,
    pending: Vec<Pending>,
    /// Completions to be reaped.
    ready: VecDeque<Completion>,
    port: Arc<Port>,
    next: u32,
}

/// A MAP that waits for its windows.
#[derive(Clone, Copy, Debug)]
struct Pending {
    token: Token,
    user: u64,
    slot: FileSlot,
    windows: usize,
}

impl<T: Transport> WindowTransport<T> {
    /// Wraps a transport whose tables are empty. A file of the table that is the file of one of these windows
    /// has them.
    pub fn new(inner: T, windows: &[Windows]) -> Self {
        Self::over(inner, windows.iter().map(|it| Arc::clone(it.shared())))
    }

    /// Wraps a transport, for windows whose thread may be another one than that of [`Windows`].
    pub(super) fn over(mut inner: T, windows: impl IntoIterator<Item = Arc<Shared>>) -> Self {
        let capacity = inner.capacity();
        let port = Port::new(capacity, inner.waker());
        let windows: Vec<_> = windows.into_iter().collect();
        let rooms = windows
            .iter()
            .map(|shared| shared.board.room(capacity, &port));
        Self {
            inner,
            _rooms: rooms.collect(),
            windows,
            slots: Vec::new(),
            pending: Vec::with_capacity(capacity as usize),
            ready: VecDeque::with_capacity(capacity as usize),
            port,
            next: 0,
        }
    }

    fn held(&self) -> u32 {
        (self.pending.len() + self.ready.len()) as u32
    }

    /// Begins a MAP, if there are windows of the file.
    fn push_map(
        &mut self,
        slot: FileSlot,
        (offset, len): (u64, u32),
        user: u64,
    ) -> Result<Token, PushError> {
        let index = self.slots.get(slot.index() as usize).copied().flatten();
        let index = index.ok_or(PushError::Unsupported)?;
        if self.in_flight() >= self.capacity() {
            return Err(PushError::Full);
        }
        let number = u64::from(self.next) << 32 | MAP;
        let token = Token::from_raw(number);
        let shared = &self.windows[index];
        let asked = if len == 0 && shared.board.is_closed() {
            Asked::Closed
        } else if len == 0 {
            Asked::Mapped
        } else {
            let range = shared.windows_of(offset, len);
            let range = range.ok_or(PushError::Unsupported)?;
            shared.board.ask(range, number, &self.port)
        };
        let result = match asked {
            Asked::Closed => return Err(PushError::Unsupported),
            Asked::Queued => {
                self.next = self.next.wrapping_add(1);
                self.pending.push(Pending {
                    token,
                    user,
                    slot,
                    windows: index,
                });
                return Ok(token);
            }
            Asked::Mapped => Ok(0),
            Asked::Full => Err(Errno::NOBUFS),
        };
        self.next = self.next.wrapping_add(1);
        self.ready.push_back(Completion::new(user, token, result));
        Ok(token)
    }

    /// Makes the answers of the threads ready.
    fn collect(&mut self) {
        let (pending, ready) = (&mut self.pending, &mut self.ready);
        self.port.take(|(number, result)| {
            // One that was cancelled is no longer there.
            let mut waiting = pending.iter();
            if let Some(index) = waiting.position(|it| it.token.raw() == number) {
                let Pending { token, user, .. } = pending.swap_remove(index);
                ready.push_back(Completion::new(user, token, result.map(|()| 0)));
            }
        });
    }

    /// Completes a MAP whose windows are no longer waited for.
    fn cancel_at(&mut self, index: usize) {
        let pending = self.pending.swap_remove(index);
        let board = &self.windows[pending.windows].board;
        board.forget(pending.token.raw(), &self.port);
        let completion = Completion::new(pending.user, pending.token, Err(Errno::CANCELED));
        self.ready.push_back(completion);
    }

    /// Returns the place of the windows of a file.
    fn windows_of(&self, file: &OwnedFd) -> Option<usize> {
        self.windows.iter().position(|windows| windows.is_of(file))
    }

    /// Notes the windows of the file in a slot, unless the slot holds what it held before.
    fn set_slot(
        &mut self,
        slot: FileSlot,
        windows: Option<usize>,
        set: Result<(), RegisterError>,
    ) -> Result<(), RegisterError> {
        let windows = match set {
            Ok(()) => windows,
            Err(RegisterError::Emptied(_)) => None,
            Err(_) => return set,
        };
        let index = slot.index() as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = windows;
        set
    }

    /// Fails while MAPs of the file in a slot are in flight.
    fn check_idle(&self, slot: FileSlot) -> Result<(), RegisterError> {
        let waiting = self.pending.iter().filter(|it| it.slot == slot);
        match waiting.count() as u32 {
            0 => Ok(()),
            in_flight => Err(RegisterError::Busy { in_flight }),
        }
    }
}

impl<T: Transport> Transport for WindowTransport<T> {
    fn setup_report(&self) -> Option<SetupReport> {
        self.inner.setup_report()
    }

    #[inline]
    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    #[inline]
    fn in_flight(&self) -> u32 {
        self.inner.in_flight() + self.held()
    }

    #[inline]
    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        if let Operation::Map { file, offset, len } = operation {
            return self.push_map(file, (offset, len), user);
        }
        if self.held() > 0 && self.in_flight() >= self.capacity() {
            return Err(PushError::Full);
        }
        self.inner.push(operation, user)
    }

    #[inline]
    fn bundle(&mut self, operation: Operation) -> bool {
        self.inner.bundle(operation)
    }

    #[inline]
    fn copy_bundle(&mut self) -> u64 {
        self.inner.copy_bundle()
    }

    #[inline]
    fn submit(&mut self) -> Result<u32, EnterError> {
        self.inner.submit()
    }

    #[inline]
    fn reap<F: FnMut(Completion)>(&mut self, mut sink: F) -> u32 {
        if self.held() > 0 {
            self.collect();
        }
        let ready = self.ready.len() as u32;
        self.ready.drain(..).for_each(&mut sink);
        ready + self.inner.reap(sink)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.collect();
        if !self.ready.is_empty() {
            return self.inner.submit().map(drop);
        }
        if self.pending.is_empty() {
            return self.inner.wait(timeout);
        }
        if self.port.wakes() {
            // Without a limit, a transport with nothing in flight would not wait.
            let limit = timeout.unwrap_or(Duration::from_secs(1));
            return self.inner.wait(Some(limit));
        }
        let nap = timeout.map_or(NAP, |timeout| timeout.min(NAP));
        if self.inner.in_flight() > 0 {
            return self.inner.wait(Some(nap));
        }
        self.inner.submit()?;
        thread::sleep(nap);
        Ok(())
    }

    fn waker(&mut self) -> Option<Waker> {
        self.inner.waker()
    }

    fn wake_fd(&mut self) -> Option<OwnedFd> {
        self.inner.wake_fd()
    }

    fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        self.inner.set_futexes(words)
    }

    fn wait_on(&mut self, expected: &[u32], timeout: Option<Duration>) -> Result<(), EnterError> {
        self.collect();
        if !self.ready.is_empty() || (!self.pending.is_empty() && !self.port.wakes()) {
            return self.wait(timeout);
        }
        self.inner.wait_on(expected, timeout)
    }

    fn cancel(&mut self, token: Token) -> bool {
        if !is_of_map(token) {
            return self.inner.cancel(token);
        }
        self.collect();
        match self.pending.iter().position(|it| it.token == token) {
            Some(index) => {
                self.cancel_at(index);
                true
            }
            None => self.ready.iter().any(|ready| ready.token == token),
        }
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        self.check_idle(slot)?;
        let windows = file.as_ref().and_then(|file| self.windows_of(file));
        let set = self.inner.set_file(slot, file);
        self.set_slot(slot, windows, set)
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.check_idle(slot)?;
        let windows = self.windows_of(&file);
        let set = self.inner.set_file_with(slot, file, traits);
        self.set_slot(slot, windows, set)
    }

    fn set_page_cache(
        &mut self,
        slot: FileSlot,
        cached: Arc<CachedFile>,
    ) -> Result<(), RecoveryError> {
        self.inner.set_page_cache(slot, cached)
    }

    fn page_cache_counters(&self) -> PageCacheCounters {
        self.inner.page_cache_counters()
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        self.inner.set_buffer(slot, buffer)
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.collect();
        while !self.pending.is_empty() {
            self.cancel_at(0);
        }
        self.inner.quiesce(deadline)
    }
}

#[cfg(test)]
mod tests;
