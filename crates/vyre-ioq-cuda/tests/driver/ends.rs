//! Memory that a copy in flight reads or writes is kept, and the copy is not reported as ended.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use vyre_ioq_cuda::landing::{CopyEngine, LandingBuffer, MoveError, Mover};
use vyre_ioq_cuda::view::{View, pinned_bytes};
use vyre_ioq_cuda::{Gpu, GpuMemory, MappedMemory};
use vyre_uring::Buffer;

use super::Other;

/// Limit that only a hang reaches.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn memory_is_kept_until_the_copies_have_ended() {
    let test = "memory_is_kept_until_the_copies_have_ended";
    if let Some(other) = Other::new(test, "copies_that_do_not_end") {
        other.run();
    }
}

#[test]
fn copies_that_no_event_marks_are_not_taken_for_ended() {
    let test = "copies_that_no_event_marks_are_not_taken_for_ended";
    if let Some(other) = Other::new(test, "copies_without_an_event") {
        other.with("FAKE_CUDA_NO_RECORD", "1").run();
    }
}

#[test]
fn what_lies_in_a_view_lands_from_there() {
    let test = "what_lies_in_a_view_lands_from_there";
    if let Some(other) = Other::new(test, "reads_in_a_view") {
        other.run();
    }
}

#[test]
fn a_file_that_changed_a_moment_ago_is_read() {
    let test = "a_file_that_changed_a_moment_ago_is_read";
    if let Some(other) = Other::new(test, "views_of_changing_files") {
        other.run();
    }
}

fn engine(gpu: &Gpu) -> (CopyEngine, Buffer) {
    let host = MappedMemory::anonymous(gpu, 4096).expect("memory");
    let host = host.into_buffer().expect("bytes");
    let landing = LandingBuffer::behind(gpu, host.clone()).expect("memory");
    let engine = CopyEngine::new(gpu, vec![landing]).expect("a stream");
    (engine, host)
}

fn is_freed(calls: &[String]) -> bool {
    let freed = |call: &str| calls.iter().any(|it| it == call);
    freed("cuMemFree") || freed("cuMemHostUnregister")
}

pub(crate) fn copies_that_do_not_end() {
    let gpu = Gpu::open(0).expect("a stand-in");
    // One that has nothing to do frees its memory at once.
    drop(engine(&gpu));
    assert!(is_freed(&super::calls()));

    let (mut engine, host) = engine(&gpu);
    super::get_stuck();
    engine.start(0, 0, 4096).expect("inside");
    assert_eq!(engine.close_batch(), Ok(true));
    assert_eq!(engine.has_ended(), Ok(false));
    // The stand-in ends this process if the drop waits.
    drop((engine, host, gpu));
    let calls = super::calls();
    assert!(!is_freed(&calls), "{calls:?}");
    assert!(!calls.iter().any(|it| it == "cuDevicePrimaryCtxRelease"));
    super::get_on();
    let give_up = Instant::now() + LIMIT;
    let mut calls = Vec::new();
    while calls
        .last()
        .is_none_or(|it| it != "cuDevicePrimaryCtxRelease")
    {
        assert!(Instant::now() < give_up, "it is kept for ever: {calls:?}");
        thread::sleep(Duration::from_millis(1));
        calls.extend(super::calls());
    }
    assert!(is_freed(&calls), "{calls:?}");
}

pub(crate) fn copies_without_an_event() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let (mut engine, _host) = engine(&gpu);
    super::get_stuck();
    engine.start(0, 0, 4096).expect("inside");
    assert_eq!(engine.close_batch(), Ok(false), "it may still be under way");
    super::get_on();
    assert_eq!(
        engine.close_batch(),
        Err(MoveError),
        "it has ended, and nothing says how"
    );
}

pub(crate) fn reads_in_a_view() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = super::views::file_of(3 * 4096);
    thread::sleep(Duration::from_millis(40));
    let view = View::new(&gpu, &file, 4096..3 * 4096).expect("a view");
    let host = MappedMemory::anonymous(&gpu, 4096).expect("memory");
    let host = host.into_buffer().expect("bytes");
    let memory = GpuMemory::zeroed(&gpu, 4096).expect("memory");
    let landing = LandingBuffer::behind_memory(host.clone(), &memory);
    let engine = CopyEngine::with_views(&gpu, vec![landing], vec![view]);
    let mut engine = engine.expect("a stream");
    let other = OwnedFd::from(super::views::file_of(3 * 4096));
    let file = OwnedFd::from(file);
    assert_eq!(engine.view_of(&other), None);
    assert_eq!(engine.view_of(&file), Some(0));
    for (from, len) in [(4095, 10), (3 * 4096 - 9, 10), (u64::MAX, 10), (0, 10)] {
        assert_eq!(
            engine.start_from_view(0, from, 0, 0, len),
            Ok(false),
            "{from}"
        );
    }
    let past = engine.start_from_view(0, 4096, 0, 4090, 10);
    assert_eq!(past, Err(MoveError), "past the memory");
    assert_eq!(engine.start_from_view(0, 5000, 0, 100, 50), Ok(true));
    assert_eq!(engine.close_batch(), Ok(true));
    assert_eq!(engine.has_ended(), Ok(true));
    let landed = memory.read().expect("a copy");
    let expected: Vec<u8> = (5000..5050).map(|at| (at % 251) as u8).collect();
    assert_eq!(landed[100..150], expected);

    // A file that has changed is read, whatever the change.
    let file = File::from(file);
    file.write_all_at(b"new", 5000).expect("room");
    assert_eq!(engine.start_from_view(0, 5000, 0, 100, 50), Ok(false));

    // The thread that drops the engine does not wait for a kernel, which may wait for it.
    let running = std::env::var(super::RUNNING).expect("a path");
    fs::write(&running, "").expect("room");
    super::calls();
    drop(engine);
    assert!(!is_freed(&super::calls()));
    assert_eq!(pinned_bytes(), 2 * 4096);
    fs::remove_file(running).expect("it is there");
    let give_up = Instant::now() + LIMIT;
    while pinned_bytes() > 0 {
        assert!(Instant::now() < give_up, "it is kept for ever");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A change in the same tick of the clock would leave its time as it is.
pub(crate) fn views_of_changing_files() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let give_up = Instant::now() + LIMIT;
    let view = loop {
        let began = Instant::now();
        let view = View::new(&gpu, super::views::file_of(4096), 0..4096).expect("a view");
        if began.elapsed() < Duration::from_millis(10) {
            break view;
        }
        assert!(Instant::now() < give_up, "this machine is too slow to tell");
    };
    thread::sleep(Duration::from_millis(40));
    let host = MappedMemory::anonymous(&gpu, 4096).expect("memory");
    let host = host.into_buffer().expect("bytes");
    let landing = LandingBuffer::behind(&gpu, host).expect("memory");
    let engine = CopyEngine::with_views(&gpu, vec![landing], vec![view]);
    let mut engine = engine.expect("a stream");
    assert_eq!(engine.start_from_view(0, 0, 0, 0, 10), Ok(false));
}
