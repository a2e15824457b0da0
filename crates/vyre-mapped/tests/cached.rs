//! The page cache as a mapping sees it before pages are mapped.

use std::fs::File;
use std::io::Write;

use rustix::fs::{Advice, fadvise, fsync};
use vyre_mapped::Mapping;

const LEN: usize = 1 << 20;

fn file() -> File {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(&vec![7; LEN]).unwrap();
    file
}

#[test]
fn a_part_that_was_dropped_is_not_cached_until_it_is_read_ahead() {
    let file = file();
    let mapping = Mapping::new(&file, 0..LEN as u64).unwrap();
    let all = 0..LEN as u64;
    assert!(mapping.seems_cached(all.clone()), "it was just written");
    fsync(&file).unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    // The first question can start to read, so it alone tells.
    if mapping.seems_cached(all.clone()) {
        let line = "SKIPPED: a_part_that_was_dropped_is_not_cached_until_it_is_read_ahead: no page was dropped\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    mapping.read_ahead(all.clone()).unwrap();
    // Waits for what was begun, and reads what was not.
    mapping.populate(all.clone()).unwrap();
    assert!(mapping.seems_cached(all));
}

#[test]
fn nothing_is_asked_of_no_bytes_and_past_the_end() {
    let file = file();
    let len = LEN as u64;
    let mapping = Mapping::new(&file, 0..2 * len).unwrap();
    assert!(mapping.seems_cached(5..5));
    assert!(mapping.seems_cached(len..2 * len));
    assert_eq!(mapping.read_ahead(5..5), Ok(()));
}
