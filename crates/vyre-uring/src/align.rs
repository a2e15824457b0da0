//! The alignment that direct I/O requires of a request.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, Statx, StatxFlags, fcntl_getfl, statx};
use rustix::fs::{Mode, ioctl_blksszget, open};
use rustix::io::Errno;

/// The alignment in bytes if none is stated: a multiple of every common logical block size.
const FALLBACK: u32 = 4096;

/// The alignment that direct I/O on a file requires. Both values are powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectAlign {
    /// The alignment of the memory address, in bytes.
    pub memory: u32,
    /// The alignment of the file offset and of the length, in bytes.
    pub offset: u32,
}

/// Returns the alignment that requests on this descriptor must have. Returns `None` if the descriptor
/// is not open with `O_DIRECT`: then any alignment will do.
///
/// # Errors
/// If `fcntl` or `statx` fails.
pub fn direct_alignment(file: impl AsFd) -> io::Result<Option<DirectAlign>> {
    let file = file.as_fd();
    if fcntl_getfl(file)?.contains(OFlags::DIRECT) {
        alignment_of(file).map(Some)
    } else {
        Ok(None)
    }
}

/// Returns the alignment that direct I/O on this file requires, whether or not it is open with
/// `O_DIRECT`.
///
/// # Errors
/// If `statx` fails.
pub fn alignment_of(file: impl AsFd) -> io::Result<DirectAlign> {
    let file = file.as_fd();
    let asked = StatxFlags::DIOALIGN | StatxFlags::TYPE;
    let stat = match statx(file, "", AtFlags::EMPTY_PATH, asked) {
        Ok(stat) => stat,
        // Before Linux 4.11, or hidden by a sandbox.
        Err(Errno::NOSYS) => return Ok(block_alignment(file)),
        Err(errno) => return Err(errno.into()),
    };
    match stated(&stat) {
        Some(align) => Ok(align),
        None if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::BlockDevice => {
            Ok(block_alignment(file))
        }
        None => Ok(DirectAlign {
            memory: FALLBACK,
            offset: FALLBACK,
        }),
    }
}

/// Opens the file at this path for reading and returns its [`alignment_of`].
///
/// # Errors
/// If `open` or `statx` fails.
pub fn alignment_of_path(path: impl AsRef<Path>) -> io::Result<DirectAlign> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    alignment_of(open(path.as_ref(), flags, Mode::empty())?)
}

/// Returns the alignment that `statx` stated, if the kernel (6.1 or later) and the file system state
/// one. Zeros mean that the file takes no direct I/O, so nothing has to be obeyed.
fn stated(stat: &Statx) -> Option<DirectAlign> {
    let usable = |align: u32| align.is_power_of_two();
    let is_stated = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    (is_stated && usable(stat.stx_dio_mem_align) && usable(stat.stx_dio_offset_align)).then_some(
        DirectAlign {
            memory: stat.stx_dio_mem_align,
            offset: stat.stx_dio_offset_align,
        },
    )
}

/// Returns the logical block size of a block device, or else the fallback.
fn block_alignment(file: impl AsFd) -> DirectAlign {
    let size = match ioctl_blksszget(file) {
        Ok(size) if size.is_power_of_two() => size,
        _ => FALLBACK,
    };
    DirectAlign {
        memory: size,
        offset: size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rustix::fs::CWD;

    fn statx_of_cwd() -> Statx {
        statx(CWD, ".", AtFlags::empty(), StatxFlags::TYPE).unwrap()
    }

    #[test]
    fn statx_counts_only_if_it_states_a_usable_alignment() {
        let mut stat = statx_of_cwd();
        stat.stx_dio_mem_align = 4;
        stat.stx_dio_offset_align = 512;
        stat.stx_mask = StatxFlags::TYPE.bits();
        assert_eq!(stated(&stat), None);
        stat.stx_mask = StatxFlags::DIOALIGN.bits();
        assert_eq!(
            stated(&stat),
            Some(DirectAlign {
                memory: 4,
                offset: 512
            })
        );
        stat.stx_dio_offset_align = 0;
        assert_eq!(stated(&stat), None);
    }
}
