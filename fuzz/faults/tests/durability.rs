//! Tests of bytes that the kernel took and then lost: no SYNC reports them as safe.

use std::fs::File;

use vyre_faults::rig::{Parts, ask, queue};
use vyre_faults::{Ext4, Need, Scene, Test, tests};
use vyre_ioloop::{IoLoop, LoopGroup, Rights};
use vyre_ioq::{DeviceQueue, Errno, FileHandle, Request};

/// Drive that reports 64 MiB and has 16.
const THIN: Need = Need::Ext4(Ext4 {
    at: "thin",
    mib: 64,
    store_mib: 16,
    sector: 512,
});

pub(crate) const TESTS: &[Test] = tests![
    a_failed_sync_fails_every_later_one_of_every_queue: [THIN],
    a_failed_durable_write_fails_every_later_sync: [THIN],
    a_failed_sync_fails_syncs_of_other_loops_and_groups: [THIN],
    a_file_opened_anew_after_a_failed_sync_has_no_failure: [THIN],
    a_failed_sync_of_a_fuse_file_fails_every_later_one: [Need::Fuse],
    a_failed_sync_of_one_file_fails_none_of_another: [THIN],
    a_write_that_moved_nothing_is_not_a_failed_flush: [Need::Fuse],
];

const LEN: u32 = 4 << 20;

fn parts() -> Parts {
    Parts::new(LEN as usize)
}

fn write(file: FileHandle, pool: vyre_ioq::BufferHandle, at: u64) -> Request {
    Request::write(file, at, LEN).from_buffer(pool, 0)
}

/// Asserts that every SYNC and DURABLE write fails, however often it is asked.
fn check_failed(device: &DeviceQueue, file: FileHandle, pool: vyre_ioq::BufferHandle) {
    for _ in 0..3 {
        let sync = ask(device, Request::sync(file));
        assert!(sync.is_err(), "a SYNC: {sync:?}");
        let write = Request::write(file, 0, 4096).from_buffer(pool, 0).durable();
        let durable = ask(device, write);
        assert!(durable.is_err(), "a DURABLE write: {durable:?}");
    }
}

/// Rule: ABI-6.12.
fn a_failed_sync_fails_every_later_one_of_every_queue(scene: &Scene) {
    let mut parts = parts();
    let file = scene.create("thin", "file");
    // The same description by another descriptor, and another description of the file.
    let same = parts.file(file.try_clone().unwrap());
    let again = parts.file(open(scene, "file"));
    let (file, pool) = (parts.file(file), parts.pool);
    let ((host0, one), (host1, two)) = (queue(8), queue(8));
    let io = parts.builder().queue(host0).queue(host1).spawn().unwrap();
    assert_eq!(ask(&one, write(file, pool, 0)), Ok(LEN));
    assert_eq!(ask(&two, write(file, pool, 16 << 20)), Ok(LEN));
    scene.fill("thin.store");
    let sync = ask(&one, Request::sync(file));
    assert!(sync.is_err(), "the drive took it all: {sync:?}");
    for device in [&one, &two] {
        for file in [file, same, again] {
            check_failed(device, file, pool);
        }
    }
    // Free space on the drive brings no bytes back.
    scene.drain("thin.store");
    for device in [&two, &one] {
        check_failed(device, file, pool);
    }
    io.stop().unwrap();
}

/// Rule: ABI-6.12.
fn a_failed_durable_write_fails_every_later_sync(scene: &Scene) {
    let mut parts = parts();
    let (file, pool) = (parts.file(scene.create("thin", "file")), parts.pool);
    let ((host0, one), (host1, two)) = (queue(8), queue(8));
    let io = parts.builder().queue(host0).queue(host1).spawn().unwrap();
    assert_eq!(ask(&one, write(file, pool, 0)), Ok(LEN));
    scene.fill("thin.store");
    let durable = ask(&two, write(file, pool, 16 << 20).durable());
    assert!(durable.is_err(), "the drive took it all: {durable:?}");
    check_failed(&one, file, pool);
    check_failed(&two, file, pool);
    io.stop().unwrap();
}

/// Rule: ABI-6.12.
fn a_failed_sync_fails_syncs_of_other_loops_and_groups(scene: &Scene) {
    let file = scene.create("thin", "file");
    let new = |file: &File| {
        let mut parts = parts();
        let file = parts.file(file.try_clone().unwrap());
        let pool = parts.pool;
        (parts, file, pool)
    };
    let (parts, first, pool) = new(&file);
    let (host, one) = queue(8);
    let io = parts.builder().queue(host).spawn().unwrap();
    let (parts, other, other_pool) = new(&file);
    let ((host0, two), (host1, three)) = (queue(8), queue(8));
    let group = LoopGroup::builder()
        .loops(2)
        .files(parts.files)
        .buffers(parts.buffers)
        .queue(host0)
        .queue(host1)
        .spawn()
        .unwrap();
    assert_eq!(ask(&one, write(first, pool, 0)), Ok(LEN));
    assert_eq!(ask(&two, write(other, other_pool, 16 << 20)), Ok(LEN));
    scene.fill("thin.store");
    let sync = ask(&two, Request::sync(other));
    assert!(sync.is_err(), "the drive took it all: {sync:?}");
    check_failed(&two, other, other_pool);
    check_failed(&three, other, other_pool);
    check_failed(&one, first, pool);
    // A loop that starts later knows of the failure too.
    let (parts, last, pool) = new(&file);
    let (host, four) = queue(8);
    let late = parts.builder().queue(host).spawn().unwrap();
    check_failed(&four, last, pool);
    io.stop().unwrap();
    group.stop().unwrap();
    late.stop().unwrap();
}

