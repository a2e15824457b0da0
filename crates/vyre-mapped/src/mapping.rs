//! A mapping of a range of a file.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Advice, fadvise, fstat};
use rustix::io::{Errno, ReadWriteFlags, fcntl_dupfd_cloexec, pread, preadv2};
use rustix::param::page_size;

use crate::arch;
use crate::error::{CopyError, MapError};
use crate::file_system::examine;
use crate::page_tables::first_unmapped;
use crate::recovery::Recovery;
use crate::sys::Pages;

/// More than a tick of the clock by which file systems date changes.
const TICK: Duration = Duration::from_millis(20);

/// The distance in bytes of the pages of which [`Mapping::seems_cached`] asks: the least that the kernel reads ahead
/// by default.
const ASK_EVERY: usize = 128 << 10;

/// The size and the time of the last change of a file. Any change of the file after a stamp was taken makes the
/// next stamp another one, if the first is [older than the clock's tick](Self::is_settled).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    /// Seconds and nanoseconds of the change time.
    changed: (i64, u64),
}

impl Stamp {
    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether the last change lies some time back. File systems count time in ticks of up to 10
    /// ms, and two changes in one tick have the same time.
    pub fn is_settled(&self) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let since = u64::try_from(seconds).ok().and_then(|seconds| {
            let changed = UNIX_EPOCH + Duration::from_secs(seconds);
            let changed = changed + Duration::from_nanos(nanoseconds);
            SystemTime::now().duration_since(changed).ok()
        });
        since.is_some_and(|since| since > TICK)
    }
}

/// The place of bytes that a copy will read soon. It does not keep the [`Mapping`].
#[derive(Debug, Clone, Copy)]
pub struct Hint {
    address: usize,
}

impl Hint {
    /// Loads this many bytes into the processor's cache. Does nothing for pages that are not mapped.
    #[inline]
    pub fn prefetch(self, bytes: usize) {
        arch::prefetch(ptr::without_provenance(self.address), bytes);
    }
}

/// A read-only mapping of a range of a regular local file.
///
/// The mapping shows the page cache: later writes of any process, and truncations, take effect at once.
/// No reference to the bytes is ever created; they are copied out.
#[derive(Debug)]
pub struct Mapping {
    file: OwnedFd,
    range: Range<u64>,
    /// `true` if bytes of the range can lie past the end of the file.
    checks_size: bool,
    /// The file offset of the first mapped page.
    first: u64,
    pages: Pages,
}

impl Mapping {
    /// Maps a range of a file. The range may reach past the end of the file, which may grow. The file
    /// must be open for reading, and may be closed afterwards.
    ///
    /// # Errors
    /// A [`MapError`] that names the reason: the range has no bytes or is too long; the file is not a
    /// regular file on a file system for which copies are known to be right; it is open for writing
    /// only or with `O_DIRECT`; or the kernel refuses a call.
    pub fn new(file: impl AsFd, range: Range<u64>) -> Result<Self, MapError> {
        if range.is_empty() {
            return Err(MapError::EmptyRange);
        }
        let found = examine(file.as_fd())?;
        let page = page_size() as u64;
        let first = range.start - range.start % page;
        let len = range
            .end
            .checked_next_multiple_of(page)
            .filter(|&end| i64::try_from(end).is_ok())
            .and_then(|end| usize::try_from(end - first).ok())
            .filter(|&len| isize::try_from(len).is_ok())
            .ok_or(MapError::RangeTooLong)?;
        let file = fcntl_dupfd_cloexec(file, 0).map_err(MapError::Query)?;
        let pages = Pages::map(file.as_fd(), first, len).map_err(MapError::Map)?;
        Ok(Self {
            file,
            checks_size: !found.cannot_shrink || found.size < range.end,
            range,
            first,
            pages,
        })
    }

    /// Returns the range of the file, in bytes.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Returns the range of the file that the mapped pages hold: that of [`range`](Self::range), rounded
    /// outwards to whole pages.
    pub fn page_range(&self) -> Range<u64> {
        self.first..self.first + self.pages.len() as u64
    }

    /// Returns the number of bytes of a page.
    pub fn page_size() -> u64 {
        page_size() as u64
    }

    /// Returns the address of the first byte of [`page_range`](Self::page_range), for calls that pin pages
    /// or name them to a device. The pages are mapped there until the mapping is dropped.
    ///
    /// Do not dereference it in Rust: others change the bytes, and an access past the end of the file raises
    /// SIGBUS. [`copy_to`](Self::copy_to) is for that.
    pub fn as_ptr(&self) -> *const u8 {
        self.pages.as_ptr()
    }

