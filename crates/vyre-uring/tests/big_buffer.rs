//! A buffer that is too long for one entry of the kernel's table.

mod common;

use std::io::Write;
use std::os::unix::fs::FileExt;

use common::*;
use vyre_uring::Ring;

const GIB: usize = 1 << 30;

fn available() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}

fn skip(why: &str) {
    let line = format!("SKIPPED: transfers_stop_at_the_boundary_and_resume_across_it: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[test]
fn a_transfer_across_the_boundary_is_one() {
    if !has_ring() {
        return;
    }
    if available() < 3 * GIB {
        skip("registering 1 GiB of memory needs 3 GiB available");
        return;
    }
    let file = tempfile::tempfile().unwrap();
    let data = pattern(64 << 10);
    file.write_all_at(&data, 0).unwrap();
    let (mut ring, buffer) = ring_with(Ring::builder(), &file, GIB + (1 << 20));
    if !ring.is_buffer_registered(BUFFER) {
        skip(&format!("not registered here\n{}", ring.setup_report()));
        return;
    }
    let start = GIB - (16 << 10);
    // Cut at the end of a table entry, the rest of the transfer could lose its alignment.
    let across = run(&mut ring, read(0, start as u64, 64 << 10));
    assert_eq!(across.result, Ok(64 << 10));
    assert_eq!(contents(&buffer, start, 64 << 10), data);
    assert_eq!(contents(&buffer, start - 1, 1), [0]);

    // An emptied slot frees the table entries of its buffer.
    for _ in 0..3 {
        ring.set_buffer(BUFFER, None).unwrap();
        ring.set_buffer(BUFFER, Some(buffer.clone())).unwrap();
        assert!(ring.is_buffer_registered(BUFFER));
    }
    let at = (GIB + (1 << 20)) as u64;
    assert_eq!(
        run(&mut ring, read(0, at, 0)).result,
        Ok(0),
        "nothing, at the very end"
    );
    assert_eq!(run(&mut ring, read(0, at - 1, 1)).result, Ok(1));
    assert_eq!(contents(&buffer, at as usize - 1, 1), data[..1]);
}
