//! Source of a copy: its kind, its size, and whether it changed during the copy.

use std::fs::{self, File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::Failure;
use crate::name::Shown;
use crate::signals::say;
use crate::stack::{self, Opened};

/// Magic numbers of file systems that generate files when they are read, so that sizes mean
/// nothing: proc, sysfs, debugfs, tracefs, cgroup, cgroup2, securityfs, selinuxfs, configfs, bpf.
const MADE_UP: &[u32] = &[
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x0027_e0eb,
    0x6367_7270,
    0x7363_6673,
    0xf97c_ff8c,
    0x6265_6570,
    0xcafe_4a11,
];

pub(super) struct Source {
    pub(super) opened: Opened,
    path: PathBuf,
    about: Metadata,
    /// Number of bytes to copy. `None` if it is known only after the source was read to its end.
    len: Option<u64>,
    /// Set if the kernel generates the contents, so that the size means nothing.
    made_up: bool,
}

impl Source {
    pub(super) fn open(path: &Path, direct: bool) -> Result<Self, Failure> {
        let failed = |error| Failure::file("open", path, error);
        // Opening a pipe would wait for its writer, and opening a device may act on it.
        refuse_unfit(path, &fs::metadata(path).map_err(failed)?)?;
        // The name may lead to another file by now.
        let mut opened = match stack::open(path, OFlags::RDONLY | OFlags::NONBLOCK, direct) {
            // A lease is waited for.
            Err(Failure::File { source, .. })
                if Errno::from_io_error(&source) == Some(Errno::AGAIN) =>
            {
                stack::open(path, OFlags::RDONLY, direct)?
            }
            other => other?,
        };
        let about = metadata(&opened.fd).map_err(failed)?;
        refuse_unfit(path, &about)?;
        wait_for_reads(&opened.fd).map_err(|errno| failed(errno.into()))?;
        let made_up = rustix::fs::fstatfs(&opened.fd)
            .is_ok_and(|about| MADE_UP.contains(&(about.f_type as u32)));
        let len = if about.is_file() {
            (about.len() > 0 && !made_up).then_some(about.len())
        } else {
            Some(opened.len(path)?)
        };
        if len.is_none() {
            // Reads go on wherever the last one ended, which direct I/O need not allow.
            opened.buffer().map_err(|errno| failed(errno.into()))?;
        }
        Ok(Self {
            opened,
            path: path.into(),
            about,
            len,
            made_up,
        })
    }

    pub(super) fn len(&self) -> Option<u64> {
        self.len
    }

    pub(super) fn mode(&self) -> u32 {
        self.about.mode()
    }

    pub(super) fn is(&self, other: &Metadata) -> bool {
        (self.about.dev(), self.about.ino()) == (other.dev(), other.ino())
    }

    /// Returns whether the file may have holes, which are then not copied.
    pub(super) fn may_have_holes(&self) -> bool {
        self.about.is_file() && self.about.blocks().saturating_mul(512) < self.about.len()
    }

    /// Returns the number of bytes that are not in holes, if it is known.
    pub(super) fn data(&self) -> Option<u64> {
        // Some file systems count no blocks.
        let allocated = Some(self.about.blocks().saturating_mul(512)).filter(|&bytes| bytes > 0);
        Some(self.len?.min(allocated.unwrap_or(u64::MAX)))
    }

    pub(super) fn duplicate(&self) -> Result<OwnedFd, Failure> {
        let fd = self.opened.fd.try_clone();
        fd.map_err(|error| Failure::file("open", &self.path, error))
    }

    /// Splits the source into the descriptor for the loop and the part that is kept here.
    pub(super) fn split(self) -> Result<(Opened, Watched), Failure> {
        let watched = Watched {
            fd: self.duplicate()?,
            path: self.path,
            about: self.about,
            made_up: self.made_up,
        };
        Ok((self.opened, watched))
    }
}

/// Source that is being copied.
pub(super) struct Watched {
    fd: OwnedFd,
    pub(super) path: PathBuf,
    about: Metadata,
    made_up: bool,
}

impl Watched {
    /// Checks the source after `len` bytes of it were copied. Fails if it is shorter than when it
    /// was opened, or was longer than its size said. Warns if it changed.
    pub(super) fn check(&self, len: u64) -> Result<(), Failure> {
        if !self.about.is_file() || self.made_up {
            return Ok(());
        }
        let now =
            metadata(&self.fd).map_err(|error| Failure::file("examine", &self.path, error))?;
        let (path, size) = (self.path.clone(), now.len());
        // Other than io_uring, pread reads what lies beyond.
        if size < len && size == self.about.len() {
            return Err(Failure::MoreThanStated { path, size });
        }
        if now.len() < len {
            return Err(Failure::SourceChanged {
                path,
                offset: now.len(),
                expected: u32::try_from(len - now.len()).unwrap_or(u32::MAX),
                found: 0,
            });
        }
        // Some of FUSE's files state any size. The kernel's io_uring reads none beyond that, and may
        // fill what is missing with bytes from elsewhere in the file.
        let reads = |offset| rustix::io::pread(&self.fd, &mut [0; 1], offset);
        if len > 0 && reads(len - 1) == Ok(0) {
            return Err(Failure::LessThanStated { path, size });
        }
        if size == len && reads(len) == Ok(1) {
            return Err(Failure::MoreThanStated { path, size });
        }
        let path = Shown(&self.path);
        if now.len() > len {
            say!(
                "vyre-io: warning: {path} grew from {len} to {} bytes while it was copied; the copy has \
                 the first {len}",
                now.len()
            );
        } else if (now.mtime(), now.mtime_nsec()) != (self.about.mtime(), self.about.mtime_nsec()) {
            say!(
                "vyre-io: warning: {path} was written to while it was copied; the copy may have some \
                 old and some new bytes"
            );
        }
        Ok(())
    }

    /// Distinguishes a source that was truncated from one that was never as long as its size said.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        match failure {
            Failure::SourceChanged {
                path,
                offset,
                expected,
                found,
            } if path == self.path => {
                let end = offset + u64::from(found);
                match metadata(&self.fd) {
                    Ok(now) if self.about.is_file() && now.len() > end => Failure::LessThanStated {
                        path,
                        size: now.len(),
                    },
                    _ => Failure::SourceChanged {
                        path,
                        offset,
                        expected,
                        found,
                    },
                }
            }
            other => other,
        }
    }
}

fn refuse_unfit(path: &Path, about: &Metadata) -> Result<(), Failure> {
    let kind = about.file_type();
    if kind.is_file() || kind.is_block_device() {
        Ok(())
    } else {
        Err(Failure::unfit(path, kind))
    }
}

fn metadata(fd: &OwnedFd) -> std::io::Result<Metadata> {
    File::from(fd.try_clone()?).metadata()
}

/// Clears O_NONBLOCK. With it, some kernels answer EAGAIN to a read that would have to wait.
fn wait_for_reads(fd: &OwnedFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags - OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Tests nothing on a file system without holes.
    #[test]
    fn holes_are_no_data() {
        const M: u64 = 1 << 20;
        let file = tempfile::NamedTempFile::new().expect("room");
        file.as_file().set_len(64 * M).expect("room");
        let block = vec![1; M as usize];
        file.as_file().write_all_at(&block, 8 * M).expect("room");
        let source = Source::open(file.path(), false).expect("a file");
        if !source.may_have_holes() {
            let line = b"SKIPPED: holes_are_no_data: temporary files have no holes\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
            return;
        }
        let data = source.data().expect("a known size");
        assert!((M..8 * M).contains(&data), "{data} bytes");
        assert_eq!(source.len(), Some(64 * M));
    }
}
