//! The program serves a slot in memory that it shares with this process.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SLOT: usize = 32;
const SIZE: usize = 4096;
const STATUS: u64 = 24;
const PUBLISHED: u32 = 1;
const OK: u32 = 0x10;

#[test]
fn a_read_is_served_and_the_end_of_input_ends_it() {
    // The kernel registers memory of tmpfs, but none of other files.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let bytes: Vec<u8> = (0..4 * SIZE).map(|at| (at / 512) as u8).collect();
    std::fs::write(path("file"), &bytes).expect("room");
    let shared = |name: &str, len: usize| {
        std::fs::write(path(name), vec![0; len]).expect("room");
        File::options()
            .read(true)
            .write(true)
            .open(path(name))
            .expect("there")
    };
    let (slots, buffer) = (shared("slots", SIZE), shared("buffer", 2 * SIZE));
    let mut host = Command::new(env!("CARGO_BIN_EXE_consumer-original"))
        .args([path("file"), path("slots"), path("buffer")])
        .args(["2", "4096"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let output = host.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("a line");
    let descriptor = line.trim().strip_prefix("serving ").expect("it serves");
    let descriptor: u32 = descriptor.parse().expect("a number");

    // In slot 1: the third block of the file, into the second of the buffer.
    for (word, value) in [1, descriptor, 1, 2 * SIZE as u32, 0, SIZE as u32]
        .iter()
        .enumerate()
    {
        let at = (SLOT + 4 * word) as u64;
        slots
            .write_all_at(&u32::to_le_bytes(*value), at)
            .expect("a word");
    }
    let status = SLOT as u64 + STATUS;
    slots
        .write_all_at(&PUBLISHED.to_le_bytes(), status)
        .expect("a word");
    let end = Instant::now() + Duration::from_secs(60);
    let mut found = [0; 4];
    while u32::from_le_bytes(found) != OK {
        assert!(Instant::now() < end, "no outcome: status {found:?}");
        slots.read_exact_at(&mut found, status).expect("a word");
    }
    let mut block = vec![0; SIZE];
    buffer
        .read_exact_at(&mut block, SIZE as u64)
        .expect("a block");
    assert_eq!(block, bytes[2 * SIZE..3 * SIZE]);
    host.stdin.take().expect("a pipe").flush().expect("open");
    assert!(host.wait().expect("it ends").success());
}
