//! One request in the host's hands, and what a completion of its current operation means for it.

use rustix::io::Errno as OsErrno;
use vyre_ioq::Errno;
use vyre_uring::{FileSlot, Op, Token};

use crate::resolve::Transfer;
use crate::tables::FileIdentity;

/// How often in a row an operation may end in EINTR or EAGAIN before the device is told.
const MAX_RETRIES: u16 = 1_000;

/// What a claimed slot is being served with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// The slot is not claimed.
    None,
    Read(Transfer),
    Write {
        transfer: Transfer,
        durable: bool,
    },
    Fence,
    /// Waits for `writes` earlier writes, then flushes.
    Sync {
        file: u32,
        slot: FileSlot,
        identity: FileIdentity,
        writes: u32,
    },
    Prefetch {
        file: u32,
        slot: FileSlot,
        offset: u64,
        len: u32,
    },
}

impl Work {
    /// Whether it is an operation at once: nothing is to be waited for, and there is something to do.
    #[inline]
    pub(crate) const fn starts_at_once(&self) -> bool {
        match self {
            Self::Read(t) | Self::Write { transfer: t, .. } => t.len > 0,
            Self::Prefetch { .. } => true,
            Self::None | Self::Fence | Self::Sync { .. } => false,
        }
    }

    /// The operation that takes the request on from where it is. A fence has none.
    #[inline]
    pub(crate) fn operation(&self) -> Option<Op> {
        Some(match *self {
            Self::Read(t) => Op::Read {
                file: t.file_slot,
                offset: t.file_offset,
                buffer: t.slot,
                buffer_offset: t.buffer_offset,
                len: t.len,
            },
            Self::Write {
                transfer: t,
                durable,
            } => Op::Write {
                file: t.file_slot,
                offset: t.file_offset,
                buffer: t.slot,
                buffer_offset: t.buffer_offset,
                len: t.len,
                durable,
            },
            Self::Sync { slot, .. } => Op::Sync {
                file: slot,
                data_only: true,
            },
            Self::Prefetch {
                slot, offset, len, ..
            } => Op::Prefetch {
                file: slot,
                offset,
                len,
            },
            Self::None | Self::Fence => return None,
        })
    }
}

/// A claimed slot. Everything in it was checked at the claim; the device can change none of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) work: Work,
    /// The operation in flight, while there is one.
    pub(crate) token: Option<Token>,
    /// Epoch of the queue's order.
    pub(crate) epoch: u32,
    /// Number of the claim in its queue.
    pub(crate) sequence: u64,
    /// Microseconds of the engine's clock; 0 is never.
    pub(crate) expires: u64,
    /// Bytes moved by earlier operations of this request.
    pub(crate) moved: u32,
    pub(crate) retries: u16,
    /// A short count is an error.
    pub(crate) exact: bool,
    /// Why the request was cancelled, if it was.
    pub(crate) cancelled: Option<Errno>,
}

/// What becomes of a request when an operation of it has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Finish(Result<u32, Errno>),
    /// The rest is to be moved by another operation.
    Resume,
    /// The same operation is to be tried again.
    Retry,
}

impl Record {
    pub(crate) const IDLE: Self = Self {
        work: Work::None,
        token: None,
        epoch: 0,
        sequence: 0,
        expires: 0,
        moved: 0,
        retries: 0,
        exact: false,
        cancelled: None,
    };

    /// Index of the file that the request is on.
    #[inline]
    pub(crate) const fn file(&self) -> Option<u32> {
        match self.work {
            Work::Read(t) | Work::Write { transfer: t, .. } => Some(t.file),
            Work::Sync { file, .. } | Work::Prefetch { file, .. } => Some(file),
            Work::None | Work::Fence => None,
        }
    }

    /// Index of the buffer that the request is on.
    #[inline]
    pub(crate) const fn buffer(&self) -> Option<u32> {
        match self.work {
            Work::Read(t) | Work::Write { transfer: t, .. } => Some(t.buffer),
            _ => None,
        }
    }

    /// The bytes that the request will have moved, if its current operation ended with `result` and
    /// nothing is left to do: by far the commonest way.
    #[inline]
    pub(crate) fn completes_with(&self, result: Result<u32, OsErrno>) -> Option<u32> {
        match (&self.work, result) {
            (Work::Read(t) | Work::Write { transfer: t, .. }, Ok(count)) if count == t.len => {
                Some(self.moved + count)
            }
            _ => None,
        }
    }

    /// Takes in how the current operation ended. `align` is the offset alignment of a direct-I/O
    /// file, else 1.
    #[inline]
    pub(crate) fn advance(&mut self, result: Result<u32, OsErrno>, align: u32) -> Next {
        match result {
            Ok(count) => self.advance_by(count, align),
            Err(OsErrno::INTR | OsErrno::AGAIN)
                if self.cancelled.is_none() && self.retries < MAX_RETRIES =>
            {
                self.retries += 1;
                Next::Retry
            }
            Err(errno) => Next::Finish(self.failed(errno)),
        }
    }

