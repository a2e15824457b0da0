//! Shutdown while the kernel holds operations: their requests get no outcome, and their buffers are never
//! reused.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use vyre_faults::rig::{Parts, contents, holds, outcome_of, queue, returns, submit};
use vyre_faults::{Ext4, Need, Scene, Test, eventually, pattern, tests};
use vyre_ioloop::{Engine, IoLoop, LoopGroup, LoopOptions, StopError};
use vyre_ioq::{
    BufferHandle, DeviceQueue, Errno, FileHandle, HostQueue, LoopState, Request, Ticket,
};
use vyre_uring::{Buffer, Busy, Ring};

pub(crate) const TESTS: &[Test] = tests![
    a_stop_returns_while_a_read_hangs: [Need::Fuse],
    an_abort_returns_while_a_read_hangs: [Need::Fuse],
    a_drop_returns_while_a_read_hangs: [Need::Fuse],
    a_stop_of_a_group_returns_while_a_read_hangs: [Need::Fuse],
    an_abort_of_a_group_returns_while_a_read_hangs: [Need::Fuse],
    a_drop_of_a_group_returns_while_a_read_hangs: [Need::Fuse],
    an_abort_returns_while_a_write_is_frozen: [Need::Ext4(Ext4::at("ext4"))],
    a_late_read_finds_its_buffer_still_allocated: [Need::Fuse],
    a_late_write_finds_its_buffer_still_allocated: [Need::Ext4(Ext4::at("ext4"))],
    requests_that_the_kernel_does_not_hold_are_cancelled: [Need::Fuse],
    a_hung_read_does_not_delay_the_shutdown_of_an_engine: [Need::Fuse],
];

/// Timeout of a loop that a test waits out.
const SOON: Duration = Duration::from_millis(300);
const LEN: usize = 4096;

/// A request that the kernel holds, and a fence that waits for it.
struct Kept {
    device: DeviceQueue,
    request: Ticket,
    fence: Ticket,
    memory: Buffer,
}

impl Kept {
    fn begin<L>(
        file: File,
        request: impl FnOnce(FileHandle, BufferHandle) -> Request,
        start: impl FnOnce(Parts, HostQueue) -> L,
    ) -> (L, Self) {
        let mut parts = Parts::new(LEN);
        let file = parts.file(file);
        let memory = parts.memory.clone();
        let request = request(file, parts.pool);
        let (host, device) = queue(8);
        let io = start(parts, host);
        let request = submit(&device, request);
        let fence = submit(&device, Request::fence());
        let kept = Self {
            device,
            request,
            fence,
            memory,
        };
        (io, kept)
    }

    /// Asserts that neither has an outcome, because the kernel still uses the buffer, and that the
    /// device sees Failed.
    fn check(&self) {
        assert_eq!(self.device.host_state(), Some(LoopState::Failed));
        for ticket in [&self.request, &self.fence] {
            assert_eq!(self.device.poll(ticket), None);
        }
    }
}

fn single(parts: Parts, host: HostQueue) -> IoLoop {
    let builder = parts
        .builder()
        .options(LoopOptions::new().drain_timeout(SOON).abort_timeout(SOON));
    builder.queue(host).spawn().unwrap()
}

fn group(parts: Parts, host: HostQueue) -> LoopGroup {
    LoopGroup::builder()
        .loops(2)
        .files(parts.files)
        .buffers(parts.buffers)
        .options(LoopOptions::new().drain_timeout(SOON).abort_timeout(SOON))
        .queue(host)
        .queue(queue(4).0)
        .spawn()
        .unwrap()
}

fn is_stuck(ended: &Result<(), StopError>) {
    assert!(
        matches!(ended, Err(StopError::Stuck { operations: 1, .. })),
        "{ended:?}"
    );
}

/// Ends a loop whose read hangs, and checks what its device sees.
fn ends<L: Send + 'static>(
    scene: &Scene,
    start: impl FnOnce(Parts, HostQueue) -> L,
    end: impl FnOnce(L) + Send + 'static,
) -> Kept {
    let fuse = scene.fuse();
    let read = |file, pool| Request::read(file, 0, LEN as u32).into_buffer(pool, 0);
    let (io, kept) = Kept::begin(fuse.open("hang-read"), read, start);
    fuse.wait_for_hanging(1);
    returns("the end", move || end(io));
    assert_eq!(fuse.hanging(), 1, "the file has answered");
    kept.check();
    kept
}

/// Rules: ABI-7.12, SEC-14.
fn a_stop_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, single, |io| is_stuck(&io.stop()));
}

/// Rule: ABI-7.12.
fn an_abort_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, single, |io| is_stuck(&io.abort()));
}

/// Rule: ABI-7.12.
fn a_drop_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, single, drop);
}

/// Rules: ABI-7.12, SEC-14.
fn a_stop_of_a_group_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, group, |io| assert!(io.stop().is_err()));
}

/// Rule: ABI-7.12.
fn an_abort_of_a_group_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, group, |io| assert!(io.abort().is_err()));
}

/// Rule: ABI-7.12.
fn a_drop_of_a_group_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, group, drop);
}

