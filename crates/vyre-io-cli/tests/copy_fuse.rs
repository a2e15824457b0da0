//! Tests of `vyre-io copy` on file systems that lack a feature, or that fail late.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;

use common::fuse::Mounted;
use common::process::{send, stopped};
use common::{contents, copy, file, has_gpu, names, stderr, vyre_io};
use rustix::process::Signal;
use vyre_faults::Faults;

#[test]
fn what_only_closing_reveals_is_a_failure_and_no_destination() {
    let faults = Faults {
        words: &["empty", "full-flush"],
        ..Faults::default()
    };
    let Some(mounted) = Mounted::new(faults, &[]) else {
        return;
    };
    let src = file(mounted.beside(), "src", 100_000);
    for more in [&["--no-sync"][..], &["--verify"]] {
        let output = copy(&src, &mounted.path().join("dst"), more);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let says = stderr(&output);
        assert!(
            says.contains("cannot close ") && says.contains("No space left"),
            "{says}"
        );
        assert_eq!(names(&mounted.path()), ["src"]);
    }
}

#[test]
fn what_a_file_system_lacks_is_done_without() {
    let faults = Faults {
        words: &["empty", "no-fsyncdir", "no-truncate", "no-chmod"],
        ..Faults::default()
    };
    let Some(mounted) = Mounted::new(faults, &[]) else {
        return;
    };
    let (beside, dst) = (mounted.beside(), mounted.path().join("dst"));
    for len in [3_000_001, 5000] {
        let src = file(beside, "src", len);
        for more in [&["--verify"][..], &["--direct"]] {
            // Also onto the copy that is there then.
            let output = copy(&src, &dst, more);
            assert!(output.status.success(), "{more:?}: {}", stderr(&output));
            let says = stderr(&output);
            assert!(
                says.contains("dst is complete, but its file system cannot sync"),
                "{says}"
            );
            assert_eq!(fs::read(&dst).expect("dst"), contents(len));
            assert_eq!(names(&mounted.path()), ["dst", "src"]);
        }
    }
}

/// The first sync of a whole file system, which the name needs where the directory cannot be opened,
/// reports the errors of all files since the mount.
#[test]
fn an_earlier_error_of_another_file_is_no_failure_of_the_copy() {
    let faults = Faults {
        words: &["empty", "no-opendir"],
        writeback: true,
        ..Faults::default()
    };
    let Some(mounted) = Mounted::new(faults, &[]) else {
        return;
    };
    let other = fs::File::create(mounted.path().join("other.eio-write")).expect("a file");
    other
        .write_all_at(&[1], faults.middle)
        .expect("kept by the kernel");
    other.sync_all().expect_err("the server refuses the byte");

    let (src, dst) = (
        file(mounted.beside(), "src", 100_000),
        mounted.path().join("dst"),
    );
    let output = copy(&src, &dst, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read(&dst).expect("dst"), contents(100_000));
}

#[test]
fn bytes_that_cannot_be_read_in_the_middle_are_an_input_error() {
    let mut ways = vec![&[][..], &["--direct"], &["--block-size", "4k"]];
    if has_gpu() {
        ways.push(&["--device", "cuda"]);
    }
    for bad in [700_000, 3 << 20] {
        let faults = Faults {
            words: &["eio-read"],
            middle: bad,
            ..Faults::default()
        };
        let Some(mounted) = Mounted::new(faults, &contents(4 << 20)) else {
            return;
        };
        let dst = mounted.beside().join("dst");
        for more in &ways {
            let output = copy(&mounted.path().join("src"), &dst, more);
            let says = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{says}");
            assert!(says.contains("src: Input/output error"), "{more:?} {says}");
            assert!(!dst.exists());
        }
    }
}

#[test]
fn a_size_that_is_not_true_is_noticed() {
    for (size, says) in [
        (0, "reports a size of 0 bytes but has more"),
        (10_000, "reports a size of 10000 bytes but has more"),
        (50_000, ""),
        (100_000, "reports a size of 100000 bytes but ends earlier"),
        (
            9_000_000,
            "reports a size of 9000000 bytes but ends earlier",
        ),
    ] {
        let faults = Faults {
            size: Some(size),
            ..Faults::default()
        };
        let Some(mounted) = Mounted::new(faults, &contents(50_000)) else {
            return;
        };
        let dst = mounted.beside().join("dst");
        let output = copy(&mounted.path().join("src"), &dst, &["--verify"]);
        let said = stderr(&output);
        assert!(said.contains(says), "{size}: {said}");
        assert_eq!(output.status.success(), says.is_empty(), "{size}: {said}");
        assert_eq!(
            fs::read(&dst).ok(),
            says.is_empty().then(|| contents(50_000))
        );
    }
}

/// Locks say nothing about other machines, which may have the file system mounted too.
#[test]
fn what_was_left_on_a_file_system_of_others_stays_unless_a_signal_removes_it() {
    let faults = Faults {
        words: &["empty"],
        ..Faults::default()
    };
    let Some(mounted) = Mounted::new(faults, &[]) else {
        return;
    };
    let (src, dst) = (
        file(mounted.beside(), "src", 64 << 20),
        mounted.path().join("dst"),
    );
    for signal in [Signal::INT, Signal::KILL] {
        let mut command = vyre_io();
        command
            .args(["copy", "--block-size", "4k", "--lanes", "1"])
            .args([&src, &dst]);
        let child = stopped(&mut command, &mounted.path(), &[]);
        assert_eq!(names(&mounted.path()).len(), 2);
        send(&child, signal);
        send(&child, Signal::CONT);
        child.wait_with_output().expect("ends");
        let left = if signal == Signal::KILL { 2 } else { 1 };
        assert_eq!(names(&mounted.path()).len(), left, "{signal:?}");
    }
    let small = file(mounted.beside(), "small", 1);
    assert!(copy(&small, &dst, &[]).status.success());
    assert_eq!(names(&mounted.path()).len(), 3);
}
