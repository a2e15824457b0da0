//! Replaced pages: the stamp of the file changes, and the page is not mapped any more.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags, fallocate, fcntl_setfl};
use vyre_mapped::{Mapping, Stamp};

const PAGES: u64 = 8;
/// Limit that only a hang reaches.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns a file of eight pages in a directory, its populated mapping, and a settled stamp.
fn prepared(directory: &Path) -> (File, Mapping, Stamp) {
    let mut file = tempfile::tempfile_in(directory).expect("room");
    let len = PAGES * Mapping::page_size();
    file.write_all(&vec![7; len as usize]).expect("room");
    file.sync_all().expect("room");
    let mapping = Mapping::new(&file, 0..len).expect("ext4 or tmpfs");
    mapping.populate(0..len).expect("Linux 5.14");
    assert_eq!(mapping.first_unmapped(0..len), Ok(None));
    let began = Instant::now();
    loop {
        let stamp = mapping.stamp().expect("a size");
        if stamp.is_settled() {
            assert_eq!(stamp.size(), len);
            return (file, mapping, stamp);
        }
        assert!(began.elapsed() < LIMIT, "the clock stands still");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Calls `test` for a directory on tmpfs, and for one on the file system of the build, if it is ext4.
fn on_each(name: &str, test: impl Fn(&Path)) {
    test(Path::new("/dev/shm"));
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    match Mapping::new(File::open("/proc/self/exe").expect("a program"), 0..1) {
        Ok(_) => test(build),
        Err(error) => {
            let line = format!("SKIPPED: {name}: on the disk: {error}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

/// Asserts that the page at an offset is found when all pages are asked for.
#[track_caller]
fn assert_unmapped(mapping: &Mapping, at: u64) {
    let page = at..at + Mapping::page_size();
    assert_eq!(mapping.first_unmapped(page), Ok(Some(at)));
    let first = mapping.first_unmapped(mapping.range()).expect("a list");
    assert!(first.is_some_and(|first| first <= at), "{first:?}");
}

#[test]
fn a_file_that_nobody_changes_keeps_its_stamp_and_its_pages() {
    on_each(
        "a_file_that_nobody_changes_keeps_its_stamp_and_its_pages",
        |directory| {
            let (_file, mapping, stamp) = prepared(directory);
            assert_eq!(mapping.stamp(), Ok(stamp));
            assert_eq!(mapping.first_unmapped(mapping.range()), Ok(None));
        },
    );
}

#[test]
fn a_write_through_the_page_cache_replaces_no_page() {
    on_each(
        "a_write_through_the_page_cache_replaces_no_page",
        |directory| {
            let (file, mapping, stamp) = prepared(directory);
            file.write_all_at(b"new", 5000).expect("room");
            assert_ne!(mapping.stamp(), Ok(stamp));
            assert_eq!(mapping.first_unmapped(mapping.range()), Ok(None));
        },
    );
}

#[test]
fn pages_that_leave_the_file_are_unmapped() {
    on_each("pages_that_leave_the_file_are_unmapped", |directory| {
        let page = Mapping::page_size();
        let (file, mapping, stamp) = prepared(directory);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, hole, 3 * page, page).expect("a hole");
        let punched = mapping.stamp().expect("a size");
        assert_ne!(punched, stamp);
        // The kernel may unmap more: the pages that it keeps together with this one.
        assert_unmapped(&mapping, 3 * page);

        let (file, mapping, stamp) = prepared(directory);
        file.set_len(2 * page).expect("shorter");
        file.set_len(PAGES * page).expect("as long again");
        assert_ne!(mapping.stamp(), Ok(stamp));
        assert_unmapped(&mapping, 2 * page);
    });
}

#[test]
fn a_write_past_the_page_cache_unmaps_its_pages() {
    on_each(
        "a_write_past_the_page_cache_unmaps_its_pages",
        |directory| {
            // tmpfs takes O_DIRECT from Linux 6.6 on, and writes to the page cache all the same.
            if directory.starts_with("/dev/shm") {
                return;
            }
            let page = Mapping::page_size();
            let (file, mapping, stamp) = prepared(directory);
            fcntl_setfl(&file, OFlags::DIRECT).expect("ext4 takes it");
            let mut bytes = vec![9; 3 * page as usize];
            let aligned = bytes.as_ptr().align_offset(page as usize);
            let bytes = &mut bytes[aligned..][..page as usize];
            file.write_all_at(bytes, 4 * page).expect("aligned");
            assert_ne!(mapping.stamp(), Ok(stamp));
            assert_unmapped(&mapping, 4 * page);
        },
    );
}
