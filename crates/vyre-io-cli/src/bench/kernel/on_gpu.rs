//! The kernel on a real GPU, against a real loop and real files. Where there is no GPU, each test says so
//! and does nothing: run the binary of these tests on a machine that has one.

use std::fs::File;
use std::io::Write;

use vyre_io::{BufferTable, FileTable, IoLoop, LoopOptions, Rights, WaitPolicy};
use vyre_ioq_cuda::landing::{CopyEngine, LandingTransport};

use super::*;
use crate::common::gpu;

fn work(op: RequestKind, operations: u64) -> Work {
    Work {
        op,
        random: true,
        blocks: 1024,
        stamped: true,
        read_each: 1,
        time: Duration::from_secs(60),
        operations,
        timeout: Duration::from_secs(10),
        heartbeat_timeout: None,
        words: false,
    }
}

fn serve(host: HostQueue, file: &File, buffer: Buffer) -> (IoLoop, FileHandle, BufferHandle) {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = file.try_clone().expect("a descriptor");
    let file = files
        .insert(file, Rights::READ | Rights::WRITE)
        .expect("room");
    let pool = buffers.insert(buffer).expect("room");
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let io = builder
        .options(LoopOptions::new().wait_policy(WaitPolicy::Spin))
        .spawn()
        .expect("a loop");
    (io, file, pool)
}

#[test]
fn lanes_write_blocks_and_read_them_back() {
    let Some(gpu) = gpu("lanes_write_blocks_and_read_them_back") else {
        return;
    };
    println!("{:?}", gpu.capabilities());
    let bench = Bench::load(&gpu).expect("the kernel");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&vec![0; 1024 * 4096]).expect("room");
    let layout = QueueLayout::with_slots(256);
    let (mut hosts, room) = bench
        .room(layout, 1, 64, 4096, Landing::None)
        .expect("memory");
    let room = Arc::new(room);
    let host = hosts.pop().expect("one queue");
    let (io, file, pool) = serve(host, &file, room.buffer());
    // Each lane writes its share in order, so that all blocks are written.
    let in_order = Work {
        random: false,
        ..work(RequestKind::Write, 16)
    };
    let in_words = Work {
        words: true,
        ..work(RequestKind::Read, 1000)
    };
    let reads = work(RequestKind::Read, 1000);
    for (work, ops) in [(in_order, 1024), (reads, 64_000), (in_words, 64_000)] {
        let run = bench
            .start(&room, &work, &[(file, pool)])
            .expect("a launch");
        let counted = run.wait().expect("no fault");
        assert_eq!((counted.ops, counted.failed, counted.gave_up), (ops, 0, 0));
        assert_eq!(counted.bytes, ops * 4096);
        assert_eq!(counted.bad, 0, "at byte {}", counted.bad_offset);
        assert_eq!(
            counted.verified,
            if work.op == RequestKind::Read { ops } else { 0 }
        );
        assert_eq!(counted.latencies.values().sum::<u64>(), ops);
    }
    io.stop().expect("an orderly stop");
}

#[test]
fn blocks_land_in_memory_of_the_gpu_by_kernel_and_by_loop() {
    let Some(gpu) = gpu("blocks_land_in_memory_of_the_gpu_by_kernel_and_by_loop") else {
        return;
    };
    let bench = Bench::load(&gpu).expect("the kernel");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&vec![0; 1024 * 4096]).expect("room");
    for (landing, op, ops) in [
        // Stamps the file.
        (Landing::None, RequestKind::Write, 16),
        (Landing::Kernel, RequestKind::Read, 1000),
        (Landing::Loop, RequestKind::Read, 1000),
    ] {
        let layout = QueueLayout::with_slots(64);
        let (mut hosts, room) = bench.room(layout, 1, 64, 4096, landing).expect("memory");
        let room = Arc::new(room);
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let same = file.try_clone().expect("a descriptor");
        let rights = Rights::READ | Rights::WRITE;
        let name = files.insert(same, rights).expect("room");
        let pool = buffers.insert(room.buffer()).expect("room");
        let builder = IoLoop::builder().files(files).buffers(buffers);
        let builder = builder.queue(hosts.pop().expect("one"));
        let io = match room.landing_by_loop() {
            None => builder.spawn(),
            Some(behind) => {
                let engine = CopyEngine::new(&gpu, vec![behind]).expect("a stream");
                builder.spawn_with(|ring| LandingTransport::new(ring, engine))
            }
        };
        let io = io.expect("a loop");
        let work = Work {
            random: op == RequestKind::Read,
            ..work(op, ops)
        };
        let run = bench.start(&room, &work, &[(name, pool)]);
        let counted = run.expect("a launch").wait().expect("no fault");
        assert_eq!((counted.failed, counted.gave_up), (0, 0), "{landing}");
        assert_eq!(counted.ops, 64 * ops, "{landing}");
        assert_eq!(counted.bad, 0, "{landing}: byte {}", counted.bad_offset);
        let looked = if op == RequestKind::Read { 64 * ops } else { 0 };
        assert_eq!(counted.verified, looked, "{landing}");
        assert!(counted.wait_fraction > 0.0 && counted.wait_fraction <= 1.0);
        io.stop().expect("an orderly stop");
    }
}

#[test]
fn the_stop_word_and_the_end_of_the_host_end_the_kernel() {
    let Some(gpu) = gpu("the_stop_word_and_the_end_of_the_host_end_the_kernel") else {
        return;
    };
    let bench = Bench::load(&gpu).expect("the kernel");
    let file = tempfile::tempfile().expect("a file");
    for host_ends in [false, true] {
        let layout = QueueLayout::with_slots(64);
        let (mut hosts, room) = bench
            .room(layout, 1, 8, 4096, Landing::None)
            .expect("memory");
        let room = Arc::new(room);
        let (io, file, pool) = serve(hosts.pop().expect("one"), &file, room.buffer());
        let fences = work(RequestKind::Fence, 0);
        let run = bench
            .start(&room, &fences, &[(file, pool)])
            .expect("a launch");
        std::thread::sleep(Duration::from_millis(200));
        if host_ends {
            io.stop().expect("an orderly stop");
            let counted = run.wait().expect("no fault");
            assert_eq!(counted.gave_up, 8, "every lane saw that the host is gone");
        } else {
            room.set_stop(1);
            let counted = run.wait().expect("no fault");
            assert!(counted.ops > 0 && counted.gave_up == 0, "{counted:?}");
            io.stop().expect("an orderly stop");
        }
    }
}
