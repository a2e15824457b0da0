//! Wait, cancel, failure and drop.
#![expect(
    unsafe_code,
    reason = "a test takes a ring to a thread that must not use it"
)]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::*;
use rustix::io::write as write_fd;
use vyre_uring::{
    AnyTransport, Buffer, BufferSlot, EnterError, Errno, FileSlot, KernelFeatures, PushError,
    RegisterError, Ring, SetupError, SetupReport, SetupStep, ThreadPool, Transport,
    TransportChoice,
};

#[test]
fn cancelling_a_read_of_an_empty_pipe_ends_it_once() {
    for builder in modes() {
        let (mut ring, _, _writer) = ring_on_pipe(builder);
        let token = ring.push(read(0, 0, 16), 5).unwrap();
        ring.submit().unwrap();
        assert_eq!(ring.reap(|_| panic!("nothing was written")), 0);
        assert!(ring.cancel(token));
        assert!(ring.cancel(token), "asking twice is allowed");
        let completion = reap_n(&mut ring, 1)[0];
        assert_eq!(
            (completion.user, completion.result),
            (5, Err(Errno::CANCELED))
        );
        assert!(!ring.cancel(token), "the token is stale");
        ring.wait(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(ring.reap(|_| panic!("a second completion")), 0);
        assert_eq!(strays(&ring), 0);
        assert_eq!(ring.in_flight(), 0);
    }
}

#[test]
fn cancelling_what_is_still_queued_works() {
    for builder in modes() {
        let (mut ring, _, _writer) = ring_on_pipe(builder);
        let token = ring.push(read(0, 0, 16), 5).unwrap();
        assert!(ring.cancel(token));
        assert_eq!(reap_n(&mut ring, 1)[0].result, Err(Errno::CANCELED));
    }
}

#[test]
fn every_operation_of_a_full_ring_can_be_cancelled() {
    for builder in modes() {
        let (mut ring, _, _writer) = ring_on_pipe(builder);
        let tokens: Vec<_> = (0..ring.capacity())
            .map(|user| ring.push(read(0, 0, 1), user.into()).unwrap())
            .collect();
        assert_eq!(ring.push(read(0, 0, 1), 0), Err(PushError::Full));
        assert!(tokens.iter().all(|&token| ring.cancel(token)));
        for completion in reap_n(&mut ring, 8) {
            assert_eq!(completion.result, Err(Errno::CANCELED));
        }
        assert_eq!(strays(&ring), 0);
    }
}

#[test]
fn a_stale_token_does_not_cancel_a_newer_operation() {
    let modes = [
        Mode::Ring(Ring::builder().entries(1)),
        Mode::ThreadPool(ThreadPool::builder().entries(1)),
    ];
    let first = usize::from(!has_ring());
    for builder in modes.into_iter().skip(first) {
        a_stale_token_cancels_nothing(builder);
    }
}

fn a_stale_token_cancels_nothing(builder: Mode) {
    let (mut ring, buffer, writer) = ring_on_pipe(builder);
    let old = ring.push(read(0, 0, 1), 1).unwrap();
    ring.submit().unwrap();
    write_fd(&writer, b"a").unwrap();
    assert_eq!(reap_n(&mut ring, 1)[0].result, Ok(1));
    ring.push(read(0, 0, 1), 2).unwrap();
    assert!(!ring.cancel(old));
    ring.wait(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(ring.reap(|_| panic!("nothing was written")), 0);
    write_fd(&writer, b"b").unwrap();
    assert_eq!(reap_n(&mut ring, 1)[0].result, Ok(1));
    assert_eq!(contents(&buffer, 0, 1), b"b");
}

#[test]
fn a_wait_ends_with_its_time_or_with_a_completion() {
    for builder in modes() {
        let (mut ring, _, writer) = ring_on_pipe(builder);
        ring.wait(None).unwrap(); // Nothing is in flight: at once.
        ring.push(read(0, 0, 16), 0).unwrap();
        let (started, worked) = (Instant::now(), processor_time());
        ring.wait(Some(Duration::from_millis(30))).unwrap();
        assert!(
            started.elapsed() >= Duration::from_millis(30),
            "{:?}",
            started.elapsed()
        );
        let worked = processor_time() - worked;
        assert!(worked < Duration::from_millis(15), "awake for {worked:?}");
        ring.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(ring.reap(|_| panic!("nothing was written")), 0);

        let helper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            write_fd(&writer, b"hello").unwrap();
            writer
        });
        let started = Instant::now();
        ring.wait(Some(Duration::from_secs(20))).unwrap();
        assert!(started.elapsed() < Duration::from_secs(10));
        let mut result = None;
        ring.reap(|completion| result = Some(completion.result));
        assert_eq!(result, Some(Ok(5)));
        helper.join().unwrap();
    }
}

