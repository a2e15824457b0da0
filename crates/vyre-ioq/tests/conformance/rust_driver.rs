//! The driver around this crate's own `DeviceQueue`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use vyre_ioq::{
    BufferHandle, DeviceQueue, FileHandle, Flags, Op, Outcome, Request, Reservation, Ticket,
    WaitError, WaitLimits,
};

use crate::memory::Shared;
use crate::numbered::{self, Numbered};

const IN_FLIGHT: usize = 8;
/// The longest time between two outcomes of a lane. How many come in a second is up to the machine.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct End {
    device: Option<DeviceQueue>,
    reserved: BTreeMap<u32, Reservation>,
    tickets: BTreeMap<u32, Ticket>,
}

/// Serves until `quit` or the end of the input.
pub(crate) fn serve(input: impl BufRead, output: &mut impl Write) {
    let mut end = End::default();
    for line in input.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = end
            .obey(&words)
            .unwrap_or_else(|| "err Protocol unknown command".into());
        if writeln!(output, "{answer}").is_err() || words == ["quit"] {
            return;
        }
    }
}

fn number<T: FromStr>(words: &[&str], at: usize) -> Option<T> {
    words.get(at)?.parse().ok()
}

fn request(words: &[&str]) -> Option<Request> {
    let file = FileHandle::from_raw(number(words, 1)?);
    let (offset, count) = (number(words, 2)?, number(words, 3)?);
    let (buffer, at) = (BufferHandle::from_raw(number(words, 4)?), number(words, 5)?);
    let request = match Op::from_word(number(words, 0)?)? {
        Op::Read => Request::read(file, offset, count).into_buffer(buffer, at),
        Op::Write => Request::write(file, offset, count).from_buffer(buffer, at),
        Op::Fence => Request::fence(),
        Op::Sync => Request::sync(file),
        Op::Prefetch => Request::prefetch(file, offset, count),
        Op::Map => Request::map(file, offset, count),
        _ => return None,
    };
    let request = request.with_flags(Flags::from_bits(number(words, 6)?)?);
    Some(
        request
            .with_deadline(number(words, 7)?)
            .with_tag(number(words, 8)?),
    )
}

fn outcome(outcome: Option<Outcome>) -> String {
    match outcome {
        None => "ok pending".into(),
        Some(Outcome {
            tag,
            result: Ok(bytes),
            ..
        }) => format!("ok {tag} OK {bytes}"),
        Some(Outcome {
            tag,
            result: Err(errno),
            ..
        }) => format!("ok {tag} ERROR {}", errno.raw()),
    }
}

impl End {
    fn obey(&mut self, words: &[&str]) -> Option<String> {
        Some(match (words[0], words.len()) {
            ("hello", 1) => "ok rust heartbeat_timeout doorbell futex".into(),
            ("quit", 1) => "ok".into(),
            ("attach", 5) => self.attach(words)?,
            ("reserve", 1) => match self.device.as_ref()?.reserve() {
                Ok(reservation) => {
                    let slot = reservation.slot();
                    self.reserved.insert(slot, reservation);
                    format!("ok {slot}")
                }
                Err(_) => "err QueueFull".into(),
            },
            ("publish", 11) => {
                let request = request(&words[2..])?;
                let reservation = self.reserved.remove(&number(words, 1)?)?;
                let ticket = self.device.as_ref()?.publish(reservation, &request);
                self.keep(ticket);
                "ok".into()
            }
            ("submit", 10) => match self.device.as_ref()?.submit(request(&words[1..])?) {
                Ok(ticket) => self.keep(ticket),
                Err(_) => "err QueueFull".into(),
            },
            ("poll", 2) => {
                let ticket = self.tickets.get(&number(words, 1)?)?;
                outcome(self.device.as_ref()?.poll(ticket))
            }
            ("take", 2) => {
                let ticket = self.tickets.remove(&number(words, 1)?)?;
                let taken = self.device.as_ref()?.take(ticket);
                outcome(taken.map_err(|ticket| self.keep(ticket)).ok())
            }
            ("abandon", 2) => {
                let ticket = self.tickets.remove(&number(words, 1)?)?;
                self.device.as_ref()?.abandon(ticket);
                "ok".into()
            }
            ("unreserve", 2) => {
                let reservation = self.reserved.remove(&number(words, 1)?)?;
                self.device.as_ref()?.unreserve(reservation);
                "ok".into()
            }
            ("wait", 4) => self.wait(words)?,
            ("ring", 1) => match self.device.as_ref()?.ring() {
                true => "ok woken".into(),
                false => "ok quiet".into(),
            },
            ("wake", 1) => match self.device.as_ref()?.ring_and_wake() {
                true => "ok woken".into(),
                false => "ok quiet".into(),
            },
            ("expect", 1) => match self.device.as_ref()?.expect_wakeups() {
                true => "ok yes".into(),
                false => "ok no".into(),
            },
            ("state", 1) => {
                let device = self.device.as_ref()?;
                match (device.host_state(), device.host_heartbeat()) {
                    (Some(state), Some(beat)) => format!("ok {state:?} {beat}"),
                    _ => "ok none".into(),
                }
            }
            ("threads", 3) => self.threads(number(words, 1)?, number(words, 2)?)?,
            _ => return None,
        })
    }

