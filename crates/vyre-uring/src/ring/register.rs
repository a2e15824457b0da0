//! Register: files and buffers are put into the tables and taken out of them.

use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fstat, open};
use rustix::io::Errno;

use super::Ring;
use super::slots::pieces;
use crate::buffer::Buffer;
use crate::error::RegisterError;
use crate::file_traits::FileTraits;
use crate::operation::{BufferSlot, FileSlot};

impl Ring {
    /// Puts a file into a slot, or empties the slot. Examines the file first, as
    /// [`FileTraits::of`] does. Takes time proportional to the [capacity](Self::capacity).
    ///
    /// # Errors
    /// - [`RegisterError::UnknownFile`] if the slot is beyond the table.
    /// - [`RegisterError::Busy`] while operations on the slot are in flight.
    /// - [`RegisterError::Kernel`] if the kernel refuses the file.
    /// - [`RegisterError::Emptied`] if it then refuses the file that the slot held before, too.
    pub fn set_file(
        &mut self,
        slot: FileSlot,
        file: Option<Arc<OwnedFd>>,
    ) -> Result<(), RegisterError> {
        let file = file.map(|file| {
            let traits = FileTraits::of(&file);
            (file, traits)
        });
        self.replace_file(slot, file)
    }

    /// Puts a file that was examined before into a slot, as [`set_file`](Self::set_file) does.
    /// Examining a file can wait for its file system, so a thread that must not wait leaves it to
    /// another thread.
    ///
    /// # Errors
    /// The same as for [`set_file`](Self::set_file).
    pub fn set_file_with(
        &mut self,
        slot: FileSlot,
        file: Arc<OwnedFd>,
        traits: FileTraits,
    ) -> Result<(), RegisterError> {
        self.replace_file(slot, Some((file, traits)))
    }

    /// Puts a buffer into a slot, or empties the slot. A buffer that the kernel does not register is
    /// served by plain reads and writes. Takes time proportional to the
    /// [capacity](Self::capacity), and time to pin the buffer's pages.
    ///
    /// # Errors
    /// - [`RegisterError::UnknownBuffer`] if the slot is beyond the table.
    /// - [`RegisterError::Busy`] while operations on the slot are in flight.
    /// - [`RegisterError::EmptyBuffer`] if the buffer has no bytes.
    pub fn set_buffer(
        &mut self,
        slot: BufferSlot,
        buffer: Option<Buffer>,
    ) -> Result<(), RegisterError> {
        let state = self
            .buffers
            .get_mut(slot.index() as usize)
            .ok_or(RegisterError::UnknownBuffer(slot))?;
        self.tokens.check_buffer_idle(slot)?;
        if buffer.as_ref().is_some_and(Buffer::is_empty) {
            return Err(RegisterError::EmptyBuffer);
        }
        let had = state.indexes();
        self.clear_indexes(had);
        let buf_index = buffer
            .as_ref()
            .and_then(|buffer| self.register(slot, buffer));
        self.buffers[slot.index() as usize].set(buffer, buf_index);
        Ok(())
    }

    fn replace_file(
        &mut self,
        slot: FileSlot,
        file: Option<(Arc<OwnedFd>, FileTraits)>,
    ) -> Result<(), RegisterError> {
        let state = self
            .files
            .get_mut(slot.index() as usize)
            .ok_or(RegisterError::UnknownFile(slot))?;
        self.tokens.check_file_idle(slot)?;
        if self.fixed_files {
            // The kernel's table keeps it open, so it is closed here.
            let attempted = file
                .as_ref()
                .and_then(|(file, traits)| attempted(file, *traits));
            let given = file.as_ref().map(|(file, _)| &**file);
            let new = attempted.as_ref().or(given).map_or(-1, AsRawFd::as_raw_fd);
            let kernel = &self.kernel;
            let update = |fd| kernel.update_file(slot.index(), fd);
            if let Err(refused) = replace(state.descriptor(), new, update) {
                if matches!(refused, RegisterError::Emptied(_)) {
                    state.clear();
                }
                return Err(refused);
            }
        }
        match file {
            Some((file, traits)) => state.set(file, traits),
            None => state.clear(),
        }
        Ok(())
    }

    /// Registers a buffer with the kernel, at as many indexes as its length needs, and returns the
    /// first. Returns `None` if it is not registered: plain transfers take any memory.
    fn register(&mut self, slot: BufferSlot, buffer: &Buffer) -> Option<u16> {
        if !self.fixed_buffers {
            return None;
        }
        let count = pieces(buffer.len() as u64);
        let first = if count == 1 {
            Some(slot.index())
        } else {
            self.spare_indexes.take(count)
        };
        let registered = match first {
            Some(first) => self.register_pieces(first, buffer).map(|()| first),
            // The kernel's own errno for a table that is full.
            None => Err(Errno::NOSPC),
        };
        match registered {
            Ok(first) => u16::try_from(first).ok(),
            Err(errno) => {
                self.clear_indexes(first.map_or(0..0, |first| first..first + count));
                self.report.plain_buffers += 1;
                self.report.plain_errno = Some(errno);
                None
            }
        }
    }

    fn clear_indexes(&mut self, indexes: Range<u32>) {
        for index in indexes {
            // An index that cannot be cleared keeps its pages pinned until the ring is dropped.
            // Nothing is in flight on it, so the memory may be freed.
            let _ = self.kernel.clear_buffer(index);
            self.spare_indexes.free(index);
        }
    }
}

/// Opens a file in memory once more, so that the kernel attempts reads of it in the submitting thread.
///
/// From Linux 6.5 on, the kernel sends each read of a file to a worker whose file system does not promise to refuse what
/// would wait. Those that keep files in memory do not promise it, having nothing to wait for; the kernel attempts the reads
/// only if the file was opened with `O_NONBLOCK`. The flag belongs to the open file, which others may share, so this needs
/// one of its own.
///
/// Returns `None` for any other file, and where the file cannot be opened: workers then perform the reads.
fn attempted(file: &OwnedFd, traits: FileTraits) -> Option<OwnedFd> {
    let opened = fcntl_getfl(file).ok()?;
    if !traits.in_memory || opened.intersects(OFlags::NONBLOCK | OFlags::PATH) {
        return None;
    }
    let kept = OFlags::RWMODE
        | OFlags::APPEND
        | OFlags::DIRECT
        | OFlags::DSYNC
        | OFlags::SYNC
        | OFlags::NOATIME;
    let flags = opened & kept | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let own = open(path, flags, Mode::empty()).ok()?;
    let (is, was) = (fstat(&own).ok()?, fstat(file).ok()?);
    ((is.st_dev, is.st_ino) == (was.st_dev, was.st_ino)).then_some(own)
}

/// Replaces one descriptor by another. The kernel removes the old one before it examines the new
/// one, so the old one is restored if the kernel refuses the new one.
pub(super) fn replace(
    old: Option<RawFd>,
    new: RawFd,
    update: impl Fn(RawFd) -> Result<(), Errno>,
) -> Result<(), RegisterError> {
    let Err(errno) = update(new) else {
        return Ok(());
    };
    match old {
        Some(old) if update(old).is_err() => Err(RegisterError::Emptied(errno)),
        _ => Err(RegisterError::Kernel(errno)),
    }
}
