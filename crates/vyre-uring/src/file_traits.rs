//! Traits of a file that decide how it is served.

use std::fs::read_to_string;
use std::os::fd::AsFd;

use rustix::fs::{FileType, Stat, fstat, fstatfs, major, minor};

/// Default read-ahead of the kernel, for devices that do not state theirs.
const DEFAULT_READ_AHEAD: u32 = 128 << 10;

/// Largest number of bytes read ahead by one operation, whatever the device states: a cancellation
/// waits for the piece under way.
const MAX_READ_AHEAD: u32 = 1 << 20;

/// File systems that serve a request from memory or from a block device, and leave it alone where
/// that would take long and the caller cannot wait. By the magic number of statfs(2).
///
/// The others may depend on another process or machine that does not answer: FUSE, virtiofs, NFS, SMB,
/// 9p, Ceph, cluster file systems, and overlays, which have any of these below them. Kernels before
/// 6.5 take each of those for one that never waits, since it has no block device; so do later ones
/// where the file is open with `O_NONBLOCK`, and for FUSE.
const LOCAL: &[u32] = &[
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // ZFS
    0x0102_1994, // tmpfs, and memfds
    0x8584_58f6, // ramfs
    0x9584_58f6, // hugetlbfs
    0x0000_4d44, // FAT
    0x2011_bab0, // exFAT
    0x7366_746e, // NTFS
    0x3153_464a, // JFS
    0x0000_3434, // NILFS
    0x5265_4973, // ReiserFS
    0x0000_482b, // HFS+
    0x0000_9660, // ISO 9660
    0x1501_3346, // UDF
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
];

/// Traits of a file that decide how operations on it are performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileTraits {
    /// Set if reads and writes take place at an offset: a regular file or a block device.
    /// Operations on any other file (a pipe, a socket, a terminal) can take as long as its other
    /// end likes.
    pub has_offsets: bool,
    /// Set if operations go to the kernel's worker threads from the start, since trying one could
    /// block the thread that submits it: the file system depends on another process or machine.
    pub needs_workers: bool,
    /// Largest number of bytes that the kernel reads ahead for one
    /// [`Prefetch`](crate::Operation::Prefetch).
    pub read_ahead: u32,
}

impl FileTraits {
    /// Examines a file. Whatever cannot be found out is taken for the worse case.
    ///
    /// This may ask the file system, so it waits where that is remote and does not answer.
    pub fn of(file: impl AsFd) -> Self {
        let file = file.as_fd();
        let Ok(stat) = fstat(file) else {
            return Self {
                has_offsets: false,
                needs_workers: true,
                read_ahead: DEFAULT_READ_AHEAD,
            };
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_local = || fstatfs(file).is_ok_and(|found| is_local(found.f_type as u32));
        Self {
            has_offsets: matches!(kind, FileType::RegularFile | FileType::BlockDevice),
            needs_workers: matches!(kind, FileType::RegularFile | FileType::Directory)
                && !is_local(),
            read_ahead: stated_read_ahead(kind, &stat),
        }
    }
}

fn is_local(magic: u32) -> bool {
    LOCAL.contains(&magic)
}

/// Returns the read-ahead that the backing device states, within bounds. The kernel reads ahead no
/// more for one call than that, or than the device moves at once if this is more.
fn stated_read_ahead(kind: FileType, stat: &Stat) -> u32 {
    let device = match kind {
        FileType::RegularFile => stat.st_dev,
        FileType::BlockDevice => stat.st_rdev,
        _ => return DEFAULT_READ_AHEAD,
    };
    let (major, minor) = (major(device), minor(device));
    let stated = [
        format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"),
        // A partition has its disk's.
        format!("/sys/dev/block/{major}:{minor}/../bdi/read_ahead_kb"),
    ]
    .iter()
    .find_map(|path| read_to_string(path).ok()?.trim().parse::<u32>().ok());
    within_bounds(stated)
}

fn within_bounds(kib: Option<u32>) -> u32 {
    match kib {
        None | Some(0) => DEFAULT_READ_AHEAD,
        // The smallest piece is a page, of whatever size.
        Some(kib) => kib.saturating_mul(1024).clamp(4096, MAX_READ_AHEAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_that_answer_by_themselves_are_tried_inline() {
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994] {
            assert!(is_local(local), "{local:#x}");
        }
        // FUSE, NFS, 9p, SMB3, Ceph, overlayfs, and one that nobody knows.
        for remote in [
            0x6573_5546,
            0x6969,
            0x0102_1997,
            0xfe53_4d42,
            0x00c3_6400,
            0x794c_7630,
            0,
        ] {
            assert!(!is_local(remote), "{remote:#x}");
        }
    }

    #[test]
    fn pipes_have_no_offsets_and_wait_by_themselves() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let found = FileTraits::of(&reader);
        assert!(!found.has_offsets && !found.needs_workers, "{found:?}");
        assert_eq!(found.read_ahead, DEFAULT_READ_AHEAD);
    }

    #[test]
    fn a_memfd_is_a_local_file() {
        let memfd = rustix::fs::memfd_create("vyre-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let found = FileTraits::of(&memfd);
        assert!(found.has_offsets && !found.needs_workers, "{found:?}");
    }

    #[test]
    fn read_ahead_stays_within_bounds() {
        let stated = [
            None,
            Some(0),
            Some(1),
            Some(128),
            Some(8192),
            Some(u32::MAX),
        ];
        assert_eq!(
            stated.map(within_bounds),
            [128 << 10, 128 << 10, 4096, 128 << 10, 1 << 20, 1 << 20]
        );
    }
}
