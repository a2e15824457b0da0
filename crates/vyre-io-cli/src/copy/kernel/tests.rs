//! The kernel on threads, through the CPU's stand-in for a GPU, against a real loop and real files.

use std::fs::File;
use std::io::Write;

use vyre_io::{BufferTable, FileTable, IoLoop, Rights};

use super::*;
use crate::threads::{Program as OnThreads, Threads};

const BLOCK: u32 = 64 << 10;
const LANES: u32 = 3;

/// Result of a copy.
struct Fared {
    result: Result<(), GpuCopyError>,
    /// Blocks copied.
    copied: u64,
    /// Requests, over all lanes.
    asked: u64,
}

/// The kernel, compiled for threads.
struct Stage(OnThreads);

impl Stage {
    fn new() -> Self {
        Self(OnThreads::compile(SOURCE, NAME).expect("g++"))
    }

    /// Copies `bytes` bytes of a file to another by the kernel. Then, if that went well, the kernel
    /// syncs the other.
    fn copy(&self, from: File, to: File, bytes: u64, granularity: u32) -> Fared {
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let from = files.insert(from, Rights::READ).expect("room");
        let rights = Rights::WRITE | Rights::SYNC;
        let to = files.insert(to, rights).expect("room");
        let mut device = Threads::new().expect("a directory");
        let mut memory = |len| device.memory(len).expect("memory");
        let (buffer, data) = memory((LANES * BLOCK) as usize);
        let (copied, copied_at) = memory(LANES as usize * WORD);
        let (faults, faults_at) = memory(LANES as usize * size_of::<Fault>());
        let (shared, shared_at) = memory(SHARED_BYTES);
        // Nothing of what is not written may be in the copy by chance.
        let dirt = vec![0xdd; buffer.len()];
        buffer.write_at(0, &dirt).expect("inside");
        let pool = buffers.insert(buffer).expect("room");
        let (host, view) = device.queue(QueueLayout::with_slots(64)).expect("memory");
        let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
        let io = builder.spawn().expect("a loop");

        let task = Task::Copy {
            from,
            to,
            pool,
            bytes,
            granularity,
        };
        let run = |task: &Task| {
            let args = Args {
                queue: view,
                data,
                copied: copied_at,
                shared: shared_at,
                faults: faults_at,
                ..task.args(LANES, BLOCK)
            };
            for memory in [&copied, &faults, &shared] {
                let zeros = vec![0; memory.len()];
                memory.write_at(0, &zeros).expect("inside");
            }
            let grid = (args.lane_count, WARP);
            let ran = device.run(&self.0, grid, bytemuck::bytes_of(&args));
            ran.expect("an orderly end");
            (first_fault(&all_of(&faults)), blocks_of(&all_of(&copied)))
        };
        let (mut result, copied) = run(&task);
        if result.is_ok() {
            result = run(&Task::Sync { file: to }).0;
        }
        let asked = io.queue_counters(0).expect("one queue").claimed;
        io.stop().expect("an orderly stop");
        Fared {
            result,
            copied,
            asked,
        }
    }
}

fn all_of(buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.len()];
    buffer.read_at(0, &mut bytes).expect("all of it");
    bytes
}

fn contents(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1)
        .collect()
}

fn holding(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("room");
    file
}

