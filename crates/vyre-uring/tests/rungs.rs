//! The rungs of the set-up, down to a ring without flags and registrations, on whatever kernel runs the tests.
//!
//! The tests of [`modes`](common::modes) use the transports of all rungs. These say that the rungs are what they should
//! be, by what the kernel tells of a ring.

mod common;

use std::fs::{read_dir, read_link, read_to_string};
use std::io::Write;

use common::*;
use vyre_uring::{Errno, KernelFeatures, Opcode, Ring, RingReport, SetupStep};

/// Features beside the flags that a report shows.
const SHOWN: KernelFeatures = KernelFeatures::RING_FD
    .union(KernelFeatures::FILES)
    .union(KernelFeatures::BUFFERS)
    .union(KernelFeatures::WORKER_BOUNDS)
    .union(KernelFeatures::EXT_ARG)
    .union(KernelFeatures::PROBE)
    .union(KernelFeatures::FUTEX_WAIT);

/// Returns those of them that a ring has.
fn optional(report: &RingReport) -> KernelFeatures {
    let futex = report.supports(Opcode::FutexWait);
    let mut used = KernelFeatures::empty();
    used.set(KernelFeatures::RING_FD, report.ring_fd().in_use());
    used.set(KernelFeatures::FILES, report.files().in_use());
    used.set(KernelFeatures::BUFFERS, report.buffers().in_use());
    used.set(KernelFeatures::WORKER_BOUNDS, report.workers().in_use());
    used.set(KernelFeatures::EXT_ARG, report.features().ext_arg);
    used.set(KernelFeatures::PROBE, futex.is_some());
    used.set(KernelFeatures::FUTEX_WAIT, futex == Some(true));
    used
}

/// Returns the numbers of registered files and buffers of the only ring of this process, according to the kernel.
fn tables() -> Option<[u64; 2]> {
    let fds = read_dir("/proc/self/fd").unwrap();
    let rings = fds.filter_map(|entry| {
        let entry = entry.ok()?;
        let target = read_link(entry.path()).ok()?;
        (target.to_str()? == "anon_inode:[io_uring]").then(|| entry.file_name())
    });
    let rings: Vec<_> = rings.collect();
    let [ring] = rings.as_slice() else {
        panic!("{rings:?}: not one ring")
    };
    let info = read_to_string(format!("/proc/self/fdinfo/{}", ring.to_str()?)).ok()?;
    let number = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some([number("UserFiles:")?, number("UserBufs:")?])
}

/// Returns the version of the kernel that runs the tests.
fn running() -> (u32, u32) {
    let system = rustix::system::uname();
    let release = system.release().to_str().unwrap();
    let mut numbers = release.split('.').map_while(|part| part.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn each_rung_is_what_that_kernel_would_reach() {
    if !has_ring() {
        return;
    }
    let deferred = [
        "SINGLE_ISSUER",
        "DEFER_TASKRUN",
        "TASKRUN_FLAG",
        "SUBMIT_ALL",
    ];
    let cooperative = [
        "SINGLE_ISSUER",
        "COOP_TASKRUN",
        "TASKRUN_FLAG",
        "SUBMIT_ALL",
    ];
    let rungs: [&[&str]; 6] = [
        &deferred,
        &cooperative,
        &cooperative[1..],
        &["SUBMIT_ALL"],
        &[],
        &[],
    ];
    for (kernel, flags) in OLDER.into_iter().zip(rungs) {
        if kernel > running() {
            let test = "each_rung_is_what_that_kernel_would_reach";
            let line = format!("SKIPPED: {test}: this kernel is older than {kernel:?}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            continue;
        }
        let lacking = KernelFeatures::newer_than(kernel.0, kernel.1);
        let builder = Ring::builder().files(7).buffers(3).withhold(lacking);
        let ring = builder.build().unwrap();
        let report = ring.setup_report();
        assert_eq!(report.flags(), flags, "{kernel:?}");
        assert!(report.refused().iter().all(|set| set.errno == Errno::INVAL));
        assert_eq!(optional(report), SHOWN.difference(lacking), "{kernel:?}");
        assert_eq!(report.withheld(), lacking);
        assert!(report.to_string().contains("\nwithheld: "), "{report}");
        for (step, feature) in [
            (report.ring_fd(), KernelFeatures::RING_FD),
            (report.files(), KernelFeatures::FILES),
            (report.buffers(), KernelFeatures::BUFFERS),
        ] {
            let refused = step == SetupStep::Refused(Errno::INVAL);
            assert_eq!(refused, lacking.contains(feature), "{kernel:?}: {step}");
        }
        if let Some(tables) = tables() {
            let expected = [KernelFeatures::FILES, KernelFeatures::BUFFERS];
            let expected = expected.map(|table| !lacking.contains(table));
            assert_eq!(tables.map(|entries| entries > 0), expected, "{kernel:?}");
        }
    }
}
