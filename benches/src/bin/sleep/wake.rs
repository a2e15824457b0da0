//! The time from a ring to an answer.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::thread::futex::{self, Flags};
use vyre_io::{DeviceQueue, IoLoop, Request, RingMeans, WaitPolicy};
use vyre_io_cli::measure::cores::pin;

use crate::Result;
use crate::rig::{Cores, micros, quantile, spawn};

/// The pause before each ring, in which the sleeper falls asleep.
const PAUSE: Duration = Duration::from_micros(500);

/// A thread that sleeps until it is told a number, and answers with it.
#[derive(Default)]
struct Bare {
    asked: AtomicU32,
    answered: AtomicU32,
    done: AtomicBool,
}

impl Bare {
    fn serve(&self, core: Option<usize>, sleep: impl Fn(u32)) {
        pin(core);
        while !self.done.load(Ordering::Relaxed) {
            let asked = self.asked.load(Ordering::Acquire);
            if asked == self.answered.load(Ordering::Relaxed) {
                sleep(asked);
            } else {
                self.answered.store(asked, Ordering::Release);
            }
        }
    }

    /// Returns the time until the answer.
    fn ask(&self, wake: impl Fn()) -> Duration {
        let number = self.asked.load(Ordering::Relaxed).wrapping_add(1);
        let began = Instant::now();
        self.asked.store(number, Ordering::Release);
        wake();
        while self.answered.load(Ordering::Acquire) != number {
            std::hint::spin_loop();
        }
        began.elapsed()
    }
}

fn wake_futex(bare: &Bare) {
    let _ = futex::wake(&bare.asked, Flags::PRIVATE, 1);
}

fn wake_event(event: &OwnedFd) {
    let _ = write(event, &1_u64.to_ne_bytes());
}

/// Returns the time until the outcome of a fence.
fn ask(io: &IoLoop, device: &DeviceQueue, means: RingMeans) -> Duration {
    let began = Instant::now();
    let mut ticket = device.submit(Request::fence()).expect("a free slot");
    match means {
        RingMeans::Waker if device.ring() => io.waker().expect("an eventfd").wake(),
        _ => drop(device.ring_and_wake()),
    }
    loop {
        match device.take(ticket) {
            Ok(_) => return began.elapsed(),
            Err(again) => ticket = again,
        }
        std::hint::spin_loop();
    }
}

pub(crate) fn measure(seconds: f64) -> Result<()> {
    let cores = Cores::choose();
    let by_futex = spawn(WaitPolicy::DOORBELL, RingMeans::Futex, cores, None)?;
    let by_event = spawn(WaitPolicy::DOORBELL, RingMeans::Waker, cores, None)?;
    let (first, second) = (Bare::default(), Bare::default());
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            first.serve(cores.sleeper, |asked| {
                let _ = futex::wait(&first.asked, Flags::PRIVATE, asked, None);
            });
        });
        scope.spawn(|| {
            second.serve(cores.sleeper, |_| {
                let _ = read(&event, &mut [0; 8]);
            });
        });
        cores.pin_waker();
        let end = Instant::now() + Duration::from_secs_f64(4.0 * seconds);
        while Instant::now() < end {
            // In turns, so that all see the same machine.
            thread::sleep(PAUSE);
            times[0].push(first.ask(|| wake_futex(&first)));
            thread::sleep(PAUSE);
            times[1].push(ask(&by_futex.0, &by_futex.1, RingMeans::Futex));
            thread::sleep(PAUSE);
            times[2].push(second.ask(|| wake_event(&event)));
            thread::sleep(PAUSE);
            times[3].push(ask(&by_event.0, &by_event.1, RingMeans::Waker));
        }
        for bare in [&first, &second] {
            bare.done.store(true, Ordering::Relaxed);
            bare.asked.fetch_add(1, Ordering::Relaxed);
        }
        wake_futex(&first);
        wake_event(&event);
    });
    println!("| from a ring to the answer | p50 | p90 | p99 | longest | rings |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let names = [
        "bare futex",
        "DOORBELL, futex",
        "bare eventfd",
        "DOORBELL, eventfd",
    ];
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_unstable();
        let [p50, p90, p99, longest] = [0.5, 0.9, 0.99, 1.0].map(|q| micros(quantile(times, q)));
        let count = times.len();
        println!(
            "| {name} | {p50:.1} µs | {p90:.1} µs | {p99:.1} µs | {longest:.0} µs | {count} |"
        );
    }
    for (name, bare, ours) in [("futex", 0, 1), ("eventfd", 2, 3)] {
        let [bare, ours] = [bare, ours].map(|of: usize| micros(quantile(&times[of], 0.5)));
        println!("{name}: {:.2} times the bare wake-up", ours / bare);
    }
    println!();
    by_futex.0.stop()?;
    by_event.0.stop()?;
    Ok(())
}
