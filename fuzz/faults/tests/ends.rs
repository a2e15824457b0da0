//! Tests of the end of a loop while the kernel keeps an operation; see also `kept.rs`.

use std::path::Path;
use std::time::Duration;

use vyre_faults::rig::{Parts, answer, contents, queue, returns, submit};
use vyre_faults::{Need, Scene, Test, eventually, pattern, tests};
use vyre_ioloop::{Engine, StopError};
use vyre_ioq::{DeviceQueue, Errno, LoopState, Request};
use vyre_uring::{Busy, Ring};

pub(crate) const TESTS: &[Test] = tests![
    what_the_kernel_does_not_keep_is_cancelled: [Need::Fuse],
    a_hung_read_holds_up_no_end_of_an_engine: [Need::Fuse],
];

const SOON: Duration = Duration::from_millis(200);

fn is_gone(device: &DeviceQueue) -> bool {
    device.host_state() == Some(LoopState::Failed)
}

/// A read that can be cancelled is cancelled beside one that hangs. Once the file answers, the
/// abandoned thread ends.
fn what_the_kernel_does_not_keep_is_cancelled(scene: &Scene) {
    let fuse = scene.fuse();
    let mut parts = Parts::new(8192);
    let file = parts.file(fuse.open("hang-read.dio"));
    let (pipe, _writer) = parts.pipe();
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let builder = parts.builder().queue(host);
    let io = builder.drain_timeout(SOON).abort_timeout(SOON);
    let io = io.spawn().unwrap();
    let thread_id = io.thread_id();
    let hung = submit(&device, Request::read(file, 0, 4096).into_buffer(pool, 0));
    let cancelled = submit(&device, Request::read(pipe, 0, 64).into_buffer(pool, 4096));
    fuse.wait_for_hanging(1);

    let stuck = StopError::Stuck { operations: 1 };
    returns("the stop", move || assert_eq!(io.stop(), Err(stuck)));
    assert_eq!(fuse.hanging(), 1, "the file has answered");
    assert!(is_gone(&device));
    assert_eq!(answer(&device, cancelled), Err(Errno::ECANCELED));
    assert!(device.poll(&hung).is_none());

    // As the device must expect: the bytes come after the end, if they come.
    assert_eq!(contents(&memory, 0, 4096), [0; 4096]);
    fuse.release();
    let task = format!("/proc/self/task/{thread_id}");
    eventually("the end of the thread", || !Path::new(&task).exists());
    assert!(device.poll(&hung).is_none());
    let late = contents(&memory, 0, 4096);
    assert!(late == pattern(0, 4096) || late == [0; 4096]);
}

fn a_hung_read_holds_up_no_end_of_an_engine(scene: &Scene) {
    let fuse = scene.fuse();
    let mut parts = Parts::new(8192);
    let file = parts.file(fuse.open("hang-read"));
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let ring = Ring::builder().files(64).buffers(64).build().unwrap();
    let mut engine = Engine::new(ring, parts.files, parts.buffers, vec![host]).unwrap();
    let hung = submit(&device, Request::read(file, 0, 4096).into_buffer(pool, 0));
    while fuse.hanging() == 0 {
        let _ = engine.step();
    }
    assert_eq!(engine.stop(SOON), Err(Busy::new(1)));
    assert!(is_gone(&device) && device.poll(&hung).is_none());
    let revoked = engine.revoke_buffer(pool).unwrap();
    assert!(!engine.is_revoked(revoked), "the kernel has it");
    fuse.release();
    eventually("the end of the read", || engine.stop(SOON).is_ok());
    assert!(engine.is_revoked(revoked));
    assert!(device.poll(&hung).is_none(), "no outcome after FAILED");
    let late = contents(&memory, 0, 4096);
    assert!(late == pattern(0, 4096) || late == [0; 4096]);
}
