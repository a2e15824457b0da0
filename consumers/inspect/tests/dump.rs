//! Dumps made by hand, word by word from the tables of `ABI.md`, and those that the crate's own
//! images make: they must be the same bytes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use vyre_ioq::abi::{self, HeaderImage, SlotImage, status};
use vyre_ioq::{BufferHandle, Errno, FileHandle, LoopState, Request};

/// Words 0 to 15 of the header, and of five slots.
const HEADER: [u32; 16] = [
    0x4552_5956, // "VYRE"
    0x0051_4f49, // "IOQ\0"
    1,
    2,
    64,
    5,
    4096,
    0,
    0x0000_beef,
    0x0000_dead,
    0,
    0,
    0,
    0,
    0,
    0,
];
const SLOTS: [[u32; 16]; 5] = [
    [0; 16],
    // A read of 4096 bytes at 5 GiB into the buffer's second page, exact, due in 250 us.
    [
        1,
        7,
        9,
        0x4000_0000,
        1,
        4096,
        1,
        21,
        4096,
        0,
        2,
        250,
        0,
        0,
        0,
        0,
    ],
    [4, 0, 7, 0, 0, 0, 0x10, 22, 0, 0, 0, 0, 0, 0, 0, 0],
    [2, 9, 7, 512, 0, 28, 0x11, 23, 0, 0, 1, 0, 0, 0, 0, 0],
    [99, 0, 0, 0, 0, 0, 2, 24, 0, 0, 0, 0, 0, 0, 0, 0],
];
const RUNNING: u32 = 1;

fn by_hand() -> Vec<u8> {
    let mut words = vec![0; 1024];
    words[..16].copy_from_slice(&HEADER);
    words[16] = RUNNING;
    words.extend(SLOTS.as_flattened());
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

fn by_images() -> Vec<u8> {
    let header = HeaderImage {
        magic: abi::MAGIC,
        major: abi::ABI_MAJOR,
        minor: abi::ABI_MINOR,
        stride: abi::SLOT_BYTES as u32,
        slots: 5,
        slots_offset: abi::HEADER_BYTES as u32,
        features: 0,
        queue_id: [0xbeef, 0xdead],
        reserved: [0; 6],
    };
    let (file, buffer) = (FileHandle::from_raw(7), BufferHandle::from_raw(9));
    let read = Request::read(file, 5 << 30, 4096).into_buffer(buffer, 4096);
    let write = Request::write(file, 512, 0)
        .from_buffer(buffer, 0)
        .durable();
    let in_state = |request: Request, status, count| SlotImage {
        status,
        count,
        ..request.encode()
    };
    let slots = [
        SlotImage::default(),
        in_state(
            read.exact().with_deadline(250).with_tag(21),
            status::PUBLISHED,
            4096,
        ),
        in_state(Request::sync(file).with_tag(22), status::OK, 0),
        in_state(write.with_tag(23), status::ERROR, Errno::ENOSPC.raw()),
        SlotImage {
            op: 99,
            status: status::CLAIMED,
            tag: 24,
            ..SlotImage::default()
        },
    ];
    let mut dump = bytemuck::bytes_of(&header).to_vec();
    dump.extend((LoopState::Running as u32).to_le_bytes());
    dump.resize(abi::HEADER_BYTES, 0);
    dump.extend_from_slice(bytemuck::bytes_of(&slots));
    dump
}

/// Returns the program's text about a dump; it must succeed.
fn inspect(name: &str, dump: &[u8], options: &[&str]) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, dump).expect("room");
    let mut program = Command::new(env!("CARGO_BIN_EXE_consumer-inspect"));
    let out = program.args(options).arg(path).output().expect("it runs");
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn images_are_the_bytes_of_the_abi() {
    assert_eq!(by_images(), by_hand());
}

#[test]
fn a_dump_is_told() {
    let text = "\
ABI 1.2, queue 0000dead0000beef, 5 slots, host Running
slot 1, tag 21: Published Read of 4096 bytes at 5368709120
slot 2, tag 22: ok, 0 bytes
slot 3, tag 23: failed, ENOSPC (errno 28)
slot 4, tag 24: Claimed, but operation 0x63 is unknown; operations are 1 to 6
";
    assert_eq!(inspect("inspect-queue", &by_hand(), &[]), text);
}

#[test]
fn a_bare_dump_is_told() {
    let words = SLOTS.iter().flat_map(|slot| &slot[..8]);
    let dump: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
    let text = inspect("inspect-bare", &dump, &["--bare"]);
    assert_eq!(text.lines().count(), 4);
    assert!(text.starts_with("slot 1, tag 21: Published Read of 4096 bytes at 5368709120\n"));
}

#[test]
fn what_is_no_queue_is_refused() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inspect-nothing");
    fs::write(&path, [0; 8192]).expect("room");
    let mut program = Command::new(env!("CARGO_BIN_EXE_consumer-inspect"));
    let out = program.arg(path).output().expect("it runs");
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("not a queue of ABI 1"));
}
