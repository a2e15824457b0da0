#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod bench;
pub mod copy;
mod driver;
mod error;
mod gpu;
mod kernel;
pub mod landing;
mod memory;
mod program;
mod queue;
#[cfg(test)]
mod shim;

pub use error::CudaError;
pub use gpu::{Capabilities, DataPath, Gpu};
pub use kernel::{Kernel, Launch, Ptx};
pub use memory::MappedMemory;
pub use queue::{GpuQueue, QueueView};
