//! Opening of files for buffered or direct I/O, by `copy` and `bench`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use vyre_io::DirectAlign;

use crate::failure::Failure;
use crate::name::Shown;
use crate::signals::say;

/// A descriptor, and the alignment of its I/O if that bypasses the page cache.
pub(crate) struct Opened {
    pub(crate) fd: OwnedFd,
    pub(crate) align: Option<DirectAlign>,
}

impl Opened {
    /// Offsets, lengths and addresses must be multiples of this number of bytes.
    pub(crate) fn granularity(&self) -> u64 {
        self.align
            .as_ref()
            .map_or(1, |align| u64::from(align.offset.max(align.memory)))
    }

    pub(crate) fn of(fd: OwnedFd, path: &Path) -> Result<Self, Failure> {
        let align = vyre_io::uring::direct_alignment(fd.as_fd())
            .map_err(|error| Failure::file("examine", path, error))?;
        Ok(Self { fd, align })
    }

    /// Turns off direct I/O.
    pub(crate) fn buffer(&mut self) -> rustix::io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&self.fd)?;
        rustix::fs::fcntl_setfl(&self.fd, flags - OFlags::DIRECT)?;
        self.align = None;
        Ok(())
    }

    pub(crate) fn len(&self, path: &Path) -> Result<u64, Failure> {
        let failed = |error| Failure::file("examine", path, error);
        let file = File::from(self.fd.try_clone().map_err(failed)?);
        // Seeking measures block devices too; nobody else uses this descriptor's position.
        io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(|error| {
            // What proc makes up when it is read has no end to seek to.
            match rustix::io::Errno::from_io_error(&error) {
                Some(rustix::io::Errno::INVAL) => Failure::NoSize(path.into()),
                _ => failed(error),
            }
        })
    }
}

/// Opens a file, with direct I/O if `direct`. If the file system does not support that, opens it for
/// buffered I/O and says so on standard error.
pub(crate) fn open(path: &Path, flags: OFlags, direct: bool) -> Result<Opened, Failure> {
    with_direct(
        path,
        direct,
        |more| rustix::fs::open(path, flags | more | OFlags::CLOEXEC, Mode::empty()),
        |errno| Failure::file("open", path, errno),
    )
}

/// Runs `open` with O_DIRECT if `direct`, and without it if O_DIRECT is refused. `failed` wraps any
/// other failure.
pub(crate) fn with_direct(
    path: &Path,
    direct: bool,
    open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>,
    failed: impl Fn(rustix::io::Errno) -> Failure,
) -> Result<Opened, Failure> {
    if direct {
        match open(OFlags::DIRECT) {
            Ok(fd) => return Opened::of(fd, path),
            Err(rustix::io::Errno::INVAL) => {
                say!(
                    "vyre-io: {}: the file system has no direct I/O; using buffered I/O",
                    Shown(path)
                );
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    Opened::of(open(OFlags::empty()).map_err(failed)?, path)
}
