//! A file that gets its name only when it is complete.
//!
//! It is made without a name (O_TMPFILE), so that a copy which ends early, by whatever signal,
//! leaves nothing behind. Where the file system cannot do that, it has a hidden name beside DST
//! meanwhile, and only that may be left over.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::stack::{self, Opened};

pub(super) struct Destination {
    opened: Opened,
    /// The final name, links resolved.
    path: PathBuf,
    directory: PathBuf,
    /// The hidden name, while there is one.
    hidden: Option<PathBuf>,
}

impl Destination {
    /// Makes the file. `dst` is the name it will get, or a directory to get the source's name in.
    pub(super) fn create(
        src: &Path,
        source: &OwnedFd,
        dst: &Path,
        direct: bool,
    ) -> Result<Self, Failure> {
        let path = target(src, dst)?;
        let source = source
            .try_clone()
            .and_then(|fd| File::from(fd).metadata())
            .map_err(|error| Failure::file("examine", src, error))?;
        match fs::metadata(&path) {
            Ok(old) if (old.dev(), old.ino()) == (source.dev(), source.ino()) => {
                return Err(Failure::SameFile(src.into(), dst.into()));
            }
            Ok(old) if !old.is_file() => return Err(Failure::NotAFile(path)),
            _ => {}
        }
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.into(),
            _ => PathBuf::from("."),
        };
        let mode = Mode::from_raw_mode(source.permissions().mode() & 0o777);
        Self::open(path, directory, mode, direct)
    }

    fn open(path: PathBuf, directory: PathBuf, mode: Mode, direct: bool) -> Result<Self, Failure> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let nameless = stack::with_direct(&path, direct, |more| {
            match rustix::fs::open(&directory, flags | more | OFlags::TMPFILE, mode) {
                // The file system has no nameless files; told apart from EINVAL for O_DIRECT.
                Err(Errno::OPNOTSUPP | Errno::ISDIR) => Err(Errno::OPNOTSUPP),
                other => other,
            }
        });
        match nameless {
            Ok(opened) => Ok(Self {
                opened,
                path,
                directory,
                hidden: None,
            }),
            Err(Failure::File { source, .. })
                if source.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) =>
            {
                let hidden = hidden_name(&path, &directory);
                let opened = stack::with_direct(&path, direct, |more| {
                    let create = OFlags::CREATE | OFlags::EXCL;
                    rustix::fs::open(&hidden, flags | more | create, mode)
                })?;
                Ok(Self {
                    opened,
                    path,
                    directory,
                    hidden: Some(hidden),
                })
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) fn granularity(&self) -> u64 {
        self.opened.granularity()
    }

    pub(super) fn duplicate(&self) -> Result<OwnedFd, Failure> {
        self.opened
            .fd
            .try_clone()
            .map_err(|error| Failure::file("open", &self.path, error))
    }

    /// Sets the length before the blocks arrive in whatever order.
    pub(super) fn reserve(&self, len: u64) -> Result<(), Failure> {
        self.set_len("make room in", len)
    }

    /// Cuts off what direct I/O wrote past the end.
    pub(super) fn trim(&self, len: u64) -> Result<(), Failure> {
        self.set_len("trim", len)
    }

    fn set_len(&self, what: &'static str, len: u64) -> Result<(), Failure> {
        rustix::fs::ftruncate(&self.opened.fd, len)
            .map_err(|errno| Failure::file(what, &self.path, errno))
    }

    /// Gives the file its name, in one step, and makes the name durable if asked to.
    pub(super) fn publish(&mut self, sync: bool) -> Result<(), Failure> {
        let failed = |errno: Errno| Failure::file("name", &self.path, errno);
        if self.hidden.is_none() {
            match self.link(&self.path) {
                Ok(()) => return self.sync_directory(sync),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            // A link cannot replace a file, a rename can.
            let hidden = hidden_name(&self.path, &self.directory);
            self.link(&hidden).map_err(failed)?;
            self.hidden = Some(hidden);
        }
        if let Some(hidden) = &self.hidden {
            rustix::fs::rename(hidden, &self.path).map_err(failed)?;
            self.hidden = None;
        }
        self.sync_directory(sync)
    }

    fn link(&self, name: &Path) -> rustix::io::Result<()> {
        // Linking a descriptor itself takes a capability; linking what /proc shows does not.
        let shown = format!("/proc/self/fd/{}", self.opened.fd.as_raw_fd());
        rustix::fs::linkat(CWD, shown, CWD, name, AtFlags::SYMLINK_FOLLOW)
    }

    fn sync_directory(&self, sync: bool) -> Result<(), Failure> {
        if !sync {
            return Ok(());
        }
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Failure::file("sync the directory", &self.directory, error))
    }
}

impl AsFd for Destination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.fd.as_fd()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // Nobody is left to tell.
            let _ = fs::remove_file(hidden);
        }
    }
}

/// The name that the copy gets: inside `dst` if that is a directory; behind the links if it is one.
fn target(src: &Path, dst: &Path) -> Result<PathBuf, Failure> {
    let path = if dst.is_dir() {
        let name = src
            .file_name()
            .ok_or_else(|| Failure::NotAFile(src.into()))?;
        dst.join(name)
    } else {
        dst.into()
    };
    if path.is_symlink() {
        return fs::canonicalize(&path).map_err(|error| Failure::file("resolve", &path, error));
    }
    Ok(path)
}

/// A name beside the final one that nobody else uses.
fn hidden_name(path: &Path, directory: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(
        ".vyre-io-{}-{:x}",
        std::process::id(),
        std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |now| now.as_nanos())
    ));
    directory.join(name)
}