/// Returns the processor time of this thread so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_zero_wait_submits() {
    let file = tempfile::tempfile().unwrap();
    for builder in modes() {
        let (mut ring, _) = ring_with(builder, &file, 4096);
        ring.push(read(0, 0, 1), 0).unwrap();
        ring.wait(Some(Duration::ZERO)).unwrap();
        assert_eq!(ring.submit(), Ok(0), "the wait should have submitted");
        reap_n(&mut ring, 1);
    }
}

#[test]
fn dropping_a_ring_with_a_read_pending_returns_soon() {
    for builder in modes() {
        let (mut ring, buffer, _writer) = ring_on_pipe(builder);
        ring.push(read(0, 0, 16), 0).unwrap();
        ring.submit().unwrap();
        ring.push(read(0, 16, 16), 0).unwrap(); // And one never submitted.
        let started = Instant::now();
        drop(ring);
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
        buffer.write_at(0, b"still ours").unwrap();
    }
}

#[test]
fn nothing_is_written_after_drop() {
    for builder in modes() {
        let (mut ring, buffer, writer) = ring_on_pipe(builder);
        ring.push(read(0, 0, 16), 0).unwrap();
        ring.submit().unwrap();
        drop(ring);
        // A pending read of the pipe would receive these bytes. The ring held the only reading end.
        assert_eq!(write_fd(&writer, b"late"), Err(Errno::PIPE));
        assert_eq!(contents(&buffer, 0, 4), [0; 4]);
    }
}

#[test]
fn a_dropped_ring_unregisters_its_descriptor() {
    if !has_ring() {
        return;
    }
    // A thread can register 16 ring descriptors: descriptors that stay registered exhaust them.
    for _ in 0..40 {
        let ring = Ring::builder().entries(4).build().unwrap();
        assert_eq!(ring.setup_report().ring_fd(), SetupStep::InUse);
    }
}

#[test]
fn after_quiesce_completions_can_be_reaped_and_the_ring_works() {
    for builder in modes() {
        let (mut ring, _, writer) = ring_on_pipe(builder);
        for user in 0..8 {
            ring.push(read(0, 0, 1), user).unwrap();
        }
        ring.quiesce(Duration::from_secs(10)).unwrap();
        assert_eq!(ring.in_flight(), 8, "not reaped yet");
        assert_eq!(ring.push(read(0, 0, 1), 9), Err(PushError::Full));
        let mut users = Vec::new();
        ring.reap(|completion| {
            assert_eq!(completion.result, Err(Errno::CANCELED));
            users.push(completion.user);
        });
        users.sort_unstable();
        assert_eq!(users, (0..8).collect::<Vec<_>>());
        write_fd(&writer, b"x").unwrap();
        assert_eq!(run(&mut ring, read(0, 0, 1)).result, Ok(1));
        ring.quiesce(Duration::ZERO).unwrap();
    }
}

#[test]
fn slots_in_use_are_busy_until_reaped() {
    for builder in modes() {
        let (mut ring, _, writer) = ring_on_pipe(builder);
        ring.push(read(0, 0, 1), 0).unwrap();
        let busy = Err(RegisterError::Busy { in_flight: 1 });
        let other = Buffer::anonymous(4096).unwrap();
        assert_eq!(ring.set_buffer(BUFFER, Some(other)), busy);
        assert_eq!(ring.set_file(FILE, None), busy);
        ring.submit().unwrap();
        write_fd(&writer, b"x").unwrap();
        ring.wait(None).unwrap();
        assert_eq!(
            ring.set_buffer(BUFFER, None),
            busy,
            "completed but not reaped"
        );
        assert_eq!(ring.reap(|_| ()), 1);
        assert_eq!(ring.set_buffer(BUFFER, None), Ok(()));
        assert_eq!(ring.set_file(FILE, None), Ok(()));
    }
}

#[test]
fn slots_beyond_the_tables_are_refused() {
    if !has_ring() {
        return;
    }
    let mut ring = Ring::builder()
        .entries(1)
        .files(1)
        .buffers(1)
        .build()
        .unwrap();
    let (file, buffer) = (FileSlot::new(1), BufferSlot::new(1));
    assert_eq!(
        ring.set_file(file, None),
        Err(RegisterError::UnknownFile(file))
    );
    assert_eq!(
        ring.set_buffer(buffer, None),
        Err(RegisterError::UnknownBuffer(buffer))
    );
}

#[test]
fn set_up_refuses_numbers_that_no_kernel_takes() {
    let build = |builder: vyre_uring::RingBuilder| builder.build().map(drop).unwrap_err();
    assert_eq!(build(Ring::builder().entries(0)), SetupError::Entries(0));
    assert_eq!(
        build(Ring::builder().entries(32_769)),
        SetupError::Entries(32_769)
    );
    assert!(matches!(
        build(Ring::builder().buffers(16_385)),
        SetupError::TableSize {
            what: "buffers",
            ..
        }
    ));
    assert!(matches!(
        build(Ring::builder().files(u32::MAX)),
        SetupError::TableSize { what: "files", .. }
    ));
}

