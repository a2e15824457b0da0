//! The authority over the handles of a group. Loops have replicas of the tables, but only the authority
//! chooses handles.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::buffer_table::BufferTable;
use crate::engine::table_changes::replica::{Kind, Named};
use crate::error::TableError;
use crate::file_table::FileTable;
use crate::handle_table::HandleTable;

use super::reopen;

/// The numbers of the loops that have an entry. A loop that had ended before never got it.
type Holders = Vec<usize>;

/// The channel by which a loop answers a revocation: once when the revocation is over; if the time
/// limit passes first, then and once more when it is over. It closes when the loop ends.
pub(super) type RevocationReply = Receiver<Result<(), TableError>>;

/// Returns whether a loop may still have requests in flight on the revoked entry.
pub(super) fn is_in_flight(reply: &RevocationReply) -> bool {
    loop {
        match reply.try_recv() {
            Ok(Err(TableError::InFlight { .. })) => {}
            Ok(_) | Err(TryRecvError::Disconnected) => return false,
            Err(TryRecvError::Empty) => return true,
        }
    }
}

/// The two tables of handles. No lock is held while a loop is asked for anything.
#[derive(Debug)]
pub(super) struct Authority {
    files: Mutex<HandleTable<Holders>>,
    buffers: Mutex<HandleTable<Holders>>,
    /// The revoked handles on which loops still have requests in flight.
    late: Mutex<Vec<(Named, Vec<RevocationReply>)>>,
}

impl Authority {
    /// Creates the handles of the tables with which the loops start.
    pub(super) fn new(files: &FileTable, buffers: &BufferTable, loops: usize) -> Self {
        let all: Holders = (0..loops).collect();
        Self {
            files: Mutex::new(files.entries.map(|_| all.clone())),
            buffers: Mutex::new(buffers.entries.map(|_| all.clone())),
            late: Mutex::default(),
        }
    }

    fn table(&self, kind: Kind) -> MutexGuard<'_, HandleTable<Holders>> {
        let table = match kind {
            Kind::File => &self.files,
            Kind::Buffer => &self.buffers,
        };
        // Every change is whole before anything can panic.
        table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses a handle that no loop has had. Nobody knows it before it is published.
    pub(super) fn reserve(&self, kind: Kind) -> Result<u32, TableError> {
        let mut table = self.table(kind);
        let handle = table.insert(Holders::new())?;
        table.hide(handle);
        Ok(handle)
    }

    /// Returns whether each of this many loops may have its own open files.
    pub(super) fn may_reopen(&self, loops: usize) -> bool {
        reopen::is_room_for(self.table(Kind::File).len(), loops)
    }

    /// Makes a reserved handle known.
    pub(super) fn publish(&self, named: Named, holders: Holders) {
        if let Some(entry) = self.table(named.kind).reveal(named.handle) {
            *entry = holders;
        }
    }

    /// Releases a reserved handle. Its index will be used again under another handle.
    pub(super) fn free(&self, named: Named) {
        let mut table = self.table(named.kind);
        if let Some(index) = table.hidden(named.handle) {
            table.remove(index);
        }
    }

    /// Makes a handle unknown, and keeps its index until it is released. Returns the loops that have
    /// it.
    pub(super) fn revoke(&self, named: Named) -> Result<Holders, TableError> {
        let mut table = self.table(named.kind);
        let handle = named.handle;
        let revoked = table.revoke(handle, |_| 1);
        let holders = revoked.and_then(|(index, _)| table.at(index).cloned());
        holders.ok_or(TableError::Unknown { handle })
    }

    /// Allows reuse of a revoked handle's index after these loops have no request in flight on it.
    pub(super) fn release_after(&self, named: Named, late: Vec<RevocationReply>) {
        if late.is_empty() {
            self.release(named);
        } else {
            self.late().push((named, late));
        }
    }

    /// Releases handles on which no loop has a request in flight any more.
    pub(super) fn release_ended(&self) {
        self.late().retain_mut(|(named, late)| {
            late.retain(is_in_flight);
            if late.is_empty() {
                self.release(*named);
            }
            !late.is_empty()
        });
    }

    fn late(&self) -> MutexGuard<'_, Vec<(Named, Vec<RevocationReply>)>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allows reuse of a revoked handle's index: no loop has anything in flight on it.
    fn release(&self, named: Named) {
        let mut table = self.table(named.kind);
        if let Some(index) = table.revoked(named.handle)
            && table.release(index)
        {
            table.remove(index);
        }
    }
}
