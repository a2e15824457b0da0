//! The host API of vyre-io for C and C++: `libvyre_io`. README.md of this crate describes it, and `include/vyre_io.h`,
//! which cbindgen makes from these sources, documents each function.
//!
//! # How the boundary is kept
//!
//! - Each exported function runs in [`guard`](error::guard) or [`answer`](error::answer), which stop panics. A test looks
//!   for functions that do not.
//! - Parameters that are pointers to one object are references in the signature: `Option<&T>` has the layout of a
//!   pointer that may be NULL, `Option<Box<T>>` that of a pointer that is given away, and `Option<&mut MaybeUninit<T>>`
//!   that of a place for a result. So the bodies are safe code. The caller's side of it is in the header: a pointer is
//!   NULL or points to a live object of its type, and the places for results do not overlap.
//! - What a signature cannot say, such as bytes with a length, is in `memory.rs`. The other files have no unsafe code but
//!   calls of its functions and the attributes by which functions are exported. A test looks for more.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `code`, `failure`, `error` | the numbers of results; what failed and why; the boundary |
//! | `running`, `building` | a loop or group that several threads use and one ends; a builder that is changed in place |
//! | `memory` | unsafe code: bytes, texts, descriptors and memory of the caller's |
//! | `buffer`, `file_table`, `buffer_table`, `queue`, `loop_options` | what a loop is built from |
//! | `loop_builder`, `io_loop`, `group_builder`, `group`, `active_guard` | loops and groups |
//! | `counters`, `report` | what a running loop tells |
//! | `gpu`, `view`, `windows`, `gpu_failure` | files that kernels read by themselves |

mod building;
mod failure;
mod gpu_failure;
mod memory;
mod running;

// The header has its parts in this order.
pub mod version;

pub mod code;

pub mod error;

pub mod ranges;

pub mod buffer;

pub mod file_table;

pub mod buffer_table;

pub mod queue;

pub mod counters;

pub mod report;

pub mod gpu;

pub mod view;

pub mod windows;

pub mod loop_options;

pub mod loop_builder;

pub mod io_loop;

pub mod group_builder;

pub mod group;

pub mod active_guard;

#[cfg(test)]
mod tests;