#[test]
fn empty_tables_and_the_report() {
    if !has_ring() {
        return;
    }
    let ring = Ring::builder().files(0).buffers(0).build().unwrap();
    assert_eq!(
        (ring.setup_report().files(), ring.setup_report().buffers()),
        (SetupStep::Off, SetupStep::Off)
    );
    let text = ring.setup_report().to_string();
    assert!(text.contains("set-up flags:"), "{text}");
    assert!(
        text.contains("registered files: no (not asked for)"),
        "{text}"
    );
    assert!(text.contains("READ_FIXED"), "{text}");
    assert_eq!(ring.capacity(), ring.setup_report().sq_entries());
    assert_eq!(ring.setup_report().cq_entries(), 2 * ring.capacity());
}

/// The kernel knows one thread as the issuer, and the registered ring descriptor belongs to that
/// thread. Entering from another thread is a fatal error, the only kind that a test can provoke.
#[test]
fn a_fatal_error_completes_what_the_kernel_did_not_take() {
    if !has_ring() {
        return;
    }
    struct Smuggled(Ring);
    // SAFETY: the ring is used by one thread at a time, and dropped by its own; that the kernel
    // refuses the other is what the test is about.
    unsafe impl Send for Smuggled {}

    let (mut ring, _, _writer) = ring_on_pipe(Ring::builder().entries(4));
    if !ring.setup_report().flags().contains(&"SINGLE_ISSUER") {
        let line = "SKIPPED: a_fatal_error_answers_for_what_the_kernel_did_not_take: this kernel lets any \
             thread enter the ring\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let taken = ring.push(read(0, 0, 1), 0).unwrap();
    ring.submit().unwrap();
    let mut smuggled = Smuggled(ring);
    let abroad = std::thread::spawn(move || {
        let Smuggled(ring) = &mut smuggled;
        for user in 1..4 {
            ring.push(read(0, 0, 1), user).unwrap();
        }
        let error = ring.submit().unwrap_err();
        (smuggled, error)
    });
    let (Smuggled(mut ring), error) = abroad.join().unwrap();
    let EnterError::Fatal(errno) = error else {
        panic!("{error}")
    };

    let mut untaken = Vec::new();
    ring.reap(|completion| untaken.push((completion.user, completion.result)));
    assert_eq!(untaken, [(1, Err(errno)), (2, Err(errno)), (3, Err(errno))]);
    assert_eq!(ring.in_flight(), 1, "the one that the kernel took");
    assert_eq!(ring.push(read(0, 0, 1), 9), Err(PushError::Poisoned(errno)));
    assert_eq!(ring.submit(), Err(EnterError::Fatal(errno)));
    assert_eq!(ring.wait(None), Err(EnterError::Fatal(errno)));
    assert!(!ring.cancel(taken));
    ring.quiesce(Duration::from_secs(10)).unwrap();
    let mut last = Vec::new();
    ring.reap(|completion| last.push((completion.user, completion.result)));
    assert_eq!(last, [(0, Err(Errno::CANCELED))]);
    assert_eq!(ring.stray_completions(), 0);
}

#[test]
fn a_refused_change_leaves_the_slot_unchanged() {
    if !has_ring() {
        return;
    }
    let file = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"weights", 0).unwrap();
    let (mut ring, _) = ring_with(Ring::builder(), &file, 4096);
    if !ring.setup_report().files().in_use() {
        let line = "SKIPPED: a_slot_whose_change_was_refused_is_as_it_was: files are not registered here\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    // The kernel refuses a ring as a file of a ring's table.
    let other = io_uring::IoUring::new(1).unwrap();
    let other = std::os::fd::AsFd::as_fd(&other)
        .try_clone_to_owned()
        .unwrap();
    let refused = ring.set_file(FILE, Some(std::sync::Arc::new(other)));
    assert!(
        matches!(refused, Err(RegisterError::Kernel(_))),
        "{refused:?}"
    );
    assert_eq!(run(&mut ring, read(0, 0, 7)).result, Ok(7));
}

#[test]
fn a_transport_passes_on_what_is_withheld() {
    for choice in [TransportChoice::Auto, TransportChoice::ThreadPool] {
        let withheld = KernelFeatures::newer_than(5, 10);
        let builder = AnyTransport::builder().choice(choice).withhold(withheld);
        let found = match builder.build().unwrap().setup_report() {
            SetupReport::Ring(report) => report.withheld(),
            SetupReport::ThreadPool(report) => report.withheld(),
            _ => unreachable!("one of both"),
        };
        assert_eq!(found, withheld);
    }
}
