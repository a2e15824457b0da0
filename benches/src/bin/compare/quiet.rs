//! Checks that the machine is quiet enough for a measurement.

use std::fs;
use std::hint::black_box;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use vyre_io_cli::measure::cores::pin;
use vyre_io_cli::measure::figure::Figure;

/// Runnable threads, the mean of a minute, as a share of the cores: more are others' work.
const LOAD: f64 = 0.5;
/// Share of the cores' time that others use while this program sleeps.
const BUSY: f64 = 0.05;
/// Share of the cores' time that the machine's host takes away while this program spins.
const STOLEN: f64 = 0.02;
/// Spread of equal spins on one core.
const SPREAD: f64 = 0.03;
/// Spins on each core, and the steps of one: about a millisecond.
const SPINS: usize = 100;
const STEPS: u64 = 1_000_000;

/// Measured disturbances of the machine.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Noise {
    /// Runnable threads, the mean of the last minute.
    pub(crate) load: f64,
    /// Share of the time that others used while this program slept.
    pub(crate) busy: f64,
    /// Share of the time that the host took away while this program spun.
    pub(crate) stolen: f64,
    /// Largest spread of equal spins on one core.
    pub(crate) spread: f64,
    /// Reasons why the machine is not quiet. Empty if it is.
    pub(crate) faults: Vec<String>,
}

/// Processor time of some cores, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ticks {
    busy: u64,
    stolen: u64,
    all: u64,
}

impl Ticks {
    /// Reads the time of these cores.
    pub(crate) fn now(cores: &[usize]) -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        Ok(Self::parse(&stat, cores))
    }

    fn parse(stat: &str, cores: &[usize]) -> Self {
        let mut sum = Self::default();
        for line in stat.lines() {
            let mut words = line.split_whitespace();
            let core = words
                .next()
                .and_then(|name| name.strip_prefix("cpu")?.parse().ok());
            if !core.is_some_and(|core| cores.contains(&core)) {
                continue;
            }
            // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
            let times: Vec<u64> = words
                .take(8)
                .map(|word| word.parse().unwrap_or(0))
                .collect();
            let [.., idle, iowait, _, _, stolen] = times[..] else {
                continue;
            };
            let all: u64 = times.iter().sum();
            sum.busy += all - idle - iowait - stolen;
            sum.stolen += stolen;
            sum.all += all;
        }
        sum
    }

    /// Returns the shares of busy and stolen time since an earlier reading.
    pub(crate) fn since(self, before: Self) -> (f64, f64) {
        let all = (self.all.saturating_sub(before.all)).max(1) as f64;
        let share = |now: u64, before: u64| now.saturating_sub(before) as f64 / all;
        (
            share(self.busy, before.busy),
            share(self.stolen, before.stolen),
        )
    }
}

/// Waits for at most `wait` until the machine is quiet. `asleep` is the time for which it looks on.
pub(crate) fn wait(cores: &[usize], asleep: Duration, wait: Duration) -> io::Result<Noise> {
    let started = Instant::now();
    loop {
        let noise = look(cores, asleep)?;
        if noise.faults.is_empty() || started.elapsed() >= wait {
            return Ok(noise);
        }
        eprintln!(
            "compare: waiting for a quiet machine: {}",
            noise.faults.join(", ")
        );
        thread::sleep(Duration::from_secs(5).min(wait.saturating_sub(started.elapsed())));
    }
}

fn look(cores: &[usize], asleep: Duration) -> io::Result<Noise> {
    let before = Ticks::now(cores)?;
    thread::sleep(asleep);
    let slept = Ticks::now(cores)?;
    let spreads = cores.iter().map(|&core| spins(core).spread());
    let spread = spreads.fold(0.0, f64::max);
    let spun = Ticks::now(cores)?;
    let mut noise = Noise {
        load: load(&fs::read_to_string("/proc/loadavg")?),
        busy: slept.since(before).0,
        stolen: spun.since(slept).1,
        spread,
        faults: Vec::new(),
    };
    noise.judge(thread::available_parallelism().map_or(cores.len(), usize::from));
    Ok(noise)
}

