//! A transport on io_uring or on threads, chosen at set-up.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::completion::{Completion, Token};
use crate::error::{Busy, EnterError, PushError, RegisterError, SetupError};
use crate::file_traits::FileTraits;
use crate::futex_word::FutexWord;
use crate::kernel_features::KernelFeatures;
use crate::operation::{BufferSlot, FileSlot, Operation};
use crate::ring::Ring;
use crate::settings::CommonSettings;
use crate::setup::RingBuilder;
use crate::setup_report::{Opcode, SetupReport};
use crate::thread_pool::{ThreadPool, ThreadPoolBuilder};
use crate::transport::Transport;

/// The transport that a [`TransportBuilder`] builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TransportChoice {
    /// A [`Ring`], or a [`ThreadPool`] where the kernel or a sandbox refuses the ring: see
    /// [`SetupError::refuses_ring`].
    #[default]
    Auto,
    /// A [`Ring`], or an error.
    Ring,
    /// A [`ThreadPool`].
    ThreadPool,
}

/// A [`Ring`] or a [`ThreadPool`]. [`AnyTransport::builder`] sets one up.
#[derive(Debug)]
pub enum AnyTransport {
    /// Operations are performed by io_uring.
    Ring(Ring),
    /// Operations are performed by threads.
    ThreadPool(ThreadPool),
}

/// Configures and builds an [`AnyTransport`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until built"]
pub struct TransportBuilder {
    choice: TransportChoice,
    common: CommonSettings,
}

impl AnyTransport {
    /// Starts the set-up of a transport.
    pub fn builder() -> TransportBuilder {
        TransportBuilder::default()
    }

    /// Returns which transport it is, what it was built with, and why not with more.
    pub fn setup_report(&self) -> SetupReport {
        match self {
            Self::Ring(ring) => SetupReport::Ring(ring.setup_report().clone()),
            Self::ThreadPool(pool) => SetupReport::ThreadPool(pool.setup_report().clone()),
        }
    }
}

impl TransportBuilder {
    /// Sets which transport is built. Default: [`TransportChoice::Auto`].
    pub fn choice(mut self, choice: TransportChoice) -> Self {
        self.choice = choice;
        self
    }

    /// Sets how many operations may be in flight at once, 1 to 32768, rounded up to a power of two.
    /// Default: 256.
    pub fn entries(mut self, entries: u32) -> Self {
        self.common.entries = entries;
        self
    }

    /// Sets the number of slots of the file table, at most 1048576. Default: 256.
    pub fn files(mut self, files: u32) -> Self {
        self.common.files = files;
        self
    }

    /// Sets the number of slots of the buffer table, at most 16384. Default: 256.
    pub fn buffers(mut self, buffers: u32) -> Self {
        self.common.buffers = buffers;
        self
    }

    /// Sets the cores of the threads that perform operations that would block: see
    /// [`RingBuilder::worker_cores`](crate::RingBuilder::worker_cores) and
    /// [`ThreadPoolBuilder::worker_cores`](crate::ThreadPoolBuilder::worker_cores).
    pub fn worker_cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.common.worker_cores = cores.into_iter().collect();
        self
    }

    /// Sets how long a dropped transport waits for the operations that it cancels. Default: 5 seconds.
    pub fn drop_deadline(mut self, deadline: Duration) -> Self {
        self.common.drop_deadline = deadline;
        self
    }

    /// Builds the transport as if the kernel lacked these features: it does what it does on an older kernel, and reports
    /// that. So a program can be tested with what its users have, and a feature in which a kernel has a fault can be left
    /// alone. Default: none.
    pub fn withhold(mut self, features: KernelFeatures) -> Self {
        self.common.withheld = features;
        self
    }

    /// Builds the transport for the calling thread.
    ///
    /// # Errors
    /// A [`SetupError`] if the transport cannot be built. If the ring was chosen by itself and is
    /// refused, the error is that of the pool.
    pub fn build(self) -> Result<AnyTransport, SetupError> {
        match self.choice {
            TransportChoice::Ring => self.ring().map(AnyTransport::Ring),
            TransportChoice::ThreadPool => self.pool(None),
            TransportChoice::Auto => match self.ring().and_then(complete) {
                Ok(ring) => Ok(AnyTransport::Ring(ring)),
                Err(error) if error.refuses_ring() => self.pool(Some(error)),
                Err(error) => Err(error),
            },
        }
    }

    fn ring(&self) -> Result<Ring, SetupError> {
        RingBuilder::with(self.common.clone()).build()
    }

    fn pool(self, refused: Option<SetupError>) -> Result<AnyTransport, SetupError> {
        let mut pool = ThreadPoolBuilder::with(self.common).build()?;
        pool.set_refused(refused);
        Ok(AnyTransport::ThreadPool(pool))
    }
}

/// Returns a ring if its kernel has all operations that a transport needs. Without registered buffers it
/// does without the operations on these.
fn complete(ring: Ring) -> Result<Ring, SetupError> {
    let needed = [
        Opcode::Read,
        Opcode::Write,
        Opcode::Sync,
        Opcode::Prefetch,
        Opcode::Cancel,
    ];
    let report = ring.setup_report();
    match needed
        .into_iter()
        .find(|&kind| report.supports(kind) == Some(false))
    {
        Some(missing) => Err(SetupError::MissingOperation(missing.name())),
        None => Ok(ring),
    }
}

/// Calls the same method of whichever transport it is.
macro_rules! either {
    ($transport:expr, $inner:ident => $call:expr) => {
        match $transport {
            AnyTransport::Ring($inner) => $call,
            AnyTransport::ThreadPool($inner) => $call,
        }
    };
}

impl Transport for AnyTransport {
    fn setup_report(&self) -> Option<SetupReport> {
        Some(self.setup_report())
    }

    #[inline]
    fn capacity(&self) -> u32 {
        either!(self, inner => inner.capacity())
    }

    #[inline]
    fn in_flight(&self) -> u32 {
        either!(self, inner => inner.in_flight())
    }

    #[inline]
    fn push(&mut self, operation: Operation, user: u64) -> Result<Token, PushError> {
        either!(self, inner => inner.push(operation, user))
    }

    #[inline]
    fn submit(&mut self) -> Result<u32, EnterError> {
        either!(self, inner => inner.submit())
    }

    #[inline]
    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        either!(self, inner => inner.reap(sink))
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        either!(self, inner => inner.wait(timeout))
    }

    fn waker(&mut self) -> Option<Waker> {
        either!(self, inner => inner.waker())
    }

    fn wake_fd(&mut self) -> Option<OwnedFd> {
        either!(self, inner => inner.wake_fd())
    }

    fn set_futexes(&mut self, words: Vec<FutexWord>) -> bool {
        either!(self, inner => inner.set_futexes(words))
    }

    fn wait_on(&mut self, expected: &[u32], timeout: Option<Duration>) -> Result<(), EnterError> {
        either!(self, inner => inner.wait_on(expected, timeout))
    }

    fn cancel(&mut self, token: Token) -> bool {
        either!(self, inner => inner.cancel(token))
    }

    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        either!(self, inner => inner.set_file(slot, file))
    }

    fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        either!(self, inner => inner.set_file_with(slot, file, traits))
    }

    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        either!(self, inner => inner.set_buffer(slot, buffer))
    }

    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        either!(self, inner => inner.quiesce(deadline))
    }
}
