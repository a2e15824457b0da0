//! PREFETCH starts read-ahead, and moves no bytes to a buffer.

mod common;

use common::manual::ManualTransport;
use common::*;
use vyre_ioq::{Errno, Request};
use vyre_uring::{Errno as OsErrno, Operation};

/// A number of bytes that no kernel reads ahead by one call.
const LARGE: u32 = 1 << 30;

/// Rule: ABI-6.16.
#[test]
fn a_prefetch_completes_and_moves_no_bytes() {
    let tables = Tables::new(4096, 4096);
    let (file, memory) = (tables.file, tables.memory.clone());
    let mut rig = tables.on_transport(8, 4);
    for (offset, count) in [(0, 4096), (1 << 40, 1), (5, u32::MAX)] {
        assert_eq!(rig.run(Request::prefetch(file, offset, count)), Ok(0));
    }
    assert_eq!(contents(&memory, 0, 4096), [0; 4096]);
}

/// A kernel limits what one call reads ahead, so the host starts a large range in pieces.
///
/// Rule: ABI-6.6.
#[test]
fn a_large_prefetch_completes_after_its_last_piece_has_started() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 4);
    let prefetch = rig.submit(Request::prefetch(file, 77, LARGE));
    let (mut next, mut pieces) = (77, 0);
    while next < 77 + u64::from(LARGE) {
        let _ = rig.engine.step();
        assert!(rig.pending(&prefetch), "{next} is not started");
        let mut state = control.state();
        let Operation::Prefetch { offset, len, .. } = state.flights[0].op else {
            panic!("{:?}", state.flights[0]);
        };
        assert_eq!(offset, next);
        assert!(len > 0);
        next += u64::from(len);
        pieces += 1;
        state.complete(|_| true);
    }
    assert_eq!(rig.wait(prefetch).result, Ok(0));
    assert_eq!(next, 77 + u64::from(LARGE), "not past the range");
    assert!(pieces > 1);
    assert_eq!(rig.engine.outstanding(), 0);
}

#[test]
fn a_prefetch_fails_with_the_errno_of_its_piece() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 4);
    let prefetch = rig.submit(Request::prefetch(file, 0, LARGE));
    let _ = rig.engine.step();
    control.state().complete(|_| true);
    let _ = rig.engine.step();
    control.state().fail(OsErrno::IO, |_| true);
    assert_eq!(rig.wait(prefetch).result, Err(Errno::EIO));
    assert_eq!(control.state().pushed.len(), 2, "nothing after the failure");
}
