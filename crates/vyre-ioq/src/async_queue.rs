//! Outcomes as futures, for tasks of any runtime.
//!
//! The host's waker is the shared part of the queue: whoever publishes outcomes wakes the tasks that they are for. A task
//! registers itself under the lock, then arms the device, and then looks once more. The fence of
//! [`DeviceQueue::arm`] and that of the host leave two cases. Either this second look finds the outcome, or the host finds
//! the device armed, and then its waker takes the lock after the registration: the announcement that it has found was made
//! after that.

use std::boxed::Box;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::vec;
use std::vec::Vec;

use crate::device::wait::Unanswered;
use crate::device::{DeviceQueue, Outcome, QueueFull, Ticket};
use crate::host::HostQueue;
use crate::queue_header::LoopState;
use crate::request::Request;

pub(crate) mod batch;

/// Reason why the outcomes of a queue cannot be awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue wakes no device: create it with Features::WAKE")]
pub struct WakeNotOffered;

/// Device end of a queue for asynchronous tasks of the host's process. Clones share it.
///
/// It needs no thread, no descriptor and no runtime: the thread that drives the host end wakes the tasks. That thread takes
/// a lock for it, which tasks hold for a few instructions.
///
/// ```
/// use vyre_ioq::{AsyncQueue, Features, Queue, QueueLayout, Request};
/// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
///
/// let layout = QueueLayout::with_slots(64).with_features(Features::WAKE);
/// let (mut host, device) = Queue::anonymous(layout)?;
/// let queue = AsyncQueue::new(&mut host, device)?;
///
/// let task = async {
///     let outcome = queue.perform(Request::fence()).await?;
///     Ok::<u32, Box<dyn std::error::Error>>(outcome.bytes()?)
/// };
/// # let mut task = pin!(task);
/// # let mut context = Context::from_waker(Waker::noop());
/// # assert!(task.as_mut().poll(&mut context).is_pending());
/// # host.claim_published(0..64, drop);
/// # host.complete(0, Ok(0))?;
/// # host.wake_device();
/// # assert!(matches!(task.poll(&mut context), Poll::Ready(Ok(0))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AsyncQueue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    device: DeviceQueue,
    tasks: Mutex<Tasks>,
    /// Wakes a host that sleeps, instead of the futex.
    host: OnceLock<Waker>,
}

/// The tasks that wait.
#[derive(Debug)]
struct Tasks {
    /// For the outcome in a slot.
    by_slot: Box<[Option<Waker>]>,
    /// Number of those.
    waiting: usize,
    /// For a free slot.
    for_slots: Vec<Waker>,
}

impl AsyncQueue {
    /// Makes the device end of a queue asynchronous. Call it before the host end is given to a loop. It sets the waker of
    /// [`HostQueue::wake_device_by`].
    ///
    /// # Errors
    /// [`WakeNotOffered`] if the queue was created without [`Features::WAKE`](crate::Features::WAKE).
    pub fn new(host: &mut HostQueue, device: DeviceQueue) -> Result<Self, WakeNotOffered> {
        if !device.expect_wakeups() {
            return Err(WakeNotOffered);
        }
        let slots = device.geometry().slots() as usize;
        let shared = Arc::new(Shared {
            device,
            tasks: Mutex::new(Tasks {
                by_slot: vec![None; slots].into(),
                waiting: 0,
                for_slots: Vec::new(),
            }),
            host: OnceLock::new(),
        });
        host.wake_device_by(Waker::from(shared.clone()));
        Ok(Self { shared })
    }

    /// Sets the waker of a host that sleeps until a device rings, for a loop that is woken by its waker instead of the
    /// futex. The first call counts.
    pub fn ring_by(&self, waker: Waker) {
        let _ = self.shared.host.set(waker);
    }

    /// Returns the device end.
    pub fn device(&self) -> &DeviceQueue {
        &self.shared.device
    }

    /// Submits a request, and rings if the host sleeps. The future is ready when there is an outcome.
    ///
    /// # Errors
    /// [`QueueFull`] if every slot is in use: see [`perform`](Self::perform).
    pub fn submit(&self, request: Request) -> Result<OutcomeFuture, QueueFull> {
        let future = self.submit_quietly(request)?;
        self.ring();
        Ok(future)
    }

    /// Submits a request as soon as a slot is free, and waits for its outcome.
    ///
    /// # Errors
    /// [`Unanswered::HostGone`] if the host has stopped or failed and left the request without an outcome.
    pub fn perform(&self, request: Request) -> Perform {
        Perform {
            queue: self.clone(),
            request,
            submitted: None,
        }
    }

    fn submit_quietly(&self, request: Request) -> Result<OutcomeFuture, QueueFull> {
        let ticket = self.shared.device.submit(request)?;
        Ok(OutcomeFuture {
            shared: self.shared.clone(),
            ticket: Some(ticket),
        })
    }

    /// Wakes the host if it sleeps. Call it after publishing.
    fn ring(&self) {
        let device = &self.shared.device;
        match self.shared.host.get() {
            Some(waker) if device.ring() => waker.wake_by_ref(),
            Some(_) => {}
            #[cfg(target_os = "linux")]
            None => drop(device.ring_and_wake()),
            #[cfg(not(target_os = "linux"))]
            None => drop(device.ring()),
        }
    }

