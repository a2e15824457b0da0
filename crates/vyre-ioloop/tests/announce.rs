//! Tests of the requests that a loop announces to its devices.

mod common;

use std::time::Duration;

use common::*;
use vyre_ioq::Request;
use vyre_ioq::abi::{status, word};
use vyre_uring::SimTransport;

/// A heartbeat comes before each sleep. A request that is in flight for a few of them gets no store,
/// which would take its cache line from the device. One that is in flight for many gets one.
///
/// Rule: ABI-4.6.
#[test]
fn a_long_request_is_announced_and_others_are_not() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, device) = Slots::queue(4);
    let sim = SimTransport::builder(1).stuck(1.0).build();
    let mut engine = tables.engine(sim, vec![host]);
    slots.publish(2, &Request::read(file, 0, 8).into_buffer(pool, 0));
    assert_eq!(engine.step().claimed, 1);
    let before = device.host_heartbeat().expect("a header");
    for beat in 0..12 {
        engine.wait(Duration::ZERO);
        let status = slots.load(2, word::STATUS);
        assert_eq!(status, status::PUBLISHED, "after {beat} sleeps");
    }
    assert_eq!(device.host_heartbeat(), Some(before + 12));
    for _ in 0..40 {
        engine.wait(Duration::ZERO);
    }
    assert_eq!(slots.load(2, word::STATUS), status::CLAIMED);
    engine.stop(LIMIT).expect("all of it ends");
}

/// A loop that never sleeps announces as well.
///
/// Rule: ABI-4.6.
#[test]
fn a_busy_loop_announces_long_requests() {
    let tables = Tables::new(4096, 4096);
    let (file, pool) = (tables.file, tables.pool);
    let (slots, host, _device) = Slots::queue(4);
    let sim = SimTransport::builder(1).stuck(1.0).build();
    let mut engine = tables.engine(sim, vec![host]);
    slots.publish(2, &Request::read(file, 0, 8).into_buffer(pool, 0));
    for _ in 0..256 {
        let _ = engine.step();
    }
    assert_eq!(slots.load(2, word::STATUS), status::PUBLISHED);
    for _ in 0..16_384 {
        let _ = engine.step();
    }
    assert_eq!(slots.load(2, word::STATUS), status::CLAIMED);
    engine.stop(LIMIT).expect("all of it ends");
}
