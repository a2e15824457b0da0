#![doc = include_str!("../README.md")]
//!
//! # Module map
//!
//! | to | use |
//! | --- | --- |
//! | open a GPU and learn what it can do | [`Gpu`], [`Capabilities`], [`DataPath`] |
//! | map memory for io_uring and the GPU | [`MappedMemory`]; [`GpuMemory`] for memory of the GPU alone |
//! | make a queue whose device is a kernel | [`GpuQueue`], [`QueueView`] |
//! | compile, load and launch kernels | [`Kernel`], [`Ptx`], [`Cubin`], [`LaunchConfig`], [`Launch`] |
//! | move blocks to GPU memory | [`landing`] |

#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod bench;
mod code;
pub mod copy;
mod driver;
mod error;
mod gpu;
mod kernel;
pub mod landing;
mod launch_config;
mod memory;
mod nvrtc;
mod program;
mod queue;
#[cfg(test)]
#[path = "../examples/common/threads.rs"]
mod threads;

// The stand-in for a GPU names this crate as the examples do.
#[cfg(test)]
extern crate self as vyre_ioq_cuda;

pub use code::{Cubin, Ptx};
pub use error::CudaError;
pub use gpu::{Capabilities, DataPath, Gpu};
pub use kernel::{Kernel, Launch};
pub use launch_config::LaunchConfig;
pub use memory::{GpuMemory, MappedMemory};
pub use queue::{GpuQueue, QueueView};
