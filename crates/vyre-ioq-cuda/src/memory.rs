//! Memory of the host that a GPU maps, and memory of the GPU.
#![expect(
    unsafe_code,
    reason = "parts of one mapping become a buffer and a queue's region"
)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use vyre_ioq::abi::HEADER_ALIGN;
use vyre_ioq::{AttachError, Region};
use vyre_uring::{Buffer, BufferError};

use crate::driver::{DeviceMemory, Registration};
use crate::error::CudaError;
use crate::gpu::Gpu;

/// Host memory that is pinned and that kernels reach: zeroed, page-aligned, in huge pages where the
/// kernel has them.
///
/// It becomes a [`Buffer`] for a loop's table or a [`Region`] for a queue, or it is split and each
/// part becomes what it is for. It cannot become both: the two access the bytes by words of different
/// widths. The GPU gives the memory up and it is unmapped when the last of what was made of it is
/// dropped. A kernel that still uses it by then would fault: a [`Launch`](crate::Launch) waits for
/// its kernel.
#[derive(Debug)]
pub struct MappedMemory {
    owner: Arc<Registration>,
    offset: usize,
    len: usize,
}

impl MappedMemory {
    /// Memory of this process.
    ///
    /// # Errors
    /// [`CudaError::Buffer`], or [`CudaError::Register`] if the driver does not pin it.
    pub fn anonymous(gpu: &Gpu, len: usize) -> Result<Self, CudaError> {
        Self::over(gpu, Buffer::anonymous(len)?)
    }

    /// Memory that another process can map too: see [`Buffer::memfd`].
    ///
    /// # Errors
    /// As for [`anonymous`](Self::anonymous).
    pub fn memfd(gpu: &Gpu, len: usize) -> Result<(Self, OwnedFd), CudaError> {
        let (buffer, memfd) = Buffer::memfd(len)?;
        Ok((Self::over(gpu, buffer)?, memfd))
    }

    /// Memory that another process made by [`memfd`](Self::memfd), or by [`Buffer::memfd`]: see
    /// [`Buffer::from_memfd`].
    ///
    /// # Errors
    /// As for [`anonymous`](Self::anonymous).
    pub fn from_memfd(gpu: &Gpu, memfd: impl AsFd) -> Result<Self, CudaError> {
        Self::over(gpu, Buffer::from_memfd(memfd)?)
    }

    fn over(gpu: &Gpu, buffer: Buffer) -> Result<Self, CudaError> {
        let len = buffer.len();
        let owner = Arc::new(Registration::new(gpu.context(), buffer)?);
        Ok(Self {
            owner,
            offset: 0,
            len,
        })
    }

    /// Parts the memory: the first `at` bytes, and the rest.
    ///
    /// # Panics
    /// If `at` is past the end, or not a multiple of 4096: a queue may follow, and the two parts must
    /// not share a word.
    pub fn split(self, at: usize) -> (Self, Self) {
        assert!(
            at <= self.len && at.is_multiple_of(HEADER_ALIGN),
            "{at} of {} bytes is no place to part mapped memory",
            self.len
        );
        let rest = Self {
            owner: Arc::clone(&self.owner),
            offset: self.offset + at,
            len: self.len - at,
        };
        (Self { len: at, ..self }, rest)
    }

    /// Bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first byte, as kernels see it.
    pub fn device_ptr(&self) -> u64 {
        self.owner.device() + self.offset as u64
    }

    /// The memory as a buffer for io_uring.
    ///
    /// Who drops its last clone asks the driver to unregister the memory, which may wait for kernels.
    /// So keep a clone until the kernels have ended: a loop from whose tables the buffer is revoked is
    /// not to be that one.
    ///
    /// # Errors
    /// [`CudaError::Buffer`] if it has no bytes.
    pub fn into_buffer(self) -> Result<Buffer, CudaError> {
        let (base, len) = (self.base()?, self.len);
        // SAFETY: the bytes are part of a mapping that the owner keeps. `self` was their one name in
        // this process, and is gone; kernels are a device.
        Ok(unsafe { Buffer::from_raw_parts(base, len, Box::new(self.owner)) })
    }

    /// The memory as a queue's.
    ///
    /// # Errors
    /// [`CudaError::Buffer`] if it has no bytes, [`CudaError::Layout`] if it is misaligned.
    pub fn into_region(self) -> Result<Region, CudaError> {
        let (base, len) = (self.base()?, self.len);
        // SAFETY: as above, and moving the owner does not move the mapping.
        let region: Result<_, AttachError> = unsafe { Region::from_owner(base, len, self.owner) };
        Ok(region?)
    }

    fn base(&self) -> Result<NonNull<u8>, BufferError> {
        let base = self.owner.buffer().as_ptr().wrapping_add(self.offset);
        NonNull::new(base)
            .filter(|_| self.len > 0)
            .ok_or(BufferError::Empty)
    }
}

/// Memory of the GPU, for what its kernels share and for what they find out. The host and io_uring do
/// not reach it: it is copied in when it is made, and out when the kernel has ended.
///
/// Freed on drop: give it, or an [`Arc`] of it, to [`Kernel::launch`](crate::Kernel::launch) to keep.
#[derive(Debug)]
pub struct GpuMemory(DeviceMemory);

impl GpuMemory {
    /// Zeroed memory.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or [`CudaError::Driver`], which also stands for a length of zero.
    pub fn zeroed(gpu: &Gpu, len: usize) -> Result<Self, CudaError> {
        DeviceMemory::zeroed(gpu.context(), len).map(Self)
    }

    /// Memory that holds a copy of `bytes`.
    ///
    /// # Errors
    /// As for [`zeroed`](Self::zeroed).
    pub fn of(gpu: &Gpu, bytes: &[u8]) -> Result<Self, CudaError> {
        DeviceMemory::of(gpu.context(), bytes).map(Self)
    }

    /// Copies everything out. What a kernel wrote is there if the kernel had ended before.
    ///
    /// # Errors
    /// [`CudaError::Driver`], also with the error that an earlier kernel ended by.
    pub fn read(&self) -> Result<Vec<u8>, CudaError> {
        self.0.read()
    }

    /// The address of the first byte, for kernels.
    pub const fn device_ptr(&self) -> u64 {
        self.0.address()
    }
}
