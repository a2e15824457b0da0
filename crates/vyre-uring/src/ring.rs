//! A transport on io_uring.

mod enqueue;
mod push;
mod slots;
mod submit;
#[cfg(test)]
mod tests;
mod wake;

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use io_uring::opcode;
use rustix::io::Errno;

use crate::buffer::Buffer;
use crate::error::{Busy, EnterError, PushError, RegisterError};
use crate::file_traits::FileTraits;
use crate::kernel_ring::Raw;
use crate::operation::{BufferSlot, Completion, FileSlot, Operation, Token};
use crate::setup::RingBuilder;
use crate::setup_report::SetupReport;
use crate::token_table::{NO_BUFFER, Slab};
use crate::transport::Transport;
use slots::{BufferEntry, FileEntry, Places, pieces};
use wake::Alarm;

/// `EAGAIN` as the result of a completion.
const AGAIN: i32 = -Errno::AGAIN.raw_os_error();

/// A [`Transport`] on one io_uring, for the thread that built it.
///
/// Dropping it cancels what is in flight and waits for all of it; see
/// [`RingBuilder::drop_deadline`] for what happens when the kernel does not give everything back.
///
/// It cannot leave its thread:
///
/// ```compile_fail,E0277
/// fn leaves<T: Send>() {}
/// leaves::<vyre_uring::Ring>();
/// ```
pub struct Ring {
    /// In a place from which drop can decline to free it.
    raw: ManuallyDrop<Raw>,
    slab: Slab,
    files: Box<[FileEntry]>,
    buffers: Box<[BufferEntry]>,
    /// What each entry of the submission queue carries as user data, by queue position: the
    /// operations to answer for if the kernel never takes them.
    queued: Box<[u64]>,
    /// Entries ever pushed, wrapping: the next position in `queued`.
    pushed: u32,
    /// Outcomes known but not reaped: user data and result, as the kernel words them.
    stashed: VecDeque<(u64, i32)>,
    /// Cancel requests that the kernel has not answered yet.
    cancels: u32,
    strays: u64,
    /// Eventfd that wakes the ring, once somebody has asked for a waker.
    alarm: Option<Alarm>,
    poisoned: Option<Errno>,
    fixed_files: bool,
    fixed_buffers: bool,
    ext_arg: bool,
    places: Places,
    report: SetupReport,
    drop_deadline: Duration,
    /// Value of `pushed` when a quiesce had waited in vain.
    given_up: Option<u32>,
    /// The kernel knows one thread as the ring's only issuer.
    _one_thread: PhantomData<*mut ()>,
}

impl Ring {
    /// Starts a ring's set-up.
    pub fn builder() -> RingBuilder {
        RingBuilder::default()
    }

    pub(crate) fn new(
        raw: Raw,
        report: SetupReport,
        files: u32,
        buffers: u32,
        places: u32,
        drop_deadline: Duration,
    ) -> Self {
        let entries = report.sq_entries;
        Self {
            slab: Slab::with_capacity(entries),
            files: (0..files).map(|_| FileEntry::EMPTY).collect(),
            buffers: (0..buffers).map(|_| BufferEntry::EMPTY).collect(),
            queued: vec![0; entries as usize].into(),
            pushed: 0,
            stashed: VecDeque::with_capacity(entries as usize),
            cancels: 0,
            strays: 0,
            alarm: None,
            poisoned: None,
            fixed_files: report.files.in_use(),
            fixed_buffers: report.buffers.in_use(),
            ext_arg: report.features.ext_arg,
            places: Places::new(buffers, places),
            report,
            drop_deadline,
            given_up: None,
            raw: ManuallyDrop::new(raw),
            _one_thread: PhantomData,
        }
    }

    /// Returns what the ring was built with, and why not with more.
    pub fn setup_report(&self) -> &SetupReport {
        &self.report
    }

    /// Whether the buffer in this slot is registered with the kernel. If not, it is served by plain
    /// reads and writes.
    pub fn is_buffer_registered(&self, slot: BufferSlot) -> bool {
        self.buffers
            .get(slot.index() as usize)
            .is_some_and(|entry| entry.place.is_some())
    }

    /// Completions that matched nothing in flight. They were ignored; any at all is a fault of the
    /// kernel or of this crate.
    pub fn stray_completions(&self) -> u64 {
        self.strays
    }

    /// Turns a completion of the kernel into one for the caller. `None` for the ring's own, and for
    /// one that matches nothing.
    #[inline]
    fn settle(&mut self, user_data: u64, res: i32) -> Option<Completion> {
        let token = Token(user_data);
        let Some(entry) = self.slab.remove(token) else {
            self.settle_other(token);
            return None;
        };
        let file = &mut self.files[entry.file as usize];
        file.in_flight -= 1;
        if res == AGAIN {
            file.use_workers();
        }
        if entry.buffer != NO_BUFFER {
            self.buffers[entry.buffer as usize].in_flight -= 1;
        }
        Some(Completion::from_raw(entry.user, token, res))
    }

