//! Changes to the tables while the loop runs.

pub(crate) mod replica;

use std::ops::RangeBounds;
use std::os::fd::OwnedFd;

use vyre_ioq::{BufferHandle, Errno, FileHandle};
use vyre_uring::{Buffer, RegisterError, Transport};

use super::Engine;
use super::engine_state::EngineState;
use super::reclaim::Closing;
use super::request_state::RequestState;
use super::slot_id::SlotId;
use crate::buffer_options::BufferOptions;
use crate::error::TableError;
use crate::file_options::FileOptions;
use crate::file_table::FileEntry;
use crate::ranges::file_range;

/// A revocation that [`Engine::revoke_file`] or [`Engine::revoke_buffer`] started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "ask `Engine::is_revoked` until nothing is in flight on the entry"]
pub struct Revocation {
    /// The handle of the entry, and not its index, which another entry may have later.
    handle: u32,
    is_file: bool,
}

/// Gives the file of an entry to a transport.
pub(super) fn set_file<T: Transport>(
    transport: &mut T,
    entry: &FileEntry,
) -> Result<(), RegisterError> {
    transport.set_file_with(entry.slot, entry.file.clone(), entry.traits)?;
    if let Some(watched) = &entry.watched {
        // A thread that does not recover from SIGBUS serves all reads by the transport.
        let _ = transport.set_page_cache(entry.slot, watched.cached.clone());
    }
    Ok(())
}

impl<T: Transport> Engine<T> {
    /// Adds a byte range of a file to the table of the running engine.
    ///
    /// # Errors
    /// [`TableError`] if the entry is invalid or there is no room. The table is then unchanged.
    pub fn insert_file(
        &mut self,
        file: impl Into<OwnedFd>,
        range: impl RangeBounds<u64>,
        options: impl Into<FileOptions>,
    ) -> Result<FileHandle, TableError> {
        self.insert_entry(FileEntry::new(file.into(), file_range(range), options)?)
    }

    /// Adds a file that was examined already: examining it here could block on its file system.
    pub(crate) fn insert_entry(&mut self, entry: FileEntry) -> Result<FileHandle, TableError> {
        self.reclaim();
        let handle = self.state.files.insert_entry(entry)?;
        self.register_file(handle.raw())?;
        Ok(handle)
    }

