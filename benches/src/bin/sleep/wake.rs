//! The time from a ring to an answer.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, write};
use rustix::thread::futex::{self, Flags};
use vyre_io::{
    DeviceQueue, IoLoop, KernelFeatures, LoopOptions, Request, RingMeans, TransportChoice,
    WaitPolicy,
};
use vyre_io_cli::measure::cores::pin;

use crate::Result;
use crate::rig::{Cores, micros, quantile, spawn_with};

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

/// A loop that is woken by one of the means.
struct Sleeper {
    name: &'static str,
    means: RingMeans,
    transport: TransportChoice,
    without: KernelFeatures,
    /// Index of the bare sleeper that it is compared with: the one on a futex, or the one on an eventfd.
    bare: usize,
}

const FUTEX: usize = 0;
const EVENTFD: usize = 1;
const BARE: [&str; 2] = ["bare futex", "bare eventfd"];

const SLEEPERS: [Sleeper; 5] = [
    Sleeper {
        name: "DOORBELL, futex in the ring",
        means: RingMeans::Futex,
        transport: TransportChoice::Auto,
        without: KernelFeatures::empty(),
        bare: FUTEX,
    },
    Sleeper {
        name: "DOORBELL, eventfd",
        means: RingMeans::Waker,
        transport: TransportChoice::Auto,
        without: KernelFeatures::empty(),
        bare: EVENTFD,
    },
    Sleeper {
        name: "DOORBELL, relay and eventfd",
        means: RingMeans::Futex,
        transport: TransportChoice::Auto,
        without: KernelFeatures::FUTEX_WAIT,
        bare: FUTEX,
    },
    Sleeper {
        name: "DOORBELL, threads, futex_waitv",
        means: RingMeans::Futex,
        transport: TransportChoice::ThreadPool,
        without: KernelFeatures::empty(),
        bare: FUTEX,
    },
    Sleeper {
        name: "DOORBELL, threads, relay",
        means: RingMeans::Futex,
        transport: TransportChoice::ThreadPool,
        without: KernelFeatures::FUTEX_WAITV,
        bare: FUTEX,
    },
];

impl Sleeper {
    fn spawn(&self, cores: Cores) -> Result<(IoLoop, DeviceQueue)> {
        let options = LoopOptions::new()
            .wait_policy(WaitPolicy::DOORBELL)
            .rung_by(self.means)
            .transport(self.transport)
            .withhold(self.without);
        spawn_with(options, cores, None)
    }
}

pub(crate) fn measure(seconds: f64) -> Result<()> {
    let cores = Cores::choose();
    let loops = SLEEPERS.iter().map(|sleeper| sleeper.spawn(cores));
    let loops = loops.collect::<Result<Vec<_>>>()?;
    let (first, second) = (Bare::default(), Bare::default());
    let event = eventfd(0, EventfdFlags::CLOEXEC)?;
    let mut bare: [Vec<Duration>; 2] = Default::default();
    let mut ours: [Vec<Duration>; SLEEPERS.len()] = Default::default();
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
        let turns = (BARE.len() + SLEEPERS.len()) as f64;
        let end = Instant::now() + Duration::from_secs_f64(turns * seconds);
        while Instant::now() < end {
            // In turns, so that all see the same machine.
            thread::sleep(PAUSE);
            bare[FUTEX].push(first.ask(|| wake_futex(&first)));
            thread::sleep(PAUSE);
            bare[EVENTFD].push(second.ask(|| wake_event(&event)));
            for ((sleeper, (io, device)), times) in SLEEPERS.iter().zip(&loops).zip(&mut ours) {
                thread::sleep(PAUSE);
                times.push(ask(io, device, sleeper.means));
            }
        }
        for bare in [&first, &second] {
            bare.done.store(true, Ordering::Relaxed);
            bare.asked.fetch_add(1, Ordering::Relaxed);
        }
        wake_futex(&first);
        wake_event(&event);
    });
    println!(
        "| from a ring to the answer | p50 | p90 | p99 | longest | rings | beside the bare one |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let bare = bare.map(|mut times| {
        times.sort_unstable();
        times
    });
    for (name, times) in BARE.iter().zip(&bare) {
        row(name, times, "");
    }
    for (sleeper, mut times) in SLEEPERS.iter().zip(ours) {
        times.sort_unstable();
        let [theirs, ours] =
            [&bare[sleeper.bare], &times].map(|times| micros(quantile(times, 0.5)));
        row(sleeper.name, &times, &format!("{:.2}", ours / theirs));
    }
    println!();
    loops.into_iter().try_for_each(|(io, _)| io.stop())?;
    Ok(())
}

fn row(name: &str, times: &[Duration], ratio: &str) {
    let [p50, p90, p99, longest] = [0.5, 0.9, 0.99, 1.0].map(|q| micros(quantile(times, q)));
    let count = times.len();
    println!(
        "| {name} | {p50:.1} µs | {p90:.1} µs | {p99:.1} µs | {longest:.0} µs | {count} | {ratio} |"
    );
}
