//! Tests of the findings of a scan, for the owner of a file and for others.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, MemfdFlags, fadvise, ftruncate, memfd_create};
use vyre_mapped::{Errno, Mapping, Recovery, Residency, Source, Watcher};

fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// A memfd of which only the pages named are in memory.
fn sparse(pages: u64, present: &[u64]) -> File {
    let file = File::from(memfd_create("vyre-mapped", MemfdFlags::empty()).unwrap());
    ftruncate(&file, pages * page()).unwrap();
    for &number in present {
        file.write_all_at(&[1], number * page()).unwrap();
    }
    file
}

#[test]
fn a_scan_finds_the_pages_that_are_in_memory() {
    let present = [0, 3, 63, 64, 700, 999];
    let mapping = Mapping::new(sparse(1000, &present), 5..1000 * page() - 5).unwrap();
    let residency = Residency::new(Arc::new(mapping));
    assert_eq!(residency.count(), 0);
    assert!(!residency.contains(5..6), "nothing was scanned");
    let whole = residency.mapping().range();
    assert_eq!(residency.scan(whole), Ok(Source::PageCache));
    assert_eq!(residency.count(), present.len());
    for number in 0..1000 {
        let start = (number * page()).max(5);
        let in_memory = residency.contains(start..start + 1);
        assert_eq!(in_memory, present.contains(&number), "page {number}");
    }
    let across = |first: u64, last: u64| residency.contains(first * page()..(last + 1) * page());
    assert!(across(63, 64) && !across(62, 63) && !across(64, 65) && !across(63, 700));
    assert!(
        residency.contains(64 * page() + 9..64 * page() + 9),
        "no byte"
    );
}

#[test]
fn ranges_outside_the_mapping_are_not_in_memory() {
    let mapping = Mapping::new(sparse(4, &[0, 1, 2, 3]), page()..3 * page()).unwrap();
    let residency = Residency::new(Arc::new(mapping));
    residency.scan(page()..3 * page()).unwrap();
    assert!(residency.contains(page()..3 * page()));
    for outside in [0..1, page() - 1..page() + 1, 2 * page()..3 * page() + 1] {
        assert!(!residency.contains(outside.clone()));
        assert_eq!(residency.scan(outside), Err(Errno::INVAL));
    }
}

#[test]
fn a_scan_of_a_part_leaves_other_groups_alone() {
    let file = sparse(256, &[0, 70, 200]);
    let mapping = Mapping::new(&file, 0..256 * page()).unwrap();
    let residency = Residency::new(Arc::new(mapping));
    residency.scan(70 * page()..70 * page() + 1).unwrap();
    assert_eq!(residency.count(), 1);
    residency.scan(0..256 * page()).unwrap();
    assert_eq!(residency.count(), 3);
    ftruncate(&file, 0).unwrap();
    residency.scan(0..page()).unwrap();
    assert_eq!(residency.count(), 2);
    residency.scan(0..256 * page()).unwrap();
    assert_eq!(residency.count(), 0);
}

#[test]
fn an_evicted_page_is_found_missing() {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(&vec![1; 64 * page() as usize]).unwrap();
    let Ok(mapping) = Mapping::new(&file, 0..64 * page()) else {
        skip(
            "an_evicted_page_is_found_missing",
            "the file system is not allowed",
        );
        return;
    };
    let residency = Residency::new(Arc::new(mapping));
    residency.scan(0..64 * page()).unwrap();
    assert_eq!(residency.count(), 64);
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    residency.scan(0..64 * page()).unwrap();
    if residency.count() == 64 {
        skip(
            "an_evicted_page_is_found_missing",
            "the file system keeps its pages",
        );
        return;
    }
    let source = residency.mapping().populate(0..64 * page());
    assert_eq!(source, Ok(()));
    residency.scan(0..64 * page()).unwrap();
    assert_eq!(residency.count(), 64);
}

#[test]
fn a_watcher_finds_pages_that_come_until_it_is_dropped() {
    let files = [sparse(300, &[7]), sparse(300, &[])];
    let residencies = files.each_ref().map(|file| {
        let mapping = Mapping::new(file, 0..300 * page()).unwrap();
        Arc::new(Residency::new(Arc::new(mapping)))
    });
    let watcher = Watcher::spawn(100).unwrap();
    let [first, second] = &residencies;
    watcher.watch(first.clone());
    wait_until(|| first.count() == 1);
    watcher.watch(second.clone());
    wait_until(|| second.scans() >= 2 && first.scans() >= 2);
    assert_eq!(second.count(), 0);
    for (file, residency) in files.iter().zip(&residencies) {
        file.write_all_at(&[1], 200 * page()).unwrap();
        wait_until(|| residency.contains(200 * page()..201 * page()));
    }
    drop(watcher);
    wait_until(|| Arc::strong_count(first) == 1 && Arc::strong_count(second) == 1);
    ftruncate(&files[0], 0).unwrap();
    assert_eq!(first.count(), 2, "nothing scans any more");
}

/// The mapping of a large file takes milliseconds to unmap, which whoever drops it last pays.
#[test]
fn a_watcher_forgets_what_nobody_else_holds() {
    let watcher = Watcher::spawn(100).unwrap();
    let mapping = Arc::new(Mapping::new(sparse(1, &[]), 0..1).unwrap());
    watcher.watch(Arc::new(Residency::new(mapping.clone())));
    wait_until(|| Arc::strong_count(&mapping) == 1);
    // It goes on for others.
    let residency = Arc::new(Residency::new(mapping));
    watcher.watch(residency.clone());
    wait_until(|| residency.scans() >= 2);
}

fn wait_until(is_done: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_done() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// mincore tells others that every page is in memory. So a scan for another user must not ask it.
#[test]
fn another_user_is_told_of_mapped_pages_alone() {
    const NAME: &str = "another_user_is_told_of_mapped_pages_alone";
    const FILE: &str = "VYRE_MAPPED_RESIDENCY_FILE";
    if let Some(path) = std::env::var_os(FILE) {
        return as_another_user(Path::new(&path));
    }
    if !rustix::process::geteuid().is_root() {
        return skip(NAME, "only root can become another user");
    }
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    file.write_all(&vec![1; 200 * page() as usize]).unwrap();
    let readable = std::fs::Permissions::from_mode(0o444);
    std::fs::set_permissions(file.path(), readable).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(FILE, file.path())
        .uid(65534)
        .output();
    let child = match child {
        Ok(child) => child,
        Err(error) => return skip(NAME, &format!("another user cannot run this test: {error}")),
    };
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

fn as_another_user(path: &Path) {
    let file = OpenOptions::new().read(true).open(path).unwrap();
    let mapping = Arc::new(Mapping::new(&file, 0..200 * page()).unwrap());
    let residency = Residency::new(mapping.clone());
    let whole = 0..200 * page();
    assert_eq!(residency.scan(whole.clone()), Ok(Source::PageTables));
    assert_eq!(residency.count(), 0, "no page is mapped yet");
    mapping.populate(130 * page()..132 * page()).unwrap();
    residency.scan(whole.clone()).unwrap();
    assert!(residency.contains(130 * page()..132 * page()));
    assert!(residency.count() < 200);
    let recovery = Recovery::new().unwrap();
    let mut bytes = vec![0; 200 * page() as usize];
    mapping
        .copy_to(&recovery, whole.clone(), &mut bytes)
        .unwrap();
    residency.scan(whole).unwrap();
    assert_eq!(residency.count(), 200);
}

fn skip(name: &str, why: &str) {
    let line = format!("SKIPPED: {name}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
