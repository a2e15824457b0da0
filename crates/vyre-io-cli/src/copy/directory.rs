//! The directory of DST, and the ways in which a file gets a name there.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, StatxAttributes};
use rustix::io::Errno;

use super::interrupt::{HiddenName, Leftover};
use super::leftovers;
use super::replaced::attribute_flags;
use crate::failure::Failure;
use crate::stack::{self, Opened};

/// Magic number of FUSE, which may support nameless files but no links.
const FUSE: u32 = 0x6573_5546;

/// Directory in which DST gets its name.
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    /// Set if the directory could be opened for reading, which is needed to sync it and to list its
    /// entries.
    pub(super) readable: bool,
}

/// Way in which the file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The file has no name, and is linked through its entry in /proc.
    Proc,
    /// The file has no name, and is linked through its descriptor.
    Descriptor,
    /// The file has a hidden name, and is renamed.
    Hidden,
}

impl Directory {
    pub(super) fn of(path: &Path) -> Result<Self, Failure> {
        let path = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let open = |flags| {
            let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(&path, flags, Mode::empty())
        };
        let (fd, readable) = match open(OFlags::RDONLY) {
            Err(Errno::ACCESS) => (open(OFlags::PATH), false),
            other => (other, true),
        };
        let fd = fd.map_err(|errno| Failure::file("open the directory", &path, errno))?;
        Ok(Self { fd, path, readable })
    }

    /// Refuses a directory or a name that would fail when the file gets its name.
    pub(super) fn refuse_unfit(
        &self,
        path: &Path,
        name: &OsStr,
        replaces: bool,
    ) -> Result<(), Failure> {
        let refuse = |why: String| {
            Err(Failure::Refused {
                path: path.into(),
                why,
            })
        };
        let flags = attribute_flags(&self.fd, "");
        if flags.contains(StatxAttributes::IMMUTABLE) {
            return refuse("its directory is immutable (`chattr -i` ends that)".into());
        }
        if replaces && flags.contains(StatxAttributes::APPEND) {
            return refuse("its directory is append-only (`chattr -a` ends that)".into());
        }
        let about = rustix::fs::fstatfs(&self.fd)
            .map_err(|errno| Failure::file("examine", &self.path, errno))?;
        // These say so only when the file is made or gets its name.
        if [0x4d44, 0x2011_bab0].contains(&(about.f_type as u32)) {
            match windows_name(name) {
                WindowsName::Odd => {
                    return refuse("its file system has no names with such characters".into());
                }
                WindowsName::Long => {
                    return Err(Failure::file("copy to", path, Errno::NAMETOOLONG));
                }
                WindowsName::Fit => {}
            }
        }
        Ok(())
    }

    fn open_failed(&self, errno: Errno) -> Failure {
        match errno {
            Errno::ACCESS => Failure::NotWritable(self.path.clone()),
            // The directory is open, so it is there: proc says this, and a directory that was removed.
            Errno::NOENT => Failure::Refused {
                path: self.path.clone(),
                why: "no file can be made in that directory; choose another directory".into(),
            },
            errno => Failure::file("make a file in the directory", &self.path, errno),
        }
    }

    /// Creates a file without a name, if it can get one later.
    pub(super) fn nameless(
        &self,
        path: &Path,
        mode: Mode,
        direct: bool,
    ) -> Result<Option<(Opened, Way)>, Failure> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        let make = |more| match rustix::fs::openat(&self.fd, ".", flags | more, mode) {
            // The file system has no nameless files; told apart from EINVAL for O_DIRECT.
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => Err(Errno::OPNOTSUPP),
            other => other,
        };
        let opened = match stack::with_direct(path, direct, make, |errno| self.open_failed(errno)) {
            Err(Failure::File { source, .. })
                if Errno::from_io_error(&source) == Some(Errno::OPNOTSUPP) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        let way = [Way::Proc, Way::Descriptor].into_iter().find(|way| {
            // This name exists: that is said only after the file itself was found.
            link(&opened.fd, *way, &self.fd, OsStr::new(".")) == Err(Errno::EXIST)
        });
        let is_fuse = rustix::fs::fstatfs(&self.fd).is_ok_and(|about| about.f_type as u32 == FUSE);
        Ok(match way {
            Some(way) if !is_fuse || self.links(way, mode) => Some((opened, way)),
            _ => None,
        })
    }

