//! Tests of the events that end the sleep of a loop.

mod common;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use common::manual::ManualTransport;
use common::*;
use vyre_ioloop::{BaseTransport, Engine, IoLoop, LoopGroup, Rights, WaitPolicy};
use vyre_ioq::{Errno, Queue, QueueLayout, Request};
use vyre_uring::{
    Buffer, BufferSlot, Busy, Completion, EnterError, FileSlot, Operation, PushError,
    RegisterError, SimTransport, Token, Transport,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Sleeps for an hour unless something ends the sleep, and records the time that it was asked for.
struct HourSleeper<T> {
    inner: T,
    asked: Arc<Mutex<Vec<Duration>>>,
    wakes: bool,
}

impl<T: Transport> Transport for HourSleeper<T> {
    fn capacity(&self) -> u32 {
        self.inner.capacity()
    }
    fn in_flight(&self) -> u32 {
        self.inner.in_flight()
    }
    fn push(&mut self, op: Operation, user: u64) -> Result<Token, PushError> {
        self.inner.push(op, user)
    }
    fn submit(&mut self) -> Result<u32, EnterError> {
        self.inner.submit()
    }
    fn reap<F: FnMut(Completion)>(&mut self, sink: F) -> u32 {
        self.inner.reap(sink)
    }
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), EnterError> {
        let timeout = timeout.expect("an engine's wait has a limit");
        self.asked.lock().unwrap().push(timeout);
        self.inner
            .wait(Some(if self.wakes { HOUR } else { timeout }))
    }
    fn waker(&mut self) -> Option<Waker> {
        self.inner.waker().filter(|_| self.wakes)
    }
    fn cancel(&mut self, token: Token) -> bool {
        self.inner.cancel(token)
    }
    fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        self.inner.set_file(slot, file)
    }
    fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        self.inner.set_buffer(slot, buffer)
    }
    fn quiesce(&mut self, deadline: Duration) -> Result<(), Busy> {
        self.inner.quiesce(deadline)
    }
}

/// Runs a closure, and fails if it does not return within the limit.
fn bounded(what: impl FnOnce() + Send + 'static) {
    let (done, over) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        what();
        let _ = done.send(());
    });
    match over.recv_timeout(LIMIT) {
        Err(RecvTimeoutError::Timeout) => panic!("nothing ended the sleep"),
        _ => thread.join().unwrap(),
    }
}

fn hour_sleeper(
    wakes: bool,
) -> impl Fn(BaseTransport) -> HourSleeper<BaseTransport> + Send + Sync + 'static {
    move |inner| HourSleeper {
        inner,
        asked: Arc::default(),
        wakes,
    }
}

const HOURLY: WaitPolicy = WaitPolicy::adaptive(0, HOUR);

fn spawn(wakes: bool) -> (IoLoop, vyre_ioq::DeviceQueue) {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let builder = Tables::new(16, 64)
        .builder()
        .queue(host)
        .options(loop_options().wait_policy(HOURLY));
    (builder.spawn_with(hour_sleeper(wakes)).unwrap(), device)
}

fn asleep(sleeps: impl Fn() -> u64) {
    eventually("a sleep", || sleeps() > 0);
}

#[test]
fn table_changes_and_stops_end_the_sleep_of_a_loop() {
    bounded(|| {
        let (io, _device) = spawn(true);
        for _ in 0..3 {
            asleep(|| io.counters().sleeps);
            let file = io.insert_file(file_of(b"abc"), 0..3, Rights::READ).unwrap();
            io.revoke_file(file).unwrap();
        }
        io.stop().unwrap();
        let (io, _device) = spawn(true);
        asleep(|| io.counters().sleeps);
        io.abort().unwrap();
    });
}

#[test]
fn table_changes_and_stops_end_the_sleep_of_every_loop_of_a_group() {
    bounded(|| {
        let tables = Tables::new(16, 64);
        let mut group = LoopGroup::builder()
            .loops(2)
            .options(loop_options().wait_policy(HOURLY))
            .files(tables.files)
            .buffers(tables.buffers);
        let mut devices = Vec::new();
        for _ in 0..2 {
            let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
            group = group.queue(host);
            devices.push(device);
        }
        let group = group.spawn_with(|_| hour_sleeper(true)).unwrap();
        asleep(|| group.counters().sleeps);
        let file = group
            .insert_file(file_of(b"abc"), 0..3, Rights::READ)
            .unwrap();
        group.revoke_file(file).unwrap();
        group.stop().unwrap();
    });
}

#[test]
fn a_loop_that_cannot_be_woken_sleeps_for_short_times_only() {
    bounded(|| {
        let (io, _device) = spawn(false);
        eventually("long sleeps", || io.counters().sleeps > 20);
        io.insert_file(file_of(b"abc"), 0..3, Rights::READ).unwrap();
        io.stop().unwrap();
    });
}

