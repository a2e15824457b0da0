//! Memory that a copy in flight reads or writes is kept, and the copy is not reported as ended.

use std::thread;
use std::time::{Duration, Instant};

use vyre_ioq_cuda::landing::{CopyEngine, LandingBuffer, MoveError, Mover};
use vyre_ioq_cuda::{Gpu, MappedMemory};
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
