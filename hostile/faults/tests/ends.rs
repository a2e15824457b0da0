//! Ends of loops while the kernel keeps their operations.

use std::path::Path;
use std::time::Duration;

use vyre_faults::rig::{Parts, answer, contents, queue, submit};
use vyre_faults::{Ext4, Need, Scene, Test, eventually, pattern};
use vyre_ioloop::{Engine, LoopGroup, StopError};
use vyre_ioq::{DeviceQueue, Errno, LoopState, Request};
use vyre_uring::{Busy, Ring};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "a_hung_read_is_never_answered_and_holds_up_no_abort",
        needs: &[Need::Fuse],
        run: |scene| a_hung_read_is_never_answered(scene, "hang-read", true),
    },
    Test {
        name: "a_hung_direct_read_is_never_answered_and_holds_up_no_stop",
        needs: &[Need::Fuse],
        run: |scene| a_hung_read_is_never_answered(scene, "hang-read.dio", false),
    },
    Test {
        name: "a_frozen_write_is_never_answered_and_holds_up_no_end",
        needs: &[Need::Ext4(Ext4::at("ext4"))],
        run: a_frozen_write_is_never_answered_and_holds_up_no_end,
    },
    Test {
        name: "a_hung_read_holds_up_no_end_of_a_group",
        needs: &[Need::Fuse],
        run: a_hung_read_holds_up_no_end_of_a_group,
    },
    Test {
        name: "a_hung_read_holds_up_no_end_of_an_engine",
        needs: &[Need::Fuse],
        run: a_hung_read_holds_up_no_end_of_an_engine,
    },
];

const SOON: Duration = Duration::from_millis(200);

fn is_gone(device: &DeviceQueue) -> bool {
    device.host_state() == Some(LoopState::Failed)
}

fn thread_ends(thread_id: u32) {
    let task = format!("/proc/self/task/{thread_id}");
    eventually("the end of the thread", || !Path::new(&task).exists());
}

fn a_hung_read_is_never_answered(scene: &Scene, name: &str, abort: bool) {
    let fuse = scene.fuse();
    let mut parts = Parts::new(8192);
    let file = parts.file(fuse.open(name));
    let (pipe, _writer) = parts.pipe();
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let builder = parts.builder().queue(host);
    let io = builder.drain_timeout(SOON).abort_timeout(SOON);
    let io = io.spawn().unwrap();
    let thread_id = io.thread_id();
    let hung = submit(&device, Request::read(file, 0, 4096).into(pool, 0));
    let cancelled = submit(&device, Request::read(pipe, 0, 64).into(pool, 4096));
    fuse.wait_for_hanging(1);

    let ended = if abort { io.abort() } else { io.stop() };
    assert_eq!(ended, Err(StopError::Stuck { operations: 1 }));
    assert!(fuse.hanging() >= 1, "it returned while the file hangs");
    assert!(is_gone(&device));
    assert_eq!(answer(&device, cancelled), Err(Errno::ECANCELED));
    assert!(device.poll(&hung).is_none());

    // As the device must expect: the bytes come after the end, if they come.
    assert_eq!(contents(&memory, 0, 4096), [0; 4096]);
    fuse.release();
    thread_ends(thread_id);
    assert!(device.poll(&hung).is_none());
    let late = contents(&memory, 0, 4096);
    assert!(late == pattern(0, 4096) || late == [0; 4096]);
}

fn a_frozen_write_is_never_answered_and_holds_up_no_end(scene: &Scene) {
    let mut parts = Parts::new(8192);
    let frozen = parts.file(scene.create("ext4", "file"));
    let pool = parts.pool;
    let (host, device) = queue(4);
    let io = parts.builder().queue(host).abort_timeout(SOON);
    let io = io.spawn().unwrap();
    let thread_id = io.thread_id();
    let guard = scene.freeze("ext4");
    let write = submit(&device, Request::write(frozen, 0, 4096).from(pool, 0));
    let fence = submit(&device, Request::fence());
    eventually("the claims", || io.queue_counters(0).unwrap().claimed == 2);

    // It returns before the thaw, or never.
    assert_eq!(io.abort(), Err(StopError::Stuck { operations: 1 }));
    assert!(is_gone(&device));
    drop(guard);
    thread_ends(thread_id);
    assert!(device.poll(&write).is_none());
    assert!(device.poll(&fence).is_none());
}

fn a_hung_read_holds_up_no_end_of_a_group(scene: &Scene) {
    let fuse = scene.fuse();
    let mut parts = Parts::new(8192);
    let file = parts.file(fuse.open("hang-read"));
    let pool = parts.pool;
    let ((host0, one), (host1, two)) = (queue(4), queue(4));
    let group = LoopGroup::builder().loops(2).files(parts.files);
    let group = group.buffers(parts.buffers).queue(host0).queue(host1);
    let group = group.abort_timeout(SOON).spawn().unwrap();
    let hung = submit(&two, Request::read(file, 0, 4096).into(pool, 0));
    fuse.wait_for_hanging(1);
    let ended = group.abort().unwrap_err();
    let stuck = StopError::Stuck { operations: 1 };
    assert_eq!(ended.failures(), [(1, stuck)]);
    assert!(fuse.hanging() >= 1, "it returned while the file hangs");
    assert_eq!(one.host_state(), Some(LoopState::Stopped));
    assert!(is_gone(&two) && two.poll(&hung).is_none());
    fuse.release();
}

fn a_hung_read_holds_up_no_end_of_an_engine(scene: &Scene) {
    let fuse = scene.fuse();
    let mut parts = Parts::new(8192);
    let file = parts.file(fuse.open("hang-read"));
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let ring = Ring::builder().files(64).buffers(64).build().unwrap();
    let mut engine = Engine::new(ring, parts.files, parts.buffers, vec![host]).unwrap();
    let hung = submit(&device, Request::read(file, 0, 4096).into(pool, 0));
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
