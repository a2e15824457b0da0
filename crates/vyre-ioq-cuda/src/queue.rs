use bytemuck::{Pod, Zeroable};
use vyre_ioq::abi::{GROUP_SLOTS, MAX_SLOTS};
use vyre_ioq::{DeviceQueue, Geometry, HostQueue, QueueLayout};

use crate::driver::DeviceMemory;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::memory::MappedMemory;

/// `vyre_ioq::Queue` of `vyre_ioq.cuh`, byte for byte: what kernels take by value.
///
/// It holds addresses of the GPU. It is of use as long as its [`GpuQueue`], or whatever else holds the
/// memory, lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct QueueView {
    /// First byte of the queue.
    pub base: u64,
    /// First byte of slot 0.
    pub first: u64,
    /// `vyre_ioq::DeviceState`: the locks and marks, in GPU memory.
    pub device_state: u64,
    /// The creator's name for the queue.
    pub id: u64,
    /// How many slots there are.
    pub slots: u32,
    /// The bits of the features that both sides know.
    pub features: u32,
    /// 1 for the bare layout, else 0.
    pub bare: u8,
    /// 1 if slots are aligned to 16 bytes, else 0.
    pub units: u8,
    /// 1 if outcomes carry bytes moved and errnos, else 0: see
    /// [`HostQueue::carries_counts`].
    pub counts: u8,
    /// Zero.
    pub padding: [u8; 5],
}

impl QueueView {
    /// Size of a `vyre_ioq::DeviceState` in bytes: three bits for each slot, a word for each group, and two
    /// counters.
    pub const DEVICE_STATE_BYTES: usize =
        (3 * MAX_SLOTS / 8 + 4 * (MAX_SLOTS / GROUP_SLOTS) + 8) as usize;

    /// The view of a queue that was made without this crate, in memory that another library maps:
    /// `base` is its first byte as kernels see it, `device_state` a `vyre_ioq::DeviceState` in memory of the GPU:
    /// [`DEVICE_STATE_BYTES`](Self::DEVICE_STATE_BYTES) zeros, aligned to 4 bytes, for this queue alone and kept as
    /// long as kernels use it. An earlier device end of the queue must be gone.
    pub fn at(base: u64, device_state: u64, host: &HostQueue) -> Self {
        Self {
            id: host.id(),
            features: host.features().bits(),
            counts: host.carries_counts().into(),
            ..Self::of(base, device_state, host.geometry())
        }
    }

    /// As [`at`](Self::at), of a queue that another process made.
    fn attached(base: u64, device_state: u64, device: &DeviceQueue) -> Self {
        Self {
            id: device.id(),
            features: device.features().bits(),
            counts: device.carries_counts().into(),
            ..Self::of(base, device_state, device.geometry())
        }
    }

    /// Returns a view of the same queue whose slots are accessed in words of 4 bytes instead of units of
    /// 16, although they are aligned to 16 bytes. This is slower, and stays within what the memory models
    /// of PTX and of C11 define.
    #[must_use]
    pub const fn in_words(self) -> Self {
        Self { units: 0, ..self }
    }

    fn of(base: u64, device_state: u64, geometry: &Geometry) -> Self {
        let first = base + geometry.slots_offset() as u64;
        Self {
            base,
            first,
            device_state,
            id: 0,
            slots: geometry.slots(),
            features: 0,
            bare: geometry.is_bare().into(),
            units: first.is_multiple_of(16).into(),
            counts: (!geometry.is_bare()).into(),
            padding: [0; 5],
        }
    }
}

const _: () = assert!(size_of::<QueueView>() == 48 && align_of::<QueueView>() == 8);
const _: () = assert!(std::mem::offset_of!(QueueView, slots) == 32);
const _: () = assert!(std::mem::offset_of!(QueueView, units) == 41);
const _: () = assert!(std::mem::offset_of!(QueueView, counts) == 42);

/// The device's end of a queue, for kernels: the queue is in mapped memory, the locks by which lanes
/// share it are in memory of the GPU.
///
/// Dropping it frees the locks. The queue's memory stays while the host end has it.
#[derive(Debug)]
pub struct GpuQueue {
    view: QueueView,
    _device_state: DeviceMemory,
    _region: vyre_ioq::Region,
}

impl GpuQueue {
    /// Makes an empty queue with a header: the host's end for a loop, and the kernels'.
    ///
    /// # Errors
    /// [`CudaError::BareQueue`], [`CudaError::Layout`] if the layout is unfit, or another
    /// [`CudaError`] if there is no memory for it.
    pub fn new(gpu: &Gpu, layout: QueueLayout) -> Result<(HostQueue, Self), CudaError> {
        // A layout that nobody can have is refused by the host's end, not for want of memory.
        let most = QueueLayout::with_slots(MAX_SLOTS).bytes();
        let memory = MappedMemory::anonymous(gpu, layout.bytes().clamp(1, most))?;
        Self::in_memory(gpu, memory, layout)
    }

    /// Makes an empty queue as [`new`](Self::new) does, in memory that the caller brings. What the memory
    /// held is lost.
    ///
    /// # Errors
    /// As for [`new`](Self::new). If the layout is unfit, nothing is stored in the memory.
    pub fn in_memory(
        gpu: &Gpu,
        memory: MappedMemory,
        layout: QueueLayout,
    ) -> Result<(HostQueue, Self), CudaError> {
        if layout.is_bare() {
            return Err(CudaError::BareQueue);
        }
        let base = memory.device_ptr();
        let region = memory.into_region()?;
        let host = HostQueue::create(region.clone(), &layout)?;
        let device_state = DeviceMemory::zeroed(gpu.context(), QueueView::DEVICE_STATE_BYTES)?;
        let device = Self {
            view: QueueView::at(base, device_state.address(), &host),
            _device_state: device_state,
            _region: region,
        };
        Ok((host, device))
    }

    /// The device's end of a queue whose host is another process, in memory that it made. An earlier
    /// device end of the queue must be gone; slots that it left requests in are not used.
    ///
    /// # Errors
    /// [`CudaError::Layout`] if the memory holds no queue with a header; another [`CudaError`] if there is
    /// no memory for the locks.
    pub fn attach(gpu: &Gpu, memory: MappedMemory) -> Result<Self, CudaError> {
        let base = memory.device_ptr();
        let region = memory.into_region()?;
        let found = DeviceQueue::attach(region.clone())?;
        let device_state = DeviceMemory::zeroed(gpu.context(), QueueView::DEVICE_STATE_BYTES)?;
        Ok(Self {
            view: QueueView::attached(base, device_state.address(), &found),
            _device_state: device_state,
            _region: region,
        })
    }

    /// What kernels take.
    pub const fn view(&self) -> QueueView {
        self.view
    }
}
