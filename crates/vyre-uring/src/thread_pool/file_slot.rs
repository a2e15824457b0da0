//! The file slots of a pool.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, preadv};

use super::perform::Place;
use super::work::Lane;
use crate::file_traits::FileTraits;

/// A slot of the file table.
#[derive(Debug)]
pub(super) struct FileSlotState {
    pub(super) file: Option<Arc<OwnedFd>>,
    /// Set if reads are first tried in the submitting thread.
    pub(super) tries_reads: bool,
    pub(super) has_offsets: bool,
    is_direct: bool,
    /// Set if transfers take place at an offset.
    seeks: bool,
}

impl FileSlotState {
    pub(super) const EMPTY: Self = Self {
        file: None,
        tries_reads: false,
        has_offsets: false,
        is_direct: false,
        seeks: false,
    };

    pub(super) fn set(&mut self, file: Arc<OwnedFd>, traits: FileTraits) {
        let opened = fcntl_getfl(&file).unwrap_or(OFlags::empty());
        self.is_direct = opened.contains(OFlags::DIRECT);
        self.has_offsets = traits.has_offsets;
        // Reads nothing. lseek(2) cannot tell: it succeeds on an eventfd. An emulator does not even ask its kernel if there
        // is no buffer at all.
        let nothing = &mut [IoSliceMut::new(&mut [])];
        self.seeks = preadv(&file, nothing, 0) != Err(Errno::SPIPE);
        // Direct I/O would wait for the drive, whatever the flags say.
        self.tries_reads = !self.is_direct && !traits.needs_workers;
        self.file = Some(file);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::EMPTY;
    }

    /// Returns where a transfer at this offset begins.
    pub(super) const fn place(&self, offset: u64) -> Place {
        match self.seeks {
            true => Place::At(offset),
            false => Place::Stream,
        }
    }

    /// Returns who performs a transfer that was not performed at once.
    pub(super) const fn lane(&self, reads: bool, durable: bool) -> Lane {
        match (self.has_offsets, reads) {
            (false, true) => Lane::PollRead,
            (false, false) => Lane::PollWrite,
            (true, true) => Lane::Any,
            // Durable writes wait for the drive outside the lock of the file, and can share that.
            (true, false) if self.is_direct || durable => Lane::Any,
            (true, false) => Lane::Alone,
        }
    }

    /// Has threads perform all later reads.
    pub(super) fn stop_trying_reads(&mut self) {
        self.tries_reads = false;
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn tries_reads(file: File, change: impl FnOnce(&mut FileTraits)) -> bool {
        let mut traits = FileTraits::of(&file);
        change(&mut traits);
        let mut state = FileSlotState::EMPTY;
        state.set(Arc::new(file.into()), traits);
        state.tries_reads
    }

    #[test]
    fn the_submitter_reads_nothing_that_could_wait_for_a_server_or_a_drive() {
        let path = std::env::current_exe().unwrap();
        let open = || File::open(&path).unwrap();
        assert!(tries_reads(open(), |traits| traits.needs_workers = false));
        assert!(!tries_reads(open(), |traits| traits.needs_workers = true));
        let direct = OFlags::DIRECT.bits() as i32;
        match File::options().read(true).custom_flags(direct).open(&path) {
            Ok(file) => assert!(!tries_reads(file, |traits| traits.needs_workers = false)),
            Err(error) => {
                let test = "the_submitter_reads_nothing_that_could_wait_for_a_server_or_a_drive";
                let line = format!("SKIPPED: {test}: no direct I/O here: {error}\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
            }
        }
    }
}
