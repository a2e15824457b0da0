//! MAP: the transport says what the device can load by itself.

mod common;

use common::manual::ManualTransport;
use common::*;
use vyre_ioq::{Errno, Request};
use vyre_uring::{Errno as OsErrno, Operation, ThreadPool, Transport};

/// Rules: ABI-6.16, ABI-6.23.
#[test]
fn a_map_completes_when_the_transport_has_mapped_all_of_it() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 4);
    let map = rig.submit(Request::map(file, 77, u32::MAX));
    let _ = rig.engine.step();
    assert!(rig.pending(&map));
    let asked = control.state().flights[0].op;
    let Operation::Map { offset, len, .. } = asked else {
        panic!("{asked:?}");
    };
    assert_eq!((offset, len), (77, u32::MAX), "in one operation");
    control.state().complete(|_| true);
    assert_eq!(rig.wait(map).result, Ok(0));
    assert_eq!(rig.engine.outstanding(), 0);
}

/// Rule: ABI-6.24.
#[test]
fn a_map_fails_with_the_errno_of_the_transport() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    let (transport, control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 4);
    for (os, errno) in [
        (OsErrno::NOBUFS, Errno::ENOBUFS),
        (OsErrno::OPNOTSUPP, Errno::EOPNOTSUPP),
        (OsErrno::IO, Errno::EIO),
    ] {
        let map = rig.submit(Request::map(file, 0, 4096));
        let _ = rig.engine.step();
        control.state().fail(os, |_| true);
        assert_eq!(rig.wait(map).result, Err(errno));
    }
}

/// A map that is cancelled ends with the reason, and not with the transport's word.
///
/// Rule: ABI-6.17.
#[test]
fn a_map_has_a_deadline() {
    let tables = Tables::new(4096, 4096);
    let file = tables.file;
    let (transport, _control) = ManualTransport::new(8);
    let mut rig = tables.on(transport, 4);
    let map = rig.submit(Request::map(file, 0, 4096).with_deadline(1));
    assert_eq!(rig.wait(map).result, Err(Errno::ETIMEDOUT));
}

/// Rule: ABI-6.24.
#[test]
fn without_means_to_map_every_transport_refuses_and_reads_on() {
    fn check(transport: impl Transport) {
        let tables = Tables::new(4096, 4096);
        let (file, pool) = (tables.file, tables.pool);
        let mut rig = tables.on(transport, 4);
        for (offset, count) in [(0, 4096), (4096, 1), (0, 0)] {
            let map = Request::map(file, offset, count);
            assert_eq!(rig.run(map), Err(Errno::EOPNOTSUPP));
        }
        let read = Request::read(file, 0, 4096).into_buffer(pool, 0);
        assert_eq!(rig.run(read), Ok(4096));
    }
    check(transport(8));
    check(ThreadPool::builder().files(8).buffers(8).build().unwrap());
}
