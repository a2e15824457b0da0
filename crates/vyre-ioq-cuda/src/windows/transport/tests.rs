//! Against the simulated transport, with pages that a test can take away, mapped when the test says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;

use vyre_uring::SimTransport;
use vyre_uring::vyre_mapped::Mapping;

use super::super::asks::Board;
use super::super::fake::{Call, Fake};
use super::super::mapper::Mapper;
use super::*;

const WINDOW: u64 = 64 << 10;
/// The windows of the file: the last of them has one byte.
const COUNT: u32 = 41;
const FILE: FileSlot = FileSlot::new(0);
/// A file without windows.
const OTHER: FileSlot = FileSlot::new(1);
const SLOT: BufferSlot = BufferSlot::new(0);

/// One file with windows, and the thread that maps them, which works only when it is told to.
struct Mapped {
    file: File,
    shared: Arc<Shared>,
    mapper: Option<Mapper<Fake>>,
    pages: Fake,
}

fn mapped(ahead: u32) -> Mapped {
    let file = tempfile::tempfile_in("/dev/shm").expect("room");
    file.set_len(u64::from(COUNT - 1) * WINDOW + 1)
        .expect("a hole");
    let mapping = Mapping::new(&file, 0..u64::from(COUNT - 1) * WINDOW + 1).expect("a mapping");
    let board = Arc::new(Board::new(COUNT));
    let pages = Fake::default();
    Mapped {
        file,
        shared: Arc::new(Shared {
            board: Arc::clone(&board),
            mapping: Arc::new(mapping),
            shift: WINDOW.trailing_zeros(),
            stamp: None,
        }),
        mapper: Some(Mapper::new(board, pages.clone(), 8, ahead)),
        pages,
    }
}

impl Mapped {
    /// Maps all that is asked for, and what is likely to be. Returns the calls.
    fn work(&mut self) -> Vec<Call> {
        while self.mapper.as_mut().expect("not ended").step() {}
        self.pages.calls()
    }

    /// Does one call's worth of work.
    fn step(&mut self) {
        if let Some(mapper) = &mut self.mapper {
            mapper.step();
        }
    }

    /// Ends the thread, as its last windows do.
    fn end(&mut self) {
        self.shared.board.close();
        self.mapper = None;
    }
}

type Over = WindowTransport<SimTransport>;

fn over(sim: SimTransport, windows: &[&Mapped]) -> Over {
    let shared = windows.iter().map(|it| Arc::clone(&it.shared));
    let mut transport = WindowTransport::over(sim, shared);
    if let Some(first) = windows.first() {
        set_file(&mut transport, FILE, &first.file);
    }
    let other = tempfile::tempfile().expect("a file");
    other.set_len(1 << 20).expect("a hole");
    set_file(&mut transport, OTHER, &other);
    let buffer = Buffer::anonymous(4096).expect("memory");
    transport.set_buffer(SLOT, Some(buffer)).expect("a slot");
    transport
}

fn sim() -> SimTransport {
    SimTransport::builder(1).build()
}

fn set_file(transport: &mut Over, slot: FileSlot, file: impl AsFd) {
    let file = file.as_fd().try_clone_to_owned().expect("a descriptor");
    transport
        .set_file(slot, Some(Arc::new(file)))
        .expect("a slot");
}

fn map_of(file: FileSlot, first: u64, count: u64) -> Operation {
    Operation::Map {
        file,
        offset: first * WINDOW,
        len: (count * WINDOW) as u32,
    }
}

fn map(window: u64) -> Operation {
    map_of(FILE, window, 1)
}

fn read(offset: u64) -> Operation {
    Operation::Read {
        file: OTHER,
        offset,
        buffer: SLOT,
        buffer_offset: 0,
        len: 64,
    }
}

/// Submits and reaps once. Returns each user's word and result.
fn reap(transport: &mut Over) -> Vec<(u64, Result<u32, Errno>)> {
    transport.submit().expect("no fault");
    let mut found = Vec::new();
    let count = transport.reap(|completion| found.push((completion.user, completion.result)));
    assert_eq!(count as usize, found.len());
    found
}

