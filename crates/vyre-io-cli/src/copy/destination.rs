//! A file that gets its name only when it is complete.
//!
//! It is made without a name (O_TMPFILE), so that a copy which ends early, by whatever signal,
//! leaves nothing behind. Where the file system cannot do that, or could not name such a file later,
//! it has a hidden name beside DST meanwhile.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;

use super::directory::{Directory, Way, link, rename_new};
use super::interrupt::Leftover;
use super::leftovers;
use super::replaced::Replaced;
use super::source::Source;
use crate::args::CopyArgs;
use crate::failure::Failure;
use crate::name::Shown;
use crate::stack::Opened;

/// Magic number of proc.
const PROC: u32 = 0x9fa0;
/// Number of links that the kernel follows in a path.
const MAX_LINKS: u32 = 40;

pub(super) struct Destination {
    opened: Opened,
    /// Final path, links resolved, for messages.
    path: PathBuf,
    directory: Directory,
    name: OsString,
    way: Way,
    replaced: Option<Replaced>,
    /// Mode to set when a hidden file gets its final name.
    mode: Mode,
    leftover: Leftover,
}

/// Outcome of syncing the directory of DST.
pub(super) enum Durable {
    Yes,
    /// The file system cannot sync directories.
    Unsupported(io::Error),
}

impl Destination {
    /// Creates the file, after refusing what would fail at the end.
    pub(super) fn create(args: &CopyArgs, source: &Source) -> Result<Self, Failure> {
        let (path, old) = target(&args.src, &args.dst)?;
        if old.as_ref().is_some_and(|old| source.is(old)) {
            return Err(Failure::SameFile(args.src.clone(), args.dst.clone()));
        }
        let name = path.file_name().ok_or_else(|| Failure::Refused {
            path: path.clone(),
            why: "it names no file; name one, or a directory".into(),
        })?;
        let name = name.to_owned();
        let directory = Directory::of(&path)?;
        directory.refuse_unfit(&path, &name, old.is_some())?;
        let replaced = match &old {
            Some(old) => Some(Replaced::examine(&path, old, &directory.fd, args.replace)?),
            None => None,
        };
        if directory.readable {
            leftovers::remove(&directory.fd);
        }
        let leftover = Leftover::default();
        // Takes a thread, so only where there will be a hidden name.
        let remove_on_signals = || {
            leftover
                .remove_on_signals()
                .map_err(|error| Failure::file("handle signals for", &path, error))
        };
        if old.is_some() {
            remove_on_signals()?;
        }
        let mode = old.as_ref().map_or(source.mode(), Metadata::mode);
        let mode = Mode::from_raw_mode(mode & 0o777);
        let (opened, way) = match directory.nameless(&path, mode, args.direct)? {
            Some(found) => found,
            None => {
                if old.is_none() {
                    remove_on_signals()?;
                }
                (
                    directory.hidden(&path, mode, args.direct, &leftover)?,
                    Way::Hidden,
                )
            }
        };
        let mut destination = Self {
            opened,
            path,
            directory,
            name,
            way,
            replaced,
            mode,
            leftover,
        };
        destination.prepare()?;
        Ok(destination)
    }

