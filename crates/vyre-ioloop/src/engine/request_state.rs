//! A claimed request, and the effect of its operation's completion.

use rustix::io::Errno as OsErrno;
use vyre_ioq::Errno;
use vyre_uring::{FileSlot, Operation, Token};

use super::checks::{Extent, ReadAhead, Transfer};
use super::shares::OPERATION_BYTES;
use crate::file_identity::FileIdentity;
use crate::lost_writes::Round;
use crate::os_errno::device_errno;

/// The number of times in a row that an operation may end with EINTR before that becomes the outcome.
const MAX_INTERRUPTIONS: u16 = 1_000;

/// The number of times in a row that an operation may end with EAGAIN, or with either of the two.
/// It is small: the kernel itself waits for a file that can be polled, and after the first EAGAIN
/// the transport has worker threads serve any other file.
const MAX_REFUSALS: u16 = 16;

/// An admitted request, with the part that is still to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// The slot holds no admitted request.
    None,
    Read(Transfer),
    Write {
        transfer: Transfer,
        durable: bool,
    },
    /// Waits for `writes` earlier writes, then flushes.
    Sync {
        file: u32,
        slot: FileSlot,
        identity: FileIdentity,
        writes: u32,
    },
    Prefetch(ReadAhead),
    Map(Extent),
}

impl Admitted {
    /// Returns whether the request starts as a single operation: it waits for nothing, and it is
    /// neither empty nor too large.
    #[inline]
    pub(crate) const fn starts_at_once(&self) -> bool {
        match self {
            Self::Read(t)
            | Self::Write {
                transfer: t,
                durable: false,
            } => 0 < t.len && t.len <= OPERATION_BYTES && !t.unbounded,
            Self::Prefetch(_) | Self::Map(_) => true,
            Self::Write { durable: true, .. } | Self::None | Self::Sync { .. } => false,
        }
    }

    /// Returns whether the success of the request means that bytes are on stable storage.
    #[inline]
    pub(crate) const fn is_flush(&self) -> bool {
        matches!(self, Self::Write { durable: true, .. } | Self::Sync { .. })
    }

    /// Returns the number of bytes still to move.
    #[inline]
    pub(crate) const fn bytes(&self) -> u32 {
        match self {
            Self::Read(t) | Self::Write { transfer: t, .. } => t.len,
            _ => 0,
        }
    }

    /// Returns whether the request may wait for ever: it moves bytes of an unbounded file.
    #[inline]
    pub(crate) const fn is_unbounded(&self) -> bool {
        match self {
            Self::Read(t) | Self::Write { transfer: t, .. } => t.unbounded,
            _ => false,
        }
    }

    /// Returns the next operation of the request. A slot without a request has none.
    #[inline]
    pub(crate) fn operation(&self) -> Option<Operation> {
        Some(match *self {
            Self::Read(t) => Operation::Read {
                file: t.file_slot,
                offset: t.file_offset,
                buffer: t.slot,
                buffer_offset: t.buffer_offset,
                len: t.len,
            },
            Self::Write {
                transfer: t,
                durable,
            } => Operation::Write {
                file: t.file_slot,
                offset: t.file_offset,
                buffer: t.slot,
                buffer_offset: t.buffer_offset,
                len: t.len,
                durable,
            },
            Self::Sync { slot, .. } => Operation::Sync {
                file: slot,
                data_only: true,
            },
            Self::Prefetch(ahead) => Operation::Prefetch {
                file: ahead.slot,
                offset: ahead.offset,
                len: ahead.next(),
            },
            Self::Map(extent) => Operation::Map {
                file: extent.slot,
                offset: extent.offset,
                len: extent.len,
            },
            Self::None => return None,
        })
    }
}

/// Progress of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// It has not started, or has ended, or the request is not a flush.
    None,
    /// The kernel holds it, as part of a round.
    Begun(Round),
    /// A DURABLE write has failed, and the host is testing whether its bytes were moved. For others,
    /// its flush has not ended.
    Doubted { round: Round, errno: OsErrno },
    /// It has succeeded. The success is certain once this round has ended.
    Awaited(Round),
}

/// An admitted request. Everything in it was checked at its admission, and the device can change none
/// of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestState {
    pub(crate) admitted: Admitted,
    /// The operation in flight, while there is one.
    pub(crate) token: Option<Token>,
    /// The epoch of the request.
    pub(crate) epoch: u32,
    /// The number of the admission in its queue; of a SYNC, that of the last request that it may wait for.
    pub(crate) sequence: u64,
    /// Microseconds of the engine's clock; 0 is never.
    pub(crate) expires: u64,
    /// The bytes moved by earlier operations of this request.
    pub(crate) moved: u32,
    pub(crate) retries: u16,
    pub(crate) flush: Flush,
    /// A short count is an error.
    pub(crate) exact: bool,
    /// The reason for a cancellation, if the request was cancelled.
    pub(crate) cancelled: Option<Errno>,
}

/// The next step of a request after one of its operations has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Finish(Result<u32, Errno>),
    /// Another operation moves the rest.
    Resume,
    /// The same operation is retried.
    Retry,
}

