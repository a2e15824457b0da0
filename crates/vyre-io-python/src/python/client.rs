//! Clients of a server of files, such as `vyre-io serve`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{
    PyBufferError, PyConnectionResetError, PyFileNotFoundError, PyOSError, PyPermissionError,
    PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PySlice};
use vyre_io_client::protocol::{Code, NO_LIMIT, NO_LIMIT_32};
use vyre_io_client::{
    ClientError, ClientQueue, Features, OpenFile, Request, SharedBuffer, Ticket, WaitError,
};

use super::error::os_error;
use super::wait::duration;
use crate::engine::Refused;
use crate::fork;

/// Requests of a client that are in flight at a time, each with a part of the buffer of its own.
const DEPTH: usize = 16;
/// Bytes of a part.
const PART: usize = 256 << 10;
/// The time after which a wait looks for signals, such as that of Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// A connection to a server, with one queue and one buffer.
#[pyclass(frozen, module = "vyre_io.client")]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

/// A file of a server that is open.
#[pyclass(frozen, module = "vyre_io.client")]
pub(crate) struct RemoteFile {
    shared: Arc<Shared>,
    name: String,
    file: OpenFile,
}

struct Shared {
    born: u32,
    limit: Duration,
    /// `None` once it was closed. One thread at a time uses it.
    live: Mutex<Option<Live>>,
}

struct Live {
    client: vyre_io_client::Client,
    queue: ClientQueue,
    buffer: SharedBuffer,
    /// Requests without a taken outcome, oldest first, with their parts. Between operations there are some only if one
    /// was interrupted.
    flying: VecDeque<(Ticket, usize)>,
}

/// One direction of a transfer.
enum Move<'d> {
    Read(&'d mut Vec<u8>),
    Write(&'d [u8]),
}

/// Failure of an operation, without the interpreter's lock.
enum Failure {
    Client(ClientError),
    Errno(i32),
    HostGone,
    TimedOut(Duration),
    Signal(PyErr),
    Lost,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    fn into_py(self, py: Python<'_>, name: &str) -> PyErr {
        match self {
            Self::Client(error) => client_error(py, &error, name),
            Self::Errno(errno) => os_error(py, errno, &PathBuf::from(name)),
            Self::HostGone => PyConnectionResetError::new_err("host gone: the server has ended"),
            Self::TimedOut(limit) => {
                PyTimeoutError::new_err(format!("the server gave no outcome in {limit:?}"))
            }
            Self::Signal(error) => error,
            Self::Lost => PyOSError::new_err("the queue of the server lost a slot"),
        }
    }
}

fn client_error(py: Python<'_>, error: &ClientError, name: &str) -> PyErr {
    let text = error.to_string();
    match error {
        ClientError::Connect { path, errno } => os_error(py, errno.raw_os_error(), path),
        ClientError::HostGone | ClientError::CutOff(_) => PyConnectionResetError::new_err(text),
        ClientError::TimedOut { .. } => PyTimeoutError::new_err(text),
        ClientError::Name(_) => PyValueError::new_err(text),
        ClientError::Refused(refused) => match refused.cause() {
            Code::NoSuchFile => PyFileNotFoundError::new_err(format!("{name}: {text}")),
            Code::NotPermitted => PyPermissionError::new_err(format!("{name}: {text}")),
            _ => PyOSError::new_err(text),
        },
        _ => PyOSError::new_err(text),
    }
}

impl Shared {
    /// Returns the connection. Without the interpreter's lock, which another thread may want while it has the connection.
    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_fork(&self) -> PyResult<()> {
        let same = self.born == fork::generation();
        same.then_some(()).ok_or_else(|| Refused::Forked.into())
    }

    /// Does something with the connection, without the interpreter's lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        name: &str,
        act: impl FnOnce(&mut Live) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        self.check_fork()?;
        let done = py.detach(|| self.lock().as_mut().map(act));
        match done {
            Some(done) => done.map_err(|failure| failure.into_py(py, name)),
            None => Err(PyValueError::new_err("the client is closed")),
        }
    }
}

