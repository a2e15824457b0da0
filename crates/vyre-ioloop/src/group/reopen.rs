//! Separate open files for each loop. The kernel records in the open file where its last read ended, to
//! read ahead from there (`f_ra.prev_pos`). Loops that share an open file therefore pass that line of
//! memory around with every read of a cached block: eight of them reach three quarters of the rate that
//! they reach with one each.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::{Resource, getrlimit};

use crate::file_table::{FileEntry, FileTable};
use crate::page_cache::WatchedFile;

/// The flags of a descriptor that affect its reads and writes.
const KEPT: OFlags = OFlags::RWMODE
    .union(OFlags::DIRECT)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC)
    .union(OFlags::NOATIME);

/// Returns whether the other loops may reopen this many files. Together they may use a quarter of the
/// process's descriptors for that.
pub(super) fn is_room_for(files: usize, loops: usize) -> bool {
    let further = (files as u64).saturating_mul(loops.saturating_sub(1) as u64);
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_none_or(|limit| further <= limit / 4)
}

/// Returns the same table with separate open files. If the kernel does not reopen a file, both tables
/// share it.
pub(super) fn table(files: &FileTable) -> FileTable {
    FileTable {
        entries: files.entries.map(entry),
        slots: files.slots.clone(),
    }
}

/// Returns the same entry with a separate open file, as [`table`] does for all entries.
pub(super) fn entry(entry: &FileEntry) -> FileEntry {
    let mut own = entry.clone();
    if let Some(file) = reopen(&entry.file) {
        own.file = Arc::new(file);
    }
    own.watched = entry.watched.as_ref().map(WatchedFile::for_another_loop);
    own
}

/// Reopens the regular file or drive of a descriptor, whatever has become of its name. Reopening a pipe
/// or a device could have other effects.
fn reopen(file: &OwnedFd) -> Option<OwnedFd> {
    let was = rustix::fs::fstat(file).ok()?;
    match FileType::from_raw_mode(was.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => {}
        _ => return None,
    }
    let flags = rustix::fs::fcntl_getfl(file).ok()?;
    if flags.contains(OFlags::PATH) {
        // Whoever has it was not let in: to open it is not for us.
        return None;
    }
    let flags = flags & KEPT | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let own = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let is = rustix::fs::fstat(&own).ok()?;
    ((is.st_dev, is.st_ino) == (was.st_dev, was.st_ino)).then_some(own)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn flags(file: &impl AsRawFd) -> OFlags {
        let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let info = std::fs::read_to_string(info).expect("procfs");
        let line = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let octal = line.expect("flags").trim();
        OFlags::from_bits_retain(u32::from_str_radix(octal, 8).expect("octal"))
    }

    #[test]
    fn a_file_without_a_name_opens_as_it_was() {
        let file = tempfile::tempfile().expect("a file");
        let asked = OFlags::RDONLY | OFlags::DSYNC | OFlags::CLOEXEC;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let given = rustix::fs::open(path, asked, Mode::empty()).expect("it opens");
        let own = reopen(&given).expect("it opens again");
        assert_ne!(own.as_raw_fd(), given.as_raw_fd());
        assert_eq!(flags(&own), flags(&given));
        assert!(flags(&own).contains(OFlags::DSYNC));
    }

    #[test]
    fn what_was_never_open_is_not_opened() {
        let file = tempfile::tempfile().expect("a file");
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let asked = OFlags::PATH | OFlags::CLOEXEC;
        let named = rustix::fs::open(path, asked, Mode::empty()).expect("it is there");
        assert!(reopen(&named).is_none());
    }

    #[test]
    fn what_opening_changes_is_shared() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        assert!(reopen(&OwnedFd::from(reader)).is_none());
        let null = File::open("/dev/null").expect("a device");
        assert!(reopen(&OwnedFd::from(null)).is_none());
    }

    #[test]
    fn descriptors_are_left_for_others() {
        let limit = getrlimit(Resource::Nofile).current.expect("a limit");
        let most = usize::try_from(limit / 4).expect("few");
        assert!(is_room_for(most, 2) && !is_room_for(most + 1, 2));
        assert!(!is_room_for(most, 3) && is_room_for(usize::MAX, 1));
    }
}
