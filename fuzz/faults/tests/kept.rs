//! Tests of the end of a loop while the kernel keeps its operations.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use vyre_faults::rig::{Parts, holds, queue, returns, submit};
use vyre_faults::{Ext4, Need, Scene, Test, eventually, pattern, tests};
use vyre_ioloop::{IoLoop, LoopGroup, StopError};
use vyre_ioq::{BufferHandle, DeviceQueue, FileHandle, HostQueue, LoopState, Request, Ticket};
use vyre_uring::Buffer;

pub(crate) const TESTS: &[Test] = tests![
    a_stop_returns_while_a_read_hangs: [Need::Fuse],
    an_abort_returns_while_a_read_hangs: [Need::Fuse],
    a_drop_returns_while_a_read_hangs: [Need::Fuse],
    a_stop_of_a_group_returns_while_a_read_hangs: [Need::Fuse],
    an_abort_of_a_group_returns_while_a_read_hangs: [Need::Fuse],
    a_drop_of_a_group_returns_while_a_read_hangs: [Need::Fuse],
    an_abort_returns_while_a_write_is_frozen: [Need::Ext4(Ext4::at("ext4"))],
    bytes_that_come_late_find_a_buffer_that_nobody_gave_back: [Need::Fuse],
    bytes_are_fetched_late_from_a_buffer_that_nobody_gave_back: [Need::Ext4(Ext4::at("ext4"))],
];

/// Timeout of a loop that a test waits out.
const SOON: Duration = Duration::from_millis(300);
const LEN: usize = 4096;

/// Request that the kernel keeps, and a fence that waits for it.
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

    /// Asserts that no outcome gave the buffer back, since the kernel still has it, and that the
    /// device sees the end.
    fn check(&self) {
        assert_eq!(self.device.host_state(), Some(LoopState::Failed));
        for ticket in [&self.request, &self.fence] {
            assert_eq!(self.device.poll(ticket), None);
        }
    }
}

fn single(parts: Parts, host: HostQueue) -> IoLoop {
    let builder = parts.builder().drain_timeout(SOON).abort_timeout(SOON);
    builder.queue(host).spawn().unwrap()
}

fn group(parts: Parts, host: HostQueue) -> LoopGroup {
    LoopGroup::builder()
        .loops(2)
        .files(parts.files)
        .buffers(parts.buffers)
        .drain_timeout(SOON)
        .abort_timeout(SOON)
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

fn a_stop_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, single, |io| is_stuck(&io.stop()));
}

fn an_abort_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, single, |io| is_stuck(&io.abort()));
}

fn a_drop_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, single, drop);
}

fn a_stop_of_a_group_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, group, |io| assert!(io.stop().is_err()));
}

fn an_abort_of_a_group_returns_while_a_read_hangs(scene: &Scene) {
    ends(scene, group, |io| assert!(io.abort().is_err()));
}

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

fn an_abort_returns_while_a_write_is_frozen(scene: &Scene) {
    let (kept, frozen) = frozen_write(scene);
    drop(frozen);
    kept.check();
}

fn bytes_that_come_late_find_a_buffer_that_nobody_gave_back(scene: &Scene) {
    let kept = ends(scene, single, |io| is_stuck(&io.stop()));
    kept.memory.write_at(0, &[0xee; LEN]).unwrap();
    scene.fuse().release();
    eventually("the late bytes", || {
        holds(&kept.memory, 0, &pattern(0, LEN))
    });
    kept.check();
}

fn bytes_are_fetched_late_from_a_buffer_that_nobody_gave_back(scene: &Scene) {
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
