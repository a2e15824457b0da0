#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod bench;
mod driver;
mod error;
mod gpu;
mod kernel;
mod memory;
mod queue;

pub use error::CudaError;
pub use gpu::{Capabilities, DataPath, Gpu};
pub use kernel::{Kernel, Launch, Ptx};
pub use memory::MappedMemory;
pub use queue::{GpuQueue, QueueView};