impl RequestState {
    pub(crate) const IDLE: Self = Self {
        admitted: Admitted::None,
        token: None,
        epoch: 0,
        sequence: 0,
        expires: 0,
        moved: 0,
        retries: 0,
        flush: Flush::None,
        exact: false,
        cancelled: None,
    };

    /// Returns the index of the request's file.
    #[inline]
    pub(crate) const fn file(&self) -> Option<u32> {
        match self.admitted {
            Admitted::Read(t) | Admitted::Write { transfer: t, .. } => Some(t.file),
            Admitted::Sync { file, .. } => Some(file),
            Admitted::Prefetch(ahead) => Some(ahead.file),
            Admitted::Map(extent) => Some(extent.file),
            Admitted::None => None,
        }
    }

    /// Returns the index of the request's buffer.
    #[inline]
    pub(crate) const fn buffer(&self) -> Option<u32> {
        match self.admitted {
            Admitted::Read(t) | Admitted::Write { transfer: t, .. } => Some(t.buffer),
            _ => None,
        }
    }

    /// Returns the bytes that the request has moved if its current operation ended with `result` and
    /// nothing is left to do: the most common case.
    #[inline]
    pub(crate) fn completes_with(&self, result: Result<u32, OsErrno>) -> Option<u32> {
        match (&self.admitted, result) {
            (
                Admitted::Read(t)
                | Admitted::Write {
                    transfer: t,
                    durable: false,
                },
                Ok(count),
            ) if count == t.len => Some(self.moved + count),
            _ => None,
        }
    }

    /// Returns whether a READ holds nothing but its table entries: no deadline, no place in a list of
    /// cancellations, and no share of the requests on unbounded files.
    #[inline]
    pub(crate) const fn has_only_entries(&self) -> bool {
        self.expires == 0 && self.cancelled.is_none() && !self.admitted.is_unbounded()
    }

    /// Returns the next step after the end of the current operation. `align` is the offset alignment of
    /// a direct-I/O file, else 1.
    #[inline]
    pub(crate) fn advance(&mut self, result: Result<u32, OsErrno>, align: u32) -> Next {
        match result {
            Ok(count) => self.advance_by(count),
            Err(errno @ (OsErrno::INTR | OsErrno::AGAIN)) if self.may_retry(errno) => {
                self.retries += 1;
                Next::Retry
            }
            // A file that enforces its alignment transfers nothing from an offset inside a
            // block. Such a file stops there only at its end.
            Err(OsErrno::INVAL) if self.is_off_a_block(align) => {
                Next::Finish(self.cancelled.map_or_else(|| self.short(), Err))
            }
            Err(errno) => Next::Finish(self.failed(errno)),
        }
    }

    #[cold]
    pub(crate) fn may_retry(&self, errno: OsErrno) -> bool {
        let limit = match errno {
            OsErrno::AGAIN => MAX_REFUSALS,
            _ => MAX_INTERRUPTIONS,
        };
        self.cancelled.is_none() && self.retries < limit
    }

    /// Returns whether an earlier operation left the request at a misaligned offset, where no operation
    /// may start.
    #[cold]
    fn is_off_a_block(&self, align: u32) -> bool {
        match self.admitted {
            Admitted::Read(t) | Admitted::Write { transfer: t, .. } => {
                !t.file_offset.is_multiple_of(align.into())
            }
            _ => false,
        }
    }

    #[inline]
    fn advance_by(&mut self, count: u32) -> Next {
        let transfer = match &mut self.admitted {
            Admitted::Read(transfer) | Admitted::Write { transfer, .. } => transfer,
            Admitted::Prefetch(ahead) => {
                let piece = ahead.next();
                ahead.offset += u64::from(piece);
                ahead.len -= piece;
                self.retries = 0;
                return match (ahead.len, self.cancelled) {
                    (0, _) => Next::Finish(Ok(0)),
                    (_, None) => Next::Resume,
                    (_, Some(errno)) => Next::Finish(Err(errno)),
                };
            }
            Admitted::None | Admitted::Sync { .. } | Admitted::Map(_) => {
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
        // Any other count may be short for whatever reason: the rest is asked for.
        match (count, self.cancelled) {
            (0, _) => Next::Finish(self.short()),
            (_, None) => Next::Resume,
            (_, Some(errno)) => Next::Finish(Err(errno)),
        }
    }

    /// Returns the outcome of a transfer that ended before all bytes were moved.
    #[cold]
    fn short(&self) -> Result<u32, Errno> {
        if self.exact {
            return Err(Errno::ENODATA);
        }
        // A write that moves nothing and names no reason would be tried for ever.
        if self.moved == 0 && matches!(self.admitted, Admitted::Write { .. }) {
            return Err(Errno::EIO);
        }
        Ok(self.moved)
    }

    /// Returns the outcome of a request whose last operation failed. As with pread(2), the outcome
    /// is a short count if earlier operations moved bytes, unless the request is EXACT.
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
        Err(device_errno(errno))
    }
}

#[cfg(test)]
mod tests;
