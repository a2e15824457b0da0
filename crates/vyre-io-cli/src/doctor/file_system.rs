//! File systems by the magic number that `statfs` returns, and their peculiarities.

/// Magic numbers and names. ext2 and ext3 have the magic number of ext4, and usually its driver.
const NAMES: &[(u32, &str)] = &[
    (0x0000_4d44, "vfat"),
    (0x0000_6969, "nfs"),
    (0x0000_9660, "iso9660"),
    (0x0000_9fa0, "proc"),
    (0x0000_ef53, "ext4"),
    (0x0000_f15f, "ecryptfs"),
    (0x00c3_6400, "ceph"),
    (0x0102_1994, "tmpfs"),
    (0x0102_1997, "9p"),
    (0x0116_1970, "gfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x0fe8_0fe8, "orangefs"),
    (0x1983_0326, "beegfs"),
    (0x2011_bab0, "exfat"),
    (0x2405_1905, "ubifs"),
    (0x2fc1_2fc1, "zfs"),
    (0x4750_4653, "gpfs"),
    (0x5265_4973, "reiserfs"),
    (0x5346_414f, "afs"),
    (0x5346_4846, "wslfs"),
    (0x5346_544e, "ntfs"),
    (0x5846_5342, "xfs"),
    (0x6265_6570, "configfs"),
    (0x6265_6572, "sysfs"),
    (0x6573_5546, "fuse"),
    (0x6761_6c64, "nilfs"),
    (0x7366_746e, "ntfs3"),
    (0x7371_7368, "squashfs"),
    (0x7461_636f, "ocfs2"),
    (0x794c_7630, "overlayfs"),
    (0x8584_58f6, "ramfs"),
    (0x9123_683e, "btrfs"),
    (0x9584_58f6, "hugetlbfs"),
    (0xca45_1a4e, "bcachefs"),
    (0xe0f5_e1e2, "erofs"),
    (0xf2f5_2010, "f2fs"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
];

/// Returns the name of a file system, or its magic number if it is unknown.
pub(super) fn name(magic: u32) -> String {
    match NAMES.iter().find(|(known, _)| *known == magic) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("unknown ({magic:#x})"),
    }
}

/// Returns whether the files are memory, so that `O_DIRECT` has no effect even where it is accepted.
pub(super) fn is_memory(name: &str) -> bool {
    matches!(name, "tmpfs" | "ramfs" | "hugetlbfs")
}

/// Returns whether the kernel generates the contents of files, so that their sizes mean nothing.
pub(super) fn is_generated(name: &str) -> bool {
    matches!(name, "proc" | "sysfs" | "configfs")
}

/// Returns a caution about direct I/O on the file system, with a remedy.
pub(super) fn caveat(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "btrfs" => Some((
            "compressed and inline data, and writes of data with checksums, pass through the page \
             cache even when opened for direct I/O",
            "for direct writes, make the file with checksums and compression off (chattr +C on \
             its directory first)",
        )),
        "zfs" => Some((
            "before OpenZFS 2.3 direct I/O is accepted and served from the ARC all the same",
            "use OpenZFS 2.3 or later with the property direct=standard or always",
        )),
        "overlayfs" => Some((
            "direct I/O is what the layer below makes of it, and the first write copies the whole \
             file up",
            "keep data in a volume, outside the container's own layers",
        )),
        "fuse" => Some((
            "direct I/O is what the daemon makes of it, and each request takes a trip through it and \
             a worker of the kernel; a daemon that hangs holds up requests to its own files alone",
            "measure it with vyre-io bench, or put the data on a local file system",
        )),
        "nfs" | "ceph" | "cifs" | "smb2" | "9p" | "afs" => Some((
            "direct I/O passes this machine's page cache by, not the server's",
            "open buffered where data are read more than once",
        )),
        _ => None,
    }
}

/// Returns the circumstances under which reads can return wrong bytes, however the file is opened,
/// and a remedy.
pub(super) fn hazard(name: &str) -> Option<(&'static str, &'static str)> {
    (name == "fuse").then_some((
        "on Linux 6.18, reads can return wrong bytes from a server that opens files with FOPEN_DIRECT_IO \
         and has not asked for FUSE_ASYNC_DIO: if it answers a read with fewer bytes, as at the end of \
         the file, io_uring asks for the rest at the original offset, and the count looks whole",
        "have the server ask for FUSE_ASYNC_DIO, or mount without direct_io; otherwise it must answer \
         reads in full, and no read may go past the end of the file",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_magic_numbers_have_names() {
        for (magic, expected) in [
            (0xef53, "ext4"),
            (0x5846_5342, "xfs"),
            (0x9123_683e, "btrfs"),
            (0x0102_1994, "tmpfs"),
            (0x6969, "nfs"),
            (0x6573_5546, "fuse"),
            (0x794c_7630, "overlayfs"),
            (0x2fc1_2fc1, "zfs"),
            (0xf2f5_2010, "f2fs"),
        ] {
            assert_eq!(name(magic), expected);
        }
    }

    #[test]
    fn an_unknown_one_is_shown_by_its_number() {
        assert_eq!(name(0xdead_beef), "unknown (0xdeadbeef)");
    }

    #[test]
    fn the_table_is_sorted_so_that_no_number_is_in_it_twice() {
        assert!(NAMES.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn memory_is_told_from_disks() {
        assert!(is_memory("tmpfs") && is_memory("hugetlbfs"));
        assert!(!is_memory("ext4") && !is_memory("unknown (0x1)"));
        assert!(is_generated("proc") && !is_generated("ext4"));
    }
}
