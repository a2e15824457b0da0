//! Tests of short transfers, and of transfers that the kernel cannot complete at once.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{Advice, fadvise};
use vyre_faults::rig::{Parts, ask, assert_holds, queue};
use vyre_faults::{Ext4, Fuse, Need, Scene, Test, eventually, pattern, tests};
use vyre_ioq::{Errno, Request};
use vyre_uring::Buffer;

use crate::raw;

pub(crate) const TESTS: &[Test] = tests![
    a_fuse_file_without_faults_is_read_and_written: [Need::Fuse],
    an_error_inside_a_file_is_not_its_end: [Need::Fuse],
    short_direct_reads_are_resumed: [Need::Fuse],
    short_direct_writes_are_resumed: [Need::Fuse, Need::SyncFuse],
    direct_transfers_across_a_gibibyte_of_a_buffer_are_aligned: [Need::Ext4(Ext4 {
        at: "4k",
        mib: 64,
        store_mib: 80,
        sector: 4096,
    })],
    a_prefetch_reads_ahead_its_whole_range: [Need::Ext4(Ext4 {
        at: "ext4",
        mib: 128,
        store_mib: 144,
        sector: 512,
    })],
];

fn a_fuse_file_without_faults_is_read_and_written(scene: &Scene) {
    let fuse = scene.fuse();
    for name in ["plain", "plain.dio"] {
        let mut parts = Parts::new(4 << 20);
        let file = parts.file(fuse.open(name));
        let (pool, memory) = (parts.pool, parts.memory.clone());
        let (host, device) = queue(4);
        let io = parts.builder().queue(host).spawn().unwrap();
        let len = Fuse::LEN as u32;
        let read = Request::read(file, 0, 2 << 20).into_buffer(pool, 0);
        assert_eq!(ask(&device, read), Ok(len));
        assert_holds(&memory, 0, &pattern(0, Fuse::LEN));
        assert_eq!(ask(&device, read.exact()), Err(Errno::ENODATA));
        assert_eq!(
            ask(
                &device,
                Request::write(file, 100, 9000).from_buffer(pool, 0)
            ),
            Ok(9000)
        );
        assert_eq!(ask(&device, Request::sync(file)), Ok(0));
        assert_eq!(
            ask(
                &device,
                Request::read(file, 100, 9000).into_buffer(pool, 2 << 20)
            ),
            Ok(9000)
        );
        assert_holds(&memory, 2 << 20, &pattern(0, 9000));
        io.stop().unwrap();
    }
}

/// Rules: ABI-6.2, ABI-6.5.
fn an_error_inside_a_file_is_not_its_end(scene: &Scene) {
    const MIDDLE: u64 = 512 << 10;
    let fuse = scene.fuse();
    for name in ["eio-read", "eio-read.dio"] {
        let mut parts = Parts::new(1 << 20);
        let file = parts.file(fuse.open(name));
        let pool = parts.pool;
        let (host, device) = queue(4);
        let io = parts.builder().queue(host).spawn().unwrap();
        let read = |at, count| Request::read(file, at, count).into_buffer(pool, 0);
        assert_eq!(ask(&device, read(0, 4096)), Ok(4096), "{name}");
        assert_eq!(ask(&device, read(MIDDLE, 4096)), Err(Errno::EIO), "{name}");
        assert_eq!(
            ask(&device, read(MIDDLE, 4096).exact()),
            Err(Errno::EIO),
            "{name}"
        );
        io.stop().unwrap();
    }
}

/// Returns these words, each with the flags with which a file of that name is opened.
fn kinds(words: [&str; 2]) -> [(String, i32); 4] {
    let [one, two] = words.map(|word| format!("{word}.dio"));
    [
        (one.clone(), 0),
        (one, libc::O_DIRECT),
        (two.clone(), 0),
        (two, libc::O_DIRECT),
    ]
}

/// Rules: ABI-6.4, ABI-6.5.
fn short_direct_reads_are_resumed(scene: &Scene) {
    const BLOCK: usize = 8192;
    let fuse = scene.fuse();
    for (name, flags) in kinds(["short-read", "half-read"]) {
        let mut parts = Parts::new(1 << 20);
        let file = parts.file(fuse.open_with(&name, flags));
        let (pool, memory) = (parts.pool, parts.memory.clone());
        let (host, device) = queue(4);
        let io = parts.builder().queue(host).spawn().unwrap();
        let read = |at: usize| Request::read(file, at as u64, BLOCK as u32).into_buffer(pool, 0);
        for at in [0, BLOCK, 64 * BLOCK] {
            for read in [read(at), read(at).exact()] {
                memory.write_at(0, &[0; BLOCK]).unwrap();
                assert_eq!(ask(&device, read), Ok(BLOCK as u32), "{name}");
                assert_holds(&memory, 0, &pattern(at, BLOCK));
            }
        }
        let last = Fuse::LEN / BLOCK * BLOCK;
        let rest = Fuse::LEN - last;
        assert_eq!(ask(&device, read(last)), Ok(rest as u32), "{name}");
        assert_holds(&memory, 0, &pattern(last, rest));
        assert_eq!(
            ask(&device, read(last).exact()),
            Err(Errno::ENODATA),
            "{name}"
        );
        assert_eq!(ask(&device, read(last + BLOCK)), Ok(0), "{name}");
        io.stop().unwrap();
    }
}

