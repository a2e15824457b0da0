//! The file under test.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::plan::Plan;
use super::stamp;
use crate::args::{BenchArgs, BenchOp, Size};
use crate::failure::Failure;
use crate::stack::{self, Opened};

/// Bytes written at once while a file is made.
const CHUNK: usize = 1 << 20;

pub(super) struct Target {
    path: PathBuf,
    opened: Opened,
    /// Whole blocks in it.
    pub(super) blocks: u64,
    /// Whether its sectors can be verified.
    pub(super) stamped: bool,
}

impl Target {
    /// Opens or makes the file; none for operations that need none.
    pub(super) fn open(args: &BenchArgs, plan: &Plan) -> Result<Option<Self>, Failure> {
        let writes = args.op == BenchOp::Write;
        if !writes && args.op != BenchOp::Read {
            return Ok(None);
        }
        let path = match (&args.file, args.create.as_deref()) {
            (Some(path), _) => path.clone(),
            (None, Some([size, path])) => create(size, Path::new(path))?,
            _ => return Err(Failure::Usage("a file is needed".into())),
        };
        let flags = if writes { OFlags::RDWR } else { OFlags::RDONLY };
        let opened = stack::open(&path, flags, args.direct)?;
        let block = u64::from(plan.block_size);
        if !block.is_multiple_of(opened.granularity()) {
            return Err(Failure::Usage(format!(
                "--block-size must be a multiple of {} for direct I/O on {}",
                opened.granularity(),
                path.display()
            )));
        }
        let blocks = opened.len(&path)? / block;
        if blocks == 0 {
            return Err(Failure::Usage(format!(
                "{} is shorter than one block of {block} bytes",
                path.display()
            )));
        }
        let whole_sectors = block.is_multiple_of(stamp::SECTOR as u64);
        let stamped = whole_sectors && (writes || is_stamped(&path)?);
        Ok(Some(Self {
            path,
            opened,
            blocks,
            stamped,
        }))
    }

    pub(super) fn duplicate(&self) -> Result<OwnedFd, Failure> {
        self.opened
            .fd
            .try_clone()
            .map_err(|error| Failure::file("open", &self.path, error))
    }
}

/// Makes a stamped file. It is complete before it is measured, and stays.
fn create(size: &str, path: &Path) -> Result<PathBuf, Failure> {
    let size: Size = size
        .parse()
        .map_err(|error| Failure::Usage(format!("--create {size}: {error}")))?;
    if !size.0.is_multiple_of(stamp::SECTOR as u64) || size.0 == 0 {
        return Err(Failure::Usage(format!(
            "--create takes a multiple of {} bytes",
            stamp::SECTOR
        )));
    }
    write_stamped(path, size.0).map_err(|error| Failure::file("create", path, error))?;
    Ok(path.into())
}

fn write_stamped(path: &Path, size: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    while offset < size {
        let len = (size - offset).min(CHUNK as u64) as usize;
        stamp::write(offset, &mut chunk[..len]);
        file.write_all(&chunk[..len])?;
        offset += len as u64;
    }
    // Else the kernel writes it back during the measurement.
    file.sync_all()
}

fn is_stamped(path: &Path) -> Result<bool, Failure> {
    let failed = |error| Failure::file("read", path, error);
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(false);
    }
    let mut sector = [0; stamp::SECTOR];
    let file = File::open(path).map_err(failed)?;
    Ok(file.read_exact_at(&mut sector, 0).is_ok() && stamp::is_intact(0, &sector))
}
