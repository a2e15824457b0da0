//! Ranges of a file, copied and compared.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn ranges_arrive_as_they_were() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, target) = (dir.join("copy-source"), dir.join("copy-target"));
    let bytes: Vec<u8> = (0_u32..50_000).flat_map(u32::to_le_bytes).collect();
    fs::write(&source, &bytes).expect("room");
    let len = bytes.len();
    for (offset, length) in [
        (0, len),
        (0, 1),
        (17, 40_000),
        (16_383, 16_386),
        (len - 5, 5),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_consumer-copy"));
        program.arg(&source);
        program.args([offset.to_string(), length.to_string()]);
        let out = program.arg(&target).output().expect("it runs");
        assert!(out.status.success(), "{out:?}");
        assert_eq!(out.stdout, format!("{length} bytes\n").into_bytes());
        let copy = fs::read(&target).expect("a copy");
        assert!(
            copy == bytes[offset..offset + length],
            "{length} bytes at {offset}"
        );
    }
}