    /// Submits a request without a ring, or has the task woken when a slot may be free.
    fn poll_submit(&self, request: Request, context: &Context<'_>) -> Poll<OutcomeFuture> {
        if let Ok(future) = self.submit_quietly(request) {
            return Poll::Ready(future);
        }
        let waker = context.waker().clone();
        self.shared.lock().for_slots.push(waker);
        // A slot whose request nobody waits for is free when its outcome comes.
        let _ = self.shared.device.arm();
        match self.submit_quietly(request) {
            Ok(future) => Poll::Ready(future),
            Err(_) => Poll::Pending,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Tasks> {
        // Every change is whole before anything can panic.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host_is_gone(&self) -> bool {
        self.device.host_state().is_some_and(LoopState::is_gone)
    }

    /// Has a task woken for the outcomes in these slots, and announces that.
    fn await_slots(&self, slots: impl IntoIterator<Item = u32>, waker: &Waker) {
        let mut tasks = self.lock();
        for slot in slots {
            let task = &mut tasks.by_slot[slot as usize];
            let is_new = task.is_none();
            if task.as_ref().is_none_or(|task| !task.will_wake(waker)) {
                *task = Some(waker.clone());
            }
            tasks.waiting += usize::from(is_new);
        }
        drop(tasks);
        let _ = self.device.arm();
    }

    /// Takes the tasks whose outcomes are there, and those that wait for slots.
    fn take_ready(&self, ready: &mut Vec<Waker>) -> usize {
        let mut tasks = self.lock();
        ready.append(&mut tasks.for_slots);
        if tasks.waiting > 0 {
            let gone = self.host_is_gone();
            let slots = (0..).zip(&mut tasks.by_slot);
            let found = slots
                .filter(|(slot, task)| task.is_some() && (gone || self.device.has_outcome(*slot)));
            let before = ready.len();
            ready.extend(found.filter_map(|(_, task)| task.take()));
            tasks.waiting -= ready.len() - before;
        }
        tasks.waiting
    }

    /// Forgets the task that waits for the outcome in a slot.
    fn forget(&self, slot: u32) -> MutexGuard<'_, Tasks> {
        let mut tasks = self.lock();
        if tasks.by_slot[slot as usize].take().is_some() {
            tasks.waiting -= 1;
        }
        tasks
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// Wakes the tasks whose outcomes are there. Called by the host.
    fn wake_by_ref(self: &Arc<Self>) {
        let mut ready = Vec::new();
        if self.take_ready(&mut ready) > 0 {
            // The host has answered all announcements so far, and the others still wait.
            let _ = self.device.arm();
            self.take_ready(&mut ready);
        }
        ready.into_iter().for_each(Waker::wake);
    }
}

/// The outcome of a request, from [`AsyncQueue::submit`].
///
/// If it is dropped before, the request is abandoned: the host still serves it, and its slot is free once the outcome is
/// there. The request's buffer must not be used until then: see [`DeviceQueue::abandon`].
#[derive(Debug)]
#[must_use = "dropping it abandons the request"]
pub struct OutcomeFuture {
    shared: Arc<Shared>,
    /// `None` once the outcome was returned.
    ticket: Option<Ticket>,
}

impl OutcomeFuture {
    /// Returns the slot that holds the request, until the outcome was returned.
    fn slot(&self) -> Option<u32> {
        self.ticket.as_ref().map(Ticket::slot)
    }

    /// Takes the outcome and frees the slot, if there is one.
    fn take(&mut self) -> Option<Outcome> {
        let ticket = self.ticket.take()?;
        let slot = ticket.slot();
        if !self.shared.device.has_outcome(slot) {
            self.ticket = Some(ticket);
            return None;
        }
        // Before the slot is another's.
        drop(self.shared.forget(slot));
        let outcome = match self.shared.device.take(ticket) {
            Ok(outcome) => Some(outcome),
            Err(ticket) => {
                self.ticket = Some(ticket);
                None
            }
        };
        // After the slot is free.
        let waiting = std::mem::take(&mut self.shared.lock().for_slots);
        waiting.into_iter().for_each(Waker::wake);
        outcome
    }
}

impl Future for OutcomeFuture {
    type Output = Result<Outcome, Unanswered>;

    /// # Panics
    /// If it was ready before.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.take() {
            return Poll::Ready(Ok(outcome));
        }
        let slot = self.slot().expect("polled after it was ready");
        self.shared.await_slots([slot], context.waker());
        let gone = self.shared.host_is_gone();
        // After the state: an outcome that came before the host's end is there.
        match self.take() {
            Some(outcome) => Poll::Ready(Ok(outcome)),
            None if gone => Poll::Ready(Err(Unanswered::HostGone)),
            None => Poll::Pending,
        }
    }
}

impl Drop for OutcomeFuture {
    fn drop(&mut self) {
        if self.take().is_none()
            && let Some(ticket) = self.ticket.take()
        {
            // Before the slot can be another's.
            drop(self.shared.forget(ticket.slot()));
            self.shared.device.abandon(ticket);
        }
    }
}

/// A request that is submitted as soon as a slot is free, from [`AsyncQueue::perform`]. If it is dropped, the request is
/// abandoned, or never made.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Perform {
    queue: AsyncQueue,
    request: Request,
    submitted: Option<OutcomeFuture>,
}

impl Future for Perform {
    type Output = Result<Outcome, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.submitted.is_none() {
            match this.queue.poll_submit(this.request, context) {
                Poll::Ready(future) => {
                    this.submitted = Some(future);
                    this.queue.ring();
                }
                Poll::Pending if this.queue.shared.host_is_gone() => {
                    return Poll::Ready(Err(Unanswered::HostGone));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        match &mut this.submitted {
            Some(future) => Pin::new(future).poll(context),
            None => Poll::Pending,
        }
    }
}