    #[cold]
    fn settle_other(&mut self, token: Token) {
        if token == Token::ALARM {
            if let Some(alarm) = &mut self.alarm {
                alarm.disarm();
            }
            return;
        }
        match self.cancels.checked_sub(1) {
            Some(left) if token.is_cancel() => {
                self.cancels = left;
                // Whatever came of it, another may be sent: a request on the move can be missed.
                if let Some(entry) = self.slab.get_mut(token.cancelled()) {
                    entry.cancelling = false;
                }
            }
            _ => self.strays += 1,
        }
    }

    fn check_poison(&self) -> Result<(), EnterError> {
        self.poisoned
            .map_or(Ok(()), |errno| Err(EnterError::Fatal(errno)))
    }

    /// Empties a full submission queue. On failure nothing more can be pushed now.
    #[cold]
    fn make_room(&mut self) -> Result<(), PushError> {
        self.submit()
            .map_err(|EnterError::Fatal(errno)| PushError::Poisoned(errno))?;
        if self.raw.sq.is_full() {
            Err(PushError::Full)
        } else {
            Ok(())
        }
    }
}

impl Ring {
    /// Returns the number of operations that may be in flight at once.
    #[inline]
    pub fn capacity(&self) -> u32 {
        self.slab.capacity()
    }

    /// Returns the number of operations pushed and not yet reaped, whether submitted or not.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.slab.live()
    }

    /// Passes every completion that is available now to `sink`, and returns how many there were.
    /// Enters the kernel only if it has flagged work that it deferred to this thread.
    #[inline]
    pub fn reap(&mut self, mut sink: impl FnMut(Completion)) -> u32 {
        let mut count = 0;
        while let Some((user_data, res)) = self.stashed.pop_front() {
            if let Some(completion) = self.settle(user_data, res) {
                count += 1;
                sink(completion);
            }
        }
        self.raw.cq.sync();
        if self.raw.wants_entry() {
            self.run_deferred();
        }
        let mut seen = false;
        while let Some(cqe) = self.raw.next() {
            seen = true;
            if let Some(completion) = self.settle(cqe.user_data(), cqe.result()) {
                count += 1;
                sink(completion);
            }
        }
        if seen {
            // Gives the places back at once: the kernel counts from the head when it waits.
            self.raw.cq.sync();
        }
        count
    }

    /// Returns a waker by which another thread ends [`wait`](Self::wait) early. A wake-up that comes
    /// before the wait ends the next one; a wake-up may end one wait too many. Returns `None` if no
    /// eventfd could be made.
    pub fn waker(&mut self) -> Option<Waker> {
        if self.alarm.is_none() {
            self.alarm = Alarm::new().ok();
        }
        self.alarm.as_ref().map(Alarm::waker)
    }

    /// Asks the kernel to end an operation early. The operation still completes exactly once, with
    /// `ECANCELED` or with its own result. The next submission sends the request.
    ///
    /// The kernel misses a request when the operation is moving between two of its lists. The call
    /// may therefore be repeated while the operation is in flight: it sends another request once the
    /// kernel has answered the earlier one, and does nothing before.
    ///
    /// Returns `false` if the operation is no longer in flight, or if there was no room for the
    /// request.
    pub fn cancel(&mut self, token: Token) -> bool {
        let room = self.poisoned.is_none() && self.cancels < self.slab.capacity();
        let Some(entry) = self.slab.get_mut(token) else {
            return false;
        };
        if entry.cancelling {
            return true;
        }
        if !room || (self.raw.sq.is_full() && self.make_room().is_err()) {
            return false;
        }
        if let Some(entry) = self.slab.get_mut(token) {
            entry.cancelling = true;
        }
        self.cancels += 1;
        self.enqueue(opcode::AsyncCancel::new(token.0).build(), token.cancel());
        true
    }

    /// Puts a file into a slot, or empties the slot. Examines the file first, as
    /// [`FileTraits::of`] does.
    ///
    /// # Errors
    /// - [`RegisterError::UnknownFile`] if the slot is beyond the table.
    /// - [`RegisterError::Busy`] while operations on the slot are in flight.
    /// - [`RegisterError::Kernel`] or [`RegisterError::Emptied`] if the kernel refuses the file.
    pub fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        let file = file.map(|file| {
            let traits = FileTraits::of(&file);
            (file, traits)
        });
        self.replace_file(slot, file)
    }

    /// Puts a file that was examined before into a slot, as [`set_file`](Self::set_file) does.
    /// Examining a file can wait for its file system, so a thread that must not wait leaves it to
    /// another thread.
    ///
    /// # Errors
    /// As for [`set_file`](Self::set_file).
    pub fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.replace_file(slot, Some((file, traits)))
    }

    /// Puts a buffer into a slot, or empties the slot. A buffer that the kernel does not register is
    /// served by plain reads and writes.
    ///
    /// # Errors
    /// - [`RegisterError::UnknownBuffer`] if the slot is beyond the table.
    /// - [`RegisterError::Busy`] while operations on the slot are in flight.
    /// - [`RegisterError::EmptyBuffer`] if the buffer has no bytes.
    pub fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        let entry = self
            .buffers
            .get_mut(slot.index() as usize)
            .ok_or(RegisterError::UnknownBuffer(slot))?;
        if entry.in_flight > 0 {
            return Err(RegisterError::Busy {
                in_flight: entry.in_flight,
            });
        }
        if buffer.as_ref().is_some_and(Buffer::is_empty) {
            return Err(RegisterError::EmptyBuffer);
        }
        let had = entry.places();
        self.clear_places(had);
        let place = buffer
            .as_ref()
            .and_then(|buffer| self.register(slot, buffer));
        self.buffers[slot.index() as usize].set(buffer, place);
        Ok(())
    }
}

