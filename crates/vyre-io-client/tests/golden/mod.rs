//! One message of each kind, with its bytes as they were written by hand.

#![allow(dead_code, reason = "each test binary uses a part")]

use vyre_io_client::protocol::{
    Buffer, BufferIs, CloseBuffer, CloseFile, CloseQueue, Code, Done, FileEntry, FileIs, Goodbye,
    Hello, List, NO_LIMIT, Name, Open, Page, PeerStatus, Queue, QueueIs, Refused, Reply, Request,
    Status, Welcome,
};

/// Names and bytes of the messages.
pub(crate) fn bytes() -> Vec<(&'static str, Vec<u8>)> {
    parse(include_str!("messages.txt"))
}

/// Reads messages: a name in a line of its own, then lines of bytes in hexadecimal.
pub(crate) fn parse(text: &str) -> Vec<(&str, Vec<u8>)> {
    let mut messages: Vec<(&str, Vec<u8>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains(|c: char| c.is_ascii_uppercase()) {
            messages.push((line, Vec::new()));
            continue;
        }
        let (_, bytes) = messages.last_mut().expect("a name first");
        let pairs = line.split_whitespace();
        bytes.extend(pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two digits")));
    }
    messages
}

fn name(text: &str) -> Name {
    Name::new(text).expect("short")
}

/// The requests among the golden messages, with their numbers.
pub(crate) fn requests() -> Vec<(u32, Request)> {
    let requests = [
        Request::from(Hello {
            major: 1,
            minor: 0,
            features: 1,
            name: name("reader"),
        }),
        List { cursor: 0 }.into(),
        Queue {
            slots: 64,
            features: 3,
        }
        .into(),
        Buffer {
            bytes: 65536,
            queue: 1,
        }
        .into(),
        Open {
            queue: 1,
            rights: 1,
            name: name("weights"),
        }
        .into(),
        CloseFile {
            queue: 1,
            handle: 0x0102_0304,
        }
        .into(),
        CloseBuffer {
            queue: 1,
            handle: 0x0506_0708,
        }
        .into(),
        CloseQueue { queue: 1 }.into(),
        Status { cursor: 0 }.into(),
        Goodbye {}.into(),
    ];
    (1..).zip(requests).collect()
}

/// The replies among the golden messages, with the numbers of the requests that they answer.
pub(crate) fn replies() -> Vec<(u32, Reply)> {
    let welcome = Welcome {
        major: 1,
        minor: 0,
        features: 1,
        peer: 7,
        queues: 4,
        slots: 1024,
        buffers: 256,
        open_files: 32,
        buffer_bytes: 256 << 20,
        operations_per_second: 1000,
        bytes_per_second: 10_000_000,
        bytes_in_flight: NO_LIMIT,
        operations_in_flight: 16,
        files: 2,
    };
    let queue = QueueIs {
        queue: 1,
        slots: 64,
        bytes: 8192,
        features: 3,
        abi_major: 1,
        abi_minor: 2,
    };
    let file = FileIs {
        handle: 0x0102_0304,
        rights: 1,
        start: 4096,
        end: 8192,
        length: 1000,
        alignment: 1,
    };
    let buffer = BufferIs {
        bytes: 65536,
        handle: 0x0506_0708,
    };
    vec![
        (1, welcome.into()),
        (2, Reply::Files(files())),
        (3, queue.into()),
        (4, buffer.into()),
        (5, file.into()),
        (6, Done {}.into()),
        (9, Reply::StatusIs(peers())),
        (
            5,
            Refused::with_text(Code::NoSuchFile, "no such file").into(),
        ),
    ]
}

fn files() -> Page<FileEntry> {
    let weights = FileEntry {
        start: 4096,
        end: 8192,
        rights: 1,
        alignment: 1,
        name: name("weights"),
    };
    let whole = FileEntry {
        start: 0,
        end: NO_LIMIT,
        rights: 3,
        alignment: 512,
        name: name("größe"),
    };
    Page::new(vec![weights, whole], 0).expect("two")
}

fn peers() -> Page<PeerStatus> {
    let peer = PeerStatus {
        peer: 7,
        connected_ms: 1500,
        buffer_bytes: 65536,
        claimed: 10,
        succeeded: 8,
        failed: 2,
        bytes_read: 4096,
        bytes_written: 512,
        device_faults: 1,
        refusals: 3,
        pid: 1234,
        uid: 1000,
        queues: 1,
        buffers: 1,
        open_files: 1,
        leaving: 0,
        name: name("reader"),
    };
    Page::new(vec![peer], 8).expect("one")
}
