use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::*;

fn memfd(bytes: u64, seals: SealFlags) -> OwnedFd {
    let memfd = memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("a memfd");
    ftruncate(&memfd, bytes).expect("its length");
    fcntl_add_seals(&memfd, seals).expect("its seals");
    memfd
}

/// Rules: SEC-16, HS-5.1.
#[test]
fn memory_that_can_shrink_is_refused() {
    let refused = Mapping::new(memfd(4096, SealFlags::GROW), 4096);
    assert!(matches!(refused, Err(MemoryError::CanShrink)));
    assert!(Mapping::new(memfd(4096, SealFlags::SHRINK), 4096).is_ok());
}

/// Rule: HS-5.1.
#[test]
fn what_is_no_memfd_or_is_shorter_than_was_said_is_refused() {
    let file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile());
    let file = file.expect("a file");
    file.set_len(4096).expect("its length");
    assert!(Mapping::new(&file, 4096).is_err());
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    assert!(matches!(
        Mapping::new(&reader, 1),
        Err(MemoryError::NotMemfd(_))
    ));
    let memfd = memfd(4096, SealFlags::SHRINK);
    for need in [0, 4097, u64::MAX, i64::MAX as u64] {
        let refused = Mapping::new(&memfd, need);
        assert!(matches!(
            refused,
            Err(MemoryError::WrongLength { have: 4096, .. })
        ));
    }
}

#[test]
fn bytes_are_read_and_written_at_every_offset() {
    let fd = memfd(4096, SealFlags::SHRINK);
    let memory = SharedMemory::new(Mapping::new(&fd, 61).expect("it is good"));
    let file = File::from(fd);
    let mut model = [0; 61];
    for (round, (offset, count)) in (0..40)
        .flat_map(|at| (0..21).map(move |n| (at, n)))
        .enumerate()
    {
        let data: Vec<u8> = (0..count).map(|at| (round + at) as u8).collect();
        memory.write_at(offset, &data).expect("inside");
        model[offset..offset + count].copy_from_slice(&data);
        let mut seen = vec![0; count];
        memory.read_at(offset, &mut seen).expect("inside");
        assert_eq!(seen, data);
    }
    let mut all = [0; 61];
    file.read_exact_at(&mut all, 0).expect("the memfd");
    assert_eq!(all, model, "nothing beside was written");
    assert!(memory.read_at(61, &mut [0]).is_err() && memory.write_at(usize::MAX, &[0, 1]).is_err());
    assert_eq!((memory.len(), memory.is_empty()), (61, false));
}
