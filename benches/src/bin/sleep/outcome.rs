//! The time from an outcome to the task or thread that waits for it, and what such a program costs while nothing happens.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use vyre_io::ioq::AsyncQueue;
use vyre_io::{
    Buffer, BufferTable, DeviceQueue, Features, FileTable, HostQueue, IoLoop, LoopOptions, Queue,
    QueueLayout, Request, Rights, WaitPolicy,
};
use vyre_io_cli::measure::cores::pin;

use crate::Result;
use crate::rig::{Cores, micros, quantile};

/// The time between a request and its outcome, in which whoever waits falls asleep.
const PAUSE: Duration = Duration::from_micros(300);

/// The requests to the other thread.
const NOTHING: u32 = 0;
const EVENT: u32 = 1;
const TASK: u32 = 2;
const THREAD: u32 = 3;
const SPIN: u32 = 4;
const END: u32 = 5;

/// The thread that wakes, as its peers see it.
struct Peer {
    asked: AtomicU32,
    /// Nanoseconds since `base` at which it began to wake.
    began: AtomicU64,
    base: Instant,
    event: OwnedFd,
}

impl Peer {
    fn ask(&self, what: u32) {
        self.asked.store(what, Ordering::Release);
    }

    /// Returns the time since the peer began.
    fn since(&self) -> Duration {
        let now = self.base.elapsed();
        now.saturating_sub(Duration::from_nanos(self.began.load(Ordering::Acquire)))
    }

    /// Serves until it is told to end. The queues are that of the task, of the thread that sleeps, and of the one that
    /// spins.
    fn serve(&self, core: Option<usize>, mut hosts: [HostQueue; 3]) {
        pin(core);
        loop {
            let what = self.asked.swap(NOTHING, Ordering::Acquire);
            if what == END {
                return;
            }
            if what == NOTHING {
                std::hint::spin_loop();
                continue;
            }
            let until = Instant::now() + PAUSE;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            if what == EVENT {
                self.stamp();
                let _ = write(&self.event, &1_u64.to_ne_bytes());
                continue;
            }
            let host = &mut hosts[(what - TASK) as usize];
            let mut slot = None;
            while slot.is_none() {
                host.claim_published(0..u32::MAX, |claim| slot = Some(claim.slot));
            }
            self.stamp();
            let _ = host.complete(slot.unwrap_or(0), Ok(0));
            host.wake_device();
        }
    }

    fn stamp(&self) {
        let began = self.base.elapsed().as_nanos() as u64;
        self.began.store(began, Ordering::Release);
    }
}

fn queue() -> Result<(HostQueue, DeviceQueue)> {
    let layout = QueueLayout::with_slots(64).with_features(Features::WAKE);
    Ok(Queue::anonymous(layout)?)
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

#[expect(
    deprecated,
    reason = "`register` is unsafe, and an `OwnedFd` is as `new` needs it"
)]
fn registered(runtime: &Runtime, event: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    let _inside = runtime.enter();
    AsyncFd::new(event)
}

/// Waits for an eventfd, as any tokio program does.
async fn event(peer: &Peer, event: &AsyncFd<OwnedFd>) -> std::io::Result<Duration> {
    peer.ask(EVENT);
    loop {
        let mut ready = event.readable().await?;
        let took = peer.since();
        // The readiness may be that of the time before.
        let woken = read(event.get_ref(), &mut [0; 8]).is_ok();
        ready.clear_ready();
        if woken {
            return Ok(took);
        }
    }
}

pub(crate) fn measure(seconds: f64) -> Result<()> {
    let cores = Cores::choose();
    let (mut task_host, task_device) = queue()?;
    let (thread_host, thread_device) = queue()?;
    let (spin_host, spin_device) = queue()?;
    let queue = AsyncQueue::new(&mut task_host, task_device)?;
    thread_device.expect_wakeups();
    let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    let peer = Peer {
        asked: AtomicU32::new(NOTHING),
        began: AtomicU64::new(0),
        base: Instant::now(),
        event: eventfd(0, flags)?,
    };
    let runtime = runtime()?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    thread::scope(|scope| -> Result<()> {
        let peer = &peer;
        scope.spawn(move || peer.serve(cores.sleeper, [task_host, thread_host, spin_host]));
        cores.pin_waker();
        let theirs = registered(&runtime, peer.event.try_clone()?)?;
        let end = Instant::now() + Duration::from_secs_f64(4.0 * seconds);
        while Instant::now() < end {
            // In turns, so that all see the same machine.
            times[0].push(runtime.block_on(event(peer, &theirs))?);
            times[1].push(runtime.block_on(async {
                let outcome = queue.submit(Request::fence())?;
                peer.ask(TASK);
                let _ = outcome.await?;
                Result::Ok(peer.since())
            })?);
            let ticket = thread_device.submit(Request::fence())?;
            peer.ask(THREAD);
            let _ = thread_device.wait(ticket)?;
            times[2].push(peer.since());
            let mut ticket = spin_device.submit(Request::fence())?;
            peer.ask(SPIN);
            while let Err(again) = spin_device.take(ticket) {
                ticket = again;
                std::hint::spin_loop();
            }
            times[3].push(peer.since());
        }
        peer.ask(END);
        Ok(())
    })?;
    report(&mut times);
    idle(seconds)
}

fn report(times: &mut [Vec<Duration>; 4]) {
    println!("| from an outcome to who waits for it | p50 | p90 | p99 | outcomes |");
    println!("| --- | --- | --- | --- | --- |");
    let names = [
        "bare tokio, eventfd",
        "tokio task, AsyncQueue",
        "thread, asleep in `wait`",
        "thread, spinning",
    ];
    for (name, times) in names.iter().zip(&mut *times) {
        times.sort_unstable();
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|q| micros(quantile(times, q)));
        let count = times.len();
        println!("| {name} | {p50:.2} µs | {p90:.2} µs | {p99:.2} µs | {count} |");
    }
    let [bare, ours] = [0, 1].map(|of: usize| micros(quantile(&times[of], 0.5)));
    println!(
        "tokio task: {:.2} times bare tokio with an eventfd\n",
        ours / bare
    );
}

/// A tokio program whose only task waits for bytes of a pipe that never come.
fn idle(seconds: f64) -> Result<()> {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let (reader, _writer) = std::io::pipe()?;
    let pipe = files.insert(reader, Rights::READ)?;
    let pool = buffers.insert(Buffer::anonymous(4096)?)?;
    let layout = QueueLayout::with_slots(64).with_features(Features::WAKE | Features::DOORBELL);
    let (mut host, device) = Queue::anonymous(layout)?;
    let queue = AsyncQueue::new(&mut host, device)?;
    let io = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        .queue(host)
        .options(LoopOptions::new().wait_policy(WaitPolicy::DOORBELL))
        .spawn()?;
    let endless = Request::read(pipe, 0, 1).into_buffer(pool, 0);
    let length = Duration::from_secs_f64(seconds);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let share = runtime.block_on(async {
        let waiting = tokio::spawn(queue.perform(endless));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (began, used) = (Instant::now(), processor_time());
        tokio::time::sleep(length).await;
        let share = (processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
        waiting.abort();
        share
    });
    println!(
        "tokio program with an idle queue: {:.3} % of a core, all threads\n",
        share * 100.0
    );
    io.abort()?;
    Ok(())
}

/// Returns the processor time of all threads of this process.
fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}