    #[inline]
    fn advance_by(&mut self, count: u32, align: u32) -> Next {
        let (transfer, is_read) = match &mut self.work {
            Work::Read(transfer) => (transfer, true),
            Work::Write { transfer, .. } => (transfer, false),
            Work::None | Work::Fence | Work::Sync { .. } | Work::Prefetch { .. } => {
                return Next::Finish(Ok(0));
            }
        };
        let count = count.min(transfer.len);
        self.moved += count;
        self.retries = 0;
        transfer.len -= count;
        transfer.file_offset += u64::from(count);
        transfer.buffer_offset += u64::from(count);
        if transfer.len == 0 {
            return Next::Finish(Ok(self.moved));
        }
        // Direct I/O ends off a block only at the end of the file, and could not go on from there.
        let ended = count == 0 || !count.is_multiple_of(align);
        match (ended, self.cancelled) {
            (false, None) => Next::Resume,
            (false, Some(errno)) => Next::Finish(Err(errno)),
            (true, _) => Next::Finish(self.short(is_read)),
        }
    }

    /// The outcome of a transfer that ends before all was moved.
    #[cold]
    fn short(&self, is_read: bool) -> Result<u32, Errno> {
        if self.exact {
            return Err(Errno::ENODATA);
        }
        // A write that moves nothing and names no reason would be tried for ever.
        if !is_read && self.moved == 0 {
            return Err(Errno::EIO);
        }
        Ok(self.moved)
    }

    /// The outcome of a request whose last operation failed. As with pread(2), bytes moved before
    /// count, unless the device wants all of them.
    #[cold]
    fn failed(&self, errno: OsErrno) -> Result<u32, Errno> {
        if let Some(reason) = self.cancelled
            && matches!(errno, OsErrno::CANCELED | OsErrno::INTR | OsErrno::AGAIN)
        {
            return Err(reason);
        }
        if self.moved > 0 && !self.exact {
            return Ok(self.moved);
        }
        Err(from_os(errno))
    }
}

/// An errno for the device. Negative values do not occur.
pub(crate) fn from_os(errno: OsErrno) -> Errno {
    Errno::from_raw(errno.raw_os_error().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vyre_uring::BufferSlot;

    fn read(len: u32) -> Record {
        let transfer = Transfer {
            file: 1,
            file_slot: FileSlot::new(1),
            buffer: 2,
            slot: BufferSlot::new(0),
            file_offset: 100,
            buffer_offset: 10,
            len,
        };
        Record {
            work: Work::Read(transfer),
            ..Record::IDLE
        }
    }

    fn write(len: u32) -> Record {
        let Work::Read(transfer) = read(len).work else {
            unreachable!("a read")
        };
        let durable = true;
        Record {
            work: Work::Write { transfer, durable },
            ..Record::IDLE
        }
    }

    #[test]
    fn a_short_transfer_is_resumed_where_it_stopped() {
        let mut record = read(100);
        assert_eq!(record.advance(Ok(30), 1), Next::Resume);
        let Some(Op::Read {
            offset,
            buffer_offset,
            len,
            ..
        }) = record.work.operation()
        else {
            panic!("not a read")
        };
        assert_eq!((offset, buffer_offset, len), (130, 40, 70));
        assert_eq!(record.advance(Ok(70), 1), Next::Finish(Ok(100)));
    }

    #[test]
    fn end_of_file_is_a_count_unless_exact() {
        let mut record = read(100);
        assert_eq!(record.advance(Ok(30), 1), Next::Resume);
        assert_eq!(record.advance(Ok(0), 1), Next::Finish(Ok(30)));
        let mut record = read(100);
        record.exact = true;
        assert_eq!(record.advance(Ok(0), 1), Next::Finish(Err(Errno::ENODATA)));
    }

    #[test]
    fn a_direct_read_that_ends_off_a_block_is_at_the_end() {
        let mut record = read(8192);
        assert_eq!(record.advance(Ok(4096), 512), Next::Resume);
        assert_eq!(record.advance(Ok(100), 512), Next::Finish(Ok(4196)));
    }

    #[test]
    fn a_write_that_moves_nothing_is_an_error() {
        assert_eq!(write(5).advance(Ok(0), 1), Next::Finish(Err(Errno::EIO)));
    }

    #[test]
    fn interruptions_are_retried_but_not_for_ever() {
        let mut record = read(5);
        let retried = std::iter::repeat_with(|| record.advance(Err(OsErrno::AGAIN), 1))
            .take_while(|&next| next == Next::Retry)
            .count();
        assert_eq!(retried, usize::from(MAX_RETRIES));
    }

    #[test]
    fn an_error_after_some_bytes_is_a_short_count_as_with_pread() {
        let mut record = read(100);
        assert_eq!(record.advance(Ok(30), 1), Next::Resume);
        assert_eq!(record.advance(Err(OsErrno::IO), 1), Next::Finish(Ok(30)));
        let mut record = read(100);
        record.exact = true;
        assert_eq!(record.advance(Ok(30), 1), Next::Resume);
        assert_eq!(
            record.advance(Err(OsErrno::IO), 1),
            Next::Finish(Err(Errno::EIO))
        );
    }

    #[test]
    fn a_cancelled_request_says_why() {
        let mut record = read(100);
        record.cancelled = Some(Errno::ETIMEDOUT);
        assert_eq!(
            record.advance(Err(OsErrno::CANCELED), 1),
            Next::Finish(Err(Errno::ETIMEDOUT))
        );
        let mut record = read(100);
        record.cancelled = Some(Errno::ETIMEDOUT);
        assert_eq!(
            record.advance(Ok(100), 1),
            Next::Finish(Ok(100)),
            "it was faster"
        );
    }

    #[test]
    fn more_than_was_asked_for_is_not_believed() {
        assert_eq!(read(10).advance(Ok(11), 1), Next::Finish(Ok(10)));
    }
}
