//! Bundles: reads that are copied at once.

use super::*;

#[test]
fn a_bundle_is_copied_at_once_and_never_in_flight() {
    let mut fixture = fixture();
    fixture.scan();
    let reads = [(0, 1), (3 * page() - 7, 5000), (39 * page(), page() as u32)];
    for (offset, len) in reads {
        assert!(fixture.transport.bundle(read(offset, len)), "{offset}");
    }
    assert_eq!(fixture.transport.in_flight(), 0);
    assert_eq!(fixture.transport.copy_bundle(), 0, "none failed");
    for (offset, len) in reads {
        fixture.check(offset, len);
    }
    let counters = fixture.transport.page_cache_counters();
    assert_eq!((counters.copied, counters.passed_on), (3, 0));
    assert_eq!(counters.bytes, 1 + 5000 + page());
    assert_eq!(fixture.transport.copy_bundle(), 0, "nothing is left");
    assert_eq!(fixture.reap(), []);
}

/// Rule: SEC-2.
#[test]
fn what_cannot_be_copied_joins_no_bundle() {
    let mut fixture = fixture();
    assert!(!fixture.transport.bundle(read(0, 1)), "nothing was scanned");
    fixture.scan();
    let mut joins = |offset, len| fixture.transport.bundle(read(offset, len));
    assert!(!joins(0, SHORT_BYTES + 1), "long");
    assert!(!joins(0, 0), "no bytes");
    assert!(!joins(40 * page() - 1, 2), "past the end");
    assert!(!joins(u64::MAX, 1), "past every end");
    let at = |buffer_offset| Operation::Read {
        file: FILE,
        offset: 0,
        buffer: BUFFER,
        buffer_offset,
        len: 9,
    };
    assert!(
        !fixture.transport.bundle(at((8 << 20) - 8)),
        "past the buffer"
    );
    assert!(!fixture.transport.bundle(at(u64::MAX)));
    let prefetch = Operation::Prefetch {
        file: FILE,
        offset: 0,
        len: 1,
    };
    assert!(!fixture.transport.bundle(prefetch));
    for _ in 0..MAX_BUNDLE {
        assert!(fixture.transport.bundle(read(0, 1)));
    }
    assert!(!fixture.transport.bundle(read(0, 1)), "full");
    assert_eq!(fixture.transport.copy_bundle(), 0);
    let counters = fixture.transport.page_cache_counters();
    assert_eq!((counters.copied, counters.passed_on), (64, 0));
}

/// The size is asked for between the claims and the copies, once a bundle.
///
/// Rule: SEC-17.
#[test]
fn the_size_is_checked_for_each_bundle_before_anything_is_said_to_be_copied() {
    let mut fixture = fixture();
    fixture.scan();
    for offset in [0, 20 * page(), page()] {
        assert!(fixture.transport.bundle(read(offset, 300)));
    }
    ftruncate(&fixture.file, 20 * page() + 100).unwrap();
    assert_eq!(fixture.transport.copy_bundle(), 0b010);
    assert_eq!(fixture.transport.page_cache_counters().past_end, 1);
    assert!(!fixture.transport.bundle(read(20 * page(), 300)));
    assert!(fixture.is_passed_on(20 * page(), 300), "pushed instead");
    assert_eq!(fixture.reap(), [(20 * page(), Ok(100))]);
    // The next bundle asks again.
    assert!(fixture.transport.bundle(read(page(), 300)));
    ftruncate(&fixture.file, page()).unwrap();
    assert_eq!(fixture.transport.copy_bundle(), 0b1);
}

/// Rule: SEC-17.
#[test]
fn a_thread_that_blocks_sigbus_copies_no_bundle() {
    use nix::sys::signal::{SigSet, Signal};
    let mut fixture = fixture();
    fixture.scan();
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGBUS);
    mask.thread_block().unwrap();
    fixture.transport.wait(Some(Duration::ZERO)).unwrap();
    assert!(fixture.transport.bundle(read(0, 5)));
    assert_eq!(fixture.transport.copy_bundle(), 0b1);
    assert!(!fixture.transport.bundle(read(0, 5)));
    mask.thread_unblock().unwrap();
}

/// Rule: SEC-12.
#[test]
fn beside_bundles_a_long_read_is_copied_alone() {
    let mut fixture = fixture();
    fixture.scan();
    for _ in 0..4 {
        fixture.push(0, MAX_COPY_BYTES).unwrap();
    }
    assert!(fixture.transport.bundle(read(page(), 5)));
    assert_eq!(fixture.transport.copy_bundle(), 0);
    assert_eq!(fixture.submit_and_reap(), [0]);
    assert_eq!(fixture.submit_and_reap(), [0, 0], "without a bundle");
}
