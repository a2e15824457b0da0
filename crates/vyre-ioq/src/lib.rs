#![doc = include_str!("../README.md")]
//!
//! # Module map
//!
//! | to | use |
//! | --- | --- |
//! | make a queue | `Queue`, [`QueueLayout`], [`Region`]; [`Features`] to offer |
//! | be the host | [`HostQueue`]: [`SweepCursor`], [`Claims`], [`Claim`], [`SlotMask`]; [`HostFaults`] counts a device's faults |
//! | be the device | [`DeviceQueue`]: [`Reservation`], [`Ticket`], [`OwnedTicket`], [`Outcome`], `WaitLimits` |
//! | await outcomes | `AsyncQueue`: `OutcomeFuture`, `Batch`; `OutcomeEvent` for `poll` and `epoll` (feature `std`) |
//! | make or decode requests | [`Request`], [`Op`], [`Flags`], [`FileHandle`], [`BufferHandle`], [`Errno`] |
//! | work on raw memory | [`abi`] (constants, images), [`state`] (the state machine), [`headers`] (texts for C and CUDA) |
//! | check the memory model | `orderings`: each ordering with its partner and its test |
//! | test against a hostile device | `test_utils` (feature `test-utils`) |

#![no_std]
#![doc(html_root_url = "https://docs.rs/vyre-ioq/latest")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(loom))))]
//
// The files, in the order of their dependencies:
//   abi, errno, error, sync           numbers, errors and atomics
//   region, layout, queue_header      shared memory, and where its words are
//   state, request, attach            the pure rules: states, requests, headers
//   slot_mask, slot_set, faults       the private ledger of the host end
//   host                              the host end: sweep, claim, complete, announce, doorbell, wake, shutdown
//   device                            the device end: wait, abandon, arm, doorbell
//   async_queue, outcome_event        outcomes as futures, and as a descriptor
//   queue, test_utils                 both ends at once; test tools

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod abi;
#[cfg(all(feature = "std", not(loom)))]
mod async_queue;
mod attach;
mod device;
mod errno;
mod error;
mod faults;
pub mod headers;
mod host;
mod layout;
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
mod outcome_event;
mod queue_header;
#[cfg(not(loom))]
mod region;
#[cfg(loom)]
#[path = "region/model.rs"]
mod region;
mod request;
mod slot_mask;
mod slot_set;
pub mod state;
mod sync;

#[cfg(doc)]
#[doc = include_str!("../ORDERINGS.md")]
pub mod orderings {}
#[cfg(all(feature = "test-utils", not(loom)))] // It needs real memory.
pub mod test_utils;

#[cfg(feature = "alloc")]
mod queue;

#[cfg(all(feature = "std", not(loom)))]
pub use async_queue::batch::{Batch, NextOutcome};
#[cfg(all(feature = "std", not(loom)))]
pub use async_queue::{AsyncQueue, OutcomeFuture, Perform, WakeNotOffered};
pub use device::abandon::OwnedTicket;
#[cfg(feature = "std")]
pub use device::wait::{Unanswered, WaitError, WaitLimits};
pub use device::{DeviceQueue, Outcome, QueueFull, Reservation, Ticket};
pub use errno::Errno;
pub use error::AttachError;
pub use faults::HostFaults;
pub use host::HostQueue;
pub use host::claim::{Claim, Claims};
pub use host::complete::NotOwed;
pub use host::sweep::SweepCursor;
pub use layout::{Features, Geometry, QueueLayout};
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub use outcome_event::OutcomeEvent;
pub use queue_header::LoopState;
pub use region::Region;
pub use request::{
    BufferHandle, DecodeError, FileHandle, Flags, Op, PartialRead, PartialWrite, Request,
};
pub use slot_mask::{SlotMask, SlotMaskIter};

#[cfg(feature = "alloc")]
pub use queue::Queue;
