//! Views of files: what is pinned, what is counted, what is refused, and how it is given back.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use vyre_ioq_cuda::view::{
    RowGather, Rows, View, ViewError, ViewState, pin_limit, pinned_bytes, set_pin_limit,
};
use vyre_ioq_cuda::{Gpu, GpuMemory, Stream};
use vyre_uring::vyre_mapped::MapError;

use super::{Other, calls};

const PAGE: u64 = 4096;

#[test]
fn pages_are_pinned_counted_and_given_back_after_what_runs() {
    let test = "pages_are_pinned_counted_and_given_back_after_what_runs";
    if let Some(other) = Other::new(test, "views") {
        other.run();
    }
}

#[test]
fn views_are_refused_with_their_reason() {
    let test = "views_are_refused_with_their_reason";
    if let Some(other) = Other::new(test, "refused_views") {
        other.run();
    }
}

#[test]
fn a_gpu_that_pins_no_read_only_pages_has_no_views() {
    let test = "a_gpu_that_pins_no_read_only_pages_has_no_views";
    if let Some(other) = Other::new(test, "views_of_an_old_gpu") {
        other.with("FAKE_CUDA_NO_READ_ONLY", "1").run();
    }
}

#[test]
fn pages_that_the_driver_keeps_stay_counted_and_mapped() {
    let test = "pages_that_the_driver_keeps_stay_counted_and_mapped";
    if let Some(other) = Other::new(test, "views_that_stay") {
        other.with("FAKE_CUDA_NO_UNREGISTER", "1").run();
    }
}

#[test]
fn pages_are_read_in_beside_unless_that_is_cancelled() {
    let test = "pages_are_read_in_beside_unless_that_is_cancelled";
    if let Some(other) = Other::new(test, "prepared_views") {
        other.run();
    }
}

#[test]
fn a_view_that_no_longer_shows_its_file_says_so() {
    let test = "a_view_that_no_longer_shows_its_file_says_so";
    if let Some(other) = Other::new(test, "stale_views") {
        other.run();
    }
}

#[test]
fn the_copy_engine_copies_parts_of_a_view() {
    let test = "the_copy_engine_copies_parts_of_a_view";
    if let Some(other) = Other::new(test, "copied_views") {
        other.run();
    }
}

#[test]
fn a_copy_that_no_event_marks_has_ended_when_its_error_is_there() {
    let test = "a_copy_that_no_event_marks_has_ended_when_its_error_is_there";
    if let Some(other) = Other::new(test, "unmarked_copies") {
        other.with("FAKE_CUDA_NO_RECORD", "1").run();
    }
}

#[test]
fn a_long_view_is_one_registration() {
    if let Some(other) = Other::new("a_long_view_is_one_registration", "long_views") {
        other.run();
    }
}

#[test]
fn rows_are_gathered_only_where_there_is_room() {
    let test = "rows_are_gathered_only_where_there_is_room";
    if let Some(other) = Other::new(test, "gathered_rows") {
        other.with("FAKE_NVRTC", "12.4").run();
    }
}

/// Returns a file of this many bytes on tmpfs.
pub(crate) fn file_of(len: usize) -> File {
    let mut file = tempfile::tempfile_in("/dev/shm").expect("room");
    let period: Vec<u8> = (0..251).collect();
    let bytes = period.repeat(len.div_ceil(251));
    file.write_all(&bytes[..len]).expect("room");
    file
}

fn count(calls: &[String], name: &str) -> usize {
    calls.iter().filter(|call| call.starts_with(name)).count()
}

pub(crate) fn views() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of(3 * 4096 + 5);
    calls();
    let view = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    assert_eq!((view.range(), view.len()), (0..3 * PAGE + 5, 3 * PAGE + 5));
    assert_eq!(pinned_bytes(), 4 * PAGE);
    let part = View::new(&gpu, &file, PAGE..2 * PAGE).expect("a view");
    assert_eq!(pinned_bytes(), 5 * PAGE);
    let pinned = calls();
    assert!(pinned.contains(&"cuMemHostRegister read-only 16384".to_owned()));
    assert!(pinned.contains(&"cuMemHostRegister read-only 4096".to_owned()));

    let seen = view.device_view(&gpu).expect("an address");
    assert_eq!(seen.len(), view.len());
    assert!(seen.device_ptr().is_multiple_of(PAGE));
    drop(view.clone());
    calls();
    assert_eq!(pinned_bytes(), 5 * PAGE);
    drop((view, part));
    let given_back = calls();
    assert_eq!(pinned_bytes(), 0);
    // What runs may know the address: it ends first.
    assert_eq!(given_back[..2], ["cuCtxSynchronize", "cuMemHostUnregister"]);
    assert_eq!(count(&given_back, "cuMemHostUnregister"), 2);
}

