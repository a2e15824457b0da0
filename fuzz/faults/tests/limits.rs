//! Tests of a host that lacks resources or permissions.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use vyre_faults::rig::{Parts, ask, assert_holds, queue};
use vyre_faults::{Need, Scene, Test, pattern, tests};
use vyre_ioloop::LoopOptions;
use vyre_ioloop::SpawnError;
use vyre_ioq::{Errno, LoopState, Request};
use vyre_uring::{Ring, SetupError, SetupReport, TransportChoice};

pub(crate) const TESTS: &[Test] = tests![
    threads_serve_where_io_uring_is_denied_by_eperm: [],
    threads_serve_where_io_uring_is_denied_by_enosys: [],
    threads_serve_where_io_uring_is_denied_by_eacces: [],
    threads_serve_where_a_ring_cannot_be_entered: [],
    without_registration_the_plain_path_serves: [],
    without_locked_memory_the_plain_path_serves: [],
    with_few_descriptors_a_loop_serves_or_reports_why: [],
    a_full_file_system_is_enospc_and_not_a_failed_flush: [Need::Tmpfs { at: "tmpfs", mib: 4 }],
];

/// Makes system calls of this process fail with an errno.
fn deny(calls: &[i64], errno: i32) {
    let filter = SeccompFilter::new(
        calls.iter().map(|&call| (call, Vec::new())).collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
}

/// Asserts that a loop that insists on a ring reports why there is none, and that one that does not is
/// served by threads and says so.
fn check_denied(scene: &Scene, call: i64, errno: i32, name: &str) {
    deny(&[call], errno);
    let (host, device) = queue(4);
    let options = LoopOptions::new().transport(TransportChoice::Ring);
    let builder = Parts::new(4096).builder().options(options);
    let spawned = builder.queue(host).spawn();
    let error = spawned.expect_err("io_uring is denied");
    assert!(matches!(error, SpawnError::Setup(_)), "{error:?}");
    let text = chain(&error);
    assert!(
        text.contains(name) || text.contains(&format!("os error {errno}")),
        "{text}"
    );
    assert!(text.contains("io_uring"), "{text}");
    assert_eq!(device.host_state(), Some(LoopState::Failed));
    let report = check_served(scene, Parts::new(1 << 20));
    let SetupReport::ThreadPool(pool) = &report else {
        panic!("{report}");
    };
    assert!(
        pool.refused().is_some_and(SetupError::refuses_ring),
        "{report}"
    );
    let said = report.summary();
    assert!(said.starts_with("threads") && said.contains(name), "{said}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let next = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", next.unwrap_or_default())
}

fn threads_serve_where_io_uring_is_denied_by_eperm(scene: &Scene) {
    check_denied(scene, libc::SYS_io_uring_setup, libc::EPERM, "EPERM");
}

fn threads_serve_where_io_uring_is_denied_by_enosys(scene: &Scene) {
    check_denied(scene, libc::SYS_io_uring_setup, libc::ENOSYS, "ENOSYS");
}

fn threads_serve_where_io_uring_is_denied_by_eacces(scene: &Scene) {
    check_denied(scene, libc::SYS_io_uring_setup, libc::EACCES, "EACCES");
}

fn threads_serve_where_a_ring_cannot_be_entered(scene: &Scene) {
    check_denied(scene, libc::SYS_io_uring_enter, libc::EPERM, "os error 1");
}

/// Asserts that reads and writes are served, whatever features the ring got. Returns the report of
/// its set-up.
fn check_served(scene: &Scene, mut parts: Parts) -> SetupReport {
    let file = parts.file(scene.healthy(8192));
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let io = parts.builder().queue(host).spawn().unwrap();
    assert_eq!(
        ask(&device, Request::read(file, 0, 8192).into_buffer(pool, 0)),
        Ok(8192)
    );
    assert_holds(&memory, 0, &pattern(0, 8192));
    assert_eq!(
        ask(
            &device,
            Request::write(file, 0, 4096).from_buffer(pool, 4096)
        ),
        Ok(4096)
    );
    assert_eq!(ask(&device, Request::sync(file)), Ok(0));
    assert_eq!(
        ask(&device, Request::read(file, 0, 4096).into_buffer(pool, 0)),
        Ok(4096)
    );
    assert_holds(&memory, 0, &pattern(4096, 4096));
    let report = io.report().clone();
    io.stop().unwrap();
    report
}

fn without_registration_the_plain_path_serves(scene: &Scene) {
    deny(&[libc::SYS_io_uring_register], libc::EPERM);
    let report = check_served(scene, Parts::new(1 << 20));
    let report = report.ring().expect("a ring");
    assert!(
        !report.files().in_use() && !report.buffers().in_use(),
        "{report}"
    );
}

fn without_locked_memory_the_plain_path_serves(scene: &Scene) {
    // The files come first: they need a directory that this process may write. Root may lock any amount
    // of memory, so the process must change its user. A process that is not root cannot, and need not.
    let parts = Parts::new(1 << 20);
    // Before Linux 5.19, a ring registers no buffer, whatever the limit, and nothing is refused to it.
    let registers = registers_buffers();
    let dir = std::fs::File::open(scene.path("")).unwrap();
    rustix::fs::fchmod(&dir, rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
    let limit = Rlimit {
        current: Some(64 << 10),
        maximum: Some(64 << 10),
    };
    setrlimit(Resource::Memlock, limit).unwrap();
    let _ = nix::unistd::setuid(65_534.into());
    let report = check_served(scene, parts);
    let report = report.ring().expect("a ring");
    assert_eq!(report.buffers().in_use(), registers, "{report}");
    let refused = report.plain_buffers();
    assert_eq!(refused.0, u32::from(registers), "{report}");
    if registers {
        assert_eq!(refused.1, Some(rustix::io::Errno::NOMEM), "{report}");
    }
}

/// Returns whether this kernel's rings register buffers: a ring with the rights of this process does.
fn registers_buffers() -> bool {
    let ring = Ring::builder().build().expect("a ring");
    ring.setup_report().buffers().in_use()
}

fn with_few_descriptors_a_loop_serves_or_reports_why(scene: &Scene) {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
    let whole = getrlimit(Resource::Nofile);
    let (mut refused, mut served) = (0, 0);
    for room in 0..12 {
        let file = scene.healthy(4096);
        let mut parts = Parts::new(4096);
        let file = parts.file(file);
        let pool = parts.pool;
        let (host, device) = queue(4);
        let current = Some(open + 1 + room);
        setrlimit(Resource::Nofile, Rlimit { current, ..whole }).unwrap();
        let spawned = parts
            .builder()
            .options(LoopOptions::new().live_entries(0))
            .queue(host)
            .spawn();
        match spawned {
            Ok(io) => {
                assert_eq!(
                    ask(&device, Request::read(file, 0, 64).into_buffer(pool, 0)),
                    Ok(64)
                );
                io.stop().unwrap();
                served += 1;
            }
            Err(error) => {
                assert!(!chain(&error).is_empty());
                assert_eq!(device.host_state(), Some(LoopState::Failed));
                refused += 1;
            }
        }
        setrlimit(Resource::Nofile, whole).unwrap();
    }
    // A ring of a newer kernel needs no descriptor at all.
    println!("{refused} refused, {served} served");
    assert!(served > 0);
}

/// Rule: ABI-6.15.
fn a_full_file_system_is_enospc_and_not_a_failed_flush(scene: &Scene) {
    let file = scene.create("tmpfs", "file");
    let mut parts = Parts::new(1 << 20);
    let file = parts.file(file);
    let pool = parts.pool;
    let (host, device) = queue(4);
    let io = parts.builder().queue(host).spawn().unwrap();
    let write = Request::write(file, 0, 8192).from_buffer(pool, 0);
    scene.fill("tmpfs");
    assert_eq!(ask(&device, write), Err(Errno::ENOSPC));
    assert_eq!(ask(&device, write.durable()), Err(Errno::ENOSPC));
    assert_eq!(ask(&device, Request::sync(file)), Ok(0), "nothing was lost");
    scene.drain("tmpfs");
    assert_eq!(ask(&device, write.durable()), Ok(8192));
    assert_eq!(ask(&device, Request::sync(file)), Ok(0));
    io.stop().unwrap();
}