    /// Returns whether bytes of the range can lie past the end of the file. If not, because the file is
    /// a memfd that is sealed against shrinking, the size need not be checked before a copy.
    pub fn checks_size(&self) -> bool {
        self.checks_size
    }

    /// Returns the present size of the file in bytes. Costs a system call.
    ///
    /// # Errors
    /// The errno of fstat(2).
    pub fn file_size(&self) -> Result<u64, Errno> {
        let size = fstat(&self.file).map(|stat| stat.st_size as u64);
        // Acquire: the kernel's load of the size comes before the loads of later copies. A processor
        // may order loads otherwise, and a system call is not a barrier. The partner is the kernel's
        // append, which stores the size after it has changed a page.
        fence(Ordering::Acquire);
        size
    }

    /// Returns the size and the time of the last change of the file. Costs a system call.
    ///
    /// # Errors
    /// The errno of fstat(2).
    pub fn stamp(&self) -> Result<Stamp, Errno> {
        let stat = fstat(&self.file)?;
        Ok(Stamp {
            size: stat.st_size as u64,
            changed: (stat.st_ctime, stat.st_ctime_nsec as u64),
        })
    }

    /// Returns whether a descriptor is one of the mapped file.
    ///
    /// # Errors
    /// The errno of fstat(2).
    pub fn is_of(&self, file: impl AsFd) -> Result<bool, Errno> {
        let (own, other) = (fstat(&self.file)?, fstat(file)?);
        Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
    }

    /// Returns the offset in the file of the first page of a part that is not mapped in this process, by
    /// `/proc/self/pagemap`. Takes some 2 ms for 1 GiB.
    ///
    /// Pages become mapped by a copy or by [`populate`](Self::populate). The kernel unmaps a page that
    /// leaves the file: by a truncation, a hole that is punched, or a write past the page cache. It also
    /// unmaps pages to reclaim memory, and may do so where the page is pinned and cannot be reclaimed.
    ///
    /// # Errors
    /// - [`Errno::INVAL`] if the part is not inside the range.
    /// - The errno of open(2) or read(2).
    pub fn first_unmapped(&self, part: Range<u64>) -> Result<Option<u64>, Errno> {
        let (offset, len) = self.locate(&part).ok_or(Errno::INVAL)?;
        let page = page_size();
        let (first, end) = (offset / page, (offset + len).div_ceil(page));
        let found = first_unmapped(self.pages.address(), first..end)?;
        Ok(found.map(|index| self.first + (index * page) as u64))
    }

    /// Has the kernel read a part of the range into the page cache, and map its pages, as far as the
    /// file reaches. Blocks until that is done, so it is for a thread that may wait.
    ///
    /// # Errors
    /// - [`Errno::INVAL`] if the part is not inside the range, or before Linux 5.14.
    /// - [`Errno::FAULT`] if the file ends before the part does: what comes before its end is mapped.
    /// - Another errno of madvise(2).
    pub fn populate(&self, part: Range<u64>) -> Result<(), Errno> {
        let (offset, len) = self.locate(&part).ok_or(Errno::INVAL)?;
        let before = offset % page_size();
        self.pages.populate(offset - before, len + before)
    }

    /// Returns whether one page in each 128 KiB of a part of the file is in the page cache, as a hint. Costs about 0.3 µs
    /// a page, and reads none in, but the kernel may start to.
    ///
    /// Where the file system cannot tell, and past the end of the file, the answer is `true`.
    pub fn seems_cached(&self, part: Range<u64>) -> bool {
        part.step_by(ASK_EVERY).all(|offset| {
            let mut byte = [0];
            let to = &mut [IoSliceMut::new(&mut byte)];
            let read = preadv2(&self.file, to, offset, ReadWriteFlags::NOWAIT);
            read != Err(Errno::AGAIN)
        })
    }

    /// Has the kernel begin to read a part of the file into the page cache, and does not wait for that.
    ///
    /// # Errors
    /// The errno of posix_fadvise(2).
    pub fn read_ahead(&self, part: Range<u64>) -> Result<(), Errno> {
        // Without a length, the advice is about all of the rest of the file.
        match NonZeroU64::new(part.end.saturating_sub(part.start)) {
            None => Ok(()),
            len => fadvise(&self.file, part.start, len, Advice::WillNeed),
        }
    }

