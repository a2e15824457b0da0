#![doc = include_str!("../README.md")]
#![doc(html_root_url = "https://docs.rs/vyre-io-client/latest")]
#![deny(missing_docs)]
//
// The files, in the order of their dependencies:
//   protocol                          messages and both sides of a conversation, without I/O
//   error, memory, socket             errors, mapped memory, packets with descriptors
//   objects, client                   queues, buffers and files; the connection

mod client;
mod error;
mod memory;
mod objects;
pub mod protocol;
mod socket;

pub use client::Client;
pub use error::{ClientError, MemoryError, OutOfRange};
pub use memory::SharedMemory;
pub use objects::{ClientQueue, OpenFile, SharedBuffer};
#[doc(no_inline)]
pub use vyre_ioq::{self as ioq, Features, Outcome, Request, Ticket, WaitError};
