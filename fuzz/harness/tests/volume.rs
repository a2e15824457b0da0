//! A small share of what the binary runs for long.

use vyre_fuzz_harness::{handshake, soak, volume};

/// Rules: SEC-4, SEC-5.
#[test]
fn hostile_words_do_no_harm() {
    let report = volume::run(2_000_000, 7);
    assert!(report.words.iter().sum::<u64>() >= 2_000_000);
    assert!(
        report.claimed.iter().all(|&claimed| claimed > 10_000),
        "{report:?}"
    );
    assert_eq!(report.claimed, report.completed);
    assert!(report.honest > 1000, "{report:?}");
}

/// Rule: ABI-4.11.
#[test]
fn producers_lose_nothing() {
    let report = soak::run(100_000, 3);
    assert_eq!((report.claimed, report.taken), (100_000, 100_000));
}

/// Rules: HS-8.1, HS-8.2.
#[test]
fn hostile_packets_do_no_harm() {
    let report = handshake::run(20_000, 3);
    let counts = report.counts;
    let reached = [counts.calls, counts.refusals, counts.cuts, counts.answers];
    assert!(reached.iter().all(|&count| count > 4_000), "{report:?}");
}
