#![doc = include_str!("../README.md")]
//!
//! # Module map
//!
//! This crate re-exports the layers below it. The items that most programs need are at the top level.
//!
//! | to | use |
//! | --- | --- |
//! | run a loop | [`IoLoop`], [`IoLoopBuilder`], [`WaitPolicy`], [`RingMeans`], [`ActiveGuard`]; [`LoopGroup`] for loops that share their tables |
//! | add and remove queues while it runs | [`QueueId`], [`RemovedQueue`], [`QueueError`] |
//! | give files and buffers to devices | [`FileTable`], [`BufferTable`], [`FileOptions`], [`BufferOptions`], [`Rights`], [`Buffer`] |
//! | limit what a queue may use | [`QueueOptions`], [`QueueLimits`] |
//! | make a queue | [`Queue`], [`QueueLayout`]; [`shared_queue`] for another process |
//! | be the device | [`DeviceQueue`], [`Request`], [`Ticket`], [`Outcome`] |
//! | await outcomes | [`AsyncQueue`], [`OutcomeFuture`], [`Batch`]; [`OutcomeEvent`] for `poll` and `epoll` |
//! | drive a loop step by step | [`Engine`] |
//! | reach everything else | [`ioq`] (queue and ABI), [`uring`] (transport), [`mapped`] (page cache), `cuda` (GPUs; feature `cuda`) |

#![doc(html_root_url = "https://docs.rs/vyre-io/latest")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

/// The queue in shared memory: its bytes, its states and both of its ends (the crate `vyre-ioq`).
pub use vyre_ioq as ioq;

/// The transport: registered files and buffers on io_uring (the crate `vyre-uring`).
pub use vyre_uring as uring;

/// Mappings of files whose copies survive truncation, under page-cache reads (the crate
/// `vyre-mapped`).
pub use vyre_uring::vyre_mapped as mapped;

/// NVIDIA GPUs as devices: mapped memory, queues and kernels (the crate `vyre-ioq-cuda`).
#[cfg(feature = "cuda")]
pub use vyre_ioq_cuda as cuda;

pub use vyre_ioloop::{
    ActiveGuard, BaseTransport, BufferOptions, BufferTable, Engine, FileOptions, FileTable,
    GroupSpawnError, GroupStopError, IoLoop, IoLoopBuilder, LoopCounters, LoopGroup,
    LoopGroupBuilder, LoopOptions, Progress, QueueCounters, QueueError, QueueId, QueueLimits,
    QueueOptions, Removal, RemovedQueue, Revocation, Rights, RingMeans, SharedQueueError,
    SpawnError, StopError, TableError, WaitPolicy, block_signals, shared_queue,
};
pub use vyre_ioq::{
    AsyncQueue, AttachError, Batch, BufferHandle, DeviceQueue, Errno, Features, FileHandle,
    HostQueue, LoopState, Outcome, OutcomeEvent, OutcomeFuture, Queue, QueueFull, QueueLayout,
    Region, Request, Reservation, Ticket, WaitError, WaitLimits,
};
pub use vyre_uring::{
    Buffer, BufferError, DirectAlign, KernelFeatures, SetupReport, TransportChoice,
};
