//! A descriptor of its own to ask for the size of a file.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{Mode, OFlags, SeekFrom, fstat, open, seek};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::mapping::Mapping;

/// Asks the kernel for the size of a mapped file, at about half the cost of [`Mapping::file_size`].
///
/// The probe reopens the file and asks by lseek(2), which moves only the offset of that open file.
/// Each thread should have a probe of its own: the kernel locks the offset for the call. If the file
/// cannot be reopened, because `/proc` is missing or the permissions have changed, the probe asks by
/// fstat(2).
#[derive(Debug)]
pub struct SizeProbe {
    file: OwnedFd,
    /// Set if nobody else uses the offset of the open file.
    is_own: bool,
    never_changes: Option<u64>,
}

impl SizeProbe {
    /// Creates a probe for the file of a mapping.
    ///
    /// # Errors
    /// The errno of fcntl(2) if the process has no descriptor left.
    pub fn new(mapping: &Mapping) -> Result<Self, Errno> {
        let never_changes = (!mapping.checks_size()).then_some(u64::MAX);
        if let Some(file) = reopen(mapping.file()) {
            return Ok(Self {
                file,
                is_own: true,
                never_changes,
            });
        }
        Ok(Self {
            file: fcntl_dupfd_cloexec(mapping.file(), 0)?,
            is_own: false,
            never_changes,
        })
    }

    /// Returns the present size of the file in bytes. Returns `u64::MAX`, without a system call, if the
    /// file can never end before the mapped range does.
    ///
    /// Call it before a copy: see [`Mapping::copy_to`].
    ///
    /// # Errors
    /// The errno of lseek(2) or fstat(2).
    #[inline]
    pub fn size(&self) -> Result<u64, Errno> {
        if let Some(size) = self.never_changes {
            return Ok(size);
        }
        let size = if self.is_own {
            seek(&self.file, SeekFrom::End(0))
        } else {
            fstat(&self.file).map(|stat| stat.st_size as u64)
        };
        // Acquire: as in `Mapping::file_size`.
        fence(Ordering::Acquire);
        size
    }
}

/// Opens the same file again, whatever has become of its name.
fn reopen(file: &OwnedFd) -> Option<OwnedFd> {
    let was = fstat(file).ok()?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let own = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let is = fstat(&own).ok()?;
    ((is.st_dev, is.st_ino) == (was.st_dev, was.st_ino)).then_some(own)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    use rustix::param::page_size;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn a_probe_tells_each_size_and_leaves_the_offset_of_the_file_alone() {
        let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.write_all(b"five!").unwrap();
        let mapping = Mapping::new(&file, 0..100).unwrap();
        let own = SizeProbe::new(&mapping).unwrap();
        assert!(own.is_own);
        let shared = SizeProbe {
            file: file.try_clone().unwrap().into(),
            is_own: false,
            never_changes: None,
        };
        for size in [5, 0, 1 << 33, 77] {
            ftruncate(&file, size).unwrap();
            assert_eq!(own.size(), Ok(size));
            assert_eq!(shared.size(), Ok(size));
        }
        assert_eq!(file.stream_position().unwrap(), 5);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri maps no files")]
    fn nothing_is_asked_of_a_memfd_that_cannot_shrink() {
        let memfd = memfd_create("vyre-mapped", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memfd, page_size() as u64).unwrap();
        fcntl_add_seals(&memfd, SealFlags::SHRINK).unwrap();
        let size = |end| {
            SizeProbe::new(&Mapping::new(&memfd, 0..end).unwrap())
                .unwrap()
                .size()
        };
        assert_eq!(size(page_size() as u64), Ok(u64::MAX));
        assert_eq!(
            size(page_size() as u64 + 1),
            Ok(page_size() as u64),
            "may grow"
        );
    }
}