    fn keep(&mut self, ticket: Ticket) -> String {
        let slot = ticket.slot();
        self.tickets.insert(slot, ticket);
        format!("ok {slot}")
    }

    fn attach(&mut self, words: &[&str]) -> Option<String> {
        self.reserved.clear();
        self.tickets.clear();
        self.device = None;
        let memory = Shared::open(number(words, 1)?).ok()?;
        let region = memory.region(number(words, 2)?, number(words, 3)?);
        let attach = match words[4] {
            "bare" => DeviceQueue::attach_bare,
            "bare-counts" => DeviceQueue::attach_bare_with_counts,
            _ => DeviceQueue::attach,
        };
        Some(match region.and_then(attach) {
            Ok(device) => {
                let (slots, features) = (device.geometry().slots(), device.features().bits());
                let answer = format!("ok {slots} {features} {}", device.id());
                self.device = Some(device);
                answer
            }
            Err(error) => {
                let error = format!("{error:?}");
                format!("err {}", error.split(' ').next().unwrap_or_default())
            }
        })
    }

    fn wait(&mut self, words: &[&str]) -> Option<String> {
        let ticket = self.tickets.remove(&number(words, 1)?)?;
        let limits = WaitLimits::new(Duration::from_micros(number(words, 2)?))
            .with_heartbeat_timeout(Duration::from_micros(number(words, 3)?));
        Some(match self.device.as_ref()?.wait_with(ticket, limits) {
            Ok(taken) => outcome(Some(taken)),
            Err(error) => {
                let answer = match error {
                    WaitError::HostGone(_) | WaitError::HeartbeatTimedOut { .. } => "err HostGone",
                    WaitError::TimedOut {
                        host_moved: true, ..
                    } => "err TimedOut alive",
                    WaitError::TimedOut { .. } => "err TimedOut still",
                    _ => "err Protocol unknown end of a wait",
                };
                self.keep(error.into_ticket());
                answer.into()
            }
        })
    }

    fn threads(&self, threads: u32, each: u32) -> Option<String> {
        let device = self.device.as_ref()?;
        let done = thread::scope(|scope| {
            let lanes: Vec<_> = (0..threads)
                .map(|lane| scope.spawn(move || run_lane(device, lane * each..(lane + 1) * each)))
                .collect();
            let joined = lanes.into_iter().map(|lane| lane.join().expect("no panic"));
            joined.sum::<Result<u32, String>>()
        });
        Some(match done {
            Ok(done) => format!("ok {done}"),
            Err(wrong) => format!("err Threads {wrong}"),
        })
    }
}

fn run_lane(device: &DeviceQueue, mut tags: std::ops::Range<u32>) -> Result<u32, String> {
    let (mut held, mut done) = (Vec::with_capacity(IN_FLIGHT), 0);
    let mut latest = Instant::now();
    while !tags.is_empty() || !held.is_empty() {
        while held.len() < IN_FLIGHT && !tags.is_empty() {
            let wanted = Numbered::new(tags.start, device.geometry().is_bare());
            let Ok(ticket) = device.submit(wanted.request()) else {
                break;
            };
            let _ = device.ring();
            held.push((ticket, tags.start));
            tags.start += 1;
        }
        for (ticket, tag) in std::mem::take(&mut held) {
            match device.take(ticket) {
                Ok(outcome) => {
                    let (found, result) = (outcome.tag, outcome.result);
                    if (found, result) != (tag, numbered::answer(tag)) {
                        return Err(format!("tag {tag}: outcome {result:?} of tag {found}"));
                    }
                    done += 1;
                    latest = Instant::now();
                }
                Err(ticket) => held.push((ticket, tag)),
            }
        }
        if latest.elapsed() > TIMEOUT {
            return Err(format!("{} outcomes never came", held.len()));
        }
        thread::yield_now();
    }
    Ok(done)
}
