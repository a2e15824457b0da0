//! The alignment that direct I/O requires.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use vyre_uring::{alignment_of, alignment_of_path, direct_alignment};

#[test]
fn only_direct_descriptors_require_an_alignment() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, [0; 8192]).unwrap();
    let buffered = std::fs::File::open(&path).unwrap();
    assert_eq!(direct_alignment(&buffered).unwrap(), None);

    let align = alignment_of(&buffered).unwrap();
    assert!(
        align.memory.is_power_of_two() && align.offset.is_power_of_two(),
        "{align:?}"
    );
    assert_eq!(alignment_of_path(&path).unwrap(), align);
    assert!(alignment_of_path(dir.path().join("absent")).is_err());

    let mut direct = OpenOptions::new();
    direct.read(true).custom_flags(OFlags::DIRECT.bits() as i32);
    match direct.open(&path) {
        Ok(direct) => assert_eq!(direct_alignment(&direct).unwrap(), Some(align)),
        Err(error) => {
            let line = format!(
                "SKIPPED: only_direct_descriptors_have_demands: no direct I/O on this file system ({error})\n"
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}
