//! The calls of the hot path do not allocate, nor do cancellations.
#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use common::*;
use vyre_uring::{Errno, FutexWord, PushError, Transport};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded to the system's allocator. Counting does not allocate, since the
// counter is a constant-initialized thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the block came from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() -> u64 {
    COUNT.with(Cell::get)
}

#[test]
fn the_counter_counts() {
    let before = count();
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(count(), before + 1);
}

#[test]
fn push_submit_wait_reap_and_cancel_allocate_nothing() {
    for builder in modes() {
        let (mut ring, _, writer) = ring_on_pipe(builder);
        let word = AtomicU32::new(0);
        assert!(ring.set_futexes(vec![FutexWord::new(word.as_ptr())]));
        let before = count();
        for round in 0..50 {
            while ring.push(read(0, 0, 1), round) != Err(PushError::Full) {}
            ring.submit().unwrap();
            ring.wait(Some(Duration::from_micros(50))).unwrap();
            ring.wait_on(&[0], Some(Duration::from_micros(50))).unwrap();
            rustix::io::write(&writer, b"12345678").unwrap();
            while ring.in_flight() > 0 {
                ring.wait(None).unwrap();
                ring.reap(|completion| assert_eq!(completion.result, Ok(1)));
            }
            let token = ring.push(read(0, 0, 1), round).unwrap();
            assert!(ring.cancel(token));
            while ring.in_flight() > 0 {
                ring.wait(None).unwrap();
                ring.reap(|it| assert_eq!(it.result, Err(Errno::CANCELED)));
            }
        }
        assert_eq!(count() - before, 0);
    }
}
