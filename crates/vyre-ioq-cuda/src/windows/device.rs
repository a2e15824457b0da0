//! The windows of a file as kernels take them.

use bytemuck::{Pod, Zeroable};

use crate::view::DeviceView;

/// The windows of a file as a kernel's parameter or a part of one. It has the layout of `vyre_ioq::Windows` in
/// `vyre_windows.cuh`.
///
/// It keeps nothing: [`Windows`](super::Windows) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DeviceWindows {
    /// The addresses of all bytes. Those of mapped windows alone can be loaded.
    pub(super) file: DeviceView,
    /// The address of the host's table: a word for each window, 1 once it is mapped.
    pub(super) mapped: u64,
    /// The address of the kernels' own table, in memory of the GPU.
    pub(super) states: u64,
    /// The logarithm of the bytes of a window.
    pub(super) shift: u32,
    pub(super) padding: u32,
}

const _: () = assert!(size_of::<DeviceWindows>() == 40 && align_of::<DeviceWindows>() == 8);

impl DeviceWindows {
    /// Returns the number of bytes of the file.
    pub const fn len(&self) -> u64 {
        self.file.len()
    }

    /// Returns whether the length is zero, as in a value that names no windows.
    pub const fn is_empty(&self) -> bool {
        self.file.is_empty()
    }

    /// Returns the number of bytes of a window.
    pub const fn window_bytes(&self) -> u64 {
        1 << self.shift
    }
}
