//! Queues whose device is a kernel.

use bytemuck::{Pod, Zeroable};
use vyre_ioq::abi::{GROUP_SLOTS, MAX_SLOTS};
use vyre_ioq::{DeviceQueue, Geometry, HostQueue, QueueLayout};

use crate::driver::DeviceMemory;
use crate::error::CudaError;
use crate::gpu::Gpu;
use crate::memory::MappedMemory;

/// View of a queue for kernels, which take it by value. It has the layout of `vyre_ioq::Queue` in
/// `vyre_ioq.cuh`.
///
/// A view holds GPU addresses. It is valid while its [`GpuQueue`], or whatever else owns the memory, lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct QueueView {
    /// Address of the first byte of the queue.
    base: u64,
    /// Address of the first byte of slot 0.
    first: u64,
    /// Address of the `vyre_ioq::DeviceState` in GPU memory: locks, marks and counters of the lanes.
    device_state: u64,
    /// Identifier that the creator gave the queue.
    id: u64,
    /// Number of slots.
    slots: u32,
    /// Bits of the features that both ends know.
    features: u32,
    /// 1 for the bare layout, otherwise 0.
    bare: u8,
    /// 1 if slots are accessed in units of 16 bytes, otherwise 0.
    units: u8,
    /// 1 if outcomes carry bytes moved and errnos, otherwise 0. See [`HostQueue::carries_counts`].
    counts: u8,
    /// Padding: zero.
    padding: [u8; 5],
}

impl QueueView {
    /// Size of a `vyre_ioq::DeviceState` in bytes: three bits for each slot, one word for each group, and
    /// two counters.
    pub const DEVICE_STATE_BYTES: usize =
        (3 * MAX_SLOTS / 8 + 4 * (MAX_SLOTS / GROUP_SLOTS) + 8) as usize;

    /// Returns the view of a queue that was made without this crate, in memory that another library maps.
    ///
    /// `base` is the address of its first byte for kernels. `device_state` is the address of
    /// [`DEVICE_STATE_BYTES`](Self::DEVICE_STATE_BYTES) zeros in GPU memory, aligned to 4 bytes. They are for
    /// this queue alone and must stay valid while kernels use it. No earlier device end of the queue may be in
    /// use.
    pub fn at(base: u64, device_state: u64, host: &HostQueue) -> Self {
        Self {
            id: host.id(),
            features: host.features().bits(),
            counts: host.carries_counts().into(),
            ..Self::of(base, device_state, host.geometry())
        }
    }

    /// Returns the view of a queue that another process created, as [`at`](Self::at) does.
    fn attached(base: u64, device_state: u64, device: &DeviceQueue) -> Self {
        Self {
            id: device.id(),
            features: device.features().bits(),
            counts: device.carries_counts().into(),
            ..Self::of(base, device_state, device.geometry())
        }
    }

    /// Returns the bytes of the view, for callers that pass it to kernels by another library.
    pub fn to_bytes(&self) -> Vec<u8> {
        bytemuck::bytes_of(self).to_vec()
    }

    /// Returns a view of the same queue whose slots are accessed in words of 4 bytes instead of units of
    /// 16, although they are aligned to 16 bytes. This is slower, and stays within what the memory models
    /// of PTX and of C11 define.
    #[must_use]
    pub const fn in_words(self) -> Self {
        Self { units: 0, ..self }
    }

    /// Returns the address of the first byte of the queue for kernels.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Returns whether slots are accessed in units of 16 bytes: the slots are aligned to 16 bytes, and the
    /// view is not [`in_words`](Self::in_words).
    #[must_use]
    pub const fn uses_units(&self) -> bool {
        self.units != 0
    }

    /// Returns whether the queue has the bare layout.
    #[must_use]
    pub const fn is_bare(&self) -> bool {
        self.bare != 0
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

/// Device end of a queue for kernels. The queue is in mapped memory; the state that its lanes share is in GPU
/// memory.
///
/// A drop frees that state. The memory of the queue stays while the host end has it.
#[derive(Debug)]
pub struct GpuQueue {
    view: QueueView,
    _device_state: DeviceMemory,
    _region: vyre_ioq::Region,
}

impl GpuQueue {
    /// Creates an empty queue with a header. Returns the host end, for a loop, and the device end, for kernels.
    ///
    /// # Errors
    /// [`CudaError::BareQueue`] if the layout is bare; [`CudaError::Layout`] if it has no slots or too many;
    /// another [`CudaError`] if there is no memory for the queue.
    pub fn new(gpu: &Gpu, layout: QueueLayout) -> Result<(HostQueue, Self), CudaError> {
        // A layout with too many slots is refused by the host end, not for lack of memory.
        let most = QueueLayout::with_slots(MAX_SLOTS).bytes();
        let memory = MappedMemory::anonymous(gpu, layout.bytes().clamp(1, most))?;
        Self::in_memory(gpu, memory, layout)
    }

    /// Creates an empty queue as [`new`](Self::new) does, in memory of the caller's. What the memory held is
    /// lost.
    ///
    /// # Errors
    /// The same as for [`new`](Self::new). If the layout is refused, nothing is stored in the memory.
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

    /// Attaches to a queue that another process created and serves.
    ///
    /// No earlier device end of the queue may be in use. Slots in which it left requests are not used.
    ///
    /// # Errors
    /// [`CudaError::Layout`] if the memory holds no queue with a header; another [`CudaError`] if there is no
    /// GPU memory for the state of the lanes.
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

    /// Returns the view that kernels take.
    pub const fn view(&self) -> QueueView {
        self.view
    }
}
