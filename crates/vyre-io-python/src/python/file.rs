//! Files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::engine::{self, Engine as PyEngine};
use super::error::io_error;
use super::future::Future;
use super::request::{Target, find_target};
use super::wait::Pending;
use crate::batch::Batch;
use crate::engine::Engine;
use crate::fork;
use crate::gpu_io::{self, GpuOp};
use crate::memory::Span;
use crate::memory::reap;
use crate::op::{Kind, Op, Place};
use crate::open_file::{Mode, OpenFile};

/// A file that is read and written at offsets.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct File {
    path: PathBuf,
    mode: String,
    direct: bool,
    /// `None` for that of the process.
    engine: Option<Py<PyEngine>>,
    /// The file, and the process that has it, by its number of forks. `None` once it was closed.
    open: Mutex<Option<(u32, Arc<OpenFile>)>>,
}

impl File {
    /// Returns the open file, which is opened anew in a fork.
    pub(crate) fn opened(&self, py: Python<'_>) -> PyResult<Arc<OpenFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((born, file)) = &mut *open else {
            return Err(PyValueError::new_err("the file is closed"));
        };
        if *born != fork::generation() {
            let anew = file
                .reopen()
                .map_err(|error| io_error(py, &error, &self.path))?;
            (*born, *file) = (fork::generation(), Arc::new(anew));
        }
        Ok(Arc::clone(file))
    }

    /// Returns an error if the file is of an engine of its own, and that takes no operations.
    fn check_engine(&self) -> PyResult<()> {
        match &self.engine {
            Some(engine) => Ok(engine.get().0.check()?),
            None => Ok(()),
        }
    }

    /// Returns the engine that performs the file's operations.
    pub(crate) fn engine(&self) -> PyResult<Arc<Engine>> {
        match &self.engine {
            Some(engine) => Ok(Arc::clone(&engine.get().0)),
            None => engine::of_process(),
        }
    }

    fn transfer(
        &self,
        buffer: &Bound<'_, PyAny>,
        kind: Kind,
        (offset, size, at): (u64, Option<usize>, usize),
    ) -> PyResult<Future> {
        let py = buffer.py();
        self.check_engine()?;
        let file = self.opened(py)?;
        let target = find_target(buffer, kind, (at, size), || self.engine())?;
        let batch = Batch::new([(1, Arc::clone(&file))]);
        let (span, place) = match target {
            Target::Host(span, place) => (span, place),
            Target::Gpu(span) => {
                let op = GpuOp {
                    kind,
                    file,
                    offset,
                    span,
                    batch: Arc::clone(&batch),
                    index: 0,
                };
                gpu_io::submit(py, [op]);
                reap(py);
                return Ok(Future(Pending {
                    batch,
                    engine: None,
                }));
            }
        };
        let at_once = match kind {
            _ if span.len() == 0 => Some(0),
            Kind::Read => py.detach(|| file.read_at_once(&span, offset)),
            Kind::Write | Kind::Sync => None,
        };
        if let Some(count) = at_once {
            batch.end(0, Ok(count));
            drop(span);
            reap(py);
            return Ok(Future(Pending {
                batch,
                engine: None,
            }));
        }
        self.begin(py, kind, (file, offset), Some((span, place)), batch)
    }

    fn begin(
        &self,
        py: Python<'_>,
        kind: Kind,
        file: (Arc<OpenFile>, u64),
        target: Option<(Span, Option<Place>)>,
        batch: Arc<Batch>,
    ) -> PyResult<Future> {
        let (span, place) = target.unzip();
        let mut op = Op::new(kind, file, span, (Arc::clone(&batch), 0));
        op.place = place.flatten();
        let engine = self.engine()?;
        py.detach(|| engine.submit(vec![op]))?;
        reap(py);
        Ok(Future(Pending {
            batch,
            engine: Some(engine),
        }))
    }
}

#[pymethods]
impl File {
    #[new]
    #[pyo3(signature = (path, mode = "r", *, engine = None, direct = false))]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        mode: &str,
        engine: Option<Py<PyEngine>>,
        direct: bool,
    ) -> PyResult<Self> {
        let way = Mode::of(mode).ok_or_else(|| {
            PyValueError::new_err(format!(
                "{mode:?} is no mode: give \"r\", \"r+\", \"w\", \"w+\", \"x\" or \"x+\""
            ))
        })?;
        let opened = py.detach(|| OpenFile::open(&path, way, direct));
        let file = opened.map_err(|error| io_error(py, &error, &path))?;
        Ok(Self {
            path,
            mode: mode.to_owned(),
            direct,
            engine,
            open: Mutex::new(Some((fork::generation(), Arc::new(file)))),
        })
    }

    /// Begins to read `size` bytes at `offset`, to `buffer` from its byte `at` on.
    #[pyo3(signature = (buffer, offset = 0, size = None, *, at = 0))]
    fn pread(
        &self,
        buffer: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<usize>,
        at: usize,
    ) -> PyResult<Future> {
        self.transfer(buffer, Kind::Read, (offset, size, at))
    }

    /// Begins to write `size` bytes of `buffer`, from its byte `at` on, at `offset`.
    #[pyo3(signature = (buffer, offset = 0, size = None, *, at = 0))]
    fn pwrite(
        &self,
        buffer: &Bound<'_, PyAny>,
        offset: u64,
        size: Option<usize>,
        at: usize,
    ) -> PyResult<Future> {
        self.transfer(buffer, Kind::Write, (offset, size, at))
    }

    /// Begins to make durable what was written before.
    fn sync(&self, py: Python<'_>) -> PyResult<Future> {
        let file = self.opened(py)?;
        let batch = Batch::new([(1, Arc::clone(&file))]);
        self.begin(py, Kind::Sync, (file, 0), None, batch)
    }

    /// Returns the size of the file in bytes.
    fn size(&self, py: Python<'_>) -> PyResult<u64> {
        let file = self.opened(py)?;
        let metadata = py.detach(|| file.file.metadata());
        Ok(metadata
            .map_err(|error| io_error(py, &error, &self.path))?
            .len())
    }

    /// Closes the file, once operations on it have ended.
    fn close(&self, py: Python<'_>) {
        let open = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        py.detach(|| drop(open));
    }

    #[getter]
    fn closed(&self) -> bool {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    #[getter]
    fn name(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    #[getter]
    fn mode(&self) -> &str {
        &self.mode
    }

    /// Pickles the file as its path, so that a worker opens it for itself. What is there is not truncated again.
    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<((&PathBuf, &str), Bound<'py, PyDict>)> {
        if self.engine.is_some() {
            return Err(PyTypeError::new_err(
                "a file of an engine of its own cannot be pickled: open it in the worker",
            ));
        }
        let mode = if Mode::of(&self.mode) == Some(Mode::Read) {
            "r"
        } else {
            "r+"
        };
        let direct = PyDict::new(py);
        direct.set_item("direct", self.direct)?;
        Ok(((&self.path, mode), direct))
    }

    fn __repr__(&self) -> String {
        format!("<vyre_io.File {:?} mode={:?}>", self.path, self.mode)
    }

    const fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        self.close(py);
    }
}
