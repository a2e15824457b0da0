//! Copies out of a mapping, whole, past the end of the file, and beside truncations.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vyre_mapped::{CopyError, Errno, MapError, Mapping, Recovery};

/// The size of a page in bytes.
fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// Returns bytes of which neighbours differ, and none of which is zero.
fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|at| (at % 251 + 1) as u8).collect()
}

fn memfd(contents: &[u8]) -> File {
    let memfd = memfd_create("vyre-mapped", MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(memfd);
    file.write_all(contents).unwrap();
    file
}

/// A file on the disk's file system, if that is allowed, and a memfd.
fn files(contents: &[u8]) -> Vec<File> {
    let mut on_disk = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    on_disk.write_all(contents).unwrap();
    let mut files = vec![memfd(contents)];
    match Mapping::new(&on_disk, 0..1) {
        Ok(_) => files.push(on_disk),
        Err(MapError::UnknownFileSystem { .. } | MapError::Overlay | MapError::Xfs) => {}
        Err(other) => panic!("{other}"),
    }
    files
}

#[test]
fn ranges_of_every_alignment_and_length_are_copied() {
    let contents = pattern(3 * page());
    for file in files(&contents) {
        let (start, end) = (page() + 3, 3 * page() - 5);
        let mapping = Mapping::new(file, start..end).unwrap();
        assert_eq!(mapping.range(), start..end);
        let recovery = Recovery::new().unwrap();
        for shift in 0..17 {
            for len in (0..200).chain([1000, page() - 9]) {
                let at = start + shift;
                let mut seen = vec![0; len as usize + 1];
                let count = mapping.copy_to(&recovery, at..at + len, &mut seen);
                assert_eq!(count, Ok(len as usize));
                assert_eq!(
                    seen[..len as usize],
                    contents[at as usize..][..len as usize]
                );
                assert_eq!(seen[len as usize], 0, "a byte past the range was written");
            }
        }
    }
}

#[test]
fn ranges_outside_the_mapping_are_refused() {
    let mapping = Mapping::new(memfd(&pattern(100)), 10..50).unwrap();
    let recovery = Recovery::new().unwrap();
    let mut seen = [0; 64];
    let backwards = std::ops::Range { start: 30, end: 20 };
    for range in [9..20, 10..51, 50..51, 51..51, u64::MAX..u64::MAX, backwards] {
        let refused = mapping.copy_to(&recovery, range, &mut seen);
        assert_eq!(refused, Err(CopyError::OutOfRange));
    }
    assert_eq!(mapping.copy_to(&recovery, 50..50, &mut seen), Ok(0));
    let short = CopyError::DestinationTooShort { len: 4, wanted: 5 };
    assert_eq!(
        mapping.copy_to(&recovery, 10..15, &mut seen[..4]),
        Err(short)
    );
    assert_eq!(seen, [0; 64]);
}

#[test]
fn ranges_that_cannot_be_mapped_are_refused() {
    let file = memfd(&pattern(1));
    let refused = |range| Mapping::new(&file, range).map(drop);
    assert_eq!(refused(5..5), Err(MapError::EmptyRange));
    assert_eq!(refused(0..u64::MAX), Err(MapError::RangeTooLong));
    assert_eq!(refused(0..1 << 63), Err(MapError::RangeTooLong));
    assert_eq!(refused(0..1 << 62), Err(MapError::Map(Errno::NOMEM)));
}

/// Rule: SEC-17.
#[test]
fn a_copy_past_the_end_of_the_file_is_a_fault_and_no_crash() {
    let contents = pattern(4 * page());
    for file in files(&contents) {
        let mapping = Mapping::new(&file, 0..4 * page()).unwrap();
        let recovery = Recovery::new().unwrap();
        let mut seen = vec![9; contents.len()];
        ftruncate(&file, page() + 100).unwrap();
        let fault = mapping.copy_to(&recovery, 0..4 * page(), &mut seen);
        let copied = 2 * page() as usize;
        assert_eq!(fault, Err(CopyError::Fault { copied }));
        let end = page() as usize + 100;
        assert_eq!(seen[..end], contents[..end]);
        assert!(seen[end..copied].iter().all(|&byte| byte == 0));
        assert!(seen[copied..].iter().all(|&byte| byte == 9));
        // Of a range that begins before the fault, the bytes before it were copied. A copy by blocks of 64
        // bytes counts those of whole blocks.
        let at = 2 * page() - 67;
        seen.fill(9);
        let fault = mapping.copy_to(&recovery, at..at + 200, &mut seen);
        let Err(CopyError::Fault { copied }) = fault else {
            panic!("{fault:?}");
        };
        assert!((64..=67).contains(&copied), "{copied}");
        assert!(seen[..copied].iter().all(|&byte| byte == 0));
        assert!(seen[67..].iter().all(|&byte| byte == 9));
        // The file may grow again.
        ftruncate(&file, 4 * page()).unwrap();
        assert_eq!(mapping.copy_to(&recovery, at..at + 100, &mut seen), Ok(100));
        assert!(seen[..100].iter().all(|&byte| byte == 0));
    }
}

/// Rule: SEC-17.
#[test]
fn reads_at_the_end_of_the_file_are_short_as_those_of_pread() {
    let contents = pattern(2 * page() + 10);
    for file in files(&contents) {
        let mapping = Mapping::new(&file, 5..3 * page()).unwrap();
        assert!(mapping.checks_size());
        let recovery = Recovery::new().unwrap();
        // The last are outside the mapping.
        for at in [
            5,
            2 * page() - 5,
            2 * page() + 9,
            2 * page() + 10,
            0,
            9 * page(),
        ] {
            let (mut seen, mut expected) = ([7; 64], [7; 64]);
            let count = mapping.read_at(&recovery, at, &mut seen).unwrap();
            let wanted = file.read_at(&mut expected, at).unwrap();
            assert_eq!(seen[..count], expected[..wanted], "at {at}");
        }
        assert_eq!(mapping.file_size(), Ok(contents.len() as u64));
    }
}

#[test]
fn errors_of_pread_are_passed_on() {
    let mapping = Mapping::new(memfd(&[1]), 0..1).unwrap();
    let recovery = Recovery::new().unwrap();
    let negative = mapping.read_at(&recovery, 1 << 63, &mut [0]);
    assert_eq!(negative, Err(Errno::INVAL));
}

#[test]
fn the_size_of_a_memfd_that_cannot_shrink_is_not_checked() {
    let file = memfd(&pattern(100));
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    assert!(!Mapping::new(&file, 0..100).unwrap().checks_size());
    assert!(Mapping::new(&file, 0..101).unwrap().checks_size());
    assert!(
        Mapping::new(memfd(&pattern(100)), 0..100)
            .unwrap()
            .checks_size()
    );
}

#[test]
fn later_writes_are_seen() {
    for file in files(&pattern(page())) {
        let mapping = Mapping::new(&file, 0..page()).unwrap();
        let recovery = Recovery::new().unwrap();
        file.write_all_at(b"new", 10).unwrap();
        let mut seen = [0; 3];
        mapping.copy_to(&recovery, 10..13, &mut seen).unwrap();
        assert_eq!(&seen, b"new");
    }
}

#[test]
fn a_mapping_outlives_its_file_and_moves_between_threads() {
    let file = memfd(b"bytes");
    let mapping = Mapping::new(&file, 0..5).unwrap();
    drop(file);
    let read = std::thread::spawn(move || {
        let recovery = Recovery::new().unwrap();
        let mut seen = [0; 5];
        mapping.read_at(&recovery, 0, &mut seen).map(|_| seen)
    });
    assert_eq!(&read.join().unwrap().unwrap(), b"bytes");
}

#[test]
fn populate_ends_at_the_end_of_the_file() {
    let mapping = Mapping::new(memfd(&pattern(2 * page())), 7..4 * page()).unwrap();
    assert_eq!(mapping.populate(7..2 * page()), Ok(()));
    assert_eq!(mapping.populate(page() + 3..2 * page() - 3), Ok(()));
    assert_eq!(mapping.populate(7..4 * page()), Err(Errno::FAULT));
    assert_eq!(mapping.populate(0..page()), Err(Errno::INVAL));
}

/// A thread truncates and extends the file and writes it anew, while others read. Each byte below the
/// smallest size is the file's; each byte of a result is the file's or, after an extension, zero.
///
/// Rule: SEC-17.
#[test]
fn reads_beside_truncations_are_those_of_pread() {
    let seconds = std::env::var("VYRE_MAPPED_SECONDS").map_or(1, |it| it.parse().unwrap());
    let contents = pattern(8 * page());
    let smallest = 2 * page() + 100;
    for file in files(&contents) {
        let mapping = Mapping::new(&file, 0..8 * page()).unwrap();
        let ended = AtomicBool::new(false);
        let faults = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut step = 0u64;
                while !ended.load(Relaxed) {
                    step = step
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(99);
                    let size = smallest + (step >> 33) % (8 * page() - smallest);
                    ftruncate(&file, size).unwrap();
                    ftruncate(&file, 8 * page()).unwrap();
                    let rest = &contents[size as usize..];
                    file.write_all_at(rest, size).unwrap();
                }
            });
            let reader = |seed: u64| {
                let (mapping, contents) = (&mapping, &contents);
                move || {
                    let recovery = Recovery::new().unwrap();
                    let (mut seen, mut faults, mut at) = (vec![0; 3 * page() as usize], 0, seed);
                    let until = Instant::now() + Duration::from_secs(seconds);
                    while Instant::now() < until {
                        at = (at * 7919 + 13) % (8 * page());
                        let count = mapping.read_at(&recovery, at, &mut seen).unwrap();
                        check(contents, smallest, at, &seen[..count], seen.len());
                        let range = at..(at + seen.len() as u64).min(8 * page());
                        let copy = mapping.copy_to(&recovery, range, &mut seen);
                        faults += u64::from(matches!(copy, Err(CopyError::Fault { .. })));
                    }
                    faults
                }
            };
            let readers = [1, 2].map(|seed| scope.spawn(reader(seed)));
            let faults = readers.map(std::thread::ScopedJoinHandle::join);
            // Before a panic of a reader goes on: the scope waits for the thread that truncates.
            ended.store(true, Relaxed);
            faults.map(Result::unwrap).iter().sum::<u64>()
        });
        assert!(faults > 0, "no copy met a truncation");
    }
}