pub(crate) fn refused_views() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of(3 * 4096 + 5);
    let refused = |range| View::new(&gpu, &file, range).expect_err("unfit");
    let size = 3 * PAGE + 5;
    assert_eq!(refused(5..5), MapError::EmptyRange.into());
    assert_eq!(refused(1..PAGE), ViewError::NotPages);
    assert_eq!(refused(0..PAGE + 1), ViewError::NotPages);
    assert_eq!(refused(4 * PAGE..5 * PAGE), ViewError::PastEnd { size });
    let directory = File::open("/").expect("a directory");
    let error = View::new(&gpu, &directory, 0..PAGE).expect_err("no file");
    assert_eq!(error, MapError::NotRegular.into());
    let status = File::open("/proc/self/status").expect("a file");
    let error = View::new(&gpu, &status, 0..PAGE).expect_err("no such file system");
    assert!(matches!(
        error,
        ViewError::Map(MapError::UnknownFileSystem { .. })
    ));

    assert!(pin_limit() >= 4 * PAGE);
    set_pin_limit(4 * PAGE);
    let view = View::new(&gpu, &file, 0..PAGE).expect("within the limit");
    let (bytes, pinned, limit) = (4 * PAGE, PAGE, 4 * PAGE);
    let error = refused(0..u64::MAX);
    assert_eq!(
        error,
        ViewError::PinLimit {
            bytes,
            pinned,
            limit
        }
    );
    assert!(error.to_string().contains("16384"), "{error}");
    drop(view);
    View::new(&gpu, &file, 0..u64::MAX).expect("there is room again");
    assert_eq!(pinned_bytes(), 0, "refusals pin nothing");
}

pub(crate) fn views_of_an_old_gpu() {
    let gpu = Gpu::open(0).expect("a stand-in");
    assert!(!gpu.capabilities().pins_read_only);
    let refused = View::new(&gpu, file_of(5), 0..5).expect_err("it cannot");
    assert_eq!(refused, ViewError::Unsupported("a stand-in".to_owned()));
    assert_eq!(count(&calls(), "cuMemHostRegister"), 0);
}

/// The driver would take what is mapped at the same address next for the pinned pages.
pub(crate) fn views_that_stay() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let view = View::new(&gpu, file_of(5), 0..5).expect("a view");
    let at = view.device_view(&gpu).expect("an address").device_ptr();
    drop(view);
    assert_eq!(pinned_bytes(), PAGE);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("a list");
    assert!(maps.contains(&format!("{at:x}-")), "{maps}");
}

pub(crate) fn prepared_views() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = file_of(5 * 4096 + 9);
    calls();
    let preparing = View::prepare(&file, 0..u64::MAX).expect("a mapping");
    assert_eq!(preparing.len(), 5 * PAGE + 9);
    while !preparing.is_ready() {
        thread::yield_now();
    }
    assert_eq!(preparing.done(), preparing.len());
    assert_eq!((pinned_bytes(), count(&calls(), "cu")), (0, 0));
    let view = preparing.pin(&gpu).expect("a view");
    assert_eq!(pinned_bytes(), 6 * PAGE);
    drop(view);

    // More than one piece: the thread sees that it is cancelled before it has read all.
    let large = tempfile::tempfile_in("/dev/shm").expect("room");
    large.set_len(1 << 40).expect("a hole");
    let preparing = View::prepare(&large, 0..1 << 40).expect("a mapping");
    preparing.cancel();
    let cancelled = preparing.pin(&gpu).expect_err("cancelled");
    assert_eq!(cancelled, ViewError::Cancelled);
    assert_eq!(pinned_bytes(), 0);

    let preparing = View::prepare(&file, 0..u64::MAX).expect("a mapping");
    file.set_len(PAGE).expect("shorter");
    match preparing.pin(&gpu) {
        Err(ViewError::Pin { bytes, .. }) => assert_eq!(bytes, 6 * PAGE),
        other => panic!("pages that are not there? {other:?}"),
    }
}

pub(crate) fn stale_views() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let made = || {
        let file = file_of(4 * 4096);
        // Until the clock by which changes are dated has moved on.
        thread::sleep(Duration::from_millis(40));
        let view = View::new(&gpu, &file, 0..4 * PAGE).expect("a view");
        assert_eq!(view.check(), Ok(ViewState::Current));
        (file, view)
    };
    let (file, view) = made();
    let written = file.write_all_at(b"through the page cache", 100);
    written.expect("room");
    assert_eq!(view.check(), Ok(ViewState::Current));
    file.set_len(5 * PAGE).expect("longer");
    assert_eq!(view.check(), Ok(ViewState::Current));
    file.set_len(4 * PAGE - 1).expect("shorter");
    let size = 4 * PAGE - 1;
    assert_eq!(view.check(), Ok(ViewState::Shorter { size }));

    let (file, view) = made();
    file.set_len(PAGE).expect("shorter");
    file.set_len(4 * PAGE).expect("as long again");
    let offset = PAGE;
    assert_eq!(view.check(), Ok(ViewState::Detached { offset }));

    // A view of a file that was changed a moment ago looks at the pages each time.
    let file = file_of(4 * 4096);
    let view = View::new(&gpu, &file, 0..4 * PAGE).expect("a view");
    assert_eq!(view.check(), Ok(ViewState::Current));
    file.set_len(PAGE).expect("shorter");
    file.set_len(4 * PAGE).expect("as long again");
    assert_eq!(view.check(), Ok(ViewState::Detached { offset }));
}

