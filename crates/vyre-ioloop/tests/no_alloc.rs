//! A running loop allocates nothing for a request. Nor does the thread that publishes. The threads of a
//! pool are excluded, which the loop has where io_uring is refused: a thread that starts allocates.

#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use vyre_ioq::{DeviceQueue, Errno, FileHandle, Queue, Request, Ticket};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

/// Counts an allocation of a thread that asked for it.
fn count() {
    if IS_COUNTED.with(Cell::get) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const DEPTH: usize = 48;

struct Lane {
    device: DeviceQueue,
    window: [Option<(Ticket, Result<u32, Errno>)>; DEPTH],
    at: usize,
}

impl Lane {
    /// Takes the outcome of the previous request, and publishes the next.
    fn go(&mut self, request: Request, expected: Result<u32, Errno>) {
        self.finish(self.at);
        let ticket = self.device.submit(request).expect("a free slot");
        self.window[self.at] = Some((ticket, expected));
        self.at = (self.at + 1) % DEPTH;
    }

    fn finish(&mut self, at: usize) {
        if let Some((ticket, expected)) = self.window[at].take() {
            let outcome = self.device.wait_for(ticket, LIMIT).expect("an outcome");
            assert_eq!(outcome.result, expected);
        }
    }
}

/// Rule: SEC-11.
#[test]
fn requests_of_every_kind_are_served_without_an_allocation() {
    let mut tables = Tables::new(1 << 16, 1 << 16);
    let (pipe, _writer) = tables.add_pipe();
    let (file, pool) = (tables.file, tables.pool);
    let (host, device) = Queue::anonymous(layout(64)).unwrap();
    // Fewer entries than requests, so that some go to the backlog.
    let io = tables
        .builder()
        .queue(host)
        .options(loop_options().ring_entries(32))
        .spawn_with(|base| {
            IS_COUNTED.set(true);
            base
        })
        .unwrap();
    IS_COUNTED.set(true);
    let mut lane = Lane {
        device,
        window: [const { None }; DEPTH],
        at: 0,
    };
    let end = 1_u64 << 16;
    let mut serve = |requests: u64| {
        for n in 0..requests {
            let at = n * 512 % (end / 2);
            let (request, expected) = match n % 10 {
                _ if n % 500 == 0 => (
                    Request::read(pipe, 0, 8)
                        .into_buffer(pool, 0)
                        .with_deadline(300),
                    Err(Errno::ETIMEDOUT),
                ),
                _ if n % 505 == 0 => (Request::sync(file), Ok(0)),
                0..4 => (Request::read(file, at, 512).into_buffer(pool, at), Ok(512)),
                4 | 5 => (Request::write(file, at, 512).from_buffer(pool, at), Ok(512)),
                6 => (Request::fence(), Ok(0)),
                7 => (
                    Request::read(file, end - 100, 512).into_buffer(pool, 0),
                    Ok(100),
                ),
                8 => (
                    Request::read(FileHandle::from_raw(99), 0, 1).into_buffer(pool, 0),
                    Err(Errno::EBADF),
                ),
                _ => (
                    Request::read(file, end, 1).into_buffer(pool, 0).exact(),
                    Err(Errno::ENODATA),
                ),
            };
            lane.go(request, expected);
        }
        (0..DEPTH).for_each(|at| lane.finish(at));
    };
    serve(2_000);
    let allocated = || ALLOCATIONS.load(Ordering::Relaxed);
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert!(allocated() > 0, "the counter counts");
    let before = allocated();
    serve(100_000);
    assert_eq!(allocated() - before, 0, "allocations for 100,000 requests");
    let counters = io.counters();
    assert!(
        counters.timed_out >= 200 && counters.resumed > 0,
        "{counters:?}"
    );
    io.stop().unwrap();
}
