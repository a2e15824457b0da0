//! Queues for kernels.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vyre_io::WaitPolicy;
use vyre_io::ioq::abi::MAX_SLOTS;

use super::engine::choice;
use super::file::File;
use crate::engine::Refused;
use crate::gpu_queue::{Addresses, QueueError, Served, Settings};

/// Kernels of other libraries ring no doorbell, so the thread never sleeps until one rings.
const WAITS: [(&str, WaitPolicy); 2] = [
    ("adaptive", WaitPolicy::ADAPTIVE),
    ("spin", WaitPolicy::Spin),
];

/// A queue for the kernels of a GPU, and a thread that serves their requests for some files.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct CudaQueue(Served);

impl CudaQueue {
    fn addresses(&self) -> PyResult<&Addresses> {
        if self.0.is_elsewhere() {
            return Err(Refused::Forked.into());
        }
        if self.0.is_closed() {
            return Err(PyValueError::new_err("the queue is closed"));
        }
        Ok(&self.0.addresses)
    }
}

#[pymethods]
impl CudaQueue {
    #[new]
    #[pyo3(signature = (files, *, buffer_bytes, slots = 1024, wait = "spin", device = 0))]
    fn new(
        files: Vec<Py<File>>,
        buffer_bytes: usize,
        slots: u32,
        wait: &str,
        device: u32,
        py: Python<'_>,
    ) -> PyResult<Self> {
        if !(1..=MAX_SLOTS).contains(&slots) || buffer_bytes == 0 {
            return Err(PyValueError::new_err(format!(
                "slots must be 1 to {MAX_SLOTS}, and buffer_bytes at least 1"
            )));
        }
        let settings = Settings {
            ordinal: device,
            slots,
            bytes: buffer_bytes,
            policy: choice("wait", wait, &WAITS)?,
        };
        let opened: Vec<_> = files
            .into_iter()
            .map(|file| file.get().opened(py))
            .collect::<PyResult<_>>()?;
        let started = py.detach(|| Served::start(opened.iter().map(AsRef::as_ref), settings));
        started
            .map(Self)
            .map_err(|error: QueueError| PyOSError::new_err(error.to_string()))
    }

    /// The address of a `vyre_ioq::Queue` in memory of the GPU.
    #[getter]
    fn address(&self) -> PyResult<u64> {
        Ok(self.addresses()?.queue)
    }

    /// The handles of the files, in their order.
    #[getter]
    fn files<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.addresses()?.files)
    }

    /// The address for kernels of the memory that requests name by `buffer_handle`.
    #[getter]
    fn buffer_address(&self) -> PyResult<u64> {
        Ok(self.addresses()?.buffer)
    }

    #[getter]
    fn buffer_handle(&self) -> PyResult<u32> {
        Ok(self.addresses()?.pool)
    }

    #[getter]
    fn buffer_bytes(&self) -> PyResult<usize> {
        Ok(self.addresses()?.bytes)
    }

    /// Ends the thread, after which kernels find that nobody serves them.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.0.is_elsewhere() {
            return Err(Refused::Forked.into());
        }
        let closed = py.detach(|| self.0.close());
        closed.map_err(|error| PyOSError::new_err(error.to_string()))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    const fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}
