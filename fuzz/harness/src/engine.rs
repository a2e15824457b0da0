//! The engine between an honest device and a hostile one.

mod honest;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use vyre_ioloop::{BufferTable, Engine, FileTable, Rights};
use vyre_ioq::test_utils::{Adversary, GuardedMemory};
use vyre_ioq::{HostQueue, QueueLayout, Request};
use vyre_uring::{Buffer, SimTransport};

use crate::watch::Watch;
use honest::Honest;

/// Slots of the shared queue that honest lanes use, and that a hostile device uses.
const HONEST: u32 = 6;
const BESIDE: u32 = 6;
/// Slots of the hostile queue: a group, and a part of the next.
const HOSTILE: u32 = 72;
/// Passes in which whatever the honest asked for is served: far more than it takes.
const PASSES: u32 = 100_000;

/// Which hostile device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that shares a queue with honest lanes, and keeps to slots of its own.
    Beside,
    /// The one with a queue to itself, which keeps to nothing.
    Alone,
}

/// How the simulated transport behaves.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Seed of the transport and of the hostile devices.
    pub seed: u64,
    /// Operations that the transport takes at once; not zero.
    pub capacity: u32,
    /// The most passes that an operation takes.
    pub latency: u32,
    /// How often a transfer is short, or interrupted.
    pub disturbed: f64,
}

/// An engine on a simulated transport, with two queues: one that honest lanes share with a hostile
/// device, one that is a hostile device's alone.
#[derive(Debug)]
pub struct World {
    engine: Engine<SimTransport>,
    honest: Honest,
    shared: GuardedMemory,
    hostile: GuardedMemory,
    beside: Adversary,
    alone: Adversary,
    watches: [Watch; 2],
}

impl World {
    /// An engine that runs.
    ///
    /// # Panics
    /// If there is no memory or no file in memory.
    pub fn new(faults: Faults) -> Self {
        let mut files = FileTable::new();
        let mut buffers = BufferTable::new();
        let their_file = files.insert_range(file(&[1; 300]), 0..300, Rights::all());
        let their_buffer = buffers.insert(Buffer::anonymous(300).expect("memory"));
        let handles = [
            their_file.expect("fit").raw(),
            their_buffer.expect("fit").raw(),
        ];
        let layouts = [
            QueueLayout::with_slots(HONEST + BESIDE),
            QueueLayout::with_slots(HOSTILE),
        ];
        let [shared, hostile] =
            layouts.map(|layout| GuardedMemory::new(layout.bytes()).expect("memory"));
        let host = |memory: &GuardedMemory, layout| {
            HostQueue::create(memory.region(), layout).expect("fit")
        };
        let hosts = vec![host(&shared, &layouts[0]), host(&hostile, &layouts[1])];
        let honest = Honest::new(&shared, &mut files, &mut buffers, HONEST);
        // A handle that both guess is one table's: what is behind it, either may use.
        let spared = honest.handles();
        let adversary = |memory: &GuardedMemory, layout, seed| {
            let device = Adversary::new(memory.region(), layout, seed).expect("fit");
            device.handles(handles).sparing(spared)
        };
        let beside = adversary(&shared, &layouts[0], faults.seed);
        let alone = adversary(&hostile, &layouts[1], !faults.seed);
        let transport = SimTransport::builder(faults.seed)
            .capacity(faults.capacity)
            .max_latency(faults.latency)
            .reorder(true)
            .short(faults.disturbed)
            .interrupted(faults.disturbed)
            .build();
        Self {
            engine: Engine::new(transport, files, buffers, hosts).expect("accepted"),
            honest,
            watches: [
                Watch::new(&shared, HONEST + BESIDE),
                Watch::new(&hostile, HOSTILE),
            ],
            shared,
            hostile,
            beside: beside.slots(HONEST..HONEST + BESIDE),
            alone,
        }
    }

    /// One of the hostile devices.
    pub const fn adversary(&mut self, which: Which) -> &mut Adversary {
        match which {
            Which::Beside => &mut self.beside,
            Which::Alone => &mut self.alone,
        }
    }

    /// Stores any word of the hostile queue.
    pub fn store(&mut self, word: u32, value: u32) {
        if !self.honest.handles().contains(&value) {
            let words = self.hostile.len() / size_of::<u32>();
            let order = std::sync::atomic::Ordering::Release;
            self.hostile.store(word as usize % words, value, order);
        }
    }

    /// An honest lane reads.
    pub fn read(&mut self, offset: u32, count: u32) {
        self.honest.read(offset, count);
    }

    /// An honest lane writes.
    pub fn write(&mut self, count: u32) {
        self.honest.write(count);
    }

    /// An honest lane asks for a fence, or for what it wrote to be durable.
    pub fn order(&mut self, sync: bool) {
        let request = if sync {
            Request::sync(self.honest.writable())
        } else {
            Request::fence()
        };
        self.honest.publish(request);
    }

    /// The honest lanes take what outcomes there are.
    ///
    /// # Panics
    /// If one is wrong.
    pub fn take(&mut self) {
        self.honest.take();
    }

    /// One pass of the engine, with nobody else at work.
    ///
    /// # Panics
    /// If the engine did anything to either queue that it must not do, or its books are wrong.
    pub fn step(&mut self) {
        self.watched(|engine| {
            let _ = engine.step();
        });
    }

    /// Passes until the honest lanes have all their outcomes, and then the end of the engine.
    ///
    /// # Panics
    /// If an honest request stays without an outcome, or any claimed one.
    pub fn finish(&mut self) {
        for _ in 0..PASSES {
            if self.honest.is_done() {
                break;
            }
            self.step();
            self.engine.wait(Duration::ZERO);
            self.take();
        }
        assert!(self.honest.is_done(), "an honest request has no outcome");
        self.watched(|engine| {
            engine.stop(Duration::ZERO).expect("nothing hangs");
        });
        assert_eq!(self.watches.iter().map(Watch::owes).sum::<u64>(), 0);
        assert_eq!(self.engine.counters().stray, 0, "stray completions");
        assert!(self.shared.is_intact() && self.hostile.is_intact());
    }

    /// Requests claimed in both queues, and outcomes given, as the words of the queues tell it.
    pub fn claimed_and_completed(&self) -> (u64, u64) {
        let sum = |of: fn(&Watch) -> u64| self.watches.iter().map(of).sum();
        (sum(|watch| watch.claimed), sum(|watch| watch.completed))
    }

    /// Outcomes of honest requests so far, each of them checked.
    pub const fn honest_outcomes(&self) -> u64 {
        self.honest.outcomes()
    }

    fn watched(&mut self, act: impl FnOnce(&mut Engine<SimTransport>)) {
        self.watches.iter_mut().for_each(Watch::before);
        act(&mut self.engine);
        for (queue, watch) in self.watches.iter_mut().enumerate() {
            watch.after();
            let counters = self.engine.queue_counters(queue).expect("a queue");
            assert_eq!(counters.claimed, watch.claimed, "claims of queue {queue}");
            let completed = counters.succeeded + counters.failed;
            assert_eq!(completed, watch.completed, "outcomes of queue {queue}");
        }
        let owes: u64 = self.watches.iter().map(Watch::owes).sum();
        assert_eq!(u64::from(self.engine.in_flight()), owes, "the ledgers");
    }
}

/// A file in memory that holds these bytes.
fn file(bytes: &[u8]) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let file = File::from(rustix::fs::memfd_create("vyre-fuzz-harness", flags).expect("a file"));
    file.write_all_at(bytes, 0).expect("room");
    file
}
