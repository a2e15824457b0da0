//! The table of files that a device can name.

use std::ops::{Range, RangeBounds};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use vyre_ioq::FileHandle;
use vyre_mapped::Residency;
use vyre_uring::{DirectAlign, FileSlot, FileTraits, direct_alignment};

use crate::error::TableError;
use crate::file_identity::FileIdentity;
use crate::file_options::FileOptions;
use crate::handle_table::HandleTable;
use crate::lost_writes::Flushes;
use crate::page_cache::WatchedFile;
use crate::queue_id::QueueId;
use crate::ranges::{MAX_FILE, file_range};
use crate::rights::Rights;

/// A byte range of a file, with rights.
#[derive(Clone, Debug)]
pub(crate) struct FileEntry {
    pub(crate) file: Arc<OwnedFd>,
    /// The slot of the file in the transport's table. This table chooses it.
    pub(crate) slot: FileSlot,
    pub(crate) identity: FileIdentity,
    pub(crate) flushes: Flushes,
    pub(crate) base: u64,
    pub(crate) len: u64,
    pub(crate) rights: Rights,
    /// The queue whose requests alone find the entry, if there is one.
    pub(crate) queue: Option<QueueId>,
    /// The alignment of direct I/O, if the descriptor is open with O_DIRECT.
    pub(crate) align: Option<DirectAlign>,
    /// The traits that determine how the file is served.
    pub(crate) traits: FileTraits,
    /// The mapping out of which cached bytes are copied, if that is allowed.
    pub(crate) watched: Option<WatchedFile>,
}

impl FileEntry {
    pub(crate) fn new(
        file: OwnedFd,
        range: Range<u64>,
        options: impl Into<FileOptions>,
    ) -> Result<Self, TableError> {
        let FileOptions {
            rights,
            page_cache_reads,
            queue,
        } = options.into();
        if range.start > range.end || range.end > MAX_FILE {
            return Err(TableError::BadRange {
                range,
                end: MAX_FILE,
            });
        }
        let flags = rustix::fs::fcntl_getfl(&file).map_err(std::io::Error::from)?;
        if flags.contains(OFlags::PATH) {
            return Err(TableError::PathOnly);
        }
        let mode = flags & OFlags::RWMODE;
        if rights.contains(Rights::READ) && mode == OFlags::WRONLY {
            return Err(TableError::NotReadable);
        }
        if rights.contains(Rights::WRITE) {
            if mode == OFlags::RDONLY {
                return Err(TableError::NotWritable);
            }
            if flags.contains(OFlags::APPEND) {
                return Err(TableError::Appending);
            }
        }
        let stat = rustix::fs::fstat(&file).map_err(std::io::Error::from)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory && rights.contains(Rights::READ) {
            return Err(TableError::Directory);
        }
        let align = direct_alignment(file.as_fd())?;
        let traits = FileTraits::of(&file);
        let file = Arc::new(file);
        let identity = FileIdentity::of(&stat);
        let has_offsets = matches!(kind, FileType::RegularFile | FileType::BlockDevice);
        let watched = match page_cache_reads && rights.contains(Rights::READ) {
            true => Some(WatchedFile::new(&file, range.clone())?),
            false => None,
        };
        Ok(Self {
            flushes: Flushes::of(identity, &file, has_offsets)
                .always(flags.intersects(OFlags::DSYNC | OFlags::SYNC)),
            slot: NOWHERE,
            identity,
            file,
            base: range.start,
            len: range.end - range.start,
            rights,
            queue,
            align,
            traits,
            watched,
        })
    }
}

impl FileEntry {
    /// Returns whether closing the file can take longer than on a local file system.
    pub(crate) const fn may_linger(&self) -> bool {
        self.traits.needs_workers || !self.traits.has_offsets || self.identity.is_drive()
    }
}

/// The files that a device may name, each with a byte range and rights.
///
/// A device can name only the handles of the table, never a descriptor. Offsets in requests count from
/// the start of the range.
///
/// After a failed flush, a SYNC of the file fails until the file is opened and inserted anew: revoke
/// the old handle, and repeat the writes that may be lost.
///
/// ```no_run
/// use std::fs::File;
/// use vyre_ioloop::{FileTable, Rights};
///
/// let mut files = FileTable::new();
/// let weights = files.insert(File::open("weights.bin")?, Rights::READ)?;
/// let header = files.insert_range(File::open("weights.bin")?, 0..4096, Rights::READ)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileTable {
    pub(crate) entries: HandleTable<FileEntry>,
    /// The slots of the transport. They are independent of the handles' indices: there are only as many
    /// as there are files at one time.
    pub(crate) slots: FileSlots,
}