/// Checks what a read at `at` returned.
fn check(contents: &[u8], smallest: u64, at: u64, seen: &[u8], wanted: usize) {
    let sure = smallest.saturating_sub(at).min(wanted as u64) as usize;
    assert!(seen.len() >= sure, "{} bytes at {at}", seen.len());
    let expected = &contents[at as usize..][..seen.len()];
    assert_eq!(seen[..sure], expected[..sure], "at {at}");
    for (byte, whole) in seen.iter().zip(expected) {
        assert!(byte == whole || *byte == 0, "{byte} for {whole}");
    }
}

/// A file grows, while another thread reads at its end. No byte of the file is zero, so no byte of a result
/// may be: a copy that sees the zeros after the old end must not be taken for one of the new bytes.
///
/// Rule: SEC-17.
#[test]
fn reads_beside_appends_never_show_the_zeros_after_the_end() {
    let whole = pattern(64 * page());
    for file in files(&[]) {
        let mapping = Mapping::new(&file, 0..64 * page()).unwrap();
        for _ in 0..8 {
            ftruncate(&file, 0).unwrap();
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for (at, bytes) in whole.chunks(16).enumerate() {
                        file.write_all_at(bytes, 16 * at as u64).unwrap();
                    }
                    ended.store(true, Relaxed);
                });
                let recovery = Recovery::new().unwrap();
                let mut seen = [0; 48];
                while !ended.load(Relaxed) {
                    let size = mapping.file_size().unwrap();
                    let at = size.min(64 * page() - 48);
                    let count = mapping.read_at(&recovery, at, &mut seen).unwrap();
                    let expected = &whole[at as usize..][..count];
                    assert_eq!(seen[..count], *expected, "at {at}");
                }
            });
        }
    }
}

#[test]
fn descriptors_are_not_leaked() {
    let file = OwnedFd::from(memfd(&[1]));
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests open files meanwhile, but not hundreds.
    let before = open();
    for _ in 0..500 {
        Mapping::new(&file, 0..1).unwrap();
    }
    assert!(open() < before + 250);
}
