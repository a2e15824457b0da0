//! Queues in memory that the caller brings.

use vyre_ioq::QueueLayout;
use vyre_ioq_cuda::{CudaError, Gpu, GpuQueue, MappedMemory};

use super::Other;

#[test]
fn memory_for_a_layout_that_is_refused_stays_as_it_was() {
    let test = "memory_for_a_layout_that_is_refused_stays_as_it_was";
    if let Some(other) = Other::new(test, "refused_layouts") {
        other.run();
    }
}

pub(crate) fn refused_layouts() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let (_, memfd) = MappedMemory::memfd(&gpu, 8192).expect("memory");
    let map = || MappedMemory::from_memfd(&gpu, &memfd).expect("the same memory");
    let kept = map().into_buffer().expect("bytes");
    let bytes = [0x5a; 8192];
    kept.write_at(0, &bytes).expect("as long");
    for layout in [
        QueueLayout::bare(64),
        QueueLayout::with_slots(0),
        QueueLayout::with_slots(65),
    ] {
        let refused = GpuQueue::in_memory(&gpu, map(), layout).expect_err("unfit");
        assert_eq!(
            refused == CudaError::BareQueue,
            layout.is_bare(),
            "{refused}"
        );
        let mut found = [0; 8192];
        kept.read_at(0, &mut found).expect("as long");
        assert!(found == bytes, "{layout:?}");
    }
    GpuQueue::in_memory(&gpu, map(), QueueLayout::with_slots(64)).expect("fits");
}