#[test]
fn a_window_that_is_mapped_completes_at_once_and_others_when_they_are() {
    let mut windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    transport.push(map(3), 1).expect("room");
    transport.push(read(0), 2).expect("room");
    transport.push(map(5), 3).expect("room");
    assert_eq!(transport.in_flight(), 3);
    assert_eq!(reap(&mut transport), [(2, Ok(64))], "the inner one goes on");
    assert_eq!(reap(&mut transport), []);
    assert_eq!(windows.work(), [Call::Pin(3..4), Call::Pin(5..6)]);
    let mut found = reap(&mut transport);
    found.sort_by_key(|it| it.0);
    assert_eq!(found, [(1, Ok(0)), (3, Ok(0))]);
    transport.push(map(3), 4).expect("room");
    transport.push(map(5), 5).expect("room");
    assert_eq!(reap(&mut transport), [(4, Ok(0)), (5, Ok(0))], "in order");
    assert_eq!(transport.in_flight(), 0);
    assert_eq!(windows.work(), []);
}

#[test]
fn neighbours_are_one_call_and_a_whole_request_is_mapped_or_fails() {
    let mut windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    for (user, window) in [12, 10, 11, 9].into_iter().enumerate() {
        transport.push(map(window), user as u64).expect("room");
    }
    assert_eq!(windows.work(), [Call::Pin(9..13)]);
    assert_eq!(reap(&mut transport).len(), 4);
    transport.push(map_of(FILE, 11, 20), 5).expect("room");
    windows.step();
    assert_eq!(reap(&mut transport), [], "eight of them are mapped");
    windows.work();
    assert_eq!(reap(&mut transport), [(5, Ok(0))]);
}

#[test]
fn sequences_are_mapped_ahead_and_then_are_hits() {
    let mut windows = mapped(16);
    let mut transport = over(sim(), &[&windows]);
    for window in 0..u64::from(COUNT) {
        transport.push(map(window), window).expect("room");
        windows.work();
        assert_eq!(reap(&mut transport), [(window, Ok(0))]);
    }
    let counts = &windows.shared.board.counts;
    let of =
        |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((of(&counts.asked), of(&counts.hits)), (41, 39));
    assert_eq!((of(&counts.mapped), of(&counts.ahead)), (41, 39));
}

#[test]
fn errors_are_those_of_their_windows() {
    let mut windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    windows.pages.state().broken.insert(4);
    for window in [3, 4, 5] {
        transport.push(map(window), window).expect("room");
    }
    windows.work();
    let mut found = reap(&mut transport);
    found.sort_by_key(|it| it.0);
    assert_eq!(found, [(3, Ok(0)), (4, Err(Errno::IO)), (5, Ok(0))]);
    // The limit of pinned bytes, and more room later.
    windows.pages.state().room = Some(1);
    transport.push(map_of(FILE, 20, 2), 1).expect("room");
    windows.work();
    assert_eq!(reap(&mut transport), [(1, Err(Errno::NOBUFS))]);
    windows.pages.state().room = None;
    transport.push(map_of(FILE, 20, 2), 2).expect("room");
    windows.work();
    assert_eq!(reap(&mut transport), [(2, Ok(0))]);
}

#[test]
fn what_has_no_window_is_unsupported() {
    let windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    let end = u64::from(COUNT - 1) * WINDOW + 1;
    let at = |file, offset, len| Operation::Map { file, offset, len };
    for operation in [
        at(OTHER, 0, 1),
        at(FileSlot::new(63), 0, 1),
        at(FileSlot::new(u32::MAX), 0, 1),
        at(FILE, end, 1),
        at(FILE, u64::MAX, u32::MAX),
    ] {
        let refused = transport.push(operation, 1);
        assert!(
            matches!(refused, Err(PushError::Unsupported)),
            "{operation:?} {refused:?}"
        );
    }
    // The last byte, and a length past the end.
    transport.push(at(FILE, end - 1, 1), 1).expect("room");
    transport.push(at(FILE, 0, u32::MAX), 2).expect("room");
    transport.push(at(FILE, 7, 0), 3).expect("room");
    assert_eq!(reap(&mut transport), [(3, Ok(0))], "no bytes, no window");
}

#[test]
fn a_transport_has_no_more_in_flight_than_its_capacity() {
    let mut windows = mapped(0);
    let sim = SimTransport::builder(1).capacity(4).max_latency(3).build();
    let mut transport = over(sim, &[&windows]);
    transport.push(read(0), 0).expect("room");
    for window in 0..3 {
        transport.push(map(window), window + 1).expect("room");
    }
    assert_eq!(transport.in_flight(), 4);
    for operation in [map(9), read(0), map(0)] {
        let full = transport.push(operation, 9);
        assert!(matches!(full, Err(PushError::Full)), "{full:?}");
    }
    windows.work();
    // They are in flight until they are reaped.
    let full = transport.push(map(9), 9);
    assert!(matches!(full, Err(PushError::Full)), "{full:?}");
    while transport.in_flight() > 0 {
        reap(&mut transport);
    }
    transport.push(map(0), 5).expect("room");
}