    /// Gives the file of a new entry to the transport. If the transport refuses it, the entry is
    /// removed.
    pub(super) fn register_file(&mut self, handle: u32) -> Result<(), TableError> {
        let files = &mut self.state.files;
        let (index, entry) = files
            .entries
            .get(handle)
            .ok_or(TableError::Unknown { handle })?;
        if let Err(error) = set_file(&mut self.transport, entry) {
            if let Some(entry) = files.remove(index) {
                Closing::default().add_file(entry);
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Adds a byte range of a buffer to the table of the running engine.
    ///
    /// # Errors
    /// [`TableError`] if the range is invalid or there is no room. The table is then unchanged.
    pub fn insert_buffer(
        &mut self,
        buffer: Buffer,
        range: impl RangeBounds<u64>,
        options: impl Into<BufferOptions>,
    ) -> Result<BufferHandle, TableError> {
        self.reclaim();
        let handle = self
            .state
            .buffers
            .insert_range(buffer.clone(), range, options)?;
        self.register_buffer(handle.raw(), buffer)?;
        Ok(handle)
    }

    /// Gives the buffer of a new entry to the transport, unless it has the buffer already. If the
    /// transport refuses it, the entry is removed.
    pub(super) fn register_buffer(
        &mut self,
        handle: u32,
        buffer: Buffer,
    ) -> Result<(), TableError> {
        let buffers = &mut self.state.buffers;
        let (index, &entry) = buffers
            .entries
            .get(handle)
            .ok_or(TableError::Unknown { handle })?;
        let is_first = buffers.users(entry.slot) == 1;
        if is_first && let Err(error) = self.transport.set_buffer(entry.slot, Some(buffer)) {
            buffers.entries.remove(index);
            buffers.let_go(entry.slot);
            return Err(error.into());
        }
        Ok(())
    }

    /// Makes a file handle unknown from the next claim on. Requests in flight on it continue. The file
    /// is closed after the last of them, unless it has lost writes: then the process keeps it open, to
    /// recognize it later.
    ///
    /// A file whose close can take long (of a remote file system, a socket, a terminal, a drive) is
    /// closed on a thread of its own.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if the handle names nothing.
    pub fn revoke_file(&mut self, handle: FileHandle) -> Result<Revocation, TableError> {
        let handle = handle.raw();
        let (queues, abandoned) = (&self.state.queues, &self.state.abandoned);
        let users =
            |index| EngineState::users(queues, abandoned, |request| request.file() == Some(index));
        let (index, idle) = self
            .state
            .files
            .entries
            .revoke(handle, users)
            .ok_or(TableError::Unknown { handle })?;
        if idle {
            self.state.reclaimable.files.push(index);
        }
        self.reclaim();
        let is_file = true;
        Ok(Revocation { handle, is_file })
    }

    /// Makes a buffer handle unknown from the next claim on. Requests in flight on it continue. The
    /// buffer is released after the last of them, if no other handle names it. The last clone of a
    /// buffer of 16 MiB or more is dropped on a thread of its own.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if the handle names nothing.
    pub fn revoke_buffer(&mut self, handle: BufferHandle) -> Result<Revocation, TableError> {
        let handle = handle.raw();
        let (queues, abandoned) = (&self.state.queues, &self.state.abandoned);
        let users = |index| {
            EngineState::users(queues, abandoned, |request| request.buffer() == Some(index))
        };
        let (index, idle) = self
            .state
            .buffers
            .entries
            .revoke(handle, users)
            .ok_or(TableError::Unknown { handle })?;
        if idle {
            self.state.reclaimable.buffers.push(index);
        }
        self.reclaim();
        let is_file = false;
        Ok(Revocation { handle, is_file })
    }

    /// Returns whether nothing is in flight on a revoked entry.
    pub fn is_revoked(&self, revocation: Revocation) -> bool {
        let Revocation { handle, is_file } = revocation;
        let used = if is_file {
            self.state.files.entries.revoked(handle)
        } else {
            self.state.buffers.entries.revoked(handle)
        };
        used.is_none()
    }

    /// Cancels everything in flight on a revoked entry. These requests end with ECANCELED, at once or
    /// when the kernel releases their buffers. The next [`step`](Self::step) sends the cancellations.
    pub fn cancel_revoked(&mut self, revocation: Revocation) {
        // Not only when those are due that were asked for before.
        self.ask_again = 0;
        for queue in 0..self.state.queues.len() as u32 {
            for slot in 0..self.state.queues[queue as usize].requests.len() as u32 {
                let request = &self.state.queues[queue as usize].requests[slot as usize];
                if request.cancelled.is_none() && self.is_on(request, revocation) {
                    self.cancel(SlotId { queue, slot }, Errno::ECANCELED);
                }
            }
        }
        self.state.publish_all_outcomes();
        self.reclaim();
    }

    /// Returns the number of requests in flight on a revoked entry.
    pub fn requests_on(&self, revocation: Revocation) -> u32 {
        let (queues, abandoned) = (&self.state.queues, &self.state.abandoned);
        EngineState::users(queues, abandoned, |request| self.is_on(request, revocation))
    }

    fn is_on(&self, request: &RequestState, revocation: Revocation) -> bool {
        let Revocation { handle, is_file } = revocation;
        let (index, used) = if is_file {
            (self.state.files.entries.revoked(handle), request.file())
        } else {
            (self.state.buffers.entries.revoked(handle), request.buffer())
        };
        index.is_some() && index == used
    }

    /// Removes revoked entries that are no longer in use from the transport and the tables.
    #[cold]
    pub(super) fn reclaim(&mut self) {
        let mut closing = Closing::default();
        while let Some(index) = self.state.reclaimable.files.pop() {
            if let Some(entry) = self.state.files.entries.at(index) {
                // Nothing is in flight on it, so the transport has no reason to refuse.
                let _ = self.transport.set_file(entry.slot, None);
            }
            if let Some(entry) = self.state.files.remove(index) {
                closing.add_file(entry);
            }
        }
        while let Some(index) = self.state.reclaimable.buffers.pop() {
            if let Some(entry) = self.state.buffers.entries.remove(index)
                && let Some(buffer) = self.state.buffers.let_go(entry.slot)
            {
                let _ = self.transport.set_buffer(entry.slot, None);
                closing.add_buffer(buffer);
            }
        }
    }
    /// Removes the files that can take long to close, when the engine ends and nothing is in flight.
    /// They are closed after the transport is dropped. The transport is not asked to remove them:
    /// before Linux 6.4, that happens a second later, and the end of a ring waits for it.
    pub(super) fn let_linger(&mut self) {
        let files = self.state.files.entries.iter();
        let lingering = files.filter(|(_, entry)| entry.may_linger());
        let lingering: Vec<u32> = lingering.map(|(index, _)| index).collect();
        for index in lingering {
            // Some may have been given up and not counted out.
            self.state.files.entries.release_all(index);
            if let Some(entry) = self.state.files.remove(index) {
                self.closing.add_file(entry);
            }
        }
    }
}
