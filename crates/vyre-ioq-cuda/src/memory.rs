//! Memory of the host that a GPU maps, and memory of the GPU.
#![expect(
    unsafe_code,
    reason = "parts of one mapping become a buffer and a queue's region, and memory of others' is taken"
)]

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use vyre_ioq::abi::HEADER_ALIGN;
use vyre_ioq::{AttachError, Region};
use vyre_uring::{Buffer, BufferError};

use crate::driver::{DeviceMemory, Registration};
use crate::error::CudaError;
use crate::gpu::Gpu;

/// Pinned host memory that kernels can access. What this crate allocates is zeroed, page-aligned, and in huge
/// pages if the kernel has them.
///
/// It becomes a [`Buffer`] for a loop's table or a [`Region`] for a queue, or it is split into parts
/// for either. It cannot be both at once, because the two access bytes by words of different widths.
///
/// The memory is unregistered and unmapped when the last object made from it is dropped. A kernel that
/// still uses it then faults. A [`Launch`](crate::Launch) prevents that by waiting for its kernel.
#[derive(Debug)]
pub struct MappedMemory {
    owner: Arc<Registration>,
    offset: usize,
    len: usize,
}

impl MappedMemory {
    /// Allocates memory of this process.
    ///
    /// # Errors
    /// [`CudaError::Buffer`] if the memory cannot be allocated, [`CudaError::Register`] if the driver
    /// does not pin it.
    pub fn anonymous(gpu: &Gpu, len: usize) -> Result<Self, CudaError> {
        Self::over(gpu, Buffer::anonymous(len)?)
    }

    /// Allocates memory that another process can map, and returns its descriptor: see
    /// [`Buffer::memfd`].
    ///
    /// # Errors
    /// The same as for [`anonymous`](Self::anonymous).
    pub fn memfd(gpu: &Gpu, len: usize) -> Result<(Self, OwnedFd), CudaError> {
        let (buffer, memfd) = Buffer::memfd(len)?;
        Ok((Self::over(gpu, buffer)?, memfd))
    }

    /// Maps memory that another process made by [`memfd`](Self::memfd) or [`Buffer::memfd`]: see
    /// [`Buffer::from_memfd`].
    ///
    /// # Errors
    /// The same as for [`anonymous`](Self::anonymous).
    pub fn from_memfd(gpu: &Gpu, memfd: impl AsFd) -> Result<Self, CudaError> {
        Self::over(gpu, Buffer::from_memfd(memfd)?)
    }

    /// Wraps memory that other code pinned and mapped for the GPU: by `cudaHostAlloc` or `cudaHostRegister`, or a
    /// pinned tensor. `owner` keeps the memory, and is dropped with the last object made from this one.
    ///
    /// # Errors
    /// [`CudaError::NotPinned`] if the driver has not mapped the address for kernels.
    ///
    /// # Safety
    /// The same as for [`Buffer::from_raw_parts`]. All of the range is pinned until `owner` is dropped.
    pub unsafe fn from_raw(
        gpu: &Gpu,
        base: NonNull<u8>,
        len: usize,
        owner: impl Any + Send + Sync,
    ) -> Result<Self, CudaError> {
        // SAFETY: the caller's promises.
        let buffer = unsafe { Buffer::from_raw_parts(base, len, Box::new(owner)) };
        let owner = Arc::new(Registration::of_pinned(gpu.context(), buffer)?);
        Ok(Self {
            owner,
            offset: 0,
            len,
        })
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

    /// Splits the memory into its first `at` bytes and the rest.
    ///
    /// # Panics
    /// If `at` is past the end, or not a multiple of 4096. A queue may follow, and the parts must not
    /// share a word.
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

    /// Returns the length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the length is zero.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the address of the first byte for kernels.
    pub fn device_ptr(&self) -> u64 {
        self.owner.device() + self.offset as u64
    }

    /// Turns the memory into a buffer for io_uring.
    ///
    /// The drop of its last clone unregisters the memory with the driver, which may wait for running
    /// kernels. Keep a clone until the kernels have ended, so that a loop from which the buffer is
    /// revoked does not have to wait.
    ///
    /// # Errors
    /// [`CudaError::Buffer`] if the length is zero.
    pub fn into_buffer(self) -> Result<Buffer, CudaError> {
        let (base, len) = (self.base()?, self.len);
        // SAFETY: the bytes are part of a mapping that the owner keeps. `self` was their one name in
        // this process, and is gone; kernels are a device.
        Ok(unsafe { Buffer::from_raw_parts(base, len, Box::new(self.owner)) })
    }

    /// Turns the memory into the region of a queue.
    ///
    /// # Errors
    /// [`CudaError::Buffer`] if the length is zero, [`CudaError::Layout`] if the memory is misaligned.
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

/// GPU memory for the inputs, results and shared data of kernels. The host and io_uring cannot access
/// it. Its bytes are copied in when it is made, and copied out after the kernel has ended.
///
/// A clone names the same memory, which is freed with the last one. To keep it while a kernel runs, pass a
/// clone to [`Kernel::launch`](crate::Kernel::launch).
#[derive(Clone, Debug)]
pub struct GpuMemory(Arc<DeviceMemory>);

impl GpuMemory {
    /// Allocates zeroed memory.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`] if the GPU has no room, or [`CudaError::Driver`] if the driver
    /// refuses the call, for example for a length of zero.
    pub fn zeroed(gpu: &Gpu, len: usize) -> Result<Self, CudaError> {
        Ok(Self(Arc::new(DeviceMemory::zeroed(gpu.context(), len)?)))
    }

    /// Allocates memory that holds whatever was there before. It is for bytes that are written before they
    /// are read: large memory is there at once.
    ///
    /// # Errors
    /// The same as for [`zeroed`](Self::zeroed).
    pub fn uninit(gpu: &Gpu, len: usize) -> Result<Self, CudaError> {
        Ok(Self(Arc::new(DeviceMemory::allocate(gpu.context(), len)?)))
    }

    /// Wraps memory that other code allocated, such as the storage of a tensor. `owner` keeps the memory, and
    /// is dropped with the last clone.
    ///
    /// # Safety
    /// - The `len` bytes at `address` are memory of this GPU until `owner` is dropped.
    /// - Until then, other code uses them only in ways that it orders before or after what it asks this
    ///   crate to do with them.
    pub unsafe fn from_raw(
        gpu: &Gpu,
        address: u64,
        len: usize,
        owner: impl Any + Send + Sync,
    ) -> Self {
        // SAFETY: the caller's promises.
        Self(Arc::new(unsafe {
            DeviceMemory::borrowed(gpu.context(), address, len, owner)
        }))
    }

    /// Allocates memory that holds a copy of `bytes`.
    ///
    /// # Errors
    /// The same as for [`zeroed`](Self::zeroed).
    pub fn of(gpu: &Gpu, bytes: &[u8]) -> Result<Self, CudaError> {
        Ok(Self(Arc::new(DeviceMemory::of(gpu.context(), bytes)?)))
    }

    /// Copies everything out. The copy has everything that kernels wrote before they ended.
    ///
    /// # Errors
    /// [`CudaError::Driver`] if the copy fails, or with the error of an earlier kernel.
    pub fn read(&self) -> Result<Vec<u8>, CudaError> {
        self.0.read()
    }

    /// Returns the address of the first byte for kernels.
    pub fn device_ptr(&self) -> u64 {
        self.0.address()
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the length is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) const fn shared(&self) -> &Arc<DeviceMemory> {
        &self.0
    }
}