/// The slot of an entry that is in no table.
const NOWHERE: FileSlot = FileSlot::new(u32::MAX);

/// The set of taken slots in the transport's file table.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileSlots {
    free: Vec<u32>,
    bound: u32,
}

impl FileSlots {
    fn take(&mut self) -> FileSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.bound += 1;
            self.bound - 1
        });
        FileSlot::new(slot)
    }

    fn give_back(&mut self, slot: FileSlot) {
        self.free.push(slot.index());
    }

    /// Returns one more than the highest slot taken so far.
    pub(crate) const fn bound(&self) -> u32 {
        self.bound
    }
}

impl FileTable {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self {
            entries: HandleTable::new(),
            slots: FileSlots::default(),
        }
    }

    /// Adds a whole file, even if it grows.
    ///
    /// # Errors
    /// [`TableError`] if the table is full, if the file cannot be served, or if the rights exceed the
    /// mode in which the file is open.
    pub fn insert(
        &mut self,
        file: impl Into<OwnedFd>,
        options: impl Into<FileOptions>,
    ) -> Result<FileHandle, TableError> {
        self.insert_range(file, .., options)
    }

    /// Adds a byte range of a file. A range without an end, or with the end `u64::MAX`, covers the rest
    /// of the file, even if the file grows.
    ///
    /// # Errors
    /// The same as for [`insert`](Self::insert), and [`TableError::BadRange`] if the range is
    /// reversed or ends past the largest file offset.
    pub fn insert_range(
        &mut self,
        file: impl Into<OwnedFd>,
        range: impl RangeBounds<u64>,
        options: impl Into<FileOptions>,
    ) -> Result<FileHandle, TableError> {
        self.insert_entry(FileEntry::new(file.into(), file_range(range), options)?)
    }

    /// Adds a file that was examined already.
    pub(crate) fn insert_entry(&mut self, mut entry: FileEntry) -> Result<FileHandle, TableError> {
        entry.slot = self.slots.take();
        let slot = entry.slot;
        let handle = self.entries.insert(entry);
        if handle.is_err() {
            self.slots.give_back(slot);
        }
        handle.map(FileHandle::from_raw)
    }

    /// Adds a byte range of a file under a handle of the caller's choice, for devices with handles that
    /// are compiled in. The low 20 bits of the handle are an index, and the table has a place for each
    /// index up to the highest: keep them small to save memory.
    ///
    /// # Errors
    /// The same as for [`insert_range`](Self::insert_range), and [`TableError::Taken`] if an entry has
    /// the handle's index.
    pub fn insert_at(
        &mut self,
        handle: FileHandle,
        file: impl Into<OwnedFd>,
        range: impl RangeBounds<u64>,
        options: impl Into<FileOptions>,
    ) -> Result<(), TableError> {
        let entry = FileEntry::new(file.into(), file_range(range), options)?;
        self.insert_entry_at(handle.raw(), entry)
    }

    /// Returns the map of the pages of a file that are in memory, if it was inserted with
    /// [`page_cache_reads`](FileOptions::page_cache_reads). Its mapping can read pages in beforehand.
    pub fn residency(&self, handle: FileHandle) -> Option<&Arc<Residency>> {
        let (_, entry) = self.entries.get(handle.raw())?;
        Some(entry.watched.as_ref()?.cached.residency())
    }

    /// Adds an entry under a chosen handle, in a slot of this table's own.
    pub(crate) fn insert_entry_at(
        &mut self,
        handle: u32,
        mut entry: FileEntry,
    ) -> Result<(), TableError> {
        entry.slot = self.slots.take();
        let slot = entry.slot;
        let inserted = self.entries.insert_at(handle, entry);
        if inserted.is_err() {
            self.slots.give_back(slot);
        }
        inserted
    }

    /// Removes an entry that nothing is in flight on, and frees its slot.
    pub(crate) fn remove(&mut self, index: u32) -> Option<FileEntry> {
        let entry = self.entries.remove(index)?;
        self.slots.give_back(entry.slot);
        Some(entry)
    }
}

impl Default for FileTable {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