fn read(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let len = file.metadata().expect("a file").len();
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

#[test]
fn every_length_is_copied_exactly() {
    let stage = Stage::new();
    for len in [0, 1, 4095, 4096, 4097, BLOCK as usize, 5 << 20 | 77] {
        let expected = contents(len);
        let to = holding(b"");
        let other = to.try_clone().expect("a descriptor");
        let Fared {
            result,
            copied,
            asked,
        } = stage.copy(holding(&expected), other, len as u64, 1);
        assert_eq!(result, Ok(()), "{len} bytes");
        assert_eq!(
            copied,
            (len as u64).div_ceil(u64::from(BLOCK)),
            "{len} bytes"
        );
        // A read and a write of each block; a fence and a sync.
        assert_eq!(asked, 2 * copied + 2, "{len} bytes");
        assert!(read(&to) == expected, "the copy of {len} bytes differs");
    }
}

#[test]
fn what_direct_writes_carry_past_the_end_is_zero() {
    let stage = Stage::new();
    for len in [1, 511, 512, 2 * BLOCK as usize + 1000] {
        let mut expected = contents(len);
        let to = holding(b"");
        let other = to.try_clone().expect("a descriptor");
        let Fared { result, .. } = stage.copy(holding(&expected), other, len as u64, 512);
        assert_eq!(result, Ok(()), "{len} bytes");
        expected.resize(len.next_multiple_of(512), 0);
        assert!(read(&to) == expected, "the copy of {len} bytes differs");
    }
}

#[test]
fn a_source_that_was_cut_is_noticed() {
    let stage = Stage::new();
    // The length was taken before the file was cut.
    let (bytes, left) = (10 * BLOCK, 6 * BLOCK + 5);
    let from = holding(&contents(left as usize));
    let Fared {
        result,
        copied,
        asked,
    } = stage.copy(from, holding(b""), bytes.into(), 1);
    let Err(GpuCopyError::Short {
        offset,
        expected,
        found,
    }) = result
    else {
        panic!("a cut source was copied: {result:?}")
    };
    assert_eq!(expected, BLOCK);
    // Others may find the end first.
    let there = u64::from(left).saturating_sub(offset);
    assert!(offset >= u64::from(6 * BLOCK) && u64::from(found) == there);
    assert_eq!(copied, 6, "nothing past the end was copied");
    let failed = 1..=u64::from(LANES);
    assert!(failed.contains(&(asked - 2 * copied)), "{asked} requests");
}

#[test]
fn a_full_destination_ends_every_lane() {
    let stage = Stage::new();
    let from = holding(&contents(1 << 20));
    let full = File::options().write(true).open("/dev/full");
    let Fared {
        result,
        copied,
        asked,
    } = stage.copy(from, full.expect("a device"), 1 << 20, 1);
    let Err(GpuCopyError::Refused {
        purpose: Purpose::Write,
        offset,
        errno: Errno::ENOSPC,
    }) = result
    else {
        panic!("/dev/full took it: {result:?}")
    };
    let blocks = offset / u64::from(BLOCK);
    assert!(blocks < u64::from(LANES), "no lane takes a second block");
    assert_eq!(copied, 0);
    assert!(
        asked % 2 == 0,
        "a read and a write each, and no fence: {asked}"
    );
}

#[test]
fn a_sync_that_fails_is_told_from_a_write() {
    let stage = Stage::new();
    // A pipe takes bytes in any order, and cannot be synced.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let to = File::from(std::os::fd::OwnedFd::from(writer));
    let Fared {
        result,
        copied,
        asked,
    } = stage.copy(holding(b"x"), to, 1, 1);
    let Err(GpuCopyError::Refused { purpose, errno, .. }) = result else {
        panic!("a pipe was synced: {result:?}")
    };
    assert_eq!((purpose, errno, copied), (Purpose::Sync, Errno::EINVAL, 1));
    assert_eq!(asked, 4);
    drop(reader);
}

#[test]
fn every_fault_has_its_error() {
    let fault = Fault {
        offset: 4096,
        purpose: 2,
        end: 1,
        error: 28,
        ..Fault::zeroed()
    };
    let faults = [Fault::zeroed(), fault, Fault { error: 5, ..fault }];
    let error = first_fault(bytemuck::cast_slice(&faults)).expect_err("the second lane's");
    assert_eq!(
        error.to_string(),
        format!("writing the copy failed at byte 4096: {}", Errno::ENOSPC)
    );
    let gone = Fault { end: 3, ..fault }.into_result();
    let expected = GpuCopyError::NoOutcome {
        purpose: Purpose::Write,
        offset: 4096,
    };
    assert_eq!(gone, Err(expected));
}
