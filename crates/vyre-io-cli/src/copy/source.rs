//! What is copied: its kind, its size, and whether it stayed as it was.

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

/// File systems whose files are made up when they are read, so that their sizes say nothing, by magic
/// number: proc, sysfs, debugfs, tracefs, cgroup, cgroup2, securityfs, selinuxfs, configfs, bpf.
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
    /// Bytes to copy; none if only reading to the end tells.
    len: Option<u64>,
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
        let len = if about.is_file() {
            let is_made_up = rustix::fs::fstatfs(&opened.fd)
                .is_ok_and(|about| MADE_UP.contains(&(about.f_type as u32)));
            (about.len() > 0 && !is_made_up).then_some(about.len())
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

    /// Whether parts of it take no room, which are not copied then.
    pub(super) fn may_have_holes(&self) -> bool {
        self.about.is_file() && self.about.blocks().saturating_mul(512) < self.about.len()
    }

    pub(super) fn duplicate(&self) -> Result<OwnedFd, Failure> {
        let fd = self.opened.fd.try_clone();
        fd.map_err(|error| Failure::file("open", &self.path, error))
    }

    /// What stays here when the descriptor is handed to the loop.
    pub(super) fn split(self) -> Result<(Opened, Watched), Failure> {
        let watched = Watched {
            fd: self.duplicate()?,
            path: self.path,
            about: self.about,
            len: self.len,
        };
        Ok((self.opened, watched))
    }
}

/// A source while it is copied.
pub(super) struct Watched {
    fd: OwnedFd,
    pub(super) path: PathBuf,
    about: Metadata,
    len: Option<u64>,
}

impl Watched {
    /// Says what became of the source since it was opened. If it is shorter now, the copy failed.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let Some(len) = self.len.filter(|_| self.about.is_file()) else {
            return Ok(());
        };
        let now =
            metadata(&self.fd).map_err(|error| Failure::file("examine", &self.path, error))?;
        let path = Shown(&self.path);
        if now.len() < len {
            return Err(Failure::SourceChanged {
                path: self.path.clone(),
                offset: now.len(),
                expected: u32::try_from(len - now.len()).unwrap_or(u32::MAX),
                found: 0,
            });
        }
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

    /// Tells a source that was cut from one that never was as long as it says.
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
                    Ok(now) if self.about.is_file() && now.len() > end => Failure::FalseSize {
                        path,
                        size: now.len(),
                        end,
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
        Err(Failure::NotAFile(path.into()))
    }
}

fn metadata(fd: &OwnedFd) -> std::io::Result<Metadata> {
    File::from(fd.try_clone()?).metadata()
}

/// Without O_NONBLOCK, which some kernels answer with EAGAIN where a read would have to wait.
fn wait_for_reads(fd: &OwnedFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags - OFlags::NONBLOCK)
}
