//! The firmware on a board of memory, with a host at the other end of the window.

#![expect(unsafe_code, reason = "a test maps memory for both ends of a queue")]
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use consumer_firmware::{Arrived, BLOCK, ReadError, RemoteFile};
use vyre_ioq::{
    AttachError, BufferHandle, Errno, FileHandle, HostQueue, LoopState, Op, QueueLayout, Region,
    Request,
};

const SLOTS: u32 = 2;
const FILE: FileHandle = FileHandle::from_raw(3);
const BUFFER: BufferHandle = BufferHandle::from_raw(4);

#[repr(C, align(4096))]
struct Window([AtomicU32; 2048]);

/// A window of its own for each test, for ever, as a board's is.
fn window() -> (NonNull<u8>, usize) {
    let window = Box::leak(Box::new(Window([const { AtomicU32::new(0) }; 2048])));
    (NonNull::from(&*window).cast(), size_of::<Window>())
}

fn attach((base, len): (NonNull<u8>, usize)) -> Result<RemoteFile, AttachError> {
    // SAFETY: the window is never freed, and holds atomic words that only queues access.
    unsafe { RemoteFile::attach(base, len, FILE, BUFFER) }
}

fn host((base, len): (NonNull<u8>, usize)) -> HostQueue {
    // SAFETY: as in `attach`.
    let region = unsafe { Region::from_raw_parts(base, len) }.expect("aligned");
    HostQueue::create(region, &QueueLayout::with_slots(SLOTS)).expect("it fits")
}

/// Reads a block, however long the host takes.
fn read(file: &RemoteFile, block: u32) -> Result<Arrived, ReadError> {
    let mut read = file.read(block);
    while let Err(ReadError::Late(pending)) = read {
        read = file.finish(pending);
    }
    read
}

#[test]
fn a_window_without_a_host_is_refused() {
    let found = attach(window()).expect_err("no queue yet");
    assert_eq!(found, AttachError::BadMagic { found: [0; 2] });
}

#[test]
fn blocks_arrive_each_in_the_place_of_its_slot() {
    let window = window();
    let mut host = host(window);
    let file = attach(window).expect("a queue");
    let turn = AtomicU32::new(0);
    thread::scope(|scope| {
        let turn = &turn;
        // The host goes with its thread: if that panics, the firmware hears of it.
        scope.spawn(move || {
            while turn.load(Ordering::Relaxed) == 0 {
                let mut claims = Vec::new();
                host.claim_published(0..SLOTS, |claim| claims.push(claim));
                for claim in claims {
                    let asked = Request::decode(&claim.image).expect("a request");
                    let read = Request::read(FILE, asked.file_offset(), BLOCK);
                    assert_eq!(asked, read.into_buffer(BUFFER, asked.buffer_offset()));
                    assert_eq!((asked.op(), asked.buffer_offset()), (Op::Read, 0));
                    let answer = match asked.file_offset() / u64::from(BLOCK) {
                        0 => Ok(BLOCK),
                        1 => Ok(7),
                        _ => Err(Errno::ERANGE),
                    };
                    host.complete(claim.slot, answer).expect("claimed");
                }
                thread::yield_now();
            }
        });
        let whole = Arrived {
            at: 0,
            bytes: BLOCK,
        };
        let found = [0, 1, u32::MAX].map(|block| read(&file, block));
        turn.store(1, Ordering::Relaxed);
        let [first, last, none] = found;
        assert_eq!(first.expect("a block"), whole);
        assert_eq!(last.expect("the rest"), Arrived { at: 0, bytes: 7 });
        assert!(matches!(none, Err(ReadError::Failed(Errno::ERANGE))));
    });
}

#[test]
fn a_host_that_is_late_or_gone_is_noticed() {
    let window = window();
    let mut host = host(window);
    let file = attach(window).expect("a queue");
    let late = |read| match read {
        Err(ReadError::Late(pending)) => pending,
        other => panic!("nobody serves: {other:?}"),
    };
    let (first, second) = (late(file.read(0)), late(file.read(1)));
    assert!(matches!(file.read(2), Err(ReadError::Full(_))));

    host.claim_published(1..2, drop);
    host.complete(1, Ok(BLOCK)).expect("claimed");
    host.set_state(LoopState::Stopped);
    let arrived = file.finish(second).expect("answered before the end");
    assert_eq!(arrived.at, u64::from(BLOCK));
    assert!(matches!(file.finish(first), Err(ReadError::HostGone)));
}
