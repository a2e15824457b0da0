//! PREFETCH starts read-ahead, and moves no bytes to a buffer.

mod common;

use common::*;
use vyre_ioq::Request;

/// Rule: ABI-6.16.
#[test]
fn a_prefetch_completes_and_moves_no_bytes() {
    let tables = Tables::new(4096, 4096);
    let (file, memory) = (tables.file, tables.memory.clone());
    let mut rig = tables.on_ring(8, 4);
    for (offset, count) in [(0, 4096), (1 << 40, 1), (5, u32::MAX)] {
        assert_eq!(rig.run(Request::prefetch(file, offset, count)), Ok(0));
    }
    assert_eq!(contents(&memory, 0, 4096), [0; 4096]);
}