impl Live {
    /// Waits for the oldest request, and returns its part and its result.
    fn take(&mut self, limit: Duration) -> Result<(usize, Result<u32, i32>), Failure> {
        let (ticket, part) = self.flying.pop_front().ok_or(Failure::Lost)?;
        let (mut ticket, began) = (ticket, Instant::now());
        loop {
            let left = limit.saturating_sub(began.elapsed());
            match self.queue.wait(ticket, left.min(SLICE)) {
                Ok(outcome) => {
                    let result = outcome.result.map_err(|errno| errno.raw() as i32);
                    return Ok((part, result));
                }
                Err(error) => {
                    let gone = matches!(error, WaitError::HostGone(_));
                    ticket = error.into_ticket();
                    let failure = if gone {
                        Some(Failure::HostGone)
                    } else if left.is_zero() {
                        Some(Failure::TimedOut(limit))
                    } else {
                        Python::attach(|py| py.check_signals().err()).map(Failure::Signal)
                    };
                    if let Some(failure) = failure {
                        // Its outcome may still come, and its part is in use until then.
                        self.flying.push_front((ticket, part));
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// Waits for what interrupted operations have left.
    fn settle(&mut self, limit: Duration) -> Result<(), Failure> {
        while !self.flying.is_empty() {
            let _ = self.take(limit)?;
        }
        Ok(())
    }

    /// Moves bytes in parts, several at a time. Returns how many were moved before the first that came short.
    fn transfer(
        &mut self,
        file: &OpenFile,
        offset: u64,
        len: usize,
        mut data: Move<'_>,
        limit: Duration,
    ) -> Result<usize, Failure> {
        self.settle(limit)?;
        let count_of = |part: usize| PART.min(len - part * PART);
        let parts = len.div_ceil(PART);
        let (mut asked, mut moved, mut failed) = (0, 0, None);
        let mut ended = false;
        loop {
            while asked < parts && self.flying.len() < DEPTH && !ended {
                let (place, count) = (asked % DEPTH * PART, count_of(asked));
                let at = offset.saturating_add((asked * PART) as u64);
                let handle = self.buffer.handle();
                let request = match &data {
                    Move::Read(_) => Request::read(file.handle(), at, count as u32)
                        .into_buffer(handle, place as u64),
                    Move::Write(bytes) => {
                        let bytes = &bytes[asked * PART..][..count];
                        let written = self.buffer.memory().write_at(place, bytes);
                        written.map_err(|_| Failure::Lost)?;
                        Request::write(file.handle(), at, count as u32)
                            .from_buffer(handle, place as u64)
                    }
                };
                let ticket = self.queue.device().submit(request);
                self.flying
                    .push_back((ticket.map_err(|_| Failure::Lost)?, asked));
                asked += 1;
            }
            if self.flying.is_empty() {
                break;
            }
            let (part, result) = self.take(limit)?;
            let want = count_of(part);
            match result {
                // Those behind a part that came short do not count.
                _ if ended => {}
                Ok(count) => {
                    let count = (count as usize).min(want);
                    if let Move::Read(out) = &mut data {
                        let start = out.len();
                        out.resize(start + count, 0);
                        let place = part % DEPTH * PART;
                        let read = self.buffer.memory().read_at(place, &mut out[start..]);
                        read.map_err(|_| Failure::Lost)?;
                    }
                    moved += count;
                    ended = count < want;
                }
                Err(errno) => {
                    failed = Some(errno);
                    ended = true;
                }
            }
        }
        match failed {
            Some(errno) if moved == 0 => Err(Failure::Errno(errno)),
            _ => Ok(moved),
        }
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (path, *, name = None, timeout = 30.0))]
    fn new(py: Python<'_>, path: PathBuf, name: Option<&str>, timeout: f64) -> PyResult<Self> {
        let limit = duration(timeout)?;
        let connect = move || {
            let name = name.unwrap_or("python");
            let mut client = vyre_io_client::Client::connect_as(path, name)?;
            client.set_answer_limit(limit)?;
            let queue = client.queue(DEPTH as u32, Features::WAKE)?;
            queue.device().expect_wakeups();
            let buffer = client.buffer(&queue, (DEPTH * PART) as u64)?;
            Ok(Live {
                client,
                queue,
                buffer,
                flying: VecDeque::new(),
            })
        };
        let live = py.detach(connect);
        let live = live.map_err(|error: ClientError| client_error(py, &error, ""))?;
        let shared = Arc::new(Shared {
            born: fork::generation(),
            limit,
            live: Mutex::new(Some(live)),
        });
        Ok(Self { shared })
    }

    /// The files that the server offers, as dictionaries.
    fn files<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let files = self.shared.with(py, "", |live| Ok(live.client.files()?))?;
        let dictionary = |file: vyre_io_client::protocol::FileEntry| {
            let entry = PyDict::new(py);
            entry.set_item("name", file.name.as_str())?;
            entry.set_item("start", file.start)?;
            entry.set_item("end", (file.end != u64::MAX).then_some(file.end))?;
            entry.set_item("rights", rights(file.rights))?;
            entry.set_item("alignment", file.alignment)?;
            Ok(entry)
        };
        files.into_iter().map(dictionary).collect()
    }

    /// The limits of this client, as a dictionary; `None` is no limit.
    #[getter]
    fn limits<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let welcome = self
            .shared
            .with(py, "", |live| Ok(*live.client.welcome()))?;
        let limits = PyDict::new(py);
        for (name, limit) in [
            ("queues", welcome.queues),
            ("slots", welcome.slots),
            ("buffers", welcome.buffers),
            ("open_files", welcome.open_files),
            ("operations_in_flight", welcome.operations_in_flight),
        ] {
            limits.set_item(name, (limit != NO_LIMIT_32).then_some(limit))?;
        }
        for (name, limit) in [
            ("buffer_bytes", welcome.buffer_bytes),
            ("operations_per_second", welcome.operations_per_second),
            ("bytes_per_second", welcome.bytes_per_second),
            ("bytes_in_flight", welcome.bytes_in_flight),
        ] {
            limits.set_item(name, (limit != NO_LIMIT).then_some(limit))?;
        }
        Ok(limits)
    }

    /// Opens a file of the server.
    fn open(&self, py: Python<'_>, name: &str) -> PyResult<RemoteFile> {
        let file = self.shared.with(py, name, |live| {
            Ok(live.client.open(&live.queue, name, 0)?)
        })?;
        Ok(RemoteFile {
            shared: Arc::clone(&self.shared),
            name: name.to_owned(),
            file,
        })
    }

    /// Ends the conversation in order.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.check_fork()?;
        let live = py.detach(|| self.shared.lock().take());
        let Some(Live { client, .. }) = live else {
            return Ok(());
        };
        match py.detach(|| client.goodbye()) {
            // It need not be there any more.
            Ok(()) | Err(ClientError::HostGone | ClientError::Broken) => Ok(()),
            Err(error) => Err(client_error(py, &error, "")),
        }
    }

    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        py.detach(|| self.shared.lock().is_none())
    }

