//! The native part of the Python package `vyre-io`, which is no interface for Rust: depend on
//! [`vyre-io`](https://docs.rs/vyre-io) instead. The README of this package and the type stubs say what it offers to Python.
//
// The files, in the order of their dependencies:
//   fork         which process this is
//   given_back   things of a GPU, at their end
//   memory       memory of Python objects
//   pages        which pages of a file are in memory
//   open_file    files, and reads of what is in memory
//   op           operations
//   batch        their results
//   at_once      reads that the calling thread performs
//   rows         gathers
//   dlpack       arrays of other libraries
//   dtype        types of elements
//   view         files as arrays
//   engine       the loop, and what is in flight there
//   ended        ends of batches, told by a descriptor
//   gpu_memory   memory of a GPU of Python objects
//   gpu_io       threads that read and write it
//   gpu_queue    loops that serve kernels
//   python       the classes that Python sees

mod at_once;
mod batch;
mod dlpack;
mod dtype;
mod ended;
mod engine;
mod fork;
mod given_back;
mod gpu_io;
mod gpu_memory;
mod gpu_queue;
mod memory;
mod op;
mod open_file;
mod pages;
mod python;
mod rows;
mod view;

use pyo3::prelude::*;

/// The classes and functions of the package.
#[pymodule(name = "_native")]
mod native {
    #[pymodule_export]
    use crate::python::batch::Batch;
    #[pymodule_export]
    use crate::python::client::{Client, RemoteFile};
    #[pymodule_export]
    use crate::python::cuda_queue::CudaQueue;
    #[pymodule_export]
    use crate::python::ended::Ended;
    #[pymodule_export]
    use crate::python::engine::{Engine, close_all, default_engine};
    #[pymodule_export]
    use crate::python::file::File;
    #[pymodule_export]
    use crate::python::future::Future;
    #[pymodule_export]
    use crate::python::gather::gather;
    #[pymodule_export]
    use crate::python::many::{Reads, Writes};
    #[pymodule_export]
    use crate::python::memory::Memory;
    #[pymodule_export]
    use crate::python::request::{Read, Sync, Write};
    #[pymodule_export]
    use crate::python::view::{FileView, pinned_bytes, set_pin_limit};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::fork::watch();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
