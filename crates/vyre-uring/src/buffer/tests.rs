#![expect(unsafe_code, reason = "tests provide memory of their own")]

use std::os::unix::fs::FileExt;

use super::*;

/// Returns a buffer over plain memory whose base is `shift` bytes past a word boundary.
fn shifted(shift: usize, len: usize) -> Buffer {
    let words = (shift + len).div_ceil(WORD) + 1;
    let owner: Arc<[AtomicU64]> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let base = owner.as_ptr().cast_mut().cast::<u8>().wrapping_add(shift);
    let base = NonNull::new(base).unwrap();
    // SAFETY: the bytes are inside `owner`, whose atomics allow shared writes, and are accessed
    // through the buffer alone.
    unsafe { Buffer::from_raw_parts(base, len, Box::new(owner)) }
}

#[test]
fn every_alignment_and_length_round_trips_and_spares_neighbours() {
    for shift in 0..WORD {
        for len in 1..40 {
            let buffer = shifted(shift, len);
            for offset in 0..len {
                for count in 0..=(len - offset) {
                    buffer.write_at(0, &vec![0xEE; len]).unwrap();
                    let data: Vec<u8> = (1..=count as u8).collect();
                    buffer.write_at(offset, &data).unwrap();
                    let mut expected = vec![0xEE; len];
                    expected[offset..offset + count].copy_from_slice(&data);
                    let mut all = vec![0; len];
                    buffer.read_at(0, &mut all).unwrap();
                    assert_eq!(
                        all, expected,
                        "shift {shift}, {count} bytes at {offset} of {len}"
                    );
                    let mut part = vec![0; count];
                    buffer.read_at(offset, &mut part).unwrap();
                    assert_eq!(part, data);
                }
            }
        }
    }
}

#[test]
fn ranges_outside_are_refused_whole() {
    let buffer = Buffer::anonymous(10).unwrap();
    let mut out = [1; 4];
    let error = buffer.read_at(7, &mut out).unwrap_err();
    assert_eq!(
        error,
        OutOfRange {
            offset: 7,
            count: 4,
            len: 10
        }
    );
    assert_eq!(out, [1; 4]);
    assert!(buffer.write_at(11, &[]).is_err());
    assert!(buffer.write_at(usize::MAX, &[1]).is_err());
    assert!(buffer.write_at(10, &[]).is_ok());
}

#[test]
fn anonymous_memory_is_zero_and_page_aligned() {
    let buffer = Buffer::anonymous(HUGE_PAGE + 1).unwrap();
    assert_eq!(buffer.as_ptr().addr() % page_size(), 0);
    let mut all = vec![1; buffer.len()];
    buffer.read_at(0, &mut all).unwrap();
    assert!(all.iter().all(|&byte| byte == 0));
    assert!(!buffer.is_empty());
}

#[test]
fn all_mappings_of_a_memfd_are_the_same_memory() {
    let (buffer, memfd) = Buffer::memfd(page_size() + 1).unwrap();
    assert_eq!(buffer.len(), page_size() + 1);
    assert_eq!(buffer.as_ptr().addr() % page_size(), 0);
    let mut all = vec![1; buffer.len()];
    buffer.read_at(0, &mut all).unwrap();
    assert!(all.iter().all(|&byte| byte == 0));

    let file = std::fs::File::from(memfd);
    file.write_all_at(b"theirs", page_size() as u64 - 5)
        .unwrap();
    let mut seen = [0; 6];
    buffer.read_at(page_size() - 5, &mut seen).unwrap();
    assert_eq!(&seen, b"theirs");
    buffer.write_at(7, b"ours").unwrap();
    file.read_exact_at(&mut seen[..4], 7).unwrap();
    assert_eq!(&seen[..4], b"ours");
}

/// Rule: SEC-16.
#[test]
fn a_foreign_memfd_is_mapped_if_it_cannot_shrink() {
    let (buffer, memfd) = Buffer::memfd(page_size() + 1).unwrap();
    let other = Buffer::from_memfd(&memfd).unwrap();
    assert_eq!(other.len(), 2 * page_size(), "the whole of it");
    assert!(!other.same_memory(&buffer));
    buffer.write_at(7, b"abcdef").unwrap();
    let mut seen = [0; 6];
    other.read_at(7, &mut seen).unwrap();
    assert_eq!(&seen, b"abcdef");
    drop((buffer, memfd));
    other.read_at(7, &mut seen).unwrap();
    assert_eq!(&seen, b"abcdef");

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create("open", flags).unwrap();
    ftruncate(&memfd, 4096).unwrap();
    let refused = Buffer::from_memfd(&memfd).err();
    assert_eq!(refused, Some(BufferError::CanShrink));
    fcntl_add_seals(&memfd, SealFlags::SHRINK).unwrap();
    assert!(Buffer::from_memfd(&memfd).is_ok());
    let (pipe, _writer) = std::io::pipe().unwrap();
    let refused = Buffer::from_memfd(&pipe).err();
    assert_eq!(
        refused,
        Some(BufferError::NotMemfd(rustix::io::Errno::INVAL))
    );
    let empty = memfd_create("empty", flags).unwrap();
    fcntl_add_seals(&empty, SealFlags::SHRINK).unwrap();
    assert_eq!(Buffer::from_memfd(&empty).err(), Some(BufferError::Empty));
}

