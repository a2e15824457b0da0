//! Safe calls of the CUDA driver. No other module of the crate calls it.
//!
//! Each object made here holds its context. It is freed with that context current, on any thread.

mod bounce;
mod context;
mod copies;
mod event;
mod function;
mod memory;
mod pages;
mod pinned;
mod staging;
mod status;
mod stream;

pub(crate) use bounce::Bounce;
pub(crate) use context::{Context, current_ordinal, start, version};
pub(crate) use copies::CopyStream;
pub(crate) use event::{Event, Pending};
pub(crate) use function::{Function, Image};
pub(crate) use memory::{DeviceMemory, Registration};
pub(crate) use pages::PagePin;
pub(crate) use pinned::PinBudget;
pub(crate) use staging::Staging;
pub(crate) use stream::Stream;