/// Returns the times of equal spins on a core.
fn spins(core: usize) -> Figure {
    let spin = || {
        pin(Some(core));
        let spin = |_| {
            let started = Instant::now();
            let mut value = 1_u64;
            for step in 0..STEPS {
                value = black_box(value.wrapping_mul(step | 1));
            }
            started.elapsed().as_secs_f64()
        };
        (0..SPINS).map(spin).collect()
    };
    let times = thread::scope(|scope| scope.spawn(spin).join());
    Figure::of(times.unwrap_or_default())
}

fn load(loadavg: &str) -> f64 {
    let minute = loadavg.split_whitespace().next();
    minute.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

impl Noise {
    fn judge(&mut self, cores: usize) {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let mut fault = |is_fault: bool, text: String| {
            if is_fault {
                self.faults.push(text);
            }
        };
        let limit = LOAD * cores as f64;
        fault(
            self.load > limit,
            format!("load {} over {limit}", self.load),
        );
        fault(
            self.busy > BUSY,
            format!("others use {} of the cores", percent(self.busy)),
        );
        fault(
            self.stolen > STOLEN,
            format!(
                "the machine's host takes {} of the cores",
                percent(self.stolen)
            ),
        );
        fault(
            self.spread > SPREAD,
            format!("equal spins differ by {}", percent(self.spread)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  400 0 0 400 0 0 0 0 0 0\n\
        cpu0 100 1 20 300 4 5 6 7 50 0\n\
        cpu1 10 0 0 90 0 0 0 0 0 0\n\
        cpu10 1000 0 0 0 0 0 0 1000 0 0\n\
        intr 12 34\n";

    #[test]
    fn the_time_of_the_cores_is_read() {
        let ticks = |busy, stolen, all| Ticks { busy, stolen, all };
        assert_eq!(Ticks::parse(STAT, &[0]), ticks(132, 7, 443));
        assert_eq!(Ticks::parse(STAT, &[1, 0]), ticks(142, 7, 543));
        assert_eq!(Ticks::parse(STAT, &[2]), ticks(0, 0, 0));
        assert_eq!(ticks(30, 5, 150).since(ticks(10, 0, 50)), (0.2, 0.05));
        assert_eq!(ticks(1, 1, 1).since(ticks(1, 1, 1)), (0.0, 0.0));
    }

    #[test]
    fn each_fault_is_named() {
        let judged = |noise: Noise| {
            let mut noise = noise;
            noise.judge(2);
            noise.faults
        };
        let quiet = Noise {
            load: 1.0,
            busy: BUSY,
            stolen: STOLEN,
            spread: SPREAD,
            faults: Vec::new(),
        };
        assert_eq!(judged(quiet.clone()), Vec::<String>::new());
        for (noise, word) in [
            (
                Noise {
                    load: 1.1,
                    ..quiet.clone()
                },
                "load 1.1 over 1",
            ),
            (
                Noise {
                    busy: 0.2,
                    ..quiet.clone()
                },
                "others use 20.0 %",
            ),
            (
                Noise {
                    stolen: 0.03,
                    ..quiet.clone()
                },
                "host takes 3.0 %",
            ),
            (
                Noise {
                    spread: 0.5,
                    ..quiet.clone()
                },
                "differ by 50.0 %",
            ),
        ] {
            let faults = judged(noise);
            assert!(faults.len() == 1 && faults[0].contains(word), "{faults:?}");
        }
        assert_eq!(load("1.25 0.50 0.10 2/130 999"), 1.25);
    }

    #[test]
    fn spins_are_timed() {
        let core = vyre_io_cli::measure::cores::allowed()[0];
        let times = spins(core);
        assert_eq!(times.rounds.len(), SPINS);
        assert!(times.min > 0.0);
    }
}