/// Writes in parts, and reads back. On a file system without FUSE_ASYNC_DIO and with O_DIRECT,
/// Linux 6.18 writes all parts of a short write at the first offset and reports success, which
/// cannot be tested here.
///
/// Rule: ABI-6.4.
fn short_direct_writes_are_resumed(scene: &Scene) {
    for name in ["short-write.dio", "half-write.dio"] {
        assert!(writes(scene.sync_fuse().open(name), name, Some));
    }
    // Linux turns a short reply to an asynchronous write into EIO, and does not say how much was
    // written.
    for (name, flags) in kinds(["short-write", "half-write"]) {
        let file = scene.fuse().open_with(&name, flags);
        let is_known = |wrote| (wrote != Err(Errno::EIO)).then_some(wrote);
        println!("{name}, {flags}: whole: {}", writes(file, &name, is_known));
    }
}

/// Writes blocks, and checks those whose outcome is `judged`. Returns whether all were.
fn writes(
    file: File,
    name: &str,
    judged: impl Fn(Result<u32, Errno>) -> Option<Result<u32, Errno>>,
) -> bool {
    const BLOCK: usize = 8192;
    let mut parts = Parts::new(1 << 20);
    let file = parts.file(file);
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let io = parts.builder().queue(host).spawn().unwrap();
    let mut whole = true;
    for (at, exact) in [(0, false), (64 * BLOCK, true)] {
        let bytes = pattern(at + 3, BLOCK);
        memory.write_at(0, &bytes).unwrap();
        let write = Request::write(file, at as u64, BLOCK as u32).from_buffer(pool, 0);
        let write = if exact { write.exact() } else { write };
        let Some(wrote) = judged(ask(&device, write)) else {
            whole = false;
            continue;
        };
        assert_eq!(wrote, Ok(BLOCK as u32), "{name}");
        let read = Request::read(file, at as u64, BLOCK as u32).into_buffer(pool, BLOCK as u64);
        assert_eq!(ask(&device, read), Ok(BLOCK as u32), "{name}");
        assert_holds(&memory, BLOCK, &bytes);
    }
    io.stop().unwrap();
    whole
}

fn direct_transfers_across_a_gibibyte_of_a_buffer_are_aligned(scene: &Scene) {
    const GIB: u64 = 1 << 30;
    const LEN: usize = 16 << 10;
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .create(true)
        .custom_flags(libc::O_DIRECT);
    let disk = options.open(scene.path("4k").join("file")).unwrap();
    let mut parts = Parts::new(4096);
    let file = parts.file(disk);
    let memory = Buffer::anonymous((GIB + (1 << 20)) as usize).unwrap();
    let pool = parts.buffers.insert(memory.clone()).unwrap();
    let (host, device) = queue(4);
    let io = parts.builder().queue(host).spawn().unwrap();
    for before in [512, 4096, 4608, 8192, 15_872] {
        let at = GIB - before;
        let bytes = pattern(before as usize, LEN);
        memory.write_at(at as usize, &bytes).unwrap();
        let write = Request::write(file, 0, LEN as u32).from_buffer(pool, at);
        assert_eq!(ask(&device, write), Ok(LEN as u32), "{before} bytes before");
        memory.write_at(at as usize, &[0; LEN]).unwrap();
        let read = Request::read(file, 0, LEN as u32).into_buffer(pool, at);
        for read in [read, read.exact()] {
            assert_eq!(ask(&device, read), Ok(LEN as u32), "{before} bytes before");
        }
        assert_holds(&memory, at as usize, &bytes);
    }
    io.stop().unwrap();
}

/// Rule: ABI-6.6.
fn a_prefetch_reads_ahead_its_whole_range(scene: &Scene) {
    const LEN: usize = 96 << 20;
    let mut disk = scene.create("ext4", "file");
    for at in (0..LEN).step_by(1 << 20) {
        std::io::Write::write_all(&mut disk, &pattern(at, 1 << 20)).unwrap();
    }
    disk.sync_all().unwrap();
    let mut parts = Parts::new(4096);
    let file = parts.file(disk.try_clone().unwrap());
    let (host, device) = queue(4);
    let io = parts.builder().queue(host).spawn().unwrap();
    for (at, len) in [(0, LEN / 2), (LEN / 2, LEN / 2), (0, LEN)] {
        eventually("an empty page cache", || {
            fadvise(&disk, 0, None, Advice::DontNeed).unwrap();
            raw::resident(&disk, LEN) == 0
        });
        let prefetch = Request::prefetch(file, at as u64, len as u32);
        assert_eq!(ask(&device, prefetch), Ok(0));
        // When memory runs low, the kernel drops pages of a file that nobody reads.
        eventually("the read-ahead", || {
            raw::resident(&disk, LEN) >= len / 4 * 3
        });
    }
    io.stop().unwrap();
}
