//! Views of files: what is pinned, what is counted, what is refused, and how it is given back.

use std::fs::File;
use std::io::Write;

use vyre_ioq_cuda::Gpu;
use vyre_ioq_cuda::view::{View, ViewError, pin_limit, pinned_bytes, set_pin_limit};
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

/// Returns a file of this many bytes on tmpfs.
fn file_of(len: usize) -> File {
    let mut file = tempfile::tempfile_in("/dev/shm").expect("room");
    let bytes: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
    file.write_all(&bytes).expect("room");
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
