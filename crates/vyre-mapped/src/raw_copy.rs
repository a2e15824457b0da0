//! A copy to memory that no slice can name, since a device or another process shares it.
#![expect(unsafe_code, reason = "the caller vouches for the destination")]

use std::ops::Range;
use std::ptr::NonNull;

use crate::error::CopyError;
use crate::mapping::{Mapping, completed};
use crate::recovery::Recovery;

impl Mapping {
    /// Copies a range of the file to `destination`, as [`copy_to`](Self::copy_to) does.
    ///
    /// # Safety
    /// `destination` is valid for writes of as many bytes as the range has. Until the call returns, no
    /// other code of this process accesses them, except by atomic operations.
    ///
    /// # Errors
    /// [`CopyError::OutOfRange`] or [`CopyError::Fault`], as for [`copy_to`](Self::copy_to).
    #[inline]
    pub unsafe fn copy_to_ptr(
        &self,
        recovery: &Recovery,
        range: Range<u64>,
        destination: NonNull<u8>,
    ) -> Result<usize, CopyError> {
        let _ = recovery;
        let (offset, len) = self.locate(&range).ok_or(CopyError::OutOfRange)?;
        // SAFETY: the caller vouches for the destination.
        let left = unsafe { self.pages().copy_out(offset, len, destination) };
        completed(len, left)
    }
}
