//! Copies between files and memory of the GPU, through pinned memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use vyre_ioq_cuda::{BounceBuffer, BounceError, Gpu, GpuMemory};

use super::views::file_of;
use super::{Other, calls};

#[test]
fn every_byte_goes_to_the_gpu_and_back() {
    if let Some(other) = Other::new("every_byte_goes_to_the_gpu_and_back", "bounces") {
        other.run();
    }
}

pub(crate) fn bounces() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let mut bounce = BounceBuffer::new(&gpu).expect("memory");
    let mib = 1 << 20;
    let len = 7 * mib + 77;
    let file = file_of(len);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).expect("all of it");
    for (offset, len, at) in [
        (0, len, 0),
        (3, 2 * mib, 5),
        (1, 2 * mib + 1, 0),
        (9, 4 * mib, 1),
        (5, 1, 7),
        (0, 0, 0),
    ] {
        let memory = GpuMemory::zeroed(&gpu, at + len + 9).expect("memory");
        let count = bounce.read(&file, offset as u64, &memory, at, len);
        assert_eq!(count.expect("no error"), len);
        let found = memory.read().expect("a copy");
        assert!(found[..at].iter().all(|&byte| byte == 0));
        assert!(found[at..at + len] == bytes[offset..offset + len]);
        assert!(found[at + len..].iter().all(|&byte| byte == 0));
        let back = file_of(offset + 3);
        let count = bounce.write(&back, offset as u64 + 3, &memory, at, len);
        assert_eq!(count.expect("no error"), len);
        let mut found = vec![0; len];
        let read = back.read_exact_at(&mut found, offset as u64 + 3);
        read.expect("all of it");
        assert!(found == bytes[offset..offset + len]);
    }
    // The file ends before the part does.
    let memory = GpuMemory::zeroed(&gpu, len).expect("memory");
    for (offset, count) in [
        (len - 5, 5),
        (len, 0),
        (len + 1, 0),
        (5 * mib, 2 * mib + 77),
    ] {
        let found = bounce.read(&file, offset as u64, &memory, 0, len);
        assert_eq!(found.expect("no error"), count, "{offset}");
        let found = memory.read().expect("a copy");
        assert!(offset > len || found[..count] == bytes[offset..]);
    }
    calls();
    let range = bounce.read(&file, 0, &memory, 1, len);
    assert!(matches!(range, Err(BounceError::OutOfRange { at: 1, .. })));
    let range = bounce.write(&file, 0, &memory, usize::MAX, 1);
    assert!(matches!(range, Err(BounceError::OutOfRange { .. })));
    for offset in [u64::MAX, i64::MAX as u64] {
        let large = bounce.read(&file, offset, &memory, 0, 1);
        assert!(matches!(large, Err(BounceError::Offset)), "{offset}");
    }
    assert!(calls().is_empty());
    // A directory cannot be read, and a file that is open for reading not be written.
    let directory = File::open("/").expect("a directory");
    let failed = bounce.read(&directory, 0, &memory, 0, 9);
    assert!(matches!(failed, Err(BounceError::File(_))), "{failed:?}");
    let read_only = File::open("/proc/self/status").expect("a file");
    let failed = bounce.write(&read_only, 0, &memory, 0, len);
    assert!(matches!(failed, Err(BounceError::File(_))), "{failed:?}");
    let waits = calls();
    assert!(
        waits.iter().any(|call| call == "cuStreamSynchronize"),
        "{waits:?}"
    );
}
