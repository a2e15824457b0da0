//! The end of an operation, and the token that connects it to its start.

use rustix::io::Errno;

/// The bit of the tokens of a wrapper. A ring has at most 2^15 entries, so no index has it.
const WRAPPER: u64 = 1 << 31;

/// Names one operation in flight. Once the operation has been reaped, the token names nothing: a
/// generation distinguishes it from later operations in the same entry, until that entry was used
/// 2^31 times more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// The token of the poll that wakes a ring. No operation has this index, and the generation is
    /// even.
    pub(crate) const WAKE: Self = Self::pack(u32::MAX, 0);

    /// The token of a request to end the wait on a futex. No operation has this index, and the generation is that of a
    /// request to cancel.
    pub(crate) const FUTEX_END: Self = Self::pack(u32::MAX - 1, 0);

    /// Returns the token of the wait on a futex. As for [`WAKE`](Self::WAKE), no operation has it.
    pub(crate) const fn futex(number: u32) -> Self {
        Self::pack(u32::MAX, number.wrapping_add(1) << 1)
    }

    /// Returns the number of the futex on which this token waits.
    pub(crate) const fn futex_number(self) -> Option<u32> {
        match self.generation() {
            0 => None,
            even if self.index() == u32::MAX && even & 1 == 0 => Some((even >> 1) - 1),
            _ => None,
        }
    }

    /// Creates a token, for an implementation of [`Transport`](crate::Transport). It must differ
    /// from the token of every other operation in flight, and should differ from earlier ones. Bit 31
    /// must be clear: a [`PageCacheTransport`](crate::PageCacheTransport) tells its own tokens from those
    /// of the inner transport by it.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Creates the token of an operation that a wrapper performs itself. No inner transport has it.
    #[inline]
    pub(crate) const fn of_wrapper(number: u32) -> Self {
        Self((number as u64) << 32 | WRAPPER)
    }

    /// Returns whether a wrapper made this token.
    #[inline]
    pub(crate) const fn is_of_wrapper(self) -> bool {
        self.0 & WRAPPER != 0
    }

    /// Returns the number from which the token was made.
    #[inline]
    pub const fn raw(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) const fn pack(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    #[inline]
    pub(crate) const fn index(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the token of the request to cancel this operation. Its generation is even, which no
    /// operation in flight has.
    #[inline]
    pub(crate) const fn cancel_request(self) -> Self {
        Self::pack(self.index(), self.generation().wrapping_add(1))
    }

    /// Returns whether this is the token of a request to cancel.
    #[inline]
    pub(crate) const fn is_cancel_request(self) -> bool {
        self.generation() & 1 == 0
    }

    /// Returns the operation that this request cancels.
    #[inline]
    pub(crate) const fn cancelled(self) -> Self {
        Self::pack(self.index(), self.generation().wrapping_sub(1))
    }
}

/// The end of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// The caller's own word, given with the push.
    pub user: u64,
    /// The token that the push returned. It names nothing any more.
    pub token: Token,
    /// The number of bytes transferred (zero for a sync or a prefetch), or the errno.
    ///
    /// `EINTR` and `EAGAIN` are passed on: the caller decides whether to push again. After the first
    /// `EAGAIN` on a file with offsets, a [`Ring`](crate::Ring) has worker threads perform all
    /// operations on it, so that the next push can succeed.
    pub result: Result<u32, Errno>,
}

impl Completion {
    /// Creates a completion, for an implementation of [`Transport`](crate::Transport).
    #[inline]
    pub const fn new(user: u64, token: Token, result: Result<u32, Errno>) -> Self {
        Self {
            user,
            token,
            result,
        }
    }

    /// Creates a completion from a result as the kernel encodes it: a count, or a negated errno.
    #[inline]
    pub(crate) fn from_raw(user: u64, token: Token, res: i32) -> Self {
        let result = match u32::try_from(res) {
            Ok(count) => Ok(count),
            Err(_) => Err(Errno::from_raw_os_error(res.wrapping_neg())),
        };
        Self::new(user, token, result)
    }
}
