//! An engine with honest and hostile devices.

mod honest;

use std::time::Duration;

use vyre_ioloop::{BufferTable, Engine, FileTable, Rights};
use vyre_ioq::test_utils::{Adversary, GuardedMemory};
use vyre_ioq::{HostQueue, QueueLayout, Request};
use vyre_uring::{Buffer, SimTransport};

use crate::watch::Watch;
use honest::{Honest, file};

/// Slots of the shared queue that honest lanes use, and slots that a hostile device uses.
const HONEST: u32 = 6;
const BESIDE: u32 = 6;
/// Slots of the hostile queue: one group, and a part of the next.
const HOSTILE: u32 = 72;
/// Passes that are more than enough to serve every honest request.
const PASSES: u32 = 100_000;

/// A hostile device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Shares a queue with honest lanes, and uses only its own slots.
    Beside,
    /// Has a queue to itself, and stores anywhere in it.
    Alone,
}

/// Faults of the simulated transport.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Seed of the transport and of the hostile devices.
    pub seed: u64,
    /// Most operations that the transport takes at once; not zero.
    pub capacity: u32,
    /// Most passes that an operation takes.
    pub latency: u32,
    /// Probability of a short or interrupted transfer.
    pub disturbed: f64,
}

/// An engine on a simulated transport, with two queues: one that honest lanes share with a hostile
/// device, and one that only a hostile device uses.
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
    /// Makes a running engine.
    ///
    /// # Panics
    /// If memory or a file in memory cannot be created.
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
        // Both share one table, so either may use a handle that it guesses.
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

    /// Returns one of the hostile devices.
    pub const fn adversary(&mut self, which: Which) -> &mut Adversary {
        match which {
            Which::Beside => &mut self.beside,
            Which::Alone => &mut self.alone,
        }
    }

    /// Stores to any word of the hostile queue.
    pub fn store(&mut self, word: u32, value: u32) {
        if !self.honest.handles().contains(&value) {
            let words = self.hostile.len() / size_of::<u32>();
            let order = std::sync::atomic::Ordering::Release;
            self.hostile.store(word as usize % words, value, order);
        }
    }

    /// Has an honest lane publish a READ.
    pub fn read(&mut self, offset: u32, count: u32) {
        self.honest.read(offset, count);
    }

    /// Has an honest lane publish a WRITE.
    pub fn write(&mut self, count: u32) {
        self.honest.write(count);
    }

    /// Has an honest lane publish a FENCE or a SYNC.
    pub fn order(&mut self, sync: bool) {
        let request = if sync {
            Request::sync(self.honest.writable())
        } else {
            Request::fence()
        };
        self.honest.publish(request);
    }

    /// Has the honest lanes take and check all outcomes.
    ///
    /// # Panics
    /// If an outcome is wrong.
    pub fn take(&mut self) {
        self.honest.take();
    }

    /// Runs one pass of the engine, while the devices rest.
    ///
    /// # Panics
    /// If the engine did anything to a queue that it must not do, or its counters are wrong.
    pub fn step(&mut self) {
        self.watched(|engine| {
            let _ = engine.step();
        });
    }

    /// Runs passes until the honest lanes have all outcomes, and then shuts the engine down.
    ///
    /// # Panics
    /// If an honest request or a claimed one stays without an outcome.
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

    /// Returns the numbers of requests claimed and outcomes stored in both queues, as the words of the
    /// queues show them.
    pub fn claimed_and_completed(&self) -> (u64, u64) {
        let sum = |of: fn(&Watch) -> u64| self.watches.iter().map(of).sum();
        (sum(|watch| watch.claimed), sum(|watch| watch.completed))
    }

    /// Returns the number of checked outcomes of honest requests.
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
        assert_eq!(u64::from(self.engine.outstanding()), owes, "the ledgers");
    }
}
