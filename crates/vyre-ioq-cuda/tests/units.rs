//! Tests that kernels access slots in units of 16 bytes where they should.

use vyre_ioq::abi::BARE_SLOT_BYTES;
use vyre_ioq::{HostQueue, Queue, QueueLayout, Region};
use vyre_ioq_cuda::QueueView;

/// A bare queue may begin at any word, so its slots may lie across units.
///
/// Rule: ABI-5.5.
#[test]
fn units_are_used_only_where_slots_are_aligned_to_16_bytes() {
    let memory = Region::allocate(4 * BARE_SLOT_BYTES).expect("memory");
    let bare = HostQueue::attach_bare(memory).expect("a bare queue");
    for (base, units) in [
        (0x1000, true),
        (0x1004, false),
        (0x1008, false),
        (0x100c, false),
        (0x1010, true),
    ] {
        let view = QueueView::at(base, 0, &bare);
        assert_eq!(
            (view.is_bare(), view.uses_units()),
            (true, units),
            "{base:#x}"
        );
        assert!(!view.in_words().uses_units(), "{base:#x}");
    }
    let (host, _device) = Queue::anonymous(QueueLayout::with_slots(4)).expect("memory");
    assert!(QueueView::at(0x1000, 0, &host).uses_units());
}
