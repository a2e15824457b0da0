//! The file that is read: stamped, cached and mapped.

#![expect(unsafe_code, reason = "the bare server of a mapping needs one")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{MemfdFlags, SealFlags};
use vyre_io_cli::measure::stamp;

use crate::args::Args;
use crate::error::CompareError;

const SIZE: u64 = 1 << 30;
const QUICK_SIZE: u64 = 16 << 20;

pub(crate) struct Target {
    file: File,
    pub(crate) len: u64,
    /// Path of the file, or of its directory if it has no name.
    pub(crate) place: PathBuf,
    mapping: Mmap,
    is_memfd: bool,
}

impl Target {
    /// Opens or makes the file, and reads all of it into the page cache. `needed` is its least length.
    pub(crate) fn open(args: &Args, needed: u64) -> Result<Self, CompareError> {
        let (file, place) = match &args.file {
            Some(path) => {
                let file = File::open(path).map_err(CompareError::file("open", path))?;
                if !stamp::begins(&file) {
                    return Err(CompareError::NotStamped(path.clone()));
                }
                (file, path.clone())
            }
            None if args.memfd => return Self::sealed(args),
            None => {
                let made = nameless(&args.dir, 0, size(args));
                let made = made.map_err(CompareError::file("make a file in", &args.dir))?;
                (made, args.dir.clone())
            }
        };
        let target = Self::map(file, place, false)?;
        let len = target.len;
        if len < needed {
            let path = target.place;
            return Err(CompareError::Short { path, len, needed });
        }
        Ok(target)
    }

    /// Makes a memfd that cannot shrink.
    pub(crate) fn sealed(args: &Args) -> Result<Self, CompareError> {
        let made = || {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = rustix::fs::memfd_create("vyre-compare", flags)?.into();
            stamp::fill(&file, size(args))?;
            rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
            reopen(&file)
        };
        let made = made().map_err(CompareError::file("make", "a memfd"))?;
        Self::map(made, "memfd".into(), true)
    }

    fn map(file: File, place: PathBuf, is_memfd: bool) -> Result<Self, CompareError> {
        let read = io::copy(&mut &file, &mut io::sink());
        let len = read.map_err(CompareError::file("read", &place))?;
        // SAFETY: the mapping is read as bytes that may change. Nobody shortens the file: it has no
        // name, or its user measures it.
        let mapping = unsafe { MmapOptions::new().populate().map(&file) }
            .map_err(CompareError::file("map", &place))?;
        Ok(Self {
            file,
            len,
            place,
            mapping,
            is_memfd,
        })
    }

    /// Returns the path by which this process and its children open the file anew.
    pub(crate) fn path(&self) -> PathBuf {
        path(&self.file)
    }

    /// Opens the file anew: programs that share an open file contend for where its last read ended.
    pub(crate) fn reopen(&self) -> io::Result<File> {
        reopen(&self.file)
    }

    /// Opens it anew for a ring. tmpfs does not say that its reads need not wait, so a ring hands them to a
    /// worker, unless the file is open with `O_NONBLOCK`.
    pub(crate) fn reopen_for_ring(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        options.open(self.path())
    }

    pub(crate) fn mapping(&self) -> &[u8] {
        &self.mapping
    }

    /// Returns the name of its file system, from the longest mount point above it.
    pub(crate) fn file_system(&self) -> String {
        if self.is_memfd {
            return "memfd that cannot shrink".into();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let place = fs::canonicalize(&self.place).unwrap_or_else(|_| self.place.clone());
        file_system(&mounts, &place).unwrap_or_else(|| "unknown".into())
    }
}

/// Returns the size of a new file.
pub(crate) const fn size(args: &Args) -> u64 {
    if args.quick { QUICK_SIZE } else { SIZE }
}

/// Makes a file without a name, with the stamps of a file's part that begins at `first`.
pub(crate) fn nameless(dir: &Path, first: u64, size: u64) -> io::Result<File> {
    let file = tempfile::tempfile_in(dir)?;
    stamp::fill_part(&file, first, size)?;
    // A descriptor of its own, whose reading begins at the start.
    reopen(&file)
}

/// Opens a file anew, for reading.
pub(crate) fn reopen(file: &File) -> io::Result<File> {
    File::open(path(file))
}

/// Returns the path by which this process and its children open a file anew.
pub(crate) fn path(file: &File) -> PathBuf {
    let (process, descriptor) = (std::process::id(), file.as_raw_fd());
    format!("/proc/{process}/fd/{descriptor}").into()
}

fn file_system(mounts: &str, place: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?.replace("\\040", " ");
        place
            .starts_with(&point)
            .then(|| (point.len(), kind.split(' ').next().unwrap_or_default()))
    });
    // Of mounts on one point, the last covers the others.
    let longest = mounted.max_by_key(|&(length, _)| length)?;
    Some(longest.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "\
            21 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 21 0:25 / /var/tmp rw - tmpfs tmpfs rw\n\
            31 30 0:26 / /var/tmp rw - xfs /dev/vdb rw\n\
            32 21 0:27 / /a\\040b rw - btrfs /dev/vdc rw\n";
        let found = |place: &str| file_system(mounts, Path::new(place));
        assert_eq!(found("/home/file").as_deref(), Some("ext4"));
        assert_eq!(found("/var/tmp/file").as_deref(), Some("xfs"));
        assert_eq!(found("/var/tmpfile").as_deref(), Some("ext4"));
        assert_eq!(found("/a b/file").as_deref(), Some("btrfs"));
        assert_eq!(file_system("", Path::new("/")), None);
    }
}
