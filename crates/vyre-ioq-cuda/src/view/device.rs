//! A view as kernels take it.

use bytemuck::{Pod, Zeroable};

/// The address and length of a view, two words of 64 bits, as a kernel's parameter or a part of
/// one.
///
/// It does not keep the pages pinned: the [`View`](super::View) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DeviceView {
    base: u64,
    len: u64,
}

impl DeviceView {
    pub(crate) const fn new(base: u64, len: u64) -> Self {
        Self { base, len }
    }

    /// Returns the address of the first byte for kernels. It is a multiple of the page size.
    pub const fn device_ptr(&self) -> u64 {
        self.base
    }

    /// Returns the number of bytes up to the end of the view. The rest of the last page reads as zeros.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the length is zero.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}
