//! Files that are in memory alone.

use std::io::Write;
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, Mode, OFlags, fcntl_getfl, memfd_create};

use super::*;

const WRITE: Operation = Operation::Write {
    file: FileSlot::new(0),
    offset: 0,
    buffer: BufferSlot::new(0),
    buffer_offset: 0,
    len: 1,
    durable: false,
};

fn result_of(ring: &mut Ring, operation: Operation) -> Result<u32, Errno> {
    ring.push(operation, 1).unwrap();
    ring.wait(None).unwrap();
    let mut result = None;
    ring.reap(|completion| result = Some(completion.result));
    result.unwrap()
}

fn set(ring: &mut Ring, file: impl Into<OwnedFd>) -> Arc<OwnedFd> {
    let file = Arc::new(file.into());
    ring.set_file(FileSlot::new(0), Some(file.clone())).unwrap();
    file
}

/// Returns an open memfd that holds 64 bytes.
fn memfd(flags: OFlags) -> OwnedFd {
    let memfd = memfd_create("vyre-test", MemfdFlags::CLOEXEC).unwrap();
    assert_eq!(rustix::io::pwrite(&memfd, &[7; 64], 0), Ok(64));
    let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

/// Returns a file of each kind that this machine has.
fn files(test: &str) -> Vec<OwnedFd> {
    let mut files = vec![memfd(OFlags::RDWR)];
    let mut add = |what: &str, made: std::io::Result<OwnedFd>| match made {
        Ok(file) => files.push(file),
        Err(error) => {
            let line = format!("SKIPPED: {test}: {what}: {error}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
    };
    add(
        "a file of /dev/shm",
        tempfile::tempfile_in("/dev/shm").and_then(|mut file| {
            file.write_all(&[7; 64])?;
            Ok(file.into())
        }),
    );
    // A hole, which takes no page.
    let huge = memfd_create("vyre-test", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB);
    add(
        "huge pages",
        huge.and_then(|file| rustix::fs::ftruncate(&file, 2 << 20).map(|()| file))
            .map_err(Into::into),
    );
    files
}

#[test]
fn reads_take_no_worker_and_writes_do() {
    // On a thread of its own: the workers of other threads are not counted.
    let checked = std::thread::spawn(|| {
        let mut ring = ring();
        for file in files("reads_take_no_worker_and_writes_do") {
            let opened = fcntl_getfl(&file).unwrap();
            let file = set(&mut ring, file);
            assert_eq!(result_of(&mut ring, READ), Ok(1));
            assert_eq!(workers(), 0, "read inline");
            assert_eq!(fcntl_getfl(&file), Ok(opened), "others may share it");
        }
        // It may wait for memory.
        set(&mut ring, memfd(OFlags::RDWR));
        assert_eq!(result_of(&mut ring, WRITE), Ok(1));
        assert_eq!(workers(), 1, "handed over");
    });
    checked.join().unwrap();
}

/// The ring opens a file once more. It must not be able to do more with it, or anything else.
#[test]
fn a_file_keeps_its_rights_and_its_flags() {
    let mut ring = ring();
    for (flags, read, written, len) in [
        (OFlags::RDONLY, Ok(1), Err(Errno::BADF), 64),
        (OFlags::WRONLY, Err(Errno::BADF), Ok(1), 64),
        (OFlags::RDWR, Ok(1), Ok(1), 64),
        (OFlags::RDWR | OFlags::APPEND, Ok(1), Ok(1), 65),
        (OFlags::RDWR | OFlags::NONBLOCK, Ok(1), Ok(1), 64),
    ] {
        let file = set(&mut ring, memfd(flags));
        assert_eq!(result_of(&mut ring, READ), read, "{flags:?}");
        assert_eq!(result_of(&mut ring, WRITE), written, "{flags:?}");
        let size = rustix::fs::fstat(&file).unwrap().st_size;
        assert_eq!(size, len, "{flags:?}");
    }
}

/// Without the right to open the file again, workers read it.
#[test]
fn a_file_that_cannot_be_opened_again_is_served_all_the_same() {
    let mut ring = ring();
    let file = memfd(OFlags::RDWR);
    // Root may open it nevertheless, and then it shows nothing that others do not.
    rustix::fs::fchmod(&file, Mode::empty()).unwrap();
    set(&mut ring, file);
    assert_eq!(result_of(&mut ring, READ), Ok(1));
    assert_eq!(result_of(&mut ring, WRITE), Ok(1));
}
