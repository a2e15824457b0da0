#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod align;
mod buffer;
mod error;
mod file;
mod op;
mod raw;
mod report;
mod ring;
mod setup;
#[cfg(feature = "sim")]
mod sim;
mod slab;
mod table;
mod transport;

pub use align::{DirectAlign, alignment_of, alignment_of_path, direct_alignment};
pub use buffer::{Buffer, OutOfRange};
pub use error::{BufferError, Busy, EnterError, PushError, RegisterError, SetupError};
pub use file::FileTraits;
pub use op::{BufferSlot, Completion, FileSlot, Operation, Token};
pub use report::{Opcode, RefusedFlags, RingFeatures, SetupReport, SetupStep};
pub use ring::Ring;
pub use setup::RingBuilder;
#[cfg(feature = "sim")]
pub use sim::{SimBuilder, SimTransport};
pub use transport::Transport;

/// An errno of the kernel: what a failed operation completes with.
pub use rustix::io::Errno;
