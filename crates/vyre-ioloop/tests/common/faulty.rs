//! A transport with faults that the test chooses.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vyre_uring::{
    Buffer, BufferSlot, Busy, Completion, EnterError, Errno, FileSlot, Operation, PushError,
    RegisterError, SimTransport, Token, Transport,
};

/// The faults, and what was seen.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) panic_in_submit: AtomicBool,
    /// Set to panic after the next operation was taken, before the caller learns of it.
    pub(crate) panic_after_push: AtomicBool,
    /// Set to refuse every operation as if full.
    pub(crate) full: AtomicBool,
    /// Set to deliver every past completion again.
    pub(crate) replay: AtomicBool,
    /// Number of operations that `quiesce` reports as left.
    pub(crate) busy: AtomicU32,
    /// While the test holds this lock, `submit` does not return, as when a file system hangs.
    pub(crate) hold_submit: Mutex<()>,
    /// Number of calls of `submit` that wait for the lock.
    pub(crate) held: AtomicU32,
    /// While the test holds this lock, the transport is not dropped, as when the exit of a thread
    /// hangs.
    pub(crate) hold_drop: Mutex<()>,
    /// Set to have `quiesce` take all its time and then report an operation as left.
    pub(crate) linger: AtomicBool,
    /// Time limits of the calls of `quiesce`.
    pub(crate) quiesced: Mutex<Vec<Duration>>,
    pub(crate) fail_wait: AtomicBool,
    pub(crate) refuse_cancel: AtomicBool,
    pub(crate) refuse_entries: AtomicBool,
    /// While the test holds this lock, no file and no buffer is set.
    pub(crate) hold_entries: Mutex<()>,
    /// Number of files and buffers that were set.
    pub(crate) entries: AtomicU32,
    /// Number of files that were removed.
    pub(crate) removed: AtomicU32,
    /// Every operation pushed so far.
    pub(crate) pushed: Mutex<Vec<Operation>>,
    /// Called during a pass, whenever an operation is pushed.
    pub(crate) meanwhile: Mutex<Meanwhile>,
}

#[derive(Default)]
pub(crate) struct Meanwhile(pub(crate) Option<Box<dyn FnMut(Operation) + Send>>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Orders {
    fn admit(&self, is_new: bool) -> Result<(), RegisterError> {
        if !is_new {
            return Ok(());
        }
        drop(self.hold_entries.lock().unwrap());
        if self.refuse_entries.load(Ordering::Relaxed) {
            return Err(RegisterError::Kernel(Errno::NOMEM));
        }
        self.entries.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: SimTransport,
    pub(crate) orders: Arc<Orders>,
    past: Vec<Completion>,
}

impl Faulty {
    pub(crate) fn new(inner: SimTransport) -> (Self, Arc<Orders>) {
        let orders = Arc::new(Orders::default());
        let faulty = Self {
            inner,
            orders: orders.clone(),
            past: Vec::new(),
        };
        (faulty, orders)
    }
}

impl Transport for Faulty {
    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }

    fn in_flight(&self) -> u32 {
        self.inner.in_flight()
    }

    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        if self.orders.full.load(Ordering::Relaxed) {
            return Err(PushError::Full);
        }
        let token = self.inner.push(op, user)?;
        let panics = self.orders.panic_after_push.swap(false, Ordering::Relaxed);
        assert!(!panics, "ordered to");
        self.orders.pushed.lock().unwrap().push(op);
        if let Some(happens) = &mut self.orders.meanwhile.lock().unwrap().0 {
            happens(op);
        }
        Ok(token)
    }

    fn submit(&mut self) -> Result<u32, EnterError> {
        let panics = self.orders.panic_in_submit.swap(false, Ordering::Relaxed);
        assert!(!panics, "ordered to");
        if self.orders.hold_submit.try_lock().is_err() {
            self.orders.held.fetch_add(1, Ordering::Release);
            drop(self.orders.hold_submit.lock());
        }
        self.inner.submit()
    }

    fn reap<F: FnMut(Completion)>(&mut self, mut sink: F) -> u32 {
        if self.orders.replay.load(Ordering::Relaxed) {
            self.past.iter().copied().for_each(&mut sink);
        }
        let past = &mut self.past;
        self.inner.reap(|completion| {
            past.push(completion);
            sink(completion);
        })
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        if self.orders.fail_wait.load(Ordering::Relaxed) {
            return Err(EnterError::Fatal(Errno::BADF));
        }
        self.inner.wait(timeout)
    }

    fn cancel(&mut self, token: Token) -> bool {
        !self.orders.refuse_cancel.load(Ordering::Relaxed) && self.inner.cancel(token)
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        self.orders.admit(file.is_some())?;
        let removed = u32::from(file.is_none());
        self.orders.removed.fetch_add(removed, Ordering::Relaxed);
        self.inner.set_file(slot, file)
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        self.orders.admit(buffer.is_some())?;
        self.inner.set_buffer(slot, buffer)
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.orders.quiesced.lock().unwrap().push(deadline);
        if self.orders.linger.load(Ordering::Relaxed) {
            std::thread::sleep(deadline);
            return Err(Busy::new(1));
        }
        match self.orders.busy.load(Ordering::Relaxed) {
            0 => self.inner.quiesce(deadline),
            in_flight => Err(Busy::new(in_flight)),
        }
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        drop(self.orders.hold_drop.lock());
    }
}
