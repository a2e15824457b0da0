#![doc = include_str!("../README.md")]
//!
//! # Module map
//!
//! | to | use |
//! | --- | --- |
//! | give files and buffers to devices | [`FileTable`], [`BufferTable`], [`FileOptions`], [`BufferOptions`], [`Rights`] |
//! | run one loop | [`IoLoop`], [`IoLoopBuilder`], [`LoopOptions`] |
//! | choose how it waits | [`WaitPolicy`], [`RingMeans`], [`ActiveGuard`] |
//! | limit what a queue may use | [`QueueOptions`], [`QueueLimits`] |
//! | add and remove queues while it runs | [`QueueId`], [`RemovedQueue`], [`QueueError`] |
//! | run several loops with shared tables | [`LoopGroup`], [`LoopGroupBuilder`] |
//! | drive a loop step by step | [`Engine`], [`Progress`], [`Revocation`], [`Removal`]; [`block_signals`] |
//! | make a queue for another process | [`shared_queue()`] |
//! | watch a loop | [`LoopCounters`], [`QueueCounters`] |

#![doc(html_root_url = "https://docs.rs/vyre-ioloop/latest")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod active;
mod buffer_options;
mod buffer_table;
mod commands;
mod counters;
mod engine;
mod error;
#[cfg(test)]
#[path = "../tests/common/faulty.rs"]
mod faulty;
mod file_identity;
mod file_options;
mod file_table;
mod group;
mod handle_table;
mod ioloop;
mod lost_writes;
mod new_queue;
mod options;
mod os_errno;
mod page_cache;
mod queue_id;
mod queue_options;
mod ranges;
mod removed_queue;
mod rights;
mod ring_means;
mod shared_queue;
mod signals;
mod wait_policy;

pub use active::ActiveGuard;
pub use buffer_options::BufferOptions;
pub use buffer_table::BufferTable;
pub use counters::{LoopCounters, QueueCounters};
pub use engine::Engine;
#[doc(hidden)]
pub use engine::clock::TestClock;
pub use engine::progress::Progress;
pub use engine::queue_changes::Removal;
pub use engine::table_changes::Revocation;
pub use error::{
    GroupSpawnError, GroupStopError, QueueError, SharedQueueError, SpawnError, StopError,
    TableError,
};
pub use file_options::FileOptions;
pub use file_table::FileTable;
pub use group::LoopGroup;
pub use group::builder::LoopGroupBuilder;
pub use ioloop::builder::IoLoopBuilder;
pub use ioloop::{BaseTransport, IoLoop};
pub use options::LoopOptions;
pub use queue_id::QueueId;
pub use queue_options::{QueueLimits, QueueOptions};
pub use removed_queue::RemovedQueue;
pub use rights::Rights;
pub use ring_means::RingMeans;
pub use shared_queue::shared_queue;
pub use signals::block_signals;
pub use wait_policy::WaitPolicy;