/// The driver copies no range that reaches over the end of a registration.
pub(crate) fn long_views() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let file = tempfile::tempfile_in("/dev/shm").expect("room");
    file.set_len((300 << 20) + 5).expect("a hole");
    calls();
    let view = View::new(&gpu, &file, 0..u64::MAX).expect("a view");
    assert_eq!(count(&calls(), "cuMemHostRegister"), 1);
    drop(view);
    assert_eq!(count(&calls(), "cuMemHostUnregister"), 1);
}

pub(crate) fn unmarked_copies() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let view = View::new(&gpu, file_of(4096), 0..PAGE).expect("a view");
    let stream = Stream::new(&gpu).expect("a stream");
    let memory = GpuMemory::zeroed(&gpu, 4096).expect("memory");
    calls();
    let copy = view.copy(0..PAGE, &memory, 0, &stream);
    assert!(matches!(copy, Err(ViewError::Cuda(_))), "{copy:?}");
    let calls = calls();
    assert_eq!(count(&calls, "cuMemcpyHtoDAsync"), 1);
    assert_eq!(count(&calls, "cuStreamSynchronize"), 1, "{calls:?}");
}

pub(crate) fn copied_views() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let len = (256 << 20) + 4096 + 7 + 4096;
    let file = file_of(len);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).expect("all of it");
    let view = View::new(&gpu, &file, PAGE..u64::MAX).expect("a view");
    let stream = Stream::new(&gpu).expect("a stream");
    let memory = GpuMemory::zeroed(&gpu, len).expect("memory");
    calls();
    let copy = view.copy(PAGE + 3..len as u64, &memory, 9, &stream);
    let copy = copy.expect("inside");
    let copies = count(&calls(), "cuMemcpyHtoDAsync");
    assert_eq!(copies, 2, "pieces of 256 MiB");
    assert_eq!(copy.is_done(), Ok(true));
    copy.wait().expect("no error");
    drop((copy, view));
    let found = memory.read().expect("a copy");
    let (before, rest) = found.split_at(9);
    assert!(before.iter().all(|&byte| byte == 0));
    assert!(rest[..len - 4099] == bytes[4099..]);
    assert!(rest[len - 4099..].iter().all(|&byte| byte == 0));

    let view = View::new(&gpu, &file, PAGE..3 * PAGE).expect("a view");
    let refused = |part, at| view.copy(part, &memory, at, &stream).expect_err("unfit");
    for (start, end) in [(0, PAGE + 1), (3 * PAGE, 3 * PAGE + 1), (2 * PAGE, PAGE)] {
        let (part, range) = (start..end, PAGE..3 * PAGE);
        let expected = ViewError::OutOfRange {
            part: part.clone(),
            range,
        };
        assert_eq!(refused(part, 0), expected);
    }
    let (len, wanted) = (len as u64, len as u64 + 1);
    let short = ViewError::TooShort { len, wanted };
    assert_eq!(refused(PAGE..2 * PAGE, len as usize + 1 - 4096), short);
    super::get_stuck();
    let copy = view.copy(PAGE..2 * PAGE, &memory, 0, &stream);
    let copy = copy.expect("inside");
    assert_eq!(copy.is_done(), Ok(false));
    super::get_on();
}

pub(crate) fn gathered_rows() {
    let gpu = Gpu::open(0).expect("a stand-in");
    let gather = RowGather::load(&gpu).expect("prebuilt PTX");
    let view = View::new(&gpu, file_of(1000), 0..1000).expect("a view");
    let stream = Stream::new(&gpu).expect("a stream");
    let memory = |len| GpuMemory::zeroed(&gpu, len).expect("memory");
    let (ids, out) = (memory(5 * 8), memory(5 * 100));
    let launch = |first, row_bytes, count| {
        let rows = Rows { first, row_bytes };
        gather.launch(&view, rows, &ids, count, &out, &stream)
    };
    let launched = launch(900, 100, 5).expect("it fits");
    launched.wait().expect("no error");
    assert_eq!(gather.outside(), Ok(0));
    for (first, row_bytes) in [(901, 100), (0, 1001), (0, 0), (1001, 1)] {
        let refused = launch(first, row_bytes, 1).expect_err("no row");
        assert_eq!(refused, ViewError::NoRows, "{first} {row_bytes}");
    }
    let short = |len, wanted| ViewError::TooShort { len, wanted };
    assert_eq!(launch(0, 10, 6).expect_err("ids"), short(40, 48));
    assert_eq!(launch(0, 101, 5).expect_err("out"), short(500, 505));
    let many = launch(0, 10, u64::MAX).expect_err("ids");
    assert_eq!(many, short(40, u64::MAX));
    // The launch keeps what its kernel uses.
    calls();
    drop((view, ids, out, stream));
    assert_eq!(count(&calls(), "cuMemHostUnregister"), 0);
    drop(launched);
    let ended = calls();
    let waited = ended.iter().position(|call| call == "cuEventSynchronize");
    let given_back = ended.iter().position(|call| call == "cuMemHostUnregister");
    assert!(waited.expect("it waits") < given_back.expect("it is given back"));
}
