//! Requests that the kernel keeps hold up no others.

use vyre_faults::rig::{Parts, answer, ask, beats, contents, queue, submit};
use vyre_faults::{Ext4, Fuse, Need, Scene, Test, pattern};
use vyre_ioq::{Errno, Request};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "hung_cached_reads_hold_up_no_other_queue",
        needs: &[Need::Fuse],
        run: hung_cached_reads_hold_up_no_other_queue,
    },
    Test {
        name: "a_fuse_file_in_order_is_read_and_written",
        needs: &[Need::Fuse],
        run: a_fuse_file_in_order_is_read_and_written,
    },
    Test {
        name: "an_error_in_mid_file_is_the_file_s",
        needs: &[Need::Fuse],
        run: an_error_in_mid_file_is_the_file_s,
    },
    Test {
        name: "a_frozen_write_is_answered_after_the_thaw",
        needs: &[Need::Ext4(Ext4::at("ext4"))],
        run: a_frozen_write_is_answered_after_the_thaw,
    },
];

fn hung_cached_reads_hold_up_no_other_queue(scene: &Scene) {
    const HUNG: u32 = 4;
    let fuse = scene.fuse();
    let mut parts = Parts::new(1 << 20);
    let hung: Vec<_> = (0..HUNG)
        .map(|index| parts.file(fuse.open(&format!("hang-read.{index}"))))
        .collect();
    let healthy = parts.file(scene.healthy(8192));
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let ((host0, one), (host1, two)) = (queue(64), queue(4));
    let io = parts.builder().queue(host0).queue(host1).spawn().unwrap();
    let tickets: Vec<_> = hung
        .iter()
        .zip(0..)
        .map(|(&file, at)| submit(&one, Request::read(file, 0, 4096).into(pool, at * 4096)))
        .collect();
    fuse.wait_for_hanging(HUNG as usize);

    beats(&two);
    let offset = 512 << 10;
    assert_eq!(
        ask(&two, Request::read(healthy, 0, 8192).into(pool, offset)),
        Ok(8192)
    );
    assert_eq!(contents(&memory, offset as usize, 8192), pattern(0, 8192));
    assert_eq!(ask(&two, Request::fence()), Ok(0));
    assert!(tickets.iter().all(|ticket| one.poll(ticket).is_none()));

    fuse.release();
    for (ticket, at) in tickets.into_iter().zip(0..) {
        assert_eq!(answer(&one, ticket), Ok(4096));
        assert_eq!(contents(&memory, at * 4096, 4096), pattern(0, 4096));
    }
    io.stop().unwrap();
}

fn a_fuse_file_in_order_is_read_and_written(scene: &Scene) {
    let fuse = scene.fuse();
    for name in ["plain", "plain.dio"] {
        let mut parts = Parts::new(4 << 20);
        let file = parts.file(fuse.open(name));
        let (pool, memory) = (parts.pool, parts.memory.clone());
        let (host, device) = queue(4);
        let io = parts.builder().queue(host).spawn().unwrap();
        let len = Fuse::LEN as u32;
        assert_eq!(
            ask(&device, Request::read(file, 0, 2 << 20).into(pool, 0)),
            Ok(len)
        );
        assert_eq!(contents(&memory, 0, Fuse::LEN), pattern(0, Fuse::LEN));
        assert_eq!(
            ask(&device, Request::write(file, 100, 9000).from(pool, 0)),
            Ok(9000)
        );
        assert_eq!(ask(&device, Request::sync(file)), Ok(0));
        assert_eq!(
            ask(&device, Request::read(file, 100, 9000).into(pool, 2 << 20)),
            Ok(9000)
        );
        assert_eq!(contents(&memory, 2 << 20, 9000), pattern(0, 9000));
        io.stop().unwrap();
    }
}

fn an_error_in_mid_file_is_the_file_s(scene: &Scene) {
    const MIDDLE: u64 = 512 << 10;
    let fuse = scene.fuse();
    for name in ["eio-read", "eio-read.dio"] {
        let mut parts = Parts::new(1 << 20);
        let file = parts.file(fuse.open(name));
        let pool = parts.pool;
        let (host, device) = queue(4);
        let io = parts.builder().queue(host).spawn().unwrap();
        let read = |at, count| ask(&device, Request::read(file, at, count).into(pool, 0));
        assert_eq!(read(0, 4096), Ok(4096), "{name}");
        assert_eq!(read(MIDDLE, 4096), Err(Errno::EIO), "{name}");
        io.stop().unwrap();
    }
}

fn a_frozen_write_is_answered_after_the_thaw(scene: &Scene) {
    let mut parts = Parts::new(1 << 20);
    let frozen = parts.file(scene.create("ext4", "file"));
    let healthy = parts.file(scene.healthy(8192));
    let pool = parts.pool;
    let ((host0, one), (host1, two)) = (queue(64), queue(4));
    let io = parts.builder().queue(host0).queue(host1).spawn().unwrap();
    let guard = scene.freeze("ext4");
    let write = submit(&one, Request::write(frozen, 0, 4096).from(pool, 0));
    assert_eq!(
        ask(&two, Request::read(healthy, 0, 4096).into(pool, 8192)),
        Ok(4096)
    );
    assert_eq!(ask(&two, Request::fence()), Ok(0));
    assert!(one.poll(&write).is_none());
    drop(guard);
    assert_eq!(answer(&one, write), Ok(4096));
    io.stop().unwrap();
}