/// Rule: ABI-6.13.
fn a_file_opened_anew_after_a_failed_sync_has_no_failure(scene: &Scene) {
    let mut parts = parts();
    let old = scene.create("thin", "file");
    let older = open(scene, "file");
    let (file, pool) = (parts.file(old.try_clone().unwrap()), parts.pool);
    let (host, device) = queue(8);
    let io = parts.builder().queue(host).spawn().unwrap();
    assert_eq!(ask(&device, write(file, pool, 0)), Ok(LEN));
    scene.fill("thin.store");
    assert!(
        ask(&device, Request::sync(file)).is_err(),
        "the drive took it all"
    );
    scene.drain("thin.store");
    let insert =
        |file: File| -> FileHandle { io.insert_file(file, 0..1 << 40, Rights::all()).unwrap() };
    // The old descriptions keep the failure, under any handle.
    check_failed(&device, insert(old), pool);
    check_failed(&device, insert(older), pool);
    let new = insert(open(scene, "file"));
    assert_eq!(ask(&device, write(new, pool, 0)), Ok(LEN));
    assert_eq!(ask(&device, Request::sync(new)), Ok(0));
    assert_eq!(ask(&device, write(new, pool, 0).durable()), Ok(LEN));
    check_failed(&device, file, pool);
    io.stop().unwrap();
}

/// Rule: ABI-6.12.
fn a_failed_sync_of_a_fuse_file_fails_every_later_one(scene: &Scene) {
    let mut parts = Parts::new(4096);
    let (file, pool) = (parts.file(scene.fuse().open("fail-fsync-once")), parts.pool);
    let ((host0, one), (host1, two)) = (queue(8), queue(8));
    let io = parts.builder().queue(host0).queue(host1).spawn().unwrap();
    assert_eq!(
        ask(&one, Request::write(file, 0, 4096).from_buffer(pool, 0)),
        Ok(4096)
    );
    assert_eq!(ask(&one, Request::sync(file)), Err(Errno::EIO));
    check_failed(&one, file, pool);
    check_failed(&two, file, pool);
    io.stop().unwrap();
}

/// Rule: ABI-6.12.
fn a_failed_sync_of_one_file_fails_none_of_another(scene: &Scene) {
    let mut parts = parts();
    let lost = parts.file(scene.create("thin", "lost"));
    let safe = parts.file(scene.healthy(4096));
    let pool = parts.pool;
    let (host, device) = queue(8);
    let io: IoLoop = parts.builder().queue(host).spawn().unwrap();
    assert_eq!(ask(&device, write(lost, pool, 0)), Ok(LEN));
    scene.fill("thin.store");
    assert!(
        ask(&device, Request::sync(lost)).is_err(),
        "the drive took it all"
    );
    let small = Request::write(safe, 0, 4096).from_buffer(pool, 0);
    assert_eq!(ask(&device, small.durable()), Ok(4096));
    assert_eq!(ask(&device, Request::sync(safe)), Ok(0));
    io.stop().unwrap();
}

/// Rule: ABI-6.15.
fn a_write_that_moved_nothing_is_not_a_failed_flush(scene: &Scene) {
    const MIDDLE: u64 = 512 << 10;
    for name in ["eio-write.dio", "full.dio", "eio-write", "full"] {
        let mut parts = Parts::new(4096);
        let (file, pool) = (parts.file(scene.fuse().open(name)), parts.pool);
        let (host, device) = queue(8);
        let io = parts.builder().queue(host).spawn().unwrap();
        let write = |at| {
            Request::write(file, at, 4096)
                .from_buffer(pool, 0)
                .durable()
        };
        let refused = ask(&device, write(MIDDLE));
        assert!(refused.is_err(), "{name}: {refused:?}");
        assert_eq!(ask(&device, Request::sync(file)), Ok(0), "{name}");
        assert_eq!(ask(&device, write(0)), Ok(4096), "{name}");
        io.stop().unwrap();
    }
}

fn open(scene: &Scene, name: &str) -> File {
    let mut options = File::options();
    let options = options.read(true).write(true);
    options.open(scene.path("thin").join(name)).unwrap()
}
