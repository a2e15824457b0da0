//! The identity of a file: device and inode.

use rustix::fs::FileType;

/// The identity of a file, the same for all its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(crate) const fn is_drive(self) -> bool {
        self.inode == 0
    }

    /// Returns the identity of a file. A drive is one file, whichever of its nodes was opened. No inode
    /// has the number 0.
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        let (device, inode) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => (stat.st_rdev, 0),
            _ => (stat.st_dev, stat.st_ino),
        };
        Self { device, inode }
    }

    #[cfg(test)]
    pub(crate) const fn for_tests(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }
}
