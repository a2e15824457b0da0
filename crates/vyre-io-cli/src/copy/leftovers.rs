//! Creation of hidden names, and removal of those that killed copies left.
//!
//! A hidden name is `.vyre-io-` and 16 hexadecimal digits. Its file is locked (`flock`) for as long as
//! the copy that made it runs. A later copy into the same directory removes such a file if
//!
//! - the directory is on a file system of this machine, where every running copy sees the locks;
//! - it is a regular file that belongs to the user of the later copy;
//! - the later copy wins its lock, so that nobody works on it.

use std::ffi::{CStr, OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::process::geteuid;

const PREFIX: &str = ".vyre-io-";
const DIGITS: usize = 16;
/// Maximum number of directory entries to examine, so that a full directory does not slow down a
/// copy.
const MAX_ENTRIES: usize = 1 << 16;

/// Magic numbers of local file systems: ext4, XFS, Btrfs, tmpfs, F2FS, bcachefs, ZFS, vfat, exFAT,
/// NTFS3 and ramfs. Others may be shared over a network, where a lock may mean nothing.
const LOCAL: &[u32] = &[
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x4d44,
    0x2011_bab0,
    0x7366_746e,
    0x8584_58f6,
];

/// Returns a random hidden name.
pub(super) fn hidden_name() -> OsString {
    let random = RandomState::new().build_hasher().finish();
    format!("{PREFIX}{random:0DIGITS$x}").into()
}

fn is_hidden_name(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|digits| {
        digits.len() == DIGITS
            && digits
                .iter()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Locks a file that is being written. Returns false if another process holds the lock.
pub(super) fn lock(file: impl AsFd) -> bool {
    // Where there are no locks, nobody can win one and remove the file.
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
        != Err(rustix::io::Errno::WOULDBLOCK)
}

/// Removes files that killed copies left in a directory. Files that cannot be examined are kept.
pub(super) fn remove(directory: &OwnedFd) {
    let is_local =
        rustix::fs::fstatfs(directory).is_ok_and(|about| LOCAL.contains(&(about.f_type as u32)));
    if !is_local {
        return;
    }
    let Ok(entries) = Dir::read_from(directory) else {
        return;
    };
    for entry in entries.take(MAX_ENTRIES).flatten() {
        if is_hidden_name(entry.file_name().to_bytes()) {
            let _ = remove_if_abandoned(directory, entry.file_name());
        }
    }
}

fn remove_if_abandoned(directory: &OwnedFd, name: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stat = || rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let is_ours = |stat: &rustix::fs::Stat| {
        FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_uid == geteuid().as_raw()
    };
    if !is_ours(&stat()?) {
        return Ok(());
    }
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let (locked, named) = (rustix::fs::fstat(&file)?, stat()?);
    if is_ours(&locked) && (locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino) {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    }
    Ok(())
}

/// Returns whether `name` is a name of `file` in the directory.
pub(super) fn names(directory: &OwnedFd, name: &OsStr, file: impl AsFd) -> bool {
    let named = rustix::fs::statat(directory, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW);
    let open = rustix::fs::fstat(file);
    matches!((named, open), (Ok(named), Ok(open))
        if (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_names_are_short_different_and_recognized() {
        let (one, other) = (hidden_name(), hidden_name());
        assert_ne!(one, other);
        assert_eq!(one.len(), 25);
        assert!(is_hidden_name(one.as_bytes()));
        for name in [
            ".vyre-io-",
            ".vyre-io-0123456789abcde",
            ".vyre-io-0123456789abcdeX",
            ".vyre-io-0123456789abcdef0",
            "vyre-io-0123456789abcdef",
        ] {
            assert!(!is_hidden_name(name.as_bytes()), "{name}");
        }
    }
}
