//! Safe calls of the CUDA driver. No other module of the crate calls it.
//!
//! Each object made here holds its context. It is freed with that context current, on any thread.

mod context;
mod copies;
mod function;
mod memory;
mod pages;
mod pinned;
mod status;
mod stream;

pub(crate) use context::{Context, start, version};
pub(crate) use copies::{CopyStream, Event};
pub(crate) use function::{Function, Image};
pub(crate) use memory::{DeviceMemory, Registration};
pub(crate) use pages::PagePin;
pub(crate) use pinned::PinBudget;
pub(crate) use stream::Stream;
