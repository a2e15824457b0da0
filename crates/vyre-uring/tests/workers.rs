//! The cores of the kernel's worker threads.

mod common;

use std::fs;
use std::io::Write;
use std::sync::Arc;

use common::has_ring;
use rustix::thread::CpuSet;
use vyre_uring::{FileSlot, Operation, Ring};

/// Returns the cores that the workers of this thread may run on, as the kernel lists them.
fn cores_of_workers() -> Vec<String> {
    let name = format!(
        "iou-wrk-{}",
        rustix::thread::gettid().as_raw_nonzero().get()
    );
    let tasks = fs::read_dir("/proc/self/task").expect("/proc").flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
        .filter(|status| {
            status.lines().any(|line| {
                line.strip_prefix("Name:")
                    .is_some_and(|found| found.trim() == name)
            })
        })
        .filter_map(|status| {
            let line = status
                .lines()
                .find(|line| line.starts_with("Cpus_allowed_list:"))?;
            Some(line.split_whitespace().nth(1)?.to_owned())
        })
        .collect()
}

#[test]
fn workers_of_a_bound_thread_run_on_the_cores_named() {
    if !has_ring() {
        return;
    }
    let allowed = rustix::thread::sched_getaffinity(None).expect("known");
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    let (Some(own), Some(other)) = (cores.next(), cores.next()) else {
        let line = "SKIPPED: workers_of_a_bound_thread_run_on_the_cores_named: one core alone is allowed\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    };
    let mut set = CpuSet::new();
    set.set(own);
    rustix::thread::sched_setaffinity(None, &set).expect("an allowed core");

    let mut ring = Ring::builder()
        .worker_cores([other])
        .build()
        .expect("a ring");
    let file = tempfile::tempfile().expect("a file");
    let slot = FileSlot::new(0);
    ring.set_file(slot, Some(Arc::new(file.into())))
        .expect("room");
    // A worker performs every fsync, and exists for some seconds afterwards.
    let sync = Operation::Sync {
        file: slot,
        data_only: false,
    };
    ring.push(sync, 0).expect("room");
    let mut done = 0;
    while done == 0 {
        ring.wait(None).expect("healthy");
        done = ring.reap(|completion| assert_eq!(completion.result, Ok(0)));
    }
    assert_eq!(cores_of_workers(), [other.to_string()]);
}