/// Forwards to the methods of the same names.
impl Transport for Ring {
    fn setup_report(&self) -> Option<&SetupReport> {
        Some(self.setup_report())
    }

    #[inline]
    fn capacity(&self) -> u32 {
        self.capacity()
    }

    #[inline]
    fn in_flight(&self) -> u32 {
        self.in_flight()
    }

    #[inline]
    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        self.push(op, user)
    }

    #[inline]
    fn submit(&mut self) -> Result<u32, EnterError> {
        self.submit()
    }

    #[inline]
    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        self.reap(sink)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.wait(timeout)
    }

    fn waker(&mut self) -> Option<Waker> {
        self.waker()
    }

    fn cancel(&mut self, token: Token) -> bool {
        self.cancel(token)
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        self.set_file(slot, file)
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.set_file_with(slot, file, traits)
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        self.set_buffer(slot, buffer)
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.quiesce(deadline)
    }
}

impl Ring {
    /// Puts a file into a slot, or empties the slot.
    fn replace_file(
        &mut self,
        slot: FileSlot,
        file: Option<(Arc<OwnedFd>, FileTraits)>,
    ) -> Result<(), RegisterError> {
        let entry = self
            .files
            .get_mut(slot.index() as usize)
            .ok_or(RegisterError::UnknownFile(slot))?;
        if entry.in_flight > 0 {
            return Err(RegisterError::Busy {
                in_flight: entry.in_flight,
            });
        }
        if self.fixed_files {
            let new = file.as_ref().map_or(-1, |(file, _)| file.as_raw_fd());
            let raw = &self.raw;
            let update = |fd| raw.update_file(slot.index(), fd);
            if let Err(refused) = replace(entry.descriptor(), new, update) {
                if matches!(refused, RegisterError::Emptied(_)) {
                    entry.clear();
                }
                return Err(refused);
            }
        }
        match file {
            Some((file, traits)) => entry.set(file, traits),
            None => entry.clear(),
        }
        Ok(())
    }

    /// Registers a buffer with the kernel, in as many places as its length takes, and returns the
    /// first. `None` if it would not be registered: plain transfers do for any memory.
    fn register(&mut self, slot: BufferSlot, buffer: &Buffer) -> Option<u16> {
        if !self.fixed_buffers {
            return None;
        }
        let count = pieces(buffer.len() as u64);
        let first = if count == 1 {
            Some(slot.index())
        } else {
            self.places.take(count)
        };
        let registered = match first {
            Some(first) => self.register_places(first, buffer).map(|()| first),
            // The kernel's own word for a table that is full.
            None => Err(Errno::NOSPC),
        };
        match registered {
            Ok(first) => u16::try_from(first).ok(),
            Err(errno) => {
                self.clear_places(first.map_or(0..0, |first| first..first + count));
                self.report.plain_buffers += 1;
                self.report.plain_errno = Some(errno);
                None
            }
        }
    }

    fn clear_places(&mut self, places: std::ops::Range<u32>) {
        for place in places {
            // A place that cannot be cleared keeps its pages pinned until the ring goes. Nothing is
            // in flight on it, so the memory may go.
            let _ = self.raw.clear_buffer(place);
            self.places.give_back(place);
        }
    }
}

/// Puts a descriptor in the place of another. The kernel empties the place before it looks at what
/// is to come, so the old one is put back where it refuses that.
fn replace(
    old: Option<RawFd>,
    new: RawFd,
    update: impl Fn(RawFd) -> Result<(), Errno>,
) -> Result<(), RegisterError> {
    let Err(errno) = update(new) else {
        return Ok(());
    };
    match old {
        Some(old) if update(old).is_err() => Err(RegisterError::Emptied(errno)),
        _ => Err(RegisterError::Kernel(errno)),
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let deadline = if self.given_up == Some(self.pushed) {
            // Nothing came since: what is in flight has been waited for.
            Duration::ZERO
        } else {
            self.drop_deadline
        };
        match self.quiesce(deadline) {
            Ok(()) => self.free(),
            Err(Busy { .. }) => {
                // The kernel may yet write to the buffers, so neither they nor the ring are freed.
                self.buffers.iter_mut().for_each(BufferEntry::leak);
                self.files.iter_mut().for_each(FileEntry::leak);
            }
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("capacity", &self.slab.capacity())
            .field("in_flight", &self.slab.live())
            .field("stray_completions", &self.strays)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}