    /// Checks early whether the file can take over the attributes of the one that it replaces. A
    /// file with a hidden name belongs to the user until it gets its final name.
    fn prepare(&mut self) -> Result<(), Failure> {
        let failed = |errno| Failure::file("examine", &self.path, errno);
        let before = rustix::fs::fstat(&self.opened.fd).map_err(failed)?;
        self.mode = Mode::from_raw_mode(before.st_mode & 0o7777);
        if let Some(replaced) = &self.replaced {
            replaced.make_alike(&self.opened.fd)?;
        }
        if self.way == Way::Hidden {
            let now = rustix::fs::fstat(&self.opened.fd).map_err(failed)?;
            if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid) {
                let (uid, gid) = (Uid::from_raw(before.st_uid), Gid::from_raw(before.st_gid));
                rustix::fs::fchown(&self.opened.fd, Some(uid), Some(gid)).map_err(failed)?;
            }
            // Only a hint: some file systems have no modes.
            let _ = rustix::fs::fchmod(&self.opened.fd, Mode::RUSR | Mode::WUSR);
        }
        Ok(())
    }

    pub(super) fn granularity(&self) -> u64 {
        self.opened.granularity()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn duplicate(&self) -> Result<OwnedFd, Failure> {
        self.opened
            .fd
            .try_clone()
            .map_err(|error| Failure::file("open", &self.path, error))
    }

    /// Writes through the page cache from now on.
    pub(super) fn buffer(&mut self) -> Result<(), Failure> {
        self.opened
            .buffer()
            .map_err(|errno| Failure::file("open", &self.path, errno))
    }

    /// Sets the length before blocks arrive in any order. If the file system does not support that, the
    /// blocks themselves extend the file, so no block may reach past the final length.
    pub(super) fn reserve(&mut self, len: u64) -> Result<(), Failure> {
        match rustix::fs::ftruncate(&self.opened.fd, len) {
            Ok(()) => Ok(()),
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => self.buffer(),
            Err(errno) => Err(Failure::file("make room in", &self.path, errno)),
        }
    }

    /// Sets the final length, after direct I/O past the end or if the file ends with a hole.
    pub(super) fn trim(&self, len: u64) -> Result<(), Failure> {
        let failed = |errno| Failure::file("set the length of", &self.path, errno);
        let now = rustix::fs::fstat(&self.opened.fd).map_err(failed)?.st_size as u64;
        match rustix::fs::ftruncate(&self.opened.fd, len) {
            _ if now == len => Ok(()),
            Err(_) if now < len => rustix::io::pwrite(&self.opened.fd, &[0], len - 1)
                .map(drop)
                .map_err(failed),
            done => done.map_err(failed),
        }
    }

    /// Deallocates a range that is a hole in the source. Errors are ignored: the range reads as
    /// zeros either way.
    pub(super) fn punch(&self, offset: u64, len: u64) {
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(&self.opened.fd, flags, offset, len);
    }

    /// Gives the file its name, atomically.
    pub(super) fn publish(&mut self) -> Result<(), Failure> {
        // A close may be the first to say that bytes could not be written (NFS, FUSE). That of a
        // duplicate says it while there is no name yet.
        nix::unistd::close(self.duplicate()?)
            .map_err(|errno| Failure::file("close", &self.path, io::Error::from(errno)))?;
        if self.way == Way::Hidden {
            match &self.replaced {
                Some(replaced) => replaced.make_alike(&self.opened.fd)?,
                // Only a hint: some file systems have no modes.
                None => drop(rustix::fs::fchmod(&self.opened.fd, self.mode)),
            }
        }
        let given = self.give_name();
        if given.is_err() {
            self.leftover.remove();
        }
        given
    }

    fn give_name(&self) -> Result<(), Failure> {
        let failed = |errno: Errno| match errno {
            Errno::EXIST => Failure::Refused {
                path: self.path.clone(),
                why: "another process made a file of that name meanwhile; copy it again".into(),
            },
            errno => Failure::file("name", &self.path, errno),
        };
        let directory = &self.directory.fd;
        let mut leftover = self.leftover.lock();
        if self.way != Way::Hidden {
            if self.replaced.is_none() {
                return self.link(&self.name).map_err(failed);
            }
            // A link cannot replace a file, a rename can.
            let name = leftovers::hidden_name();
            leftovers::lock(&self.opened.fd);
            self.link(&name).map_err(failed)?;
            *leftover = Some(self.directory.hidden_name(name)?);
        }
        let Some(hidden) = leftover.as_ref() else {
            return Err(failed(Errno::NOENT));
        };
        let renamed = if self.replaced.is_some() {
            rustix::fs::renameat(directory, &hidden.name, directory, &self.name)
        } else {
            rename_new(directory, &hidden.name, &self.name)
        };
        renamed.map_err(failed)?;
        *leftover = None;
        Ok(())
    }

    fn link(&self, name: &OsStr) -> rustix::io::Result<()> {
        link(&self.opened.fd, self.way, &self.directory.fd, name)
    }

    /// Prepares [`Self::sync_name`], after the bytes were synced and before the file has its name.
    pub(super) fn prepare_sync_of_name(&self) {
        if !self.directory.readable {
            // The first such sync of a descriptor also reports errors that other files had before.
            let _ = rustix::fs::syncfs(&self.opened.fd);
        }
    }

    /// Makes the name durable.
    pub(super) fn sync_name(&self) -> Result<Durable, Failure> {
        // A directory that may not be read cannot be synced by itself.
        let synced = if self.directory.readable {
            rustix::fs::fsync(&self.directory.fd)
        } else {
            rustix::fs::syncfs(&self.opened.fd)
        };
        match synced {
            Ok(()) => Ok(Durable::Yes),
            Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY)) => {
                Ok(Durable::Unsupported(errno.into()))
            }
            Err(errno) => Err(Failure::file(
                "sync the directory of the complete copy,",
                &self.directory.path,
                errno,
            )),
        }
    }
}