    /// Copies a range of the file to the start of `destination`. Returns the number of bytes, which is
    /// the length of the range.
    ///
    /// A page that is not in memory is read in, while the thread waits. Past the end of the file, the
    /// rest of its last page reads as zeros. If [`checks_size`](Self::checks_size), therefore compare the
    /// range with [`file_size`](Self::file_size) before the copy, once for any number of copies, and do
    /// not use bytes past that size. The result is then one that pread(2) could have given since
    /// the comparison: pread, too, loads the size first and copies afterwards, without a lock.
    ///
    /// # Errors
    /// - [`CopyError::OutOfRange`] if the range is not inside the mapping.
    /// - [`CopyError::DestinationTooShort`] if the destination is shorter than the range.
    /// - [`CopyError::Fault`] if an access raised SIGBUS, since the file ends before the range does or a
    ///   page could not be read.
    #[inline]
    pub fn copy_to(
        &self,
        recovery: &Recovery,
        range: Range<u64>,
        destination: &mut [u8],
    ) -> Result<usize, CopyError> {
        let _ = recovery;
        let (offset, wanted) = self.locate(&range).ok_or(CopyError::OutOfRange)?;
        let len = destination.len();
        let destination = destination
            .get_mut(..wanted)
            .ok_or(CopyError::DestinationTooShort { len, wanted })?;
        completed(wanted, self.pages.copy_to_slice(offset, destination))
    }

    /// Loads a range of the file into the processor's cache, as a hint for a copy that follows soon. Does
    /// nothing for pages that are not mapped, or for a range that is not inside the mapping.
    #[inline]
    pub fn prefetch(&self, range: Range<u64>) {
        if let Some((offset, len)) = self.locate(&range) {
            self.pages.prefetch(offset, len);
        }
    }

    /// Returns the place of a byte of the file, for [prefetches](Hint::prefetch) without further checks. It is of no use
    /// if the offset is not inside the mapping.
    #[inline]
    pub fn hint(&self, offset: u64) -> Hint {
        let address = self.pages.as_ptr().addr();
        Hint {
            address: address.wrapping_add(offset.wrapping_sub(self.first) as usize),
        }
    }

    /// Reads at an offset of the file, with a result that pread(2) could have given during the call. Copies
    /// out of the mapping, and calls pread(2) for a range that is not inside it or that reaches past the end
    /// of the file. Returns the number of bytes, which is less than the length of `destination` only at the
    /// end of the file or before an error. Later bytes of `destination`
    /// may have been written, too.
    ///
    /// # Errors
    /// The errno of pread(2).
    pub fn read_at(
        &self,
        recovery: &Recovery,
        offset: u64,
        destination: &mut [u8],
    ) -> Result<usize, Errno> {
        let len = destination.len();
        let end = offset.saturating_add(len as u64);
        if self.locate(&(offset..end)).is_some()
            && (!self.checks_size || end <= self.file_size()?)
            && let Ok(copied) = self.copy_to(recovery, offset..end, destination)
        {
            return Ok(copied);
        }
        self.pread(offset, destination)
    }

    /// Reads by system calls, until the destination is full or the file ends.
    #[cold]
    fn pread(&self, offset: u64, destination: &mut [u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < destination.len() {
            match pread(&self.file, &mut destination[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                // What was read before is a result, as the kernel has it.
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Returns where a range of the file lies in the mapping.
    #[inline]
    pub(crate) fn locate(&self, range: &Range<u64>) -> Option<(usize, usize)> {
        let is_inside = self.range.start <= range.start
            && range.start <= range.end
            && range.end <= self.range.end;
        // Inside the mapping, so both fit the address space.
        is_inside.then(|| {
            let offset = range.start - self.first;
            (offset as usize, (range.end - range.start) as usize)
        })
    }
}

/// Returns the result of a copy of `len` bytes of which `left` were not copied.
#[inline]
pub(crate) fn completed(len: usize, left: usize) -> Result<usize, CopyError> {
    match left {
        0 => Ok(len),
        left => Err(CopyError::Fault { copied: len - left }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri hides the clock of the machine")]
    fn a_stamp_is_settled_once_its_change_is_older_than_a_tick() {
        let stamp_of = |changed: SystemTime| {
            let since = changed.duration_since(UNIX_EPOCH).unwrap();
            let seconds = since.as_secs().cast_signed();
            Stamp {
                size: 0,
                changed: (seconds, since.subsec_nanos().into()),
            }
        };
        let now = SystemTime::now();
        // Of a clock that was set back, and of this moment.
        assert!(!stamp_of(now + Duration::from_secs(3600)).is_settled());
        assert!(!stamp_of(SystemTime::now()).is_settled());
        assert!(stamp_of(now - 2 * TICK).is_settled());
        let before_1970 = Stamp {
            size: 0,
            changed: (-1, 0),
        };
        assert!(!before_1970.is_settled());
    }
}
