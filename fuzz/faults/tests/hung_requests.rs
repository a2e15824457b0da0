//! Tests that requests which hang in the kernel do not delay others.

use std::io::PipeWriter;
use std::time::Duration;

use vyre_faults::rig::{Parts, ask, assert_holds, beats, outcome_of, queue, returns, submit};
use vyre_faults::{Fuse, Need, Scene, Test, pattern, tests};
use vyre_ioloop::{IoLoop, LoopOptions, Rights};
use vyre_ioq::{BufferHandle, DeviceQueue, Errno, FileHandle, LoopState, Request};
use vyre_uring::Buffer;

/// Timeout of a loop that a test waits out.
const SOON: Duration = Duration::from_millis(300);
/// Number of reads that the kernel sends to a FUSE file system at once.
const BACKGROUND: usize = 12;

pub(crate) const TESTS: &[Test] = tests![
    hung_cached_reads_delay_no_other_queue: [Need::Fuse],
    hung_direct_reads_delay_no_other_queue: [Need::Fuse],
    hung_direct_writes_delay_no_other_queue: [Need::Fuse],
    hung_direct_reads_do_not_delay_shutdown: [Need::Fuse],
    an_insertion_that_hangs_delays_only_its_caller: [Need::Fuse],
];

/// Numbers of hanging requests: below and above what the workers of the kernel (4 a core) and a FUSE
/// connection (12 in the background) take.
pub(crate) const COUNTS: [usize; 5] = [1, 4, 12, 16, 64];

/// Loop with two queues: one of a device whose files hang, and one of another device.
pub(crate) struct Two {
    pub(crate) io: IoLoop,
    pub(crate) hung: DeviceQueue,
    pub(crate) other: DeviceQueue,
    pub(crate) healthy: FileHandle,
    pub(crate) pipe: FileHandle,
    _writer: PipeWriter,
    pub(crate) pool: BufferHandle,
    pub(crate) memory: Buffer,
}

/// Offset of the other device's part of the pool.
pub(crate) const OTHERS: u64 = 512 << 10;

impl Two {
    pub(crate) fn new(scene: &Scene, mut parts: Parts) -> Self {
        let healthy = parts.file(scene.healthy(8192));
        let (pipe, writer) = parts.pipe();
        let (pool, memory) = (parts.pool, parts.memory.clone());
        let ((host0, hung), (host1, other)) = (queue(512), queue(8));
        let io = parts
            .builder()
            .options(LoopOptions::new().drain_timeout(SOON).abort_timeout(SOON))
            .queue(host0)
            .queue(host1)
            .spawn()
            .unwrap();
        Self {
            io,
            hung,
            other,
            healthy,
            pipe,
            _writer: writer,
            pool,
            memory,
        }
    }

    /// Asserts that all kinds of requests of the other device, on another file, are served.
    pub(crate) fn others_are_served(&self) {
        self.other_reads_are_served();
        let (other, healthy, pool) = (&self.other, self.healthy, self.pool);
        assert_eq!(ask(other, Request::sync(healthy)), Ok(0));
        assert_eq!(ask(other, Request::prefetch(healthy, 0, 8192)), Ok(0));
        let write = Request::write(healthy, 0, 8192).from_buffer(pool, OTHERS);
        assert_eq!(ask(other, write), Ok(8192));
        assert_eq!(ask(other, write.durable()), Ok(8192));
    }

    /// Asserts that those requests of the other device are served that need no kernel worker.
    pub(crate) fn other_reads_are_served(&self) {
        let (other, pool) = (&self.other, self.pool);
        beats(other);
        let read = Request::read(self.healthy, 0, 8192).into_buffer(pool, OTHERS);
        assert_eq!(ask(other, read), Ok(8192));
        assert_holds(&self.memory, OTHERS as usize, &pattern(0, 8192));
        assert_eq!(ask(other, Request::fence()), Ok(0));
        let late = Request::read(self.pipe, 0, 4)
            .into_buffer(pool, OTHERS)
            .with_deadline(1_000);
        assert_eq!(ask(other, late), Err(Errno::ETIMEDOUT));
        beats(other);
    }
}

