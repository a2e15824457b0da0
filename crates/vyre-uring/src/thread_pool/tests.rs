use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe, pipe_with};

use super::*;

mod futexes;

/// Longer than any test takes.
const HANG: Duration = Duration::from_secs(3600);

/// A time limit that is reached only if something hangs.
const LIMIT: Duration = Duration::from_secs(30);

fn pool(workers: u32) -> ThreadPool {
    let pool = ThreadPool::builder().entries(64).workers(workers);
    let mut pool = pool.drop_deadline(LIMIT).build().unwrap();
    pool.set_buffer(
        BufferSlot::new(0),
        Some(Buffer::anonymous(1 << 16).unwrap()),
    )
    .unwrap();
    pool
}

fn read_of(file: u32, len: u32) -> Operation {
    Operation::Read {
        file: FileSlot::new(file),
        offset: 0,
        buffer: BufferSlot::new(0),
        buffer_offset: 0,
        len,
    }
}

fn write_of(file: u32, len: u32) -> Operation {
    Operation::Write {
        file: FileSlot::new(file),
        offset: 0,
        buffer: BufferSlot::new(0),
        buffer_offset: 0,
        len,
        durable: false,
    }
}

/// Puts the reading end of an empty pipe into a slot. Reads of it hang in a worker, as those of a file
/// system that does not answer.
fn hanging(pool: &mut ThreadPool, slot: u32) -> OwnedFd {
    let (reader, writer) = pipe().unwrap();
    let mut traits = FileTraits::of(&reader);
    traits.has_offsets = true;
    pool.set_file_with(FileSlot::new(slot), Arc::new(reader), traits)
        .unwrap();
    writer
}

fn set(pool: &mut ThreadPool, slot: u32, file: impl Into<OwnedFd>) {
    pool.set_file(FileSlot::new(slot), Some(Arc::new(file.into())))
        .unwrap();
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn results(pool: &mut ThreadPool, count: usize) -> Vec<(u64, Result<u32, Errno>)> {
    let (mut all, started) = (Vec::new(), Instant::now());
    while all.len() < count {
        pool.wait(Some(Duration::from_secs(1))).unwrap();
        pool.reap(|it| all.push((it.user, it.result)));
        assert!(started.elapsed() < LIMIT, "{} of {count} came", all.len());
    }
    all.sort_by_key(|&(user, _)| user);
    all
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LIMIT, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the number of workers that perform an operation.
fn busy(pool: &ThreadPool) -> u32 {
    pool.shared.lock().work.busy()
}

#[test]
fn a_file_that_hangs_leaves_workers_to_others() {
    let mut pool = pool(4);
    let writers = [0, 1].map(|slot| hanging(&mut pool, slot));
    for user in 0..20 {
        pool.push(read_of(0, 1), user).unwrap();
    }
    pool.submit().unwrap();
    eventually("two workers take the first file", || busy(&pool) == 2);
    for user in 20..40 {
        pool.push(read_of(1, 1), user).unwrap();
    }
    pool.submit().unwrap();
    eventually("one worker takes the second file", || busy(&pool) == 3);
    // Without an attempt in this thread, this needs a worker.
    set(&mut pool, 2, file_of(b"weights"));
    pool.files[2].tries_reads = false;
    pool.push(read_of(2, 7), 99).unwrap();
    assert_eq!(results(&mut pool, 1), [(99, Ok(7))]);
    assert_eq!(busy(&pool), 3);
    for writer in &writers {
        rustix::io::write(writer, &[0; 20]).unwrap();
    }
    assert_eq!(results(&mut pool, 40).len(), 40);
}

#[test]
fn a_cancelled_operation_ends_at_once_unless_it_runs() {
    let mut pool = pool(2);
    let writer = hanging(&mut pool, 0);
    let runs = pool.push(read_of(0, 1), 1).unwrap();
    pool.submit().unwrap();
    eventually("it runs", || busy(&pool) == 1);
    let waits = pool.push(read_of(0, 1), 2).unwrap();
    pool.submit().unwrap();
    assert!(pool.cancel(runs) && pool.cancel(waits));
    assert_eq!(results(&mut pool, 1), [(2, Err(Errno::CANCELED))]);
    assert!(pool.cancel(runs), "asking twice is allowed");
    rustix::io::write(&writer, b"x").unwrap();
    assert_eq!(results(&mut pool, 1), [(1, Ok(1))], "its own result");
    assert!(!pool.cancel(runs), "the token is stale");
}

#[test]
fn what_hangs_keeps_its_memory_after_the_pool_is_gone() {
    let mut pool = pool(2);
    let freed = lend(&mut pool);
    let writer = hanging(&mut pool, 0);
    pool.push(read_of(0, 1), 1).unwrap();
    pool.submit().unwrap();
    eventually("it runs", || busy(&pool) == 1);
    let started = Instant::now();
    let limit = Duration::from_millis(50);
    assert_eq!(pool.quiesce(limit), Err(Busy::new(1)));
    assert!(started.elapsed() >= limit);
    // It was waited for, so the drop does not wait again.
    drop(pool);
    assert!(started.elapsed() < LIMIT);
    assert!(
        !freed.load(Ordering::Acquire),
        "a thread may yet write to it"
    );
    rustix::io::write(&writer, b"x").unwrap();
    eventually("the memory is freed", || freed.load(Ordering::Acquire));
}

#[test]
fn a_dropped_pool_waits_for_what_ends_in_time() {
    let mut pool = pool(2);
    let freed = lend(&mut pool);
    let writer = hanging(&mut pool, 0);
    pool.push(read_of(0, 1), 1).unwrap();
    pool.submit().unwrap();
    eventually("it runs", || busy(&pool) == 1);
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        rustix::io::write(&writer, b"x").unwrap();
    });
    drop(pool);
    assert!(freed.load(Ordering::Acquire), "no thread uses it any more");
    later.join().unwrap();
}

