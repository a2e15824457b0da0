#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod control;
mod counters;
mod engine;
#[cfg(test)]
#[path = "../tests/common/faulty.rs"]
mod faulty;
mod group;
mod ioloop;
mod lost_writes;
mod order;
mod policy;
mod record;
mod resolve;
mod rights;
mod shared;
mod signals;
mod slab;
mod tables;

pub use counters::{LoopCounters, QueueCounters};
#[doc(hidden)]
pub use engine::TestClock;
pub use engine::{ChangeError, Engine, Progress, Revocation};
pub use group::{GroupChangeError, GroupSpawnError, GroupStopError, LoopGroup, LoopGroupBuilder};
pub use ioloop::{IoLoop, IoLoopBuilder, LiveError, SpawnError, StopError};
pub use policy::Policy;
pub use rights::Rights;
pub use shared::{SharedQueueError, shared_queue};
pub use signals::block_signals;
pub use tables::{BufferTable, FileTable, TableError};
