//! The classes that Python sees.

pub(crate) mod batch;
pub(crate) mod client;
pub(crate) mod cuda_queue;
pub(crate) mod ended;
pub(crate) mod engine;
mod error;
pub(crate) mod file;
pub(crate) mod future;
pub(crate) mod gather;
pub(crate) mod many;
pub(crate) mod memory;
pub(crate) mod request;
pub(crate) mod view;
mod wait;
