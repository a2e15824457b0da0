//! Requests of a batch, and the memory that they name.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use super::file::File;
use super::many::{Many, Reads, Writes};
use super::memory::Memory;
use crate::at_once::{Part, Run};
use crate::engine::Engine;
use crate::engine::place::Registration;
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

/// Requests of a batch, read.
pub(crate) enum Parsed {
    /// On memory of the host, or none.
    Host(Run),
    /// On memory of a GPU.
    Gpu {
        kind: Kind,
        file: Arc<OpenFile>,
        offset: u64,
        span: GpuSpan,
    },
}

impl Parsed {
    /// Returns the number of operations, and their file.
    pub(crate) fn on(&self) -> (usize, &Arc<OpenFile>) {
        match self {
            Self::Host(run) => (run.parts.len(), &run.file),
            Self::Gpu { file, .. } => (1, file),
        }
    }
}

/// Memory of the host for operations of one kind.
#[derive(Clone)]
struct HostMemory {
    export: Arc<Export>,
    registration: Option<Arc<Registration>>,
}

/// Reads the requests of a batch. Requests that name one object, one after the other, share what is found there.
pub(crate) struct Parser<'a, 'py> {
    engine: &'a Arc<Engine>,
    last: Option<(Bound<'py, PyAny>, Kind, HostMemory)>,
    parsed: Vec<Parsed>,
}

impl<'a, 'py> Parser<'a, 'py> {
    pub(crate) const fn new(engine: &'a Arc<Engine>) -> Self {
        Self {
            engine,
            last: None,
            parsed: Vec::new(),
        }
    }

    pub(crate) fn parse(&mut self, request: &Bound<'py, PyAny>) -> PyResult<()> {
        let py = request.py();
        if let Ok(read) = request.cast_exact::<Read>() {
            self.one(Kind::Read, &read.get().0, py)
        } else if let Ok(write) = request.cast_exact::<Write>() {
            self.one(Kind::Write, &write.get().0, py)
        } else if let Ok(reads) = request.cast_exact::<Reads>() {
            self.many(Kind::Read, &reads.get().0, py)
        } else if let Ok(writes) = request.cast_exact::<Writes>() {
            self.many(Kind::Write, &writes.get().0, py)
        } else if let Ok(sync) = request.cast_exact::<Sync>() {
            let file = sync.get().0.get().opened(py)?;
            let whole = Part {
                offset: 0,
                at: 0,
                len: 0,
            };
            self.add(Kind::Sync, file, None, &[whole])
        } else {
            Err(PyTypeError::new_err(
                "a request is a vyre_io.Read, Write, Reads, Writes or Sync",
            ))
        }
    }

    /// Returns what was read.
    pub(crate) fn finish(self) -> Vec<Parsed> {
        self.parsed
    }

    fn one(&mut self, kind: Kind, transfer: &Transfer, py: Python<'py>) -> PyResult<()> {
        let file = transfer.file.get().opened(py)?;
        let (object, at, size) = (transfer.buffer.bind(py), transfer.at, transfer.size);
        let offset = transfer.offset;
        match self.memory(object, kind)? {
            Some(memory) => {
                let len = memory.export.span(at, size)?.len();
                self.add(kind, file, Some(memory), &[Part { offset, at, len }])
            }
            None => self.add_on_gpu(kind, file, object, (offset, at, size)),
        }
    }

    fn many(&mut self, kind: Kind, many: &Many, py: Python<'py>) -> PyResult<()> {
        let file = many.file.get().opened(py)?;
        let object = many.buffer.bind(py);
        let Some(memory) = self.memory(object, kind)? else {
            for &Part { offset, at, len } in &many.parts {
                let file = Arc::clone(&file);
                self.add_on_gpu(kind, file, object, (offset, at, Some(len)))?;
            }
            return Ok(());
        };
        // The error of the first that is not inside.
        for part in &many.parts {
            memory.export.check(part.at, part.len)?;
        }
        self.add(kind, file, Some(memory), &many.parts)
    }

    /// Adds operations to the last run, if that has their kind, file and memory.
    fn add(
        &mut self,
        kind: Kind,
        file: Arc<OpenFile>,
        memory: Option<HostMemory>,
        parts: &[Part],
    ) -> PyResult<()> {
        let (export, registration) = match memory {
            Some(memory) => (Some(memory.export), memory.registration),
            None => (None, None),
        };
        if let Some(Parsed::Host(last)) = self.parsed.last_mut()
            && last.kind == kind
            && last.file.number == file.number
            && last.is_on(export.as_ref())
        {
            last.parts.extend_from_slice(parts);
            return Ok(());
        }
        let memory = export.map(|export| export.span(0, None)).transpose()?;
        self.parsed.push(Parsed::Host(Run {
            kind,
            file,
            memory,
            registration,
            parts: parts.to_vec(),
        }));
        Ok(())
    }

    fn add_on_gpu(
        &mut self,
        kind: Kind,
        file: Arc<OpenFile>,
        object: &Bound<'py, PyAny>,
        (offset, at, size): (u64, usize, Option<usize>),
    ) -> PyResult<()> {
        // `memory` has found that it is.
        if let Some(span) = GpuSpan::of(object, kind == Kind::Read, (at, size))? {
            self.parsed.push(Parsed::Gpu {
                kind,
                file,
                offset,
                span,
            });
        }
        Ok(())
    }

    /// Returns the memory of an object, or `None` if it is a GPU's.
    fn memory(&mut self, object: &Bound<'py, PyAny>, kind: Kind) -> PyResult<Option<HostMemory>> {
        if let Some((last, of, memory)) = &self.last
            && last.is(object)
            && *of == kind
        {
            return Ok(Some(memory.clone()));
        }
        let memory = if let Ok(memory) = object.cast_exact::<Memory>() {
            let (export, registration) = memory.get().whole(self.engine, kind)?;
            HostMemory {
                export,
                registration: Some(registration),
            }
        } else if GpuSpan::of(object, kind == Kind::Read, (0, None))?.is_some() {
            return Ok(None);
        } else {
            HostMemory {
                export: Export::new(object, kind == Kind::Read)?,
                registration: None,
            }
        };
        self.last = Some((object.clone(), kind, memory.clone()));
        Ok(Some(memory))
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
