//! The file under test.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use vyre_io::mapped::Mapping;
use vyre_io_cli::measure::stamp;

use super::marks::Marks;
use super::plan::Plan;
use crate::args::{BenchArgs, BenchOp, Size};
use crate::failure::Failure;
use crate::stack::{self, Opened};

pub(super) struct Target {
    path: PathBuf,
    opened: Opened,
    /// Whole blocks in it.
    pub(super) blocks: u64,
    /// Set if the file has stamps, by which its sectors can be verified.
    pub(super) stamped: bool,
    /// Blocks that were overwritten since the stamps were last restored.
    pub(super) written: Marks,
}

impl Target {
    /// Opens or creates the file. Returns `None` for operations without a file.
    pub(super) fn open(args: &BenchArgs, plan: &Plan) -> Result<Option<Self>, Failure> {
        let writes = args.op == BenchOp::Write;
        if !writes && args.op != BenchOp::Read {
            return Ok(None);
        }
        let block = u64::from(plan.block_size);
        let path = match (&args.file, args.create.as_deref()) {
            (Some(path), _) => path.clone(),
            (None, Some([size, path])) => create(size, Path::new(path), block)?,
            _ => return Err(Failure::Usage("a file is needed".into())),
        };
        // Before it is opened: to open a FIFO waits for somebody at its other end.
        let kind = fs::metadata(&path)
            .map_err(|error| Failure::file("examine", &path, error))?
            .file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Failure::unfit(&path, kind));
        }
        let flags = if writes { OFlags::RDWR } else { OFlags::RDONLY };
        let opened = stack::open(&path, flags, args.direct)?;
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
        let stamped = whole_sectors && is_stamped(&path)?;
        Ok(Some(Self {
            path,
            opened,
            blocks,
            stamped,
            written: Marks::new(if writes { blocks } else { 0 }),
        }))
    }

    /// Removes the first stamp while blocks are written, so that no later run takes the file of a
    /// killed run for a stamped one. It is restored with the others.
    pub(super) fn begin_writes(&self) -> Result<(), Failure> {
        if !self.stamped {
            return Ok(());
        }
        File::options()
            .write(true)
            .open(&self.path)
            .and_then(|file| file.write_all_at(&[0; stamp::SECTOR], 0))
            .map_err(|error| Failure::file("write to", &self.path, error))
    }

    /// Maps the file and reads all of it in, for copies out of the mapping.
    pub(super) fn map(&self) -> Result<Mapping, Failure> {
        let failed = |error| Failure::Baseline(io::Error::other(error));
        let len = self.opened.len(&self.path)?;
        let mapping = Mapping::new(&self.opened.fd, 0..len).map_err(failed)?;
        let populated = mapping.populate(0..len);
        populated.map_err(|errno| Failure::Baseline(errno.into()))?;
        Ok(mapping)
    }

    pub(super) fn duplicate(&self) -> Result<OwnedFd, Failure> {
        self.opened
            .fd
            .try_clone()
            .map_err(|error| Failure::file("open", &self.path, error))
    }
}

/// Makes a stamped file. It is complete before the measurement begins, and is kept. An existing
/// file is overwritten only if an earlier benchmark made it.
fn create(size: &str, path: &Path, block: u64) -> Result<PathBuf, Failure> {
    let size: Size = size
        .parse()
        .map_err(|error| Failure::Usage(format!("--create {size}: {error}")))?;
    if !size.0.is_multiple_of(stamp::SECTOR as u64) || size.0 < block.max(1) {
        return Err(Failure::Usage(format!(
            "--create takes a multiple of {} bytes, and at least one block of {block} bytes",
            stamp::SECTOR
        )));
    }
    let failed = |error| Failure::file("create", path, error);
    match File::create_new(path) {
        Ok(file) => stamp::fill(&file, size.0).map_err(|error| {
            // It was not there before. What came of it is of no use.
            let _ = fs::remove_file(path);
            failed(error)
        })?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !is_stamped(path)? {
                return Err(Failure::NotOurs(path.into()));
            }
            let file = File::options().write(true).truncate(true).open(path);
            file.and_then(|file| stamp::fill(&file, size.0))
                .map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(path.into())
}

fn is_stamped(path: &Path) -> Result<bool, Failure> {
    let failed = |error| Failure::file("read", path, error);
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Ok(false);
    }
    let file = File::open(path).map_err(failed)?;
    Ok(stamp::begins(&file))
}