    /// True if the server has closed the connection.
    #[getter]
    fn host_gone(&self, py: Python<'_>) -> PyResult<bool> {
        self.shared
            .with(py, "", |live| Ok(live.client.is_host_gone()))
    }

    const fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(py)
    }
}

/// Returns rights as letters: `r`, `w` and `s`.
fn rights(bits: u32) -> String {
    let letters = [(1, 'r'), (2, 'w'), (4, 's')];
    let given = letters.iter().filter(|(bit, _)| bits & bit != 0);
    given.map(|(_, letter)| letter).collect()
}

#[pymethods]
impl RemoteFile {
    /// Reads up to `size` bytes from an offset.
    #[pyo3(signature = (size, offset = 0))]
    fn pread<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        offset: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.read(py, size, offset)?))
    }

    /// Reads into a buffer from an offset, and returns the number of bytes.
    #[pyo3(signature = (buffer, offset = 0))]
    fn pread_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        offset: u64,
    ) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?;
        if view.getattr("readonly")?.extract()? || !view.getattr("c_contiguous")?.extract()? {
            let text = "the buffer is read-only or not contiguous";
            return Err(PyBufferError::new_err(text));
        }
        let view = view.call_method1("cast", ("B",))?;
        let bytes = self.read(py, view.len()?, offset)?;
        let part = PySlice::new(py, 0, bytes.len() as isize, 1);
        view.set_item(part, PyBytes::new(py, &bytes))?;
        Ok(bytes.len())
    }

    /// Writes bytes at an offset, and returns their number.
    #[pyo3(signature = (data, offset = 0))]
    fn pwrite(&self, py: Python<'_>, data: &Bound<'_, PyAny>, offset: u64) -> PyResult<usize> {
        let data = PyBuffer::<u8>::get(data)?.to_vec(py)?;
        let limit = self.shared.limit;
        self.shared.with(py, &self.name, |live| {
            live.transfer(&self.file, offset, data.len(), Move::Write(&data), limit)
        })
    }

    /// Waits until what was written is on stable storage.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let limit = self.shared.limit;
        self.shared.with(py, &self.name, |live| {
            live.settle(limit)?;
            let ticket = live
                .queue
                .device()
                .submit(Request::sync(self.file.handle()));
            live.flying
                .push_back((ticket.map_err(|_| Failure::Lost)?, 0));
            let (_, result) = live.take(limit)?;
            result.map(|_| ()).map_err(Failure::Errno)
        })
    }

    /// Gives the file back to the server.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.with(py, &self.name, |live| {
            Ok(live.client.close_file(&self.file)?)
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that the file held when it was opened.
    #[getter]
    const fn size(&self) -> u64 {
        self.file.answer().length
    }

    #[getter]
    fn rights(&self) -> String {
        rights(self.file.answer().rights)
    }

    #[getter]
    const fn alignment(&self) -> u32 {
        self.file.answer().alignment
    }
}

impl RemoteFile {
    fn read(&self, py: Python<'_>, size: usize, offset: u64) -> PyResult<Vec<u8>> {
        let limit = self.shared.limit;
        self.shared.with(py, &self.name, |live| {
            let mut out = Vec::new();
            live.transfer(&self.file, offset, size, Move::Read(&mut out), limit)?;
            Ok(out)
        })
    }
}
