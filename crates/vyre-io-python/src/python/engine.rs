//! Engines.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use vyre_io::{TransportChoice, WaitPolicy};

use super::batch::Batch as PyBatch;
use super::error::spawn_error;
use super::memory::Memory;
use super::request::{Parsed, Parser};
use super::wait::{Pending, duration};
use crate::at_once::{self, Run};
use crate::batch::Batch;
use crate::engine::{Engine as Core, Settings};
use crate::given_back::begin_exit;
use crate::gpu_io::{self, GpuOp};
use crate::memory::reap;

/// All engines of the process, and that of the process itself. Held by threads with the interpreter lock alone, as
/// fork(2) is called: a child never finds it locked.
static ENGINES: Mutex<Engines> = Mutex::new(Engines {
    all: Vec::new(),
    own: None,
});

struct Engines {
    all: Vec<Weak<Core>>,
    own: Option<Arc<Core>>,
}

fn engines() -> std::sync::MutexGuard<'static, Engines> {
    ENGINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engines {
    fn start(&mut self, settings: Settings) -> PyResult<Arc<Core>> {
        let engine = Core::start(settings).map_err(|error| spawn_error(&error))?;
        self.all.retain(|engine| engine.strong_count() > 0);
        self.all.push(Arc::downgrade(&engine));
        Ok(engine)
    }
}

/// Returns the engine that the process's files share. It is started when it is first needed.
pub(crate) fn of_process() -> PyResult<Arc<Core>> {
    let mut engines = engines();
    match &engines.own {
        Some(engine) if !engine.is_elsewhere() => Ok(Arc::clone(engine)),
        _ => {
            let engine = engines.start(Settings::default())?;
            engines.own = Some(Arc::clone(&engine));
            Ok(engine)
        }
    }
}

/// Closes all engines, at the interpreter's exit.
#[pyfunction]
#[pyo3(name = "_close_all")]
pub(crate) fn close_all(py: Python<'_>) {
    begin_exit();
    let all: Vec<_> = engines().all.iter().filter_map(Weak::upgrade).collect();
    // What an engine cannot do at the exit is left to the kernel.
    py.detach(|| {
        all.iter().for_each(|engine| drop(engine.close()));
        gpu_io::drain(Settings::default().drain);
    });
    reap(py);
}

/// A thread that performs operations, and what is in flight there.
#[pyclass(frozen, module = "vyre_io")]
pub(crate) struct Engine(pub(crate) Arc<Core>);

/// Returns the engine that the process's files share.
#[pyfunction]
pub(crate) fn default_engine() -> PyResult<Engine> {
    of_process().map(Engine)
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, depth = 256, transport = "auto", wait = "sleep", core = None, drain_timeout = 5.0))]
    fn new(
        depth: u32,
        transport: &str,
        wait: &str,
        core: Option<usize>,
        drain_timeout: f64,
    ) -> PyResult<Self> {
        if !(1..=MOST_DEPTH).contains(&depth) {
            return Err(PyValueError::new_err(format!(
                "depth is {depth}, and must be 1 to {MOST_DEPTH}"
            )));
        }
        let settings = Settings {
            depth,
            transport: choice("transport", transport, &TRANSPORTS)?,
            policy: choice("wait", wait, &WAITS)?,
            core,
            drain: duration(drain_timeout)?,
        };
        engines().start(settings).map(Self)
    }

    /// Begins the operations of a list of requests, in no order.
    #[pyo3(signature = (requests, *, key = None))]
    fn submit(&self, requests: &Bound<'_, PyAny>, key: Option<u64>) -> PyResult<PyBatch> {
        let py = requests.py();
        self.0.check()?;
        let mut parser = Parser::new(&self.0);
        for request in requests.try_iter()? {
            parser.parse(&request?)?;
        }
        let parsed = parser.finish();
        let on = parsed.iter().map(Parsed::on);
        let batch = Batch::new(on.map(|(count, file)| (count, Arc::clone(file))));
        let (on_gpus, runs) = split(parsed, &batch);
        gpu_io::submit(py, on_gpus);
        py.detach(|| {
            let ops = at_once::begin(runs, &batch);
            if !ops.is_empty() {
                self.0.submit(ops)?;
            }
            let Some(key) = key else { return Ok(()) };
            let ended = self.0.ended()?;
            batch.watch(key, ended, false);
            ended.listen_to(&self.0)
        })?;
        reap(py);
        Ok(PyBatch {
            pending: Pending {
                batch,
                engine: Some(Arc::clone(&self.0)),
            },
            key,
        })
    }

    /// Returns the batches with keys that have ended since the last call.
    fn drain(&self, py: Python<'_>) -> PyResult<Vec<PyBatch>> {
        let taken = py.detach(|| self.0.ended()?.take())?;
        reap(py);
        let batches = taken.into_iter().map(|(key, batch)| PyBatch {
            pending: Pending {
                batch,
                engine: Some(Arc::clone(&self.0)),
            },
            key: Some(key),
        });
        Ok(batches.collect())
    }

    /// Returns a descriptor that is readable while `drain` may have something to return.
    fn event_fd(&self, py: Python<'_>) -> PyResult<i32> {
        let ended = self.0.ended()?;
        py.detach(|| ended.listen_to(&self.0))?;
        reap(py);
        Ok(ended.descriptor())
    }

    /// Registers memory, which operations on it then need not do.
    fn register(&self, buffer: &Bound<'_, PyAny>) -> PyResult<Memory> {
        Memory::new(&self.0, buffer)
    }

    /// Describes the transport of the engine, and why there is no better one.
    #[getter]
    fn transport(&self) -> PyResult<String> {
        Ok(self.0.report()?.to_owned())
    }

    /// Waits for all operations, and ends the engine.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = py.detach(|| self.0.close())?;
        reap(py);
        closed.map_err(|error| PyOSError::new_err(error.to_string()))
    }

    const fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}

/// Returns the operations on memory of GPUs, and the others with their places in the batch.
fn split(parsed: Vec<Parsed>, batch: &Arc<Batch>) -> (Vec<GpuOp>, Vec<(usize, Run)>) {
    let (mut on_gpus, mut runs) = (Vec::new(), Vec::new());
    let mut index = 0;
    for parsed in parsed {
        let (count, _) = parsed.on();
        match parsed {
            Parsed::Host(run) => runs.push((index, run)),
            Parsed::Gpu {
                kind,
                file,
                offset,
                span,
            } => on_gpus.push(GpuOp {
                kind,
                file,
                offset,
                span,
                batch: Arc::clone(batch),
                index,
            }),
        }
        index += count;
    }
    (on_gpus, runs)
}

/// The largest number of operations in flight: what a queue has slots for.
const MOST_DEPTH: u32 = 4096;

const TRANSPORTS: [(&str, TransportChoice); 3] = [
    ("auto", TransportChoice::Auto),
    ("ring", TransportChoice::Ring),
    ("threads", TransportChoice::ThreadPool),
];

const WAITS: [(&str, WaitPolicy); 3] = [
    ("sleep", WaitPolicy::DOORBELL),
    ("adaptive", WaitPolicy::ADAPTIVE),
    ("spin", WaitPolicy::Spin),
];

pub(super) fn choice<T: Copy>(what: &str, name: &str, choices: &[(&str, T)]) -> PyResult<T> {
    let found = choices.iter().find(|(known, _)| *known == name);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<_> = choices
            .iter()
            .map(|(known, _)| format!("{known:?}"))
            .collect();
        PyValueError::new_err(format!(
            "{what} is {name:?}, and must be one of {}",
            names.join(", ")
        ))
    })
}
