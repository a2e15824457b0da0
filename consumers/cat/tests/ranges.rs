//! Ranges of a file as the program prints them, and as they are.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn cat(words: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_consumer-cat"));
    program.args(words).output().expect("it runs")
}

#[test]
fn ranges_are_printed_as_they_are() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cat-numbers");
    let bytes: Vec<u8> = (0_u32..25_000).flat_map(u32::to_le_bytes).collect();
    fs::write(&path, &bytes).expect("room");
    let path = path.to_str().expect("text");
    let len = bytes.len();
    let ranges = [
        (0, len),
        (0, 0),
        (1, 1),
        (4095, 2),
        (17, 40_000),
        (len - 5, 100),
        (len, 1),
    ];
    for (offset, length) in ranges {
        let out = cat(&[path, &offset.to_string(), &length.to_string()]);
        assert!(out.status.success(), "{out:?}");
        let expected = &bytes[offset..len.min(offset + length)];
        assert!(out.stdout == expected, "{length} bytes at {offset}");
    }
}

#[test]
fn what_cannot_be_read_fails() {
    assert!(!cat(&["/", "0", "1"]).status.success(), "a directory");
    assert!(!cat(&["/", "0"]).status.success(), "no length");
}