    /// Returns whether a nameless file can be linked here. Tries it with another file.
    fn links(&self, way: Way, mode: Mode) -> bool {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        let name = leftovers::hidden_name();
        rustix::fs::openat(&self.fd, ".", flags, mode)
            .and_then(|file| link(&file, way, &self.fd, &name))
            .and_then(|()| rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty()))
            .is_ok()
    }

    /// Creates a file with a hidden name.
    pub(super) fn hidden(
        &self,
        path: &Path,
        mode: Mode,
        direct: bool,
        leftover: &Leftover,
    ) -> Result<Opened, Failure> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        loop {
            let mut slot = leftover.lock();
            let name = leftovers::hidden_name();
            let make = |more| {
                let made = rustix::fs::openat(&self.fd, &name, flags | more, mode);
                if matches!(made, Err(Errno::INVAL)) {
                    // Some kernels make the file before they refuse O_DIRECT.
                    let _ = rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty());
                }
                made
            };
            let opened = stack::with_direct(path, direct, make, |errno| self.open_failed(errno))?;
            // Another copy may have taken the file for a leftover before it was locked.
            if leftovers::lock(&opened.fd) && leftovers::names(&self.fd, &name, &opened.fd) {
                *slot = Some(self.hidden_name(name)?);
                return Ok(opened);
            }
        }
    }

    pub(super) fn hidden_name(&self, name: OsString) -> Result<HiddenName, Failure> {
        let directory = self.fd.try_clone();
        let directory =
            directory.map_err(|error| Failure::file("open the directory", &self.path, error))?;
        Ok(HiddenName { directory, name })
    }
}

/// Reaction of vfat and exFAT to a name.
#[derive(Debug, PartialEq, Eq)]
enum WindowsName {
    Fit,
    Odd,
    Long,
}

fn windows_name(name: &OsStr) -> WindowsName {
    const MAX_UNITS: usize = 255;
    let odd = |byte: &u8| *byte < 0x20 || b"*?<>|\":\\".contains(byte);
    if name.as_bytes().iter().any(odd) {
        WindowsName::Odd
    } else if name.to_string_lossy().encode_utf16().count() > MAX_UNITS {
        WindowsName::Long
    } else {
        WindowsName::Fit
    }
}

pub(super) fn link(
    file: &OwnedFd,
    way: Way,
    directory: &OwnedFd,
    name: &OsStr,
) -> rustix::io::Result<()> {
    match way {
        Way::Proc => {
            let shown = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, shown, directory, name, AtFlags::SYMLINK_FOLLOW)
        }
        // That took a capability before Linux 6.10.
        Way::Descriptor => rustix::fs::linkat(file, "", directory, name, AtFlags::EMPTY_PATH),
        Way::Hidden => Err(Errno::INVAL),
    }
}

/// Renames a file to a name that must not exist.
pub(super) fn rename_new(directory: &OwnedFd, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // Not every file system has that. Then the look before leaves a moment.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match rustix::fs::statat(directory, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(_) => rustix::fs::renameat(directory, from, directory, to),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_windows_file_systems_lack_are_known_early() {
        let kind = |name: &str| windows_name(OsStr::new(name));
        assert_eq!(kind(&"n".repeat(255)), WindowsName::Fit);
        assert_eq!(kind(&"n".repeat(256)), WindowsName::Long);
        // Three bytes each, and one unit.
        assert_eq!(kind(&"\u{20ac}".repeat(255)), WindowsName::Fit);
        // Four bytes each, and two units.
        assert_eq!(kind(&"\u{1f4be}".repeat(128)), WindowsName::Long);
        for odd in ["a*", "a?b", "\"", "a:b", "\\", "\u{1}"] {
            assert_eq!(kind(odd), WindowsName::Odd, "{odd}");
        }
    }
}
