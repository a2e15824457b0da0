//! Files that are loaded to memory of the GPU: every byte by each way, and what is refused.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use vyre_ioq_cuda::view::{
    LoadOptions, LoadWay, ViewError, load, pin_limit, pinned_bytes, set_pin_limit,
};
use vyre_ioq_cuda::{Gpu, GpuMemory};
use vyre_uring::vyre_mapped::MapError;

use super::views::file_of;
use super::{Other, calls};

/// Limit that only a hang reaches.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn each_way_loads_every_byte() {
    if let Some(other) = Other::new("each_way_loads_every_byte", "loads") {
        other.run();
    }
}

#[test]
fn what_may_not_be_pinned_is_staged() {
    let test = "what_may_not_be_pinned_is_staged";
    if let Some(other) = Other::new(test, "loads_with_little_room") {
        other.run();
    }
}

#[test]
fn a_file_that_has_become_shorter_fails_to_load() {
    let test = "a_file_that_has_become_shorter_fails_to_load";
    if let Some(other) = Other::new(test, "loads_of_changing_files") {
        other.run();
    }
}

#[test]
fn loads_are_refused_with_their_reason() {
    if let Some(other) = Other::new("loads_are_refused_with_their_reason", "refused_loads") {
        other.run();
    }
}

fn options(way: Option<LoadWay>, threads: usize) -> LoadOptions {
    let mut options = LoadOptions::default();
    options.way = way;
    options.threads = Some(threads);
    options
}

fn loaded(gpu: &Gpu, file: &File, options: LoadOptions) -> LoadWay {
    let len = file.metadata().expect("a size").len();
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).expect("all of it");
    let memory = GpuMemory::zeroed(gpu, len as usize).expect("memory");
    let way = load(gpu, file, 0..len, &memory, 0, options).expect("it fits");
    assert!(memory.read().expect("a copy") == bytes, "{options:?}");
    // A part that begins and ends inside pages, to a place of its own.
    load(gpu, file, 5..len - 7, &memory, 11, options).expect("it fits");
    let found = memory.read().expect("a copy");
    let (before, rest) = found.split_at(11);
    let end = bytes.len() - 7;
    assert!(before == &bytes[..11] && rest[..end - 5] == bytes[5..end]);
    way
}

pub(crate) fn loads() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of((20 << 20) + 77);
    for threads in [1, 3] {
        for way in [LoadWay::Pinned, LoadWay::Staging] {
            assert_eq!(loaded(&gpu, &file, options(Some(way), threads)), way);
        }
    }
    assert_eq!(loaded(&gpu, &file, options(None, 1)), LoadWay::Pinned);
    assert_eq!(loaded(&gpu, &file, options(None, 8)), LoadWay::Pinned);
    // No thread without a piece of 2 MiB.
    let small = file_of(3 << 20);
    let memory = GpuMemory::zeroed(&gpu, 3 << 20).expect("memory");
    let larger = GpuMemory::zeroed(&gpu, 10 << 20).expect("memory");
    calls();
    let staging = options(Some(LoadWay::Staging), 8);
    let way = load(&gpu, &small, 0..3 << 20, &memory, 0, staging);
    assert_eq!(way, Ok(LoadWay::Staging));
    let calls = calls();
    let streams = calls.iter().filter(|call| *call == "cuStreamCreate");
    assert_eq!(streams.count(), 2, "{calls:?}");
    // Five pieces in two halves: each half is filled again once it has been copied.
    let staging = options(Some(LoadWay::Staging), 1);
    load(&gpu, &file, 0..10 << 20, &larger, 0, staging).expect("it fits");
    let calls = super::calls();
    let waits = calls.iter().filter(|call| *call == "cuEventSynchronize");
    assert_eq!(waits.count(), 3, "{calls:?}");
    settle();
}

/// Waits until everything is given back.
fn settle() {
    let give_up = Instant::now() + LIMIT;
    while pinned_bytes() > 0 {
        assert!(Instant::now() < give_up, "pages are pinned for ever");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Nothing may be pinned, or the first piece alone.
pub(crate) fn loads_with_little_room() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of((70 << 20) + 77);
    let limit = pin_limit();
    for room in [12 << 20, 20 << 20] {
        for threads in [1, 3] {
            settle();
            set_pin_limit(room);
            let way = loaded(&gpu, &file, options(None, threads));
            assert_eq!(way, LoadWay::Staging, "{room} {threads}");
        }
        settle();
        let memory = GpuMemory::uninit(&gpu, 70 << 20).expect("memory");
        let pinned = options(Some(LoadWay::Pinned), 1);
        let refused = load(&gpu, &file, 0..70 << 20, &memory, 0, pinned);
        assert!(
            matches!(refused, Err(ViewError::PinLimit { .. })),
            "{refused:?}"
        );
    }
    set_pin_limit(limit);
    settle();
}

/// A file that has become shorter fails by whichever thread finds it, and the others end.
pub(crate) fn loads_of_changing_files() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let memory = GpuMemory::uninit(&gpu, 100 << 20).expect("memory");
    let file = file_of(100 << 20);
    for size in [0, 10 << 20, 50 << 20, (100 << 20) - 1, (100 << 20) - 4096] {
        file.set_len(size).expect("shorter");
        for way in [None, Some(LoadWay::Pinned), Some(LoadWay::Staging)] {
            let failed = load(&gpu, &file, 0..100 << 20, &memory, 0, options(way, 4));
            assert!(
                matches!(failed, Err(ViewError::Read { .. } | ViewError::Pin { .. })),
                "{size} {way:?}: {failed:?}"
            );
        }
        file.set_len(100 << 20).expect("longer");
    }
    load(&gpu, &file, 0..100 << 20, &memory, 0, options(None, 4)).expect("it is long enough");
    settle();
}

pub(crate) fn refused_loads() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of(10_000);
    let memory = GpuMemory::zeroed(&gpu, 9000).expect("memory");
    let refused = |range, at, way| {
        load(&gpu, &file, range, &memory, at, options(Some(way), 2)).expect_err("unfit")
    };
    for way in [LoadWay::Pinned, LoadWay::Staging] {
        assert_eq!(refused(5..5, 0, way), MapError::EmptyRange.into());
        let (len, wanted) = (9000, 9001);
        let short = ViewError::TooShort { len, wanted };
        assert_eq!(refused(0..9000, 1, way), short);
    }
    let ends = refused(8000..10_001, 0, LoadWay::Staging);
    assert!(
        matches!(ends, ViewError::Read { offset: 8000, .. }),
        "{ends}"
    );
    for end in [10_001, 13_000] {
        let ends = refused(8000..end, 0, LoadWay::Pinned);
        assert!(
            matches!(ends, ViewError::Read { offset: 10_000, .. }),
            "{ends}"
        );
    }
    // A file that cannot be mapped is staged.
    let status = File::open("/proc/self/status").expect("a file");
    let way = load(&gpu, &status, 0..10, &memory, 0, options(None, 1));
    assert_eq!(way, Ok(LoadWay::Staging));
    let pinned = options(Some(LoadWay::Pinned), 1);
    let way = load(&gpu, &status, 0..10, &memory, 0, pinned);
    assert!(matches!(way, Err(ViewError::Map(_))), "{way:?}");
}
