//! Queues that come and go in any order, on a transport with faults: every claimed request gets one outcome, unless its
//! queue was given up while the transport held it.

mod common;

use std::time::Duration;

use common::*;
use proptest::prelude::*;
use vyre_ioloop::{Engine, QueueError, QueueId, Removal};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, LoopState, Queue, QueueLayout, Request, Ticket,
};
use vyre_uring::{SimTransport, Transport};

const SLOTS: u32 = 8;
const CAPACITY: u32 = 8;
/// Half of the transport's entries.
const MOST: usize = 4;

/// An event. Numbers are indexes modulo the number of what exists.
#[derive(Clone, Copy, Debug)]
enum Action {
    Add { bare: bool },
    Submit { queue: usize, kind: u8 },
    Remove(usize),
    Cancel(usize),
    Take(usize),
    GiveUp(usize),
    Step(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => any::<bool>().prop_map(|bare| Action::Add { bare }),
        12 => (any::<usize>(), any::<u8>())
            .prop_map(|(queue, kind)| Action::Submit { queue, kind }),
        2 => any::<usize>().prop_map(Action::Remove),
        2 => any::<usize>().prop_map(Action::Cancel),
        3 => any::<usize>().prop_map(Action::Take),
        1 => any::<usize>().prop_map(Action::GiveUp),
        6 => (1..5_u8).prop_map(Action::Step),
    ]
}

/// A queue that the engine serves.
struct Live {
    id: QueueId,
    device: DeviceQueue,
    tickets: Vec<Ticket>,
    removal: Option<Removal>,
}

impl Live {
    /// Takes the outcomes that are there.
    fn collect(&mut self) {
        for ticket in std::mem::take(&mut self.tickets) {
            match self.device.take(ticket) {
                Ok(outcome) => {
                    let fine = outcome.result.is_ok() || self.removal.is_some();
                    assert!(fine || outcome.result == Err(Errno::EIO), "{outcome:?}");
                }
                Err(ticket) => self.tickets.push(ticket),
            }
        }
    }
}

