//! Gathers.

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use super::error::{io_error, os_error};
use super::file::File;
use crate::memory::{Export, reap};
use crate::rows::{GatherError, Rows};

/// Copies the rows that `ids`, numbers of 64 bits, name to `out`.
#[pyfunction]
#[pyo3(name = "_gather")]
pub(crate) fn gather(
    file: &Bound<'_, File>,
    ids: &Bound<'_, PyAny>,
    row_bytes: usize,
    out: &Bound<'_, PyAny>,
    offset: u64,
    threads: Option<usize>,
) -> PyResult<()> {
    let py = file.py();
    if row_bytes == 0 || threads == Some(0) {
        return Err(PyValueError::new_err(
            "row_bytes and threads must be at least 1",
        ));
    }
    let file = file.get().opened(py)?;
    let ids = Export::new(ids, false)?.span(0, None)?;
    let count = ids.len() / size_of::<i64>();
    let size = count.saturating_mul(row_bytes);
    let out = Export::new(out, true)?.span(0, Some(size))?;
    let rows = Rows {
        first: offset,
        len: row_bytes,
    };
    let gathered = py.detach(|| rows.gather(&file, (&ids, &out), threads));
    drop((ids, out));
    reap(py);
    gathered.map_err(|error| match error {
        GatherError::NoRow { index, id, rows } => PyIndexError::new_err(format!(
            "number {index} is {id}, and {} has {rows} rows",
            file.path.display()
        )),
        // The file became shorter meanwhile.
        GatherError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            os_error(py, libc::EIO, &file.path)
        }
        GatherError::Io(error) => io_error(py, &error, &file.path),
    })
}
