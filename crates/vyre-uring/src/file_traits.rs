//! Properties of a file that decide how operations on it are performed.

use std::fs::read_to_string;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Stat, fstat, fstatfs, major, minor};

/// The kernel's default read-ahead in bytes, for devices that do not state theirs.
const DEFAULT_READ_AHEAD: u32 = 128 << 10;

/// The largest number of bytes to read ahead by one operation, whatever the device states: a
/// cancellation waits for the piece under way.
const MAX_READ_AHEAD: u32 = 1 << 20;

/// tmpfs, and memfds.
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
const HUGETLBFS: u32 = 0x9584_58f6;

/// File systems that serve a request from memory or from a block device, and refuse it if it would
/// block and the caller cannot wait. Listed by the magic number of statfs(2).
///
/// Other file systems may depend on a process or machine that does not answer: FUSE, virtiofs, NFS,
/// SMB, 9p, Ceph, cluster file systems, and overlays, which can have any of these below them. Kernels
/// before 6.5 assume that such a file system never blocks, since it has no block device. So do later
/// kernels for FUSE, and for files opened with `O_NONBLOCK`.
const LOCAL: &[u32] = &[
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x2fc1_2fc1, // ZFS
    TMPFS,
    RAMFS,
    HUGETLBFS,
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

/// Properties of a file that decide how operations on it are performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileTraits {
    /// Set if reads and writes take place at an offset: for a regular file or a block device. An
    /// operation on any other file (a pipe, a socket, a terminal) takes as long as its other end
    /// lets it.
    pub has_offsets: bool,
    /// Set if the file system depends on another process or machine. Operations then go to the
    /// kernel's worker threads from the start, since an attempt could block the thread that submits
    /// it.
    pub needs_workers: bool,
    /// Set for a regular file that is in memory alone: on tmpfs, ramfs or hugetlbfs, or a memfd. A read of
    /// it waits for no device, except for pages that were swapped out.
    pub in_memory: bool,
    /// The largest number of bytes that the kernel reads ahead for one
    /// [`Prefetch`](crate::Operation::Prefetch).
    pub read_ahead: u32,
}

impl FileTraits {
    /// Examines a file. Assumes the worse case for each property that cannot be determined.
    ///
    /// Queries the file system, so the call blocks while a remote one does not answer.
    pub fn of(file: impl AsFd) -> Self {
        let file = file.as_fd();
        let Ok(stat) = fstat(file) else {
            return Self {
                has_offsets: false,
                needs_workers: true,
                in_memory: false,
                read_ahead: DEFAULT_READ_AHEAD,
            };
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let on_file_system = matches!(kind, FileType::RegularFile | FileType::Directory);
        let magic = if on_file_system { magic(file) } else { None };
        Self {
            has_offsets: matches!(kind, FileType::RegularFile | FileType::BlockDevice),
            needs_workers: on_file_system && !magic.is_some_and(is_local),
            in_memory: kind == FileType::RegularFile && magic.is_some_and(is_memory),
            read_ahead: stated_read_ahead(kind, &stat),
        }
    }
}

/// Returns the number of a file's file system, if the kernel states it.
fn magic(file: BorrowedFd<'_>) -> Option<u32> {
    fstatfs(file).ok().map(|found| found.f_type as u32)
}

fn is_local(magic: u32) -> bool {
    LOCAL.contains(&magic)
}

fn is_memory(magic: u32) -> bool {
    [TMPFS, RAMFS, HUGETLBFS].contains(&magic)
}

/// Returns the read-ahead that the backing device states, within bounds. For one call, the kernel
/// reads ahead at most that, or the device's largest transfer if this is more.
fn stated_read_ahead(kind: FileType, stat: &Stat) -> u32 {
    let device = match kind {
        FileType::RegularFile => stat.st_dev,
        FileType::BlockDevice => stat.st_rdev,
        _ => return DEFAULT_READ_AHEAD,
    };
    let (major, minor) = (major(device), minor(device));
    let stated = [
        format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"),
        // A partition has the read-ahead of its disk.
        format!("/sys/dev/block/{major}:{minor}/../bdi/read_ahead_kb"),
    ]
    .iter()
    .find_map(|path| read_to_string(path).ok()?.trim().parse::<u32>().ok());
    within_bounds(stated)
}

fn within_bounds(kib: Option<u32>) -> u32 {
    match kib {
        None | Some(0) => DEFAULT_READ_AHEAD,
        // A piece is at least one page.
        Some(kib) => kib.saturating_mul(1024).clamp(4096, MAX_READ_AHEAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_file_systems_are_tried_inline() {
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994] {
            assert!(is_local(local), "{local:#x}");
        }
        // FUSE, NFS, 9p, SMB3, Ceph, overlayfs, and an unknown one.
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
        assert!(!found.in_memory, "{found:?}");
        assert_eq!(found.read_ahead, DEFAULT_READ_AHEAD);
    }

    #[test]
    fn a_memfd_is_a_local_file() {
        let memfd = rustix::fs::memfd_create("vyre-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let found = FileTraits::of(&memfd);
        assert!(found.has_offsets && !found.needs_workers, "{found:?}");
        assert!(found.in_memory, "{found:?}");
        let zero = FileTraits::of(std::fs::File::open("/dev/zero").unwrap());
        assert!(
            !zero.in_memory,
            "a device, though its node may be on a tmpfs"
        );
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
