//! A transport that keeps every operation until the test ends it. It moves no bytes.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vyre_uring::{
    Buffer, BufferSlot, Busy, Completion, EnterError, Errno, FileSlot, MAX_BUNDLE, Operation,
    PushError, RegisterError, Token, Transport,
};

/// Operation in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) op: Operation,
    /// Queue that the operation is for.
    pub(crate) queue: u32,
    token: Token,
    /// Queue and slot of its request, as the engine names them.
    pub(crate) user: u64,
}

impl Flight {
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.token == other.token
    }

    /// Returns the number of bytes that it is to move.
    pub(crate) fn bytes(&self) -> u32 {
        match self.op {
            Operation::Read { len, .. } | Operation::Write { len, .. } => len,
            _ => 0,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) flights: Vec<Flight>,
    done: VecDeque<Completion>,
    /// Operations pushed so far.
    pub(crate) pushed: Vec<Flight>,
    /// Number of requests to cancel, and whether they succeed.
    pub(crate) asked: u32,
    pub(crate) cancels: bool,
    /// Set to have `quiesce` leave operations in flight.
    pub(crate) holds: bool,
    /// Time limits of the sleeps.
    pub(crate) sleeps: Vec<Option<Duration>>,
    /// Set to have the transport perform READs in bundles; of each bundle, those in `failing` fail.
    pub(crate) bundles: bool,
    pub(crate) failing: u64,
    bundle: Vec<Operation>,
    /// The bundles so far, without what failed.
    pub(crate) copied: Vec<Vec<Operation>>,
    /// Called with the offset of each READ that joins a bundle.
    pub(crate) on_bundle: OnBundle,
}

#[derive(Default)]
pub(crate) struct OnBundle(pub(crate) Option<Box<dyn FnMut(u64) + Send>>);

impl Debug for OnBundle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("OnBundle")
    }
}

impl State {
    /// Ends the operations that `which` selects, in the order of their submission, with all bytes
    /// moved.
    pub(crate) fn complete(&mut self, which: impl Fn(&Flight) -> bool) {
        self.end(which, |flight| Ok(flight.bytes()));
    }

    /// Ends them with an error.
    pub(crate) fn fail(&mut self, errno: Errno, which: impl Fn(&Flight) -> bool) {
        self.end(which, |_| Err(errno));
    }

    /// Ends them as `how` says.
    pub(crate) fn end(
        &mut self,
        which: impl Fn(&Flight) -> bool,
        how: impl Fn(&Flight) -> Result<u32, Errno>,
    ) {
        for flight in self.flights.extract_if(.., |flight| which(flight)) {
            let result = how(&flight);
            self.done
                .push_back(Completion::new(flight.user, flight.token, result));
        }
    }
}

/// Transport that keeps every operation until the test ends it.
#[derive(Debug)]
pub(crate) struct ManualTransport {
    capacity: u32,
    next: u64,
    state: Arc<Mutex<State>>,
}

/// Handle by which the test controls the transport.
#[derive(Clone, Debug)]
pub(crate) struct Control(Arc<Mutex<State>>);

impl Control {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the oldest operation.
    pub(crate) fn end(&self, result: Result<u32, Errno>) {
        self.end_at(0, result);
    }

    /// Ends one operation, by its place in the order in which they were pushed.
    pub(crate) fn end_at(&self, index: usize, result: Result<u32, Errno>) {
        let mut state = self.state();
        let token = state.flights[index].token;
        state.end(|flight| flight.token == token, |_| result);
    }

    /// Returns the number of operations in flight.
    pub(crate) fn waiting(&self) -> usize {
        self.state().flights.len()
    }

    pub(crate) fn is_durable(&self, index: usize) -> bool {
        let op = self.state().flights[index].op;
        matches!(op, Operation::Write { durable: true, .. })
    }
}

impl ManualTransport {
    pub(crate) fn new(capacity: u32) -> (Self, Control) {
        let state = Arc::new(Mutex::new(State {
            cancels: true,
            ..State::default()
        }));
        let transport = Self {
            capacity,
            next: 0,
            state: state.clone(),
        };
        (transport, Control(state))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for ManualTransport {
    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn in_flight(&self) -> u32 {
        let state = self.state();
        (state.flights.len() + state.done.len()) as u32
    }

    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        if self.in_flight() == self.capacity {
            return Err(PushError::Full);
        }
        self.next += 1;
        let token = Token::from_raw(self.next);
        let flight = Flight {
            op,
            queue: (user >> 32) as u32,
            token,
            user,
        };
        let mut state = self.state();
        state.flights.push(flight);
        state.pushed.push(flight);
        Ok(token)
    }

    fn bundle(&mut self, op: Operation) -> bool {
        let mut state = self.state();
        let Operation::Read { offset, .. } = op else {
            return false;
        };
        let takes = state.bundles && state.bundle.len() < MAX_BUNDLE;
        if takes {
            state.bundle.push(op);
            if let Some(happens) = &mut state.on_bundle.0 {
                happens(offset);
            }
        }
        takes
    }

    fn copy_bundle(&mut self) -> u64 {
        let mut state = self.state();
        let bundle = std::mem::take(&mut state.bundle);
        let mut failed = 0;
        let mut copied = Vec::new();
        for (nth, op) in bundle.into_iter().enumerate() {
            match state.failing >> nth & 1 {
                0 => copied.push(op),
                _ => failed |= 1 << nth,
            }
        }
        state.copied.push(copied);
        failed
    }

    fn submit(&mut self) -> Result<u32, EnterError> {
        Ok(0)
    }

    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        let done = std::mem::take(&mut self.state().done);
        let count = done.len() as u32;
        done.into_iter().for_each(sink);
        count
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        self.state().sleeps.push(timeout);
        Ok(())
    }

    fn cancel(&mut self, token: Token) -> bool {
        let mut state = self.state();
        state.asked += 1;
        let in_flight = state.flights.iter().any(|flight| flight.token == token);
        if state.cancels {
            state.end(|flight| flight.token == token, |_| Err(Errno::CANCELED));
        }
        in_flight
    }

    fn set_file(&mut self, _: FileSlot, _: Option<Arc<OwnedFd>>) -> Result<(), RegisterError> {
        Ok(())
    }

    fn set_buffer(&mut self, _: BufferSlot, _: Option<Buffer>) -> Result<(), RegisterError> {
        Ok(())
    }

    fn quiesce(&mut self, _: Duration) -> Result<(), Busy> {
        let mut state = self.state();
        if !state.holds {
            state.end(|_| true, |_| Err(Errno::CANCELED));
        }
        match state.flights.len() as u32 {
            0 => Ok(()),
            in_flight => Err(Busy::new(in_flight)),
        }
    }
}
