//! Actions of the lanes and the device, and faults of the transport.

use proptest::prelude::*;
use proptest::sample::Index;
use vyre_uring::{SimBuilder, SimTransport};

use super::{FILE, HONEST, HOSTILE, PIECE};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Read {
        file: Index,
        offset: u16,
        count: u16,
        exact: bool,
        timed: bool,
    },
    Write {
        count: u16,
        durable: bool,
        timed: bool,
    },
    Fence {
        timed: bool,
    },
    Sync {
        timed: bool,
    },
    Prefetch {
        file: Index,
    },
    /// Stores one word in a hostile slot.
    Scribble {
        slot: u32,
        word: usize,
        value: u32,
    },
    /// Publishes a nearly valid request in a hostile slot.
    Pretend {
        slot: u32,
        op: u32,
        source: u32,
        count: u32,
        flags: u32,
        deadline: u32,
    },
    Step(u8),
    Wait,
    Take,
    Revoke(Index),
    Drain,
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    let hostile = HONEST..HONEST + HOSTILE;
    let value = prop_oneof![0_u32..20, any::<u32>()];
    prop_oneof![
        8 => (any::<Index>(), 0..FILE as u16 + 50, 0..=PIECE as u16, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(file, offset, count, exact, timed)| Action::Read { file, offset, count, exact, timed }),
        5 => (0..=PIECE as u16, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(count, durable, timed)| Action::Write { count, durable, timed }),
        3 => prop::bool::weighted(0.2).prop_map(|timed| Action::Fence { timed }),
        2 => prop::bool::weighted(0.2).prop_map(|timed| Action::Sync { timed }),
        1 => any::<Index>().prop_map(|file| Action::Prefetch { file }),
        4 => (hostile.clone(), 0..16_usize, value).prop_map(|(slot, word, value)| Action::Scribble { slot, word, value }),
        3 => (hostile, 0..8_u32, 0..4_u32, prop_oneof![0..300_u32, any::<u32>()], 0..8_u32, 0..3_u32)
            .prop_map(|(slot, op, source, count, flags, deadline)| Action::Pretend { slot, op, source, count, flags, deadline }),
        12 => (1..4_u8).prop_map(Action::Step),
        2 => Just(Action::Wait),
        8 => Just(Action::Take),
        1 => any::<Index>().prop_map(Action::Revoke),
        // Seldom, because little happens after it.
        1 => prop::bool::weighted(0.1).prop_map(|drain| if drain { Action::Drain } else { Action::Wait }),
    ]
}

#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) seed: u64,
    pub(crate) capacity: u32,
    pub(crate) latency: u32,
    pub(crate) reorder: bool,
    pub(crate) short: f64,
    pub(crate) interrupted: f64,
    pub(crate) errno: f64,
    pub(crate) stuck: f64,
}

pub(crate) fn faults() -> impl Strategy<Value = Faults> {
    let chance = |p: f64| prop_oneof![Just(0.0), Just(p)];
    let tail = (chance(0.5), chance(0.3), chance(0.2), chance(0.2));
    (any::<u64>(), 1..12_u32, 0..6_u32, any::<bool>(), tail).prop_map(
        |(seed, capacity, latency, reorder, (short, interrupted, errno, stuck))| Faults {
            seed,
            capacity,
            latency,
            reorder,
            short,
            interrupted,
            errno,
            stuck,
        },
    )
}

impl Faults {
    pub(crate) fn transport(&self) -> SimBuilder {
        SimTransport::builder(self.seed)
            .capacity(self.capacity)
            .max_latency(self.latency)
            .reorder(self.reorder)
            .short(self.short)
            .interrupted(self.interrupted)
            .errno(vyre_uring::Errno::IO, self.errno)
            .stuck(self.stuck)
    }
}