struct World {
    engine: Engine<SimTransport>,
    file: FileHandle,
    pool: BufferHandle,
    live: Vec<Live>,
    added: u64,
    /// Operations that the transport held when their queue was given up.
    kept: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let tables = Tables::new(4096, 4096);
        let (file, pool) = (tables.file, tables.pool);
        let sim = SimTransport::builder(seed)
            .capacity(CAPACITY)
            .max_latency(6)
            .reorder(true)
            .short(0.2)
            .interrupted(0.2)
            .stuck(0.1)
            .build();
        Self {
            engine: tables.engine(sim, Vec::new()),
            file,
            pool,
            live: Vec::new(),
            added: 0,
            kept: 0,
        }
    }

    fn request(&self, kind: u8) -> Request {
        let place = u64::from(kind) * 8;
        match kind % 5 {
            0 => Request::fence(),
            1 => Request::sync(self.file),
            2 => Request::write(self.file, place, 8).from_buffer(self.pool, place),
            _ => Request::read(self.file, place, 8).into_buffer(self.pool, place),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Add { bare } => self.add(bare),
            Action::Step(steps) => (0..steps).for_each(|_| self.step()),
            Action::Submit { queue, .. }
            | Action::Remove(queue)
            | Action::Cancel(queue)
            | Action::Take(queue)
            | Action::GiveUp(queue) => {
                if !self.live.is_empty() {
                    let at = queue % self.live.len();
                    self.act_on(at, action);
                }
            }
        }
    }

    fn add(&mut self, bare: bool) {
        let layout = match bare {
            true => QueueLayout::bare(SLOTS).with_counts(),
            false => layout(SLOTS),
        };
        let (host, device) = Queue::anonymous(layout).unwrap();
        let added = self.engine.add_queue(host);
        // Operations of queues that were given up count until the transport returns them.
        match added {
            Ok(id) => {
                assert_eq!(id, QueueId::from_raw(self.added), "each has its own number");
                self.added += 1;
                let (tickets, removal) = (Vec::new(), None);
                self.live.push(Live {
                    id,
                    device,
                    tickets,
                    removal,
                });
            }
            Err(QueueError::Full { most }) => {
                assert_eq!(most as usize, MOST);
                assert!(
                    self.live.len() + self.kept as usize >= MOST,
                    "there is room"
                );
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn act_on(&mut self, at: usize, action: Action) {
        let id = self.live[at].id;
        match (action, self.live[at].removal) {
            (Action::Submit { kind, .. }, _) => {
                let request = self.request(kind);
                if let Ok(ticket) = self.live[at].device.submit(request) {
                    self.live[at].tickets.push(ticket);
                }
            }
            (Action::Remove(_), None) => {
                self.live[at].removal = Some(self.engine.remove_queue(id).unwrap());
            }
            (Action::Remove(_), Some(_)) => {
                let unknown = QueueError::Unknown { queue: id };
                assert_eq!(self.engine.remove_queue(id).unwrap_err(), unknown);
            }
            (Action::Cancel(_), Some(removal)) => self.engine.cancel_removed(removal),
            (Action::Take(_), Some(removal)) => {
                let Some(removed) = self.engine.take_removed(removal) else {
                    let owed = self.engine.requests_of(id).unwrap();
                    return assert!(owed > 0, "nothing keeps it");
                };
                let counters = removed.counters;
                let ended = counters.succeeded + counters.failed;
                assert_eq!(counters.claimed, ended);
                self.gone(at, 0);
            }
            (Action::GiveUp(_), Some(removal)) => {
                let kept = self.engine.abandon_removed(removal).unwrap();
                self.kept += kept;
                self.gone(at, kept);
            }
            _ => {}
        }
    }

    /// Checks a queue that is no longer served.
    fn gone(&mut self, at: usize, kept: u32) {
        let mut live = self.live.swap_remove(at);
        assert_eq!(self.engine.requests_of(live.id), None);
        if let Some(state) = live.device.host_state() {
            let expected = match kept {
                0 => LoopState::Stopped,
                _ => LoopState::Failed,
            };
            assert_eq!(state, expected);
        }
        live.collect();
        if kept == 0 {
            assert!(
                live.tickets.is_empty(),
                "{:?} have no outcome",
                live.tickets
            );
        } else {
            assert!(
                live.tickets.len() >= kept as usize,
                "one was completed early"
            );
        }
    }

    fn step(&mut self) {
        let _ = self.engine.step();
        for live in &mut self.live {
            live.collect();
        }
        assert_eq!(self.engine.counters().stray, 0);
    }

    /// Everything ends, and nothing is left of the queues that were given up.
    fn finish(mut self) {
        while let Some(live) = self.live.first() {
            let (id, removal) = (live.id, live.removal);
            let removal = removal.unwrap_or_else(|| self.engine.remove_queue(id).unwrap());
            self.live[0].removal = Some(removal);
            self.engine.cancel_removed(removal);
            for _ in 0..10_000 {
                if self.engine.requests_of(id) == Some(0) {
                    break;
                }
                self.step();
                self.engine.wait(Duration::from_millis(1));
            }
            self.act_on(0, Action::Take(0));
            assert!(
                self.live.iter().all(|other| other.id != id),
                "queue {id} stays"
            );
        }
        self.engine.stop(LIMIT).unwrap();
        assert_eq!(self.engine.transport().in_flight(), 0);
        assert_eq!(self.engine.counters().stray, 0);
        assert_eq!(self.engine.outstanding(), 0);
    }
}

proptest! {
    #![proptest_config(keeping(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/queues_props.regressions")))]

    /// Rules: ABI-4.11, ABI-4.12.
    #[test]
    fn queues_come_and_go_and_each_request_gets_one_outcome(
        seed in any::<u64>(),
        actions in prop::collection::vec(action(), 1..120),
    ) {
        let mut world = World::new(seed);
        for action in actions {
            world.act(action);
        }
        world.finish();
    }
}