#[test]
fn a_map_is_cancelled_at_once_and_not_served() {
    let mut windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    let first = transport.push(map(1), 1).expect("room");
    let second = transport.push(map(2), 2).expect("room");
    assert!(transport.cancel(first));
    assert_eq!(reap(&mut transport), [(1, Err(Errno::CANCELED))]);
    assert!(!transport.cancel(first), "it has completed");
    assert_eq!(windows.work(), [Call::Pin(2..3)]);
    // One that is done stays so.
    assert!(transport.cancel(second));
    assert_eq!(reap(&mut transport), [(2, Ok(0))]);
    assert!(!transport.cancel(second));
    let inner = transport.push(read(0), 3).expect("room");
    assert!(transport.cancel(inner), "that of the inner transport");
}

#[test]
fn a_file_with_maps_in_flight_stays_in_its_slot_until_they_end() {
    let mut windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    let token = transport.push(map(1), 1).expect("room");
    let busy = transport.set_file(FILE, None);
    assert!(
        matches!(busy, Err(RegisterError::Busy { in_flight: 1 })),
        "{busy:?}"
    );
    transport.cancel(token);
    transport.set_file(FILE, None).expect("idle");
    assert_eq!(reap(&mut transport), [(1, Err(Errno::CANCELED))]);
    let refused = transport.push(map(1), 2);
    assert!(
        matches!(refused, Err(PushError::Unsupported)),
        "{refused:?}"
    );
    // Another descriptor of the same file has the same windows, in whatever slot.
    let again = windows.file.try_clone().expect("a descriptor");
    set_file(&mut transport, OTHER, again);
    transport.push(map_of(OTHER, 1, 1), 3).expect("room");
    assert_eq!(windows.work(), [Call::Pin(1..2)]);
    assert_eq!(reap(&mut transport), [(3, Ok(0))]);
}

#[test]
fn each_file_has_the_windows_of_its_own() {
    let (mut first, mut second) = (mapped(0), mapped(0));
    let mut transport = over(sim(), &[&first, &second]);
    set_file(&mut transport, OTHER, &second.file);
    transport.push(map(1), 1).expect("room");
    transport.push(map_of(OTHER, 2, 1), 2).expect("room");
    assert_eq!(first.work(), [Call::Pin(1..2)]);
    assert_eq!(reap(&mut transport), [(1, Ok(0))]);
    assert_eq!(second.work(), [Call::Pin(2..3)]);
    assert_eq!(reap(&mut transport), [(2, Ok(0))]);
}

#[test]
fn transports_for_the_same_windows_get_their_own_answers() {
    let mut windows = mapped(0);
    let mut some = [over(sim(), &[&windows]), over(sim(), &[&windows])];
    for transport in &mut some {
        // The same number at both.
        transport.push(map(7), 1).expect("room");
    }
    let [first, second] = &mut some;
    first.push(map(8), 2).expect("room");
    second.quiesce(Duration::ZERO).expect("quiet");
    assert_eq!(reap(second), [(1, Err(Errno::CANCELED))]);
    windows.work();
    let mut found = reap(first);
    found.sort_by_key(|it| it.0);
    assert_eq!(found, [(1, Ok(0)), (2, Ok(0))]);
    assert_eq!(reap(second), []);
}

/// A loop that ends, or whose device hangs up, cancels what is in flight, and then drops the transport.
#[test]
fn what_a_transport_that_is_gone_asked_for_is_forgotten() {
    let mut windows = mapped(0);
    for _ in 0..1000 {
        let mut transport = over(sim(), &[&windows]);
        transport.push(map(1), 1).expect("room");
        drop(transport);
    }
    let mut transport = over(sim(), &[&windows]);
    transport.push(map(2), 1).expect("room");
    transport.push(map(3), 2).expect("room");
    transport.quiesce(Duration::ZERO).expect("quiet");
    assert_eq!(transport.in_flight(), 2, "they are to be reaped");
    assert_eq!(reap(&mut transport).len(), 2);
    assert_eq!(windows.work(), [], "nobody waits for a window");
    let kept = windows.shared.board.asks();
    assert!(kept.queue.capacity() < 1000, "{}", kept.queue.capacity());
}

