#![doc = include_str!("../README.md")]
#![no_std]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod abi;
mod attach;
mod device;
mod errno;
pub mod headers;
mod host;
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

pub use attach::{AttachError, Geometry, QueueLayout};
pub use device::{DeviceQueue, Outcome, OwnedTicket, QueueFull, Reservation, Ticket};
#[cfg(feature = "std")]
pub use device::{Patience, Unanswered, WaitError};
pub use errno::Errno;
pub use host::{Claim, Claimed, Groups, HostFaults, HostQueue, NotOwed};
pub use queue_header::{Features, LoopState};
pub use region::Region;
pub use request::{
    BufferHandle, DecodeError, FileHandle, Flags, Op, PartialRead, PartialWrite, Request,
};

#[cfg(feature = "alloc")]
pub use queue::Queue;