/// Puts memory into slot 0. Returns a flag that is set when it is freed.
#[expect(unsafe_code, reason = "observes when a buffer is freed")]
fn lend(pool: &mut ThreadPool) -> Arc<AtomicBool> {
    struct Owner(
        Arc<AtomicBool>,
        #[expect(dead_code, reason = "keeps it mapped")] Buffer,
    );
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let freed = Arc::new(AtomicBool::new(false));
    let inner = Buffer::anonymous(4096).unwrap();
    let base = NonNull::new(inner.as_ptr()).unwrap();
    let owner = Box::new(Owner(freed.clone(), inner));
    // SAFETY: the bytes are mapped until the owner, which has the buffer, is dropped. No other name of
    // them is left.
    let buffer = unsafe { Buffer::from_raw_parts(base, 4096, owner) };
    pool.set_buffer(BufferSlot::new(0), Some(buffer)).unwrap();
    freed
}

#[test]
fn a_wake_up_ends_a_wait_whether_it_comes_before_or_during_it() {
    let mut pool = pool(2);
    let waker = pool.waker().unwrap();
    for _ in 0..3 {
        waker.wake_by_ref();
        waker.wake_by_ref();
        pool.wait(Some(HANG)).unwrap();
        let (waker, other) = (waker.clone(), pool.shared.clone());
        let thread = std::thread::spawn(move || {
            eventually("the owner sleeps", || other.lock().asleep);
            waker.wake();
        });
        pool.wait(Some(HANG)).unwrap();
        thread.join().unwrap();
    }
    assert_eq!(pool.reap(|_| ()), 0);
}

#[test]
fn reads_that_wait_for_the_other_end_occupy_no_worker() {
    let mut pool = pool(2);
    let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let event = eventfd(0, EventfdFlags::empty()).unwrap();
    let signal = event.try_clone().unwrap();
    set(&mut pool, 0, reader);
    set(&mut pool, 1, ours);
    set(&mut pool, 2, event);
    set(&mut pool, 3, file_of(b"weights"));
    for user in 0..20 {
        pool.push(read_of(0, 1), user).unwrap();
        pool.push(read_of(1, 1), 20 + user).unwrap();
    }
    pool.push(read_of(2, 8), 40).unwrap();
    pool.submit().unwrap();
    // All that is done by workers goes on.
    let sync = Operation::Sync {
        file: FileSlot::new(3),
        data_only: true,
    };
    pool.push(sync, 99).unwrap();
    assert_eq!(results(&mut pool, 1), [(99, Ok(0))]);
    assert_eq!(busy(&pool), 0);
    rustix::io::write(&writer, &[1; 20]).unwrap();
    (&theirs).write_all(&[2; 20]).unwrap();
    rustix::io::write(&signal, &1_u64.to_ne_bytes()).unwrap();
    let all = results(&mut pool, 41);
    assert!(all[..40].iter().all(|it| it.1 == Ok(1)), "{all:?}");
    assert_eq!(all[40], (40, Ok(8)));
    drop(writer);
    pool.push(read_of(0, 1), 1).unwrap();
    assert_eq!(results(&mut pool, 1), [(1, Ok(0))], "the end of the pipe");
}

