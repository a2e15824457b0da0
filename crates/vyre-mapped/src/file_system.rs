//! The files of which a mapping gives the bytes that `pread` would give.
//!
//! A buffered read of the kernel loads the size of the file first and copies bytes afterwards
//! (`filemap_read` in `mm/filemap.c`, `shmem_file_read_iter` in `mm/shmem.c`). A copy out of a mapping after a
//! question for the size takes the same two steps. A file system is allowed if two rules make the results
//! the same.
//!
//! 1. **A buffered read takes no lock of the file.** A write or a truncation between the two steps then shows
//!    in a read as it shows in a copy: in part, or as zeros past a new end.
//! 2. **An append changes a page before it sets the size.** A copy that begins after the new size was loaded
//!    then finds the new bytes.
//!
//! ext4 and tmpfs keep both: neither takes the inode's lock for a buffered read, and `write_end` sets the
//! size after the bytes were copied to the page. A page past the end raises SIGBUS, since a fault compares
//! with the size as well.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, FileType, OFlags, SealFlags, StatxAttributes, StatxFlags, fcntl_get_seals,
    fcntl_getfl, fstat, fstatfs, statx,
};

use crate::error::MapError;

/// Files of ext2 and ext3 have the same number; the ext4 driver serves them.
const EXT4: u32 = 0xef53;
const TMPFS: u32 = 0x0102_1994;
const OVERLAYFS: u32 = 0x794c_7630;
const XFS: u32 = 0x5846_5342;
const HUGETLBFS: u32 = 0x9584_58f6;

/// The file systems that depend on another process or machine.
const REMOTE: &[u32] = &[
    0x6573_5546, // FUSE and virtiofs
    0x0000_6969, // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2 and SMB3
    0x0102_1997, // 9p
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x0116_1970, // GFS2
    0x7461_636f, // OCFS2
    0x0bd0_0bd0, // Lustre
];

/// Properties of a file that may be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// The size in bytes.
    pub(crate) size: u64,
    /// `true` if the file can never shrink: a memfd with the seal `F_SEAL_SHRINK`.
    pub(crate) cannot_shrink: bool,
}

/// Examines a file.
///
/// # Errors
/// A [`MapError`] if the file must not be mapped, or cannot be examined.
pub(crate) fn examine(file: BorrowedFd<'_>) -> Result<Found, MapError> {
    let stat = fstat(file).map_err(MapError::Query)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(MapError::NotRegular);
    }
    let opened = fcntl_getfl(file).map_err(MapError::Query)?;
    if opened.contains(OFlags::DIRECT) {
        return Err(MapError::Direct);
    }
    if opened & OFlags::RWMODE == OFlags::WRONLY {
        return Err(MapError::WriteOnly);
    }
    allowed(fstatfs(file).map_err(MapError::Query)?.f_type as u32)?;
    let attributes = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)
        .map_err(MapError::Query)?
        .stx_attributes;
    if attributes.contains(StatxAttributes::DAX) {
        return Err(MapError::Dax);
    }
    let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    Ok(Found {
        size: stat.st_size as u64,
        cannot_shrink: seals.contains(SealFlags::SHRINK),
    })
}

/// Refuses a file system by the number that statfs(2) gives.
fn allowed(magic: u32) -> Result<(), MapError> {
    match magic {
        EXT4 | TMPFS => Ok(()),
        OVERLAYFS => Err(MapError::Overlay),
        XFS => Err(MapError::Xfs),
        HUGETLBFS => Err(MapError::HugePages),
        magic if REMOTE.contains(&magic) => Err(MapError::Remote { magic }),
        magic => Err(MapError::UnknownFileSystem { magic }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{MemfdFlags, Mode, fcntl_add_seals, ftruncate, memfd_create, open};

    use super::*;

    #[test]
    fn file_systems_are_refused_with_their_reason() {
        assert_eq!(allowed(EXT4), Ok(()));
        assert_eq!(allowed(TMPFS), Ok(()));
        assert_eq!(allowed(OVERLAYFS), Err(MapError::Overlay));
        assert_eq!(allowed(XFS), Err(MapError::Xfs));
        assert_eq!(allowed(HUGETLBFS), Err(MapError::HugePages));
        assert_eq!(allowed(0x6969), Err(MapError::Remote { magic: 0x6969 }));
        let btrfs = 0x9123_683e;
        assert_eq!(
            allowed(btrfs),
            Err(MapError::UnknownFileSystem { magic: btrfs })
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no statfs(2)")]
    fn a_memfd_is_allowed_and_says_whether_it_can_shrink() {
        let memfd = memfd_create("vyre-mapped", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memfd, 5000).unwrap();
        let found = |cannot_shrink| {
            Ok(Found {
                size: 5000,
                cannot_shrink,
            })
        };
        assert_eq!(examine(memfd.as_fd()), found(false));
        fcntl_add_seals(&memfd, SealFlags::SHRINK).unwrap();
        assert_eq!(examine(memfd.as_fd()), found(true));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no statfs(2)")]
    fn other_kinds_of_files_are_refused() {
        let opened = |path: &str, flags| open(path, flags, Mode::empty()).unwrap();
        let proc = opened("/proc/self/status", OFlags::RDONLY);
        assert_eq!(
            examine(proc.as_fd()),
            Err(MapError::UnknownFileSystem { magic: 0x9fa0 })
        );
        for path in ["/dev/zero", "/"] {
            let file = opened(path, OFlags::RDONLY);
            assert_eq!(examine(file.as_fd()), Err(MapError::NotRegular), "{path}");
        }
        let path = tempfile::NamedTempFile::new().unwrap();
        let path = path.path().to_str().unwrap();
        let write_only = opened(path, OFlags::WRONLY);
        assert_eq!(examine(write_only.as_fd()), Err(MapError::WriteOnly));
        // Not every file system takes O_DIRECT.
        if let Ok(direct) = open(path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty()) {
            assert_eq!(examine(direct.as_fd()), Err(MapError::Direct));
        }
    }
}