impl AsFd for Destination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.fd.as_fd()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.leftover.remove();
    }
}

/// Returns the path of the copy, and the metadata of the file that has it now: a path inside `dst`
/// if that is a directory, and the target of `dst` if it is a symbolic link.
fn target(src: &Path, dst: &Path) -> Result<(PathBuf, Option<Metadata>), Failure> {
    let refused = |why: &str| Failure::Refused {
        path: dst.into(),
        why: why.into(),
    };
    match fs::metadata(dst) {
        Ok(about) if about.is_dir() => {
            let name = src.file_name();
            let name = name.ok_or_else(|| Failure::Directory(src.into()))?;
            let path = dst.join(name);
            if path.is_dir() {
                return Err(Failure::NotReplaceable(path));
            }
            named(&path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && ends_with_slash(dst) => Err(
            refused("there is no such directory; make it first, or leave out the slash"),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory && ends_with_slash(dst) => Err(
            refused("it is a file, not a directory; leave out the slash"),
        ),
        _ => named(dst),
    }
}

fn named(path: &Path) -> Result<(PathBuf, Option<Metadata>), Failure> {
    let link = path.is_symlink();
    match fs::metadata(path) {
        Ok(about) if !about.is_file() => Err(Failure::NotReplaceable(path.into())),
        Ok(about) if link => {
            if leads_to_a_descriptor(path) {
                return Err(Failure::Refused {
                    path: path.into(),
                    why: "it leads to an open descriptor, and the copy would replace that file instead \
                          of writing to it; name the file itself, or use `cat`"
                        .into(),
                });
            }
            let failed = |error| Failure::file("follow the link", path, error);
            let real = fs::canonicalize(path).map_err(failed)?;
            // A descriptor's link in /proc may lead to a file that has no name any more.
            let found = fs::metadata(&real).map_err(failed)?;
            if (found.dev(), found.ino()) != (about.dev(), about.ino()) {
                return Err(failed(io::ErrorKind::NotFound.into()));
            }
            Ok((real, Some(about)))
        }
        Ok(about) => Ok((path.into(), Some(about))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && link => Err(Failure::Refused {
            path: path.into(),
            why: format!(
                "it is a symbolic link to {}, which does not exist; make that file or remove the \
                 link first",
                Shown(&fs::read_link(path).unwrap_or_default())
            ),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path.into(), None)),
        Err(error) => Err(Failure::file("copy to", path, error)),
    }
}

/// Returns whether a link leads through /proc, as /dev/stdout and /dev/fd/1 do.
fn leads_to_a_descriptor(link: &Path) -> bool {
    let mut link = link.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Some(directory) = link.parent() else {
            return false;
        };
        let directory = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        if rustix::fs::statfs(directory).is_ok_and(|about| about.f_type as u32 == PROC) {
            return true;
        }
        match fs::read_link(&link) {
            Ok(target) => link = directory.join(target),
            Err(_) => return false,
        }
    }
    false
}

fn ends_with_slash(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}