#[test]
fn writes_without_a_reader_and_with_a_full_pipe_end_as_they_should() {
    let mut pool = pool(2);
    let (reader, writer) = pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    set(&mut pool, 0, writer);
    pool.push(write_of(0, 1 << 16), 0).unwrap();
    assert_eq!(results(&mut pool, 1), [(0, Ok(4096))], "what fits");
    let waits = pool.push(write_of(0, 1), 1).unwrap();
    pool.submit().unwrap();
    pool.wait(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(pool.reap(|_| panic!("it does not fit")), 0);
    assert!(pool.cancel(waits));
    assert_eq!(results(&mut pool, 1), [(1, Err(Errno::CANCELED))]);
    drop(reader);
    pool.push(write_of(0, 1), 2).unwrap();
    assert_eq!(results(&mut pool, 1), [(2, Err(Errno::PIPE))]);
}

#[test]
fn files_without_reads_that_do_not_wait_are_read_by_a_worker_once_they_are_ready() {
    let mut pool = pool(2);
    // A terminal: Linux has no `RWF_NOWAIT` for it.
    let ours = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).unwrap();
    rustix::pty::unlockpt(&ours).unwrap();
    let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let theirs = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    set(&mut pool, 0, theirs);
    let tokens = [1, 2].map(|user| pool.push(read_of(0, 100), user).unwrap());
    pool.submit().unwrap();
    pool.wait(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(pool.reap(|_| panic!("nothing was typed")), 0);
    assert_eq!(busy(&pool), 0);
    rustix::io::write(&ours, b"line\n").unwrap();
    assert_eq!(results(&mut pool, 1), [(1, Ok(5))]);
    assert!(pool.cancel(tokens[1]));
    assert_eq!(results(&mut pool, 1), [(2, Err(Errno::CANCELED))]);
}

#[test]
fn a_cancelled_read_lets_go_of_its_file() {
    let mut pool = pool(2);
    for _ in 0..50 {
        let (reader, writer) = pipe().unwrap();
        set(&mut pool, 0, reader);
        let token = pool.push(read_of(0, 1), 1).unwrap();
        pool.submit().unwrap();
        assert!(pool.cancel(token));
        assert_eq!(results(&mut pool, 1), [(1, Err(Errno::CANCELED))]);
        pool.set_file(FileSlot::new(0), None).unwrap();
        assert_eq!(rustix::io::write(&writer, b"late"), Err(Errno::PIPE));
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let refused = |builder: ThreadPoolBuilder| builder.build().map(drop).unwrap_err();
    assert_eq!(
        refused(ThreadPool::builder().entries(0)),
        SetupError::Entries(0)
    );
    assert_eq!(
        refused(ThreadPool::builder().workers(1)),
        SetupError::Workers(1)
    );
    assert!(matches!(
        refused(ThreadPool::builder().files(u32::MAX)),
        SetupError::TableSize { what: "files", .. }
    ));
}

#[test]
fn cached_reads_are_performed_by_the_submitter_and_others_by_workers() {
    let mut pool = pool(2);
    // Not `tempfile`: on Linux before 6.6, tmpfs has no `RWF_NOWAIT`.
    set(&mut pool, 0, file_of(b"weights"));
    pool.push(read_of(0, 7), 1).unwrap();
    pool.submit().unwrap();
    if pool.files[0].tries_reads {
        let mut found = Vec::new();
        pool.reap(|it| found.push(it.result));
        assert_eq!(found, [Ok(7)], "without a thread");
    } else {
        let line = "SKIPPED: cached_reads_are_performed_by_the_submitter_and_others_by_workers: the file \
                    system has no RWF_NOWAIT\n";
        let _ = std::io::stderr().write_all(line.as_bytes());
        assert_eq!(results(&mut pool, 1), [(1, Ok(7))]);
    }
    // A short attempt is completed by a worker, where the file ends.
    pool.push(read_of(0, 100), 2).unwrap();
    assert_eq!(results(&mut pool, 1), [(2, Ok(7))]);
}

/// Submits, cancels, quiesces and reaps by seed, on files of every kind: every operation completes once.
#[test]
fn every_operation_completes_once() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = move |sides: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % sides
    };
    let mut pool = pool(4);
    let (reader, writer) = pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    set(&mut pool, 0, file_of(&[7; 4096]));
    set(&mut pool, 1, file_of(&[8; 4096]));
    set(&mut pool, 2, reader);
    pool.files[1].tries_reads = false;
    let (mut pushed, mut completed) = (0_u64, 0_u64);
    let mut live = std::collections::HashMap::new();
    for _ in 0..20_000 {
        match dice(10) {
            0..=4 => {
                let file = dice(3) as u32;
                let operation = match (dice(8), file) {
                    (0, _) => Operation::Prefetch {
                        file: FileSlot::new(file),
                        offset: 0,
                        len: 0,
                    },
                    (1 | 2, 0 | 1) => write_of(file, 512),
                    _ => read_of(file, 512),
                };
                if let Ok(token) = pool.push(operation, pushed) {
                    assert_eq!(live.insert(pushed, token), None);
                    pushed += 1;
                }
            }
            5 => drop(pool.submit().unwrap()),
            6 => drop(rustix::io::write(&writer, &[9; 256])),
            7 if dice(100) == 0 => pool.quiesce(LIMIT).unwrap(),
            7 => {
                if let Some(&token) = live.values().next() {
                    assert!(pool.cancel(token));
                }
            }
            _ => {
                pool.wait(Some(Duration::from_micros(dice(50)))).unwrap();
                pool.reap(|it| {
                    assert!(live.remove(&it.user).is_some(), "{it:?} twice");
                    assert!(
                        matches!(it.result, Ok(_) | Err(Errno::CANCELED | Errno::SPIPE)),
                        "{it:?}"
                    );
                    completed += 1;
                });
            }
        }
    }
    pool.quiesce(LIMIT).unwrap();
    completed += u64::from(pool.reap(|it| assert!(live.remove(&it.user).is_some())));
    assert_eq!((completed, pool.in_flight(), live.len()), (pushed, 0, 0));
    assert!(writer.as_raw_fd() >= 0);
}