#[test]
fn the_end_of_the_windows_ends_what_waits_and_refuses_the_rest() {
    let mut windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    transport.push(map(1), 1).expect("room");
    windows.work();
    transport.push(map(2), 2).expect("room");
    windows.end();
    let mut found = reap(&mut transport);
    found.sort_by_key(|it| it.0);
    assert_eq!(found, [(1, Ok(0)), (2, Err(Errno::OPNOTSUPP))]);
    let nothing = Operation::Map {
        file: FILE,
        offset: 0,
        len: 0,
    };
    for operation in [map(1), map(2), nothing] {
        let refused = transport.push(operation, 3);
        assert!(
            matches!(refused, Err(PushError::Unsupported)),
            "{operation:?} {refused:?}"
        );
    }
    transport.push(read(0), 4).expect("room");
    assert_eq!(reap(&mut transport), [(4, Ok(64))]);
}

#[test]
fn a_wait_ends_without_an_answer() {
    let windows = mapped(0);
    let mut transport = over(sim(), &[&windows]);
    transport.push(map(1), 1).expect("room");
    let began = std::time::Instant::now();
    transport.wait(None).expect("no fault");
    transport.wait(Some(Duration::ZERO)).expect("no fault");
    transport.wait_on(&[], None).expect("no fault");
    // The simulated transport has no waker, so naps are all that it does.
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(reap(&mut transport), []);
}

/// In whatever order things happen, each operation completes once, with an answer that it may have.
#[test]
fn each_operation_completes_once_whatever_happens() {
    for seed in 0..60_u64 {
        let mut state = seed;
        let mut below = move |limit: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        let mut windows = mapped(if seed % 2 == 0 { 0 } else { 8 });
        {
            let mut pages = windows.pages.state();
            pages.broken.extend([7, 8, 30]);
            pages.cold.extend([1, 2, 20, 21]);
            pages.room = (seed % 3 == 0).then_some(12);
        }
        let sim = SimTransport::builder(seed)
            .capacity(8)
            .max_latency(2)
            .reorder(true)
            .build();
        let mut transport = over(sim, &[&windows]);
        let (mut next, mut in_flight) = (0, BTreeMap::new());
        let mut ended = BTreeSet::new();
        for turn in 0..400 {
            match below(12) {
                0..5 => {
                    let operation = match below(4) {
                        0 => read(0),
                        1 => map_of(FILE, below(40), 1 + below(12)),
                        _ => map(below(41)),
                    };
                    if let Ok(token) = transport.push(operation, next) {
                        in_flight.insert(next, (token, operation));
                        next += 1;
                    }
                }
                5..8 => windows.step(),
                8 => {
                    if let Some((_, (token, _))) = in_flight.iter().nth(below(8) as usize) {
                        assert!(transport.cancel(*token), "it is in flight");
                    }
                }
                9 if turn > 350 => windows.end(),
                10 => {
                    let busy = transport.set_file(FILE, None);
                    let waits = |it: &&(Token, Operation)| matches!(it.1, Operation::Map { .. });
                    assert!(busy.is_ok() || in_flight.values().any(|it| waits(&it)));
                    if busy.is_ok() {
                        set_file(&mut transport, FILE, &windows.file);
                    }
                }
                _ => reap(&mut transport).into_iter().for_each(|(user, result)| {
                    let (_, operation) = in_flight.remove(&user).expect("once");
                    assert!(ended.insert(user));
                    let may_be = match operation {
                        Operation::Map { .. } => {
                            &[Errno::IO, Errno::NOBUFS, Errno::OPNOTSUPP, Errno::CANCELED][..]
                        }
                        _ => &[Errno::CANCELED],
                    };
                    assert!(
                        result.is_ok() || may_be.contains(&result.unwrap_err()),
                        "{operation:?} {result:?}"
                    );
                }),
            }
            assert_eq!(transport.in_flight() as usize, in_flight.len());
        }
        transport
            .quiesce(Duration::from_secs(1))
            .expect("nothing hangs");
        for (user, _) in reap(&mut transport) {
            assert!(in_flight.remove(&user).is_some() && ended.insert(user));
        }
        assert!(in_flight.is_empty(), "{in_flight:?}");
    }
}
