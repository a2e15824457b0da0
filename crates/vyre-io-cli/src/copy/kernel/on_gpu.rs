//! The kernel on a real GPU, against a real loop and real files. Where there is no GPU, each test says so
//! and does nothing: run the binary of these tests on a machine that has one.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use vyre_io::{BufferTable, FileTable, IoLoop, LoopOptions, Rights, WaitPolicy};

use super::*;
use crate::common::gpu;

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
fn a_kernel_copies_files_and_reports_what_it_cannot() {
    let Some(gpu) = gpu("a_kernel_copies_files_and_reports_what_it_cannot") else {
        return;
    };
    let copier = Copier::load(&gpu).expect("the kernel");
    let copy = |from: &File, to: &File, bytes: u64| {
        let (host, room) = copier
            .room(QueueLayout::with_slots(64), 16, 64 << 10)
            .expect("memory");
        let room = Arc::new(room);
        let (io, from_name, pool) = serve(host, from, room.buffer());
        let to = to.try_clone().expect("a descriptor");
        let to = io
            .insert_file(to, 0..1 << 40, Rights::WRITE | Rights::SYNC)
            .expect("a place");
        let task = Task::Copy {
            from: from_name,
            to,
            pool,
            bytes,
            granularity: 1,
        };
        let run = copier.start(&room, &task).expect("a launch");
        let mut result = run.wait();
        if result.is_ok() {
            assert_eq!(run.bytes_copied(), bytes);
            let sync = Task::Sync { file: to };
            result = copier.start(&room, &sync).expect("a launch").wait();
        }
        io.stop().expect("an orderly stop");
        result
    };
    for len in [0, 1, 4095, 4096, 4097, 33 << 20 | 5] {
        let contents: Vec<u8> = (0..len)
            .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut from = tempfile::tempfile().expect("a file");
        from.write_all(&contents).expect("room");
        let to = tempfile::tempfile().expect("a file");
        assert_eq!(copy(&from, &to, len.into()), Ok(()), "{len} bytes");
        let mut found = vec![0; contents.len()];
        to.read_exact_at(&mut found, 0).expect("as long");
        assert!(found == contents, "the copy of {len} bytes differs");
        assert_eq!(to.metadata().expect("a file").len(), u64::from(len));
        if len > 0 {
            let full = File::options().write(true).open("/dev/full");
            let refused = copy(&from, &full.expect("a device"), len.into());
            assert!(
                matches!(
                    refused,
                    Err(GpuCopyError::Refused {
                        purpose: Purpose::Write,
                        errno: Errno::ENOSPC,
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
        let cut = copy(&from, &to, u64::from(len) + 1);
        let Err(GpuCopyError::Short {
            expected, found, ..
        }) = cut
        else {
            panic!("a byte that is not there was copied: {cut:?}")
        };
        assert_eq!(found + 1, expected);
    }
}
