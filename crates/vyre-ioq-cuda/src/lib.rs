#![doc = include_str!("../README.md")]
//!
//! # Module map
//!
//! | to | use |
//! | --- | --- |
//! | open a GPU and learn what it can do | [`Gpu`], [`Capabilities`], [`DataPath`] |
//! | map memory for io_uring and the GPU | [`MappedMemory`]; [`GpuMemory`] for memory of the GPU alone |
//! | use what other code made | [`Gpu::current`], [`Gpu::from_context`], [`Stream::from_raw`], [`GpuMemory::from_raw`], [`MappedMemory::from_raw`] |
//! | make a queue whose device is a kernel | [`GpuQueue`], [`QueueView`] |
//! | compile, load and launch kernels | [`Kernel`], [`Ptx`], [`Cubin`], [`LaunchConfig`], [`Launch`] |
//! | load prebuilt PTX where NVRTC does not suit | [`Program`] |
//! | move blocks to GPU memory | [`landing`] |
//! | copy between any file and GPU memory | [`BounceBuffer`] |
//! | let kernels read a file's pages by themselves | [`View`](view::View) |
//! | let running kernels ask for the parts of a file that they read by themselves | [`Windows`](windows::Windows) |

#![doc(html_root_url = "https://docs.rs/vyre-ioq-cuda/latest")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bounce;
mod code;
mod driver;
mod error;
mod given_back;
mod gpu;
mod kernel;
pub mod landing;
mod launch_config;
mod memory;
mod nvrtc;
mod program;
mod queue;
mod stream;
pub mod view;
pub mod windows;

pub use bounce::{BounceBuffer, BounceError};
pub use code::{Cubin, Ptx};
pub use error::CudaError;
pub use gpu::{Capabilities, DataPath, Gpu};
pub use kernel::{Kernel, Launch};
pub use launch_config::LaunchConfig;
pub use memory::{GpuMemory, MappedMemory};
pub use program::{LoadedProgram, Program};
pub use queue::{GpuQueue, QueueView};
pub use stream::Stream;