/// Rule: SEC-16.
#[test]
fn a_memfd_cannot_change_its_length_or_its_seals() {
    let (buffer, memfd) = Buffer::memfd(2 * page_size()).unwrap();
    let refused = Some(rustix::io::Errno::PERM);
    for len in [0, 1, page_size(), 3 * page_size()] {
        assert_eq!(ftruncate(&memfd, len as u64).err(), refused, "{len} bytes");
    }
    assert_eq!(fcntl_add_seals(&memfd, SealFlags::WRITE).err(), refused);
    assert_eq!(
        fcntl_add_seals(&memfd, SealFlags::FUTURE_WRITE).err(),
        refused
    );
    // The memory is freed with the last mapping or descriptor.
    drop(memfd);
    buffer.write_at(2 * page_size() - 1, b"!").unwrap();
    assert!(
        rustix::io::fcntl_getfd(&Buffer::memfd(1).unwrap().1)
            .unwrap()
            .contains(rustix::io::FdFlags::CLOEXEC)
    );
}

#[test]
fn impossible_lengths_are_errors() {
    assert_eq!(Buffer::anonymous(0).unwrap_err(), BufferError::Empty);
    assert_eq!(
        Buffer::anonymous(usize::MAX).unwrap_err(),
        BufferError::TooLong(usize::MAX)
    );
    assert!(matches!(
        Buffer::anonymous(1 << 60),
        Err(BufferError::Map { .. })
    ));
    assert_eq!(Buffer::memfd(0).unwrap_err(), BufferError::Empty);
    assert_eq!(
        Buffer::memfd(usize::MAX).unwrap_err(),
        BufferError::TooLong(usize::MAX)
    );
    assert!(matches!(
        Buffer::memfd(1 << 60),
        Err(BufferError::Resize { .. } | BufferError::Map { .. })
    ));
}

#[test]
fn buffers_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Buffer>();
}

#[test]
fn clones_share_memory_and_other_buffers_do_not() {
    let one = Buffer::anonymous(8).unwrap();
    let same = one.clone();
    let other = Buffer::anonymous(8).unwrap();
    one.write_at(0, b"abcdefgh").unwrap();
    let mut seen = [0; 8];
    same.read_at(0, &mut seen).unwrap();
    assert_eq!(&seen, b"abcdefgh");
    assert!(one.same_memory(&same));
    assert!(!one.same_memory(&other));
    assert!(!format!("{one:?}").contains("abc"));
}

#[test]
fn the_owner_is_dropped_with_the_last_clone() {
    let witness = Arc::new(());
    let owner = (shifted(0, 8), Arc::clone(&witness));
    let base = NonNull::new(owner.0.as_ptr()).unwrap();
    // SAFETY: the inner buffer, part of the owner, keeps the bytes valid, and is not used itself.
    let buffer = unsafe { Buffer::from_raw_parts(base, 8, Box::new(owner)) };
    let clone = buffer.clone();
    drop(buffer);
    assert_eq!(Arc::strong_count(&witness), 2);
    drop(clone);
    assert_eq!(Arc::strong_count(&witness), 1);
}

#[test]
fn concurrent_writers_of_one_word_lose_nothing() {
    let buffer = Buffer::anonymous(64).unwrap();
    std::thread::scope(|scope| {
        for lane in 0..3usize {
            let buffer = &buffer;
            scope.spawn(move || {
                // Ranges of three bytes: each word is shared by two or three writers.
                for round in 0..200u8 {
                    for at in (lane * 3..60).step_by(9) {
                        buffer.write_at(at, &[round; 3]).unwrap();
                        let mut seen = [0; 3];
                        buffer.read_at(at, &mut seen).unwrap();
                        assert_eq!(seen, [round; 3], "another writer undid bytes at {at}");
                    }
                }
            });
        }
    });
}