/// Aborts a loop whose write waits for the thaw of its file system.
fn frozen_write(scene: &Scene) -> (Kept, vyre_faults::Frozen) {
    let file = scene.create("ext4", "file");
    // The write begins after this.
    let frozen = scene.freeze("ext4");
    let write = |file, pool| Request::write(file, 0, LEN as u32).from_buffer(pool, 0);
    let (io, kept) = Kept::begin(file, write, single);
    frozen.wait_for_writes(1);
    eventually("the claims", || io.queue_counters(0).unwrap().claimed == 2);
    returns("the end", move || is_stuck(&io.abort()));
    kept.check();
    (kept, frozen)
}

/// Rules: ABI-4.12, ABI-7.12.
fn an_abort_returns_while_a_write_is_frozen(scene: &Scene) {
    let (kept, frozen) = frozen_write(scene);
    drop(frozen);
    kept.check();
}

/// Rule: SEC-8.
fn a_late_read_finds_its_buffer_still_allocated(scene: &Scene) {
    let kept = ends(scene, single, |io| is_stuck(&io.stop()));
    kept.memory.write_at(0, &[0xee; LEN]).unwrap();
    scene.fuse().release();
    eventually("the late bytes", || {
        holds(&kept.memory, 0, &pattern(0, LEN))
    });
    kept.check();
}

/// Rule: SEC-8.
fn a_late_write_finds_its_buffer_still_allocated(scene: &Scene) {
    let (kept, frozen) = frozen_write(scene);
    kept.memory.write_at(0, &[0xee; LEN]).unwrap();
    drop(frozen);
    let file = File::open(scene.path("ext4").join("file")).unwrap();
    let mut bytes = [0; LEN];
    eventually("the late write", || {
        file.read_exact_at(&mut bytes, 0).is_ok()
    });
    assert_eq!(bytes, [0xee; LEN]);
    kept.check();
}

fn is_gone(device: &DeviceQueue) -> bool {
    device.host_state() == Some(LoopState::Failed)
}

/// A read that can be cancelled is cancelled beside one that hangs. Once the file answers, the
/// abandoned thread ends.
///
/// Rule: ABI-4.11.
fn requests_that_the_kernel_does_not_hold_are_cancelled(scene: &Scene) {
    let fuse = scene.fuse();
    let mut parts = Parts::new(8192);
    let file = parts.file(fuse.open("hang-read.dio"));
    let (pipe, _writer) = parts.pipe();
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let builder = parts.builder().queue(host);
    let io = builder.options(LoopOptions::new().drain_timeout(SOON).abort_timeout(SOON));
    let io = io.spawn().unwrap();
    let thread_id = io.thread_id();
    let hung = submit(&device, Request::read(file, 0, 4096).into_buffer(pool, 0));
    let cancelled = submit(&device, Request::read(pipe, 0, 64).into_buffer(pool, 4096));
    fuse.wait_for_hanging(1);

    let stuck = StopError::Stuck { operations: 1 };
    returns("the stop", move || assert_eq!(io.stop(), Err(stuck)));
    assert_eq!(fuse.hanging(), 1, "the file has answered");
    assert!(is_gone(&device));
    assert_eq!(outcome_of(&device, cancelled), Err(Errno::ECANCELED));
    assert!(device.poll(&hung).is_none());

    // The bytes come after the shutdown, if at all.
    assert_eq!(contents(&memory, 0, 4096), [0; 4096]);
    fuse.release();
    let task = format!("/proc/self/task/{thread_id}");
    eventually("the end of the thread", || !Path::new(&task).exists());
    assert!(device.poll(&hung).is_none());
    let late = contents(&memory, 0, 4096);
    assert!(late == pattern(0, 4096) || late == [0; 4096]);
}

/// Rules: ABI-7.12, SEC-7.
fn a_hung_read_does_not_delay_the_shutdown_of_an_engine(scene: &Scene) {
    let fuse = scene.fuse();
    let mut parts = Parts::new(8192);
    let file = parts.file(fuse.open("hang-read"));
    let (pool, memory) = (parts.pool, parts.memory.clone());
    let (host, device) = queue(4);
    let ring = Ring::builder().files(64).buffers(64).build().unwrap();
    let mut engine = Engine::new(ring, parts.files, parts.buffers, vec![host]).unwrap();
    let hung = submit(&device, Request::read(file, 0, 4096).into_buffer(pool, 0));
    while fuse.hanging() == 0 {
        let _ = engine.step();
    }
    assert_eq!(engine.stop(SOON), Err(Busy::new(1)));
    assert!(is_gone(&device) && device.poll(&hung).is_none());
    let revoked = engine.revoke_buffer(pool).unwrap();
    assert!(!engine.is_revoked(revoked), "the kernel has it");
    fuse.release();
    eventually("the end of the read", || engine.stop(SOON).is_ok());
    assert!(engine.is_revoked(revoked));
    assert!(device.poll(&hung).is_none(), "no outcome after FAILED");
    let late = contents(&memory, 0, 4096);
    assert!(late == pattern(0, 4096) || late == [0; 4096]);
}
