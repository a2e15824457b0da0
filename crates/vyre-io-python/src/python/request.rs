//! Requests of a batch, and the memory that they name.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::file::File;
use super::memory::Memory;
use crate::engine::Engine;
use crate::gpu_memory::GpuSpan;
use crate::memory::{Export, Span};
use crate::op::{Kind, Place};
use crate::open_file::OpenFile;

/// Memory for an operation.
pub(crate) enum Target {
    /// A part of the host's, and where the loop finds that if it was registered.
    Host(Span, Option<Place>),
    /// A part of a GPU's.
    Gpu(GpuSpan),
}

/// Returns the memory that an operation names: an object with a buffer, or memory that its engine has registered.
pub(crate) fn find_target(
    object: &Bound<'_, PyAny>,
    kind: Kind,
    (at, size): (usize, Option<usize>),
    engine: impl FnOnce() -> PyResult<Arc<Engine>>,
) -> PyResult<Target> {
    if let Ok(memory) = object.cast_exact::<Memory>() {
        return memory.get().target(&engine()?, kind, at, size);
    }
    if let Some(span) = GpuSpan::of(object, kind == Kind::Read, (at, size))? {
        return Ok(Target::Gpu(span));
    }
    let export = Export::new(object, kind == Kind::Read)?;
    Ok(Target::Host(export.span(at, size)?, None))
}

/// A request of a batch, read.
pub(crate) struct Parsed {
    pub(crate) kind: Kind,
    pub(crate) file: Arc<OpenFile>,
    pub(crate) offset: u64,
    pub(crate) target: Option<Target>,
}

/// Reads the requests of a batch. Requests that name one object, one after the other, share what is found there.
pub(crate) struct Parser<'a, 'py> {
    engine: &'a Arc<Engine>,
    last: Option<(Bound<'py, PyAny>, Kind, Arc<Export>)>,
}

impl<'a, 'py> Parser<'a, 'py> {
    pub(crate) const fn new(engine: &'a Arc<Engine>) -> Self {
        Self { engine, last: None }
    }

    pub(crate) fn parse(&mut self, request: &Bound<'py, PyAny>) -> PyResult<Parsed> {
        let py = request.py();
        let (kind, transfer) = if let Ok(read) = request.cast_exact::<Read>() {
            (Kind::Read, &read.get().0)
        } else if let Ok(write) = request.cast_exact::<Write>() {
            (Kind::Write, &write.get().0)
        } else if let Ok(sync) = request.cast_exact::<Sync>() {
            return Ok(Parsed {
                kind: Kind::Sync,
                file: sync.get().0.get().opened(py)?,
                offset: 0,
                target: None,
            });
        } else {
            return Err(PyTypeError::new_err(
                "a request is a vyre_io.Read, a vyre_io.Write or a vyre_io.Sync",
            ));
        };
        Ok(Parsed {
            kind,
            file: transfer.file.get().opened(py)?,
            offset: transfer.offset,
            target: Some(self.target(transfer, kind, py)?),
        })
    }

    fn target(&mut self, transfer: &Transfer, kind: Kind, py: Python<'py>) -> PyResult<Target> {
        let (object, at, size) = (transfer.buffer.bind(py), transfer.at, transfer.size);
        if let Some((last, of, export)) = &self.last
            && last.is(object)
            && *of == kind
        {
            return Ok(Target::Host(export.span(at, size)?, None));
        }
        if object.cast_exact::<Memory>().is_ok() {
            return find_target(object, kind, (at, size), || Ok(Arc::clone(self.engine)));
        }
        if let Some(span) = GpuSpan::of(object, kind == Kind::Read, (at, size))? {
            return Ok(Target::Gpu(span));
        }
        let export = Export::new(object, kind == Kind::Read)?;
        let span = export.span(at, size)?;
        self.last = Some((object.clone(), kind, export));
        Ok(Target::Host(span, None))
    }
}

/// A read of a batch.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Read(pub(crate) Transfer);

/// A write of a batch.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Write(pub(crate) Transfer);

/// A sync of a batch.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Sync(pub(crate) Py<File>);

/// A part of a file, and the memory to read it to or to write it from.
pub(crate) struct Transfer {
    pub(crate) file: Py<File>,
    pub(crate) buffer: Py<PyAny>,
    pub(crate) offset: u64,
    pub(crate) size: Option<usize>,
    pub(crate) at: usize,
}

#[pymethods]
impl Read {
    #[new]
    #[pyo3(signature = (file, buffer, offset = 0, size = None, *, at = 0))]
    fn new(file: Py<File>, buffer: Py<PyAny>, offset: u64, size: Option<usize>, at: usize) -> Self {
        Self(Transfer {
            file,
            buffer,
            offset,
            size,
            at,
        })
    }
}

#[pymethods]
impl Write {
    #[new]
    #[pyo3(signature = (file, buffer, offset = 0, size = None, *, at = 0))]
    fn new(file: Py<File>, buffer: Py<PyAny>, offset: u64, size: Option<usize>, at: usize) -> Self {
        Self(Transfer {
            file,
            buffer,
            offset,
            size,
            at,
        })
    }
}

#[pymethods]
impl Sync {
    #[new]
    const fn new(file: Py<File>) -> Self {
        Self(file)
    }
}
