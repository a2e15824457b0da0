//! Resource limits. Each test runs in a process of its own, and may lower the limits of that process.

mod common;

use std::io::Write;
use std::process::Command;

use common::*;
use rustix::process::{Resource, Rlimit, setrlimit};
use vyre_uring::{Buffer, BufferError, Errno, Ring, SetupStep};

/// Runs `body` in a child process that runs this test alone.
fn alone(name: &str, body: impl FnOnce()) {
    const CHILD: &str = "VYRE_URING_LIMITS_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{}: {said}{}",
        child.status,
        String::from_utf8_lossy(&child.stderr)
    );
}

fn limit(resource: Resource, to: u64) {
    let limit = Rlimit {
        current: Some(to),
        maximum: Some(to),
    };
    setrlimit(resource, limit).unwrap();
}

#[test]
fn a_memfd_past_the_file_size_limit_is_an_error_and_no_signal() {
    alone(
        "a_memfd_past_the_file_size_limit_is_an_error_and_no_signal",
        || {
            limit(Resource::Fsize, 1 << 20);
            let (buffer, _) = Buffer::memfd(1 << 20).expect("within the limit");
            assert_eq!(buffer.len(), 1 << 20);
            let len = (1 << 20) + 1;
            let errno = Errno::FBIG;
            let refused = Buffer::memfd(len).map(drop);
            assert_eq!(refused, Err(BufferError::Resize { len, errno }));
        },
    );
}

#[test]
fn a_table_past_the_descriptor_limit_is_reported_and_served() {
    if !has_ring() {
        return;
    }
    alone(
        "a_table_past_the_descriptor_limit_is_reported_and_served",
        || {
            limit(Resource::Nofile, 64);
            let file = tempfile::tempfile().unwrap();
            let (mut ring, _) = ring_with(Ring::builder().files(100), &file, 4096);
            assert_eq!(
                ring.setup_report().files(),
                SetupStep::Refused(Errno::MFILE)
            );
            let said = ring.setup_report().to_string();
            assert!(said.contains("raise RLIMIT_NOFILE"), "{said}");
            assert_eq!(run(&mut ring, write(0, 0, 100)).result, Ok(100));
        },
    );
}

#[test]
fn workers_are_bounded_by_the_ring_and_by_the_process() {
    if !has_ring() {
        return;
    }
    let name = "workers_are_bounded_by_the_ring_and_by_the_process";
    alone(name, || {
        let report = |builder: vyre_uring::RingBuilder| {
            let ring = builder.build().unwrap();
            (
                ring.setup_report().workers(),
                ring.setup_report().worker_bounds(),
            )
        };
        let (at_first, bounds) = report(Ring::builder().workers(0));
        let Some([files, others]) = bounds.filter(|&[_, others]| others >= 1000) else {
            let line = format!(
                "SKIPPED: workers_are_bounded_by_the_ring_and_by_the_process: workers cannot be bounded, or RLIMIT_NPROC is low ({bounds:?})\n"
            );
            let _ = std::io::stderr().write_all(line.as_bytes());
            return;
        };
        assert_eq!(at_first, SetupStep::Off);
        let raised = |to| (SetupStep::InUse, Some([to, others]));
        assert_eq!(report(Ring::builder().entries(64)), raised(files.max(64)));
        // The rings of a thread share their workers: a small ring does not lower the limit of others.
        assert_eq!(report(Ring::builder().entries(2)), raised(files.max(64)));
        assert_eq!(
            report(Ring::builder().entries(4096)),
            raised(files.max(512))
        );
        let asked = Ring::builder().workers(70);
        assert_eq!(report(asked), (SetupStep::InUse, Some([70, 70])));
        limit(Resource::Nproc, 100);
        let ring = Ring::builder().entries(256).build().unwrap();
        assert_eq!(ring.setup_report().worker_bounds(), Some([100, 70]));
        let said = ring.setup_report().to_string();
        let line = "worker threads bounded: yes, 100 for files and 70 for others";
        assert!(said.contains(line), "{said}");
    });
}