#[test]
fn a_sleep_ends_at_the_next_deadline() {
    let mut tables = Tables::new(16, 64);
    let (pipe, _writer) = tables.add_pipe();
    let pool = tables.pool;
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let transport = HourSleeper {
        inner: SimTransport::builder(1).stuck(1.0).build(),
        asked: asked.clone(),
        wakes: true,
    };
    let mut engine =
        Engine::new(transport, tables.files, tables.buffers, vec![host]).expect("an engine");
    // Otherwise a slow pass could take longer than the deadline.
    let clock = engine.drive_clock();
    engine.wait(HOUR);
    assert_eq!(
        asked.lock().unwrap().pop(),
        Some(HOUR),
        "nothing to wait for"
    );
    let read = Request::read(pipe, 0, 4).into_buffer(pool, 0);
    let _late = device.submit(read.with_deadline(2_000_000)).unwrap();
    let soon = device.submit(read.with_deadline(1_000)).unwrap();
    let _ = engine.step();
    engine.wait(HOUR);
    let first = asked.lock().unwrap().pop().expect("a sleep");
    assert!(first <= Duration::from_millis(1), "{first:?}");
    clock.advance(Duration::from_millis(1));
    eventually("the deadline", || {
        let _ = engine.step();
        device.poll(&soon).is_some()
    });
    assert_eq!(outcome_of(&device, soon), Err(Errno::ETIMEDOUT));
    engine.wait(HOUR);
    let second = asked.lock().unwrap().pop().expect("a sleep");
    assert!(second <= Duration::from_secs(2), "{second:?}");
}

/// The growth of the sleep is tested beside the policy. This test shows that a loop without work sleeps,
/// and finds work when it comes.
///
/// Rules: ABI-7.5, ABI-7.9.
#[test]
fn an_idle_loop_sleeps_and_still_finds_work() {
    let tables = Tables::new(16, 64);
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let policy = WaitPolicy::adaptive(64, Duration::from_millis(2));
    let io = tables
        .builder()
        .queue(host)
        .options(loop_options().wait_policy(policy))
        .spawn()
        .unwrap();
    for _ in 0..3 {
        let before = io.counters().sleeps;
        let beat = device.host_heartbeat();
        eventually("sleep", || io.counters().sleeps >= before + 3);
        assert_ne!(
            device.host_heartbeat(),
            beat,
            "a sleeper shows that it lives"
        );
        let fence = device.submit(Request::fence()).unwrap();
        assert_eq!(outcome_of(&device, fence), Ok(0));
    }
    io.stop().unwrap();
}

#[test]
fn a_spinning_loop_never_sleeps() {
    let (host, device) = Queue::anonymous(QueueLayout::with_slots(4)).unwrap();
    let builder = Tables::new(16, 64).builder().queue(host);
    let io = builder
        .options(loop_options().wait_policy(WaitPolicy::Spin))
        .spawn()
        .unwrap();
    let fence = device.submit(Request::fence()).unwrap();
    assert_eq!(outcome_of(&device, fence), Ok(0));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(io.counters().sleeps, 0);
    io.stop().unwrap();
}

/// Sleeps whenever there is nothing to do.
const SLEEPY: WaitPolicy = WaitPolicy::adaptive(0, Duration::from_millis(1));

/// The loop may sleep, but not until an operation ends: a request that is published while another one
/// waits for the kernel is served.
#[test]
fn a_request_is_served_while_an_older_one_waits_for_the_kernel() {
    for policy in [SLEEPY, WaitPolicy::ADAPTIVE, WaitPolicy::Spin] {
        let mut tables = Tables::new(4096, 4096);
        let (pipe, mut writer) = tables.add_pipe();
        let (file, pool) = (tables.file, tables.pool);
        let (host, device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
        let (other_host, other_device) = Queue::anonymous(QueueLayout::with_slots(64)).unwrap();
        let builder = tables.builder().queue(host).queue(other_host);
        let io = builder
            .options(loop_options().wait_policy(policy))
            .spawn()
            .unwrap();
        let waiting = device
            .submit(Request::read(pipe, 0, 4).into_buffer(pool, 0))
            .unwrap();
        for _ in 0..5 {
            let sleeps = io.counters().sleeps;
            eventually("sleep", || {
                policy == WaitPolicy::Spin || io.counters().sleeps > sleeps + 1
            });
            let read = device
                .submit(Request::read(file, 0, 8).into_buffer(pool, 64))
                .unwrap();
            assert_eq!(outcome_of(&device, read), Ok(8));
            let fence = other_device.submit(Request::fence()).unwrap();
            assert_eq!(outcome_of(&other_device, fence), Ok(0));
        }
        assert!(device.poll(&waiting).is_none());
        writer.write_all(b"data").unwrap();
        assert_eq!(outcome_of(&device, waiting), Ok(4));
        io.stop().unwrap();
    }
}

/// A use of the waker is a completion, after which the caller looks for a message. The pass of `wait_for_rings` must not
/// take it: it would then sleep on that message.
#[test]
fn the_pass_before_a_sleep_leaves_completions_to_the_sleep() {
    let tables = Tables::new(4096, 4096);
    let read = Request::read(tables.file, 0, 64).into_buffer(tables.pool, 0);
    let (transport, control) = ManualTransport::new(4);
    let mut rig = tables.on(transport, 8);
    let ticket = rig.submit(read);
    assert_eq!(rig.engine.step().claimed, 1);
    control.state().complete(|_| true);
    let progress = rig.engine.wait_for_rings(Duration::ZERO);
    assert_eq!(progress.reaped, 0);
    assert!(rig.pending(&ticket));
    assert_eq!(rig.engine.step().reaped, 1);
    assert_eq!(rig.wait(ticket).result, Ok(64));
}