/// Adds one file per request, since the kernel serialises requests to one file.
pub(crate) fn files(fuse: &Fuse, parts: &mut Parts, words: &str, count: usize) -> Vec<FileHandle> {
    (0..count)
        .map(|index| parts.file(fuse.open(&format!("{words}.{count}-{index}"))))
        .collect()
}

/// Rule: SEC-12.
fn hung_cached_reads_delay_no_other_queue(scene: &Scene) {
    check_hung_reads(scene, "hang-read");
}

/// Rule: SEC-12.
fn hung_direct_reads_delay_no_other_queue(scene: &Scene) {
    check_hung_reads(scene, "hang-read.dio");
}

fn check_hung_reads(scene: &Scene, words: &str) {
    for count in COUNTS {
        let fuse = scene.fuse();
        fuse.hold();
        let mut parts = Parts::new(1 << 20);
        let files = files(&fuse, &mut parts, words, count);
        let two = Two::new(scene, parts);
        let read = |(&file, at): (&FileHandle, u64)| {
            Request::read(file, 0, 4096).into_buffer(two.pool, at * 4096)
        };
        let reads = files.iter().zip(0..).map(read);
        let tickets: Vec<_> = reads.map(|read| submit(&two.hung, read)).collect();
        fuse.wait_for_hanging(count.min(BACKGROUND));

        two.others_are_served();
        assert!(tickets.iter().all(|ticket| two.hung.poll(ticket).is_none()));
        fuse.release();
        for (ticket, at) in tickets.into_iter().zip(0..) {
            assert_eq!(outcome_of(&two.hung, ticket), Ok(4096));
            assert_holds(&two.memory, at * 4096, &pattern(0, 4096));
        }
        two.io.stop().unwrap();
    }
}

/// Rule: SEC-12.
fn hung_direct_writes_delay_no_other_queue(scene: &Scene) {
    for count in COUNTS {
        let fuse = scene.fuse();
        fuse.hold();
        let mut parts = Parts::new(1 << 20);
        let files = files(&fuse, &mut parts, "hang-write.dio", count);
        let two = Two::new(scene, parts);
        let write = |&file| {
            submit(
                &two.hung,
                Request::write(file, 0, 4096).from_buffer(two.pool, 0),
            )
        };
        let tickets: Vec<_> = files.iter().map(write).collect();
        fuse.wait_for_hanging(1);

        // Writes of others may wait: the kernel chooses its worker by the file, and two files can
        // have one.
        two.other_reads_are_served();
        assert!(tickets.iter().all(|ticket| two.hung.poll(ticket).is_none()));
        fuse.release();
        for ticket in tickets {
            assert_eq!(outcome_of(&two.hung, ticket), Ok(4096));
        }
        two.io.stop().unwrap();
    }
}

/// Rule: SEC-14.
fn hung_direct_reads_do_not_delay_shutdown(scene: &Scene) {
    for count in COUNTS {
        let fuse = scene.fuse();
        fuse.hold();
        let mut parts = Parts::new(1 << 20);
        let files = files(&fuse, &mut parts, "hang-read.dio", count);
        let two = Two::new(scene, parts);
        let read = |&file| {
            submit(
                &two.hung,
                Request::read(file, 0, 4096).into_buffer(two.pool, 0),
            )
        };
        let tickets: Vec<_> = files.iter().map(read).collect();
        fuse.wait_for_hanging(count.min(BACKGROUND));
        let io = two.io;
        returns("the stop", move || assert!(io.stop().is_err()));
        assert!(two.other.host_state().is_some_and(LoopState::is_gone));
        fuse.release();
        drop(tickets);
    }
}

fn an_insertion_that_hangs_delays_only_its_caller(scene: &Scene) {
    let fuse = scene.fuse();
    fuse.hold();
    let two = Two::new(scene, Parts::new(1 << 20));
    let file = fuse.open("hang-statfs");
    std::thread::scope(|scope| {
        let inserted = scope.spawn(|| two.io.insert_file(file, .., Rights::READ));
        fuse.wait_for_hanging(1);
        two.others_are_served();
        assert!(!inserted.is_finished());
        fuse.release();
        let handle = inserted.join().unwrap().unwrap();
        let read = Request::read(handle, 0, 4096).into_buffer(two.pool, 0);
        assert_eq!(ask(&two.hung, read), Ok(4096));
    });
    two.io.stop().unwrap();
}
