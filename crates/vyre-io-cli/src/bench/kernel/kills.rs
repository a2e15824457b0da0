//! Tests of a kernel in one process and its loop in another, either of which is killed while it
//! runs. Where there is no GPU, each test says so and does nothing.

use std::time::Instant;

use vyre_io::{
    BufferTable, DeviceQueue, FileTable, IoLoop, LoopOptions, Queue, Request, Rights, shared_queue,
};

use super::peer::{self, BLOCK, BLOCKS, Peer, open, path_of, say, task, wait_for_the_end};
use super::*;
use crate::common::gpu;

const LANES: usize = 8;
/// Time limit of a wait: longer than anything here takes, unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the task of the other process. In an ordinary test run, it does nothing.
#[test]
fn peer_process() {
    let Some(task) = task() else { return };
    match task[0].as_str() {
        "host" => peer::host(LANES),
        "device" => {
            let gpu = Gpu::open(0).expect("the other process found one");
            let _run = start(&gpu, &task[1..], None);
            say("started");
            wait_for_the_end();
        }
        other => panic!("{other} is no task"),
    }
}

/// Starts the kernel on a queue and a buffer of another process: where these are, and the handles.
fn start(gpu: &Gpu, words: &[String], heartbeat_timeout: Option<Duration>) -> Run {
    let bench = Bench::load(gpu).expect("the kernel");
    let map = |path: &str| MappedMemory::from_memfd(gpu, open(path)).expect("memory");
    let queue = GpuQueue::attach(gpu, map(&words[0])).expect("a queue");
    let room = bench
        .room_of(vec![queue], map(&words[1]), BLOCK as u32, Landing::None)
        .expect("memory");
    let work = Work {
        op: RequestKind::Read,
        random: true,
        blocks: BLOCKS,
        stamped: false,
        read_each: 1,
        time: 10 * LIMIT,
        operations: 0,
        timeout: LIMIT,
        heartbeat_timeout,
        words: false,
    };
    let raw = |word: &str| word.parse().expect("a handle");
    let file = FileHandle::from_raw(raw(&words[2]));
    let pool = BufferHandle::from_raw(raw(&words[3]));
    let run = bench.start(&Arc::new(room), &work, &[(file, pool)]);
    run.expect("a launch")
}

/// Queue of a thread, which must be served whatever happens to the other queues.
struct Witness {
    device: DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
}

impl Witness {
    fn is_served(&self) {
        for turn in 0..100 {
            let read = Request::read(self.file, turn * 512, 512).into_buffer(self.pool, 0);
            let ticket = self.device.submit(read.exact()).expect("a slot");
            let outcome = self.device.wait_for(ticket, LIMIT).expect("an outcome");
            assert_eq!(outcome.bytes(), Ok(512));
        }
    }
}

/// The queue of the kernel is the first.
fn wait_until(io: &IoLoop, what: &str, is: impl Fn(u64, u64) -> bool) {
    let give_up = Instant::now() + LIMIT;
    loop {
        let found = io.queue_counters(0).expect("a queue");
        if is(
            found.claimed,
            found.claimed - found.succeeded - found.failed,
        ) {
            return;
        }
        assert!(Instant::now() < give_up, "not {what}: {found:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_loop_goes_on_when_the_process_of_the_kernel_is_killed() {
    if gpu("a_loop_goes_on_when_the_process_of_the_kernel_is_killed").is_none() {
        return;
    }
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = tempfile::tempfile().expect("a file");
    file.set_len(BLOCKS * BLOCK as u64).expect("room");
    let file = files.insert(file, Rights::READ).expect("room");
    let (buffer, data) = Buffer::memfd(LANES * BLOCK).expect("memory");
    let pool = buffers.insert(buffer).expect("room");
    let own = buffers.insert(Buffer::anonymous(512).expect("memory"));
    let (host, memory) = shared_queue(QueueLayout::with_slots(64)).expect("memory");
    let (other, device) = Queue::anonymous(QueueLayout::with_slots(4)).expect("memory");
    let witness = Witness {
        device,
        file,
        pool: own.expect("room"),
    };
    let builder = IoLoop::builder().files(files).buffers(buffers);
    let options = LoopOptions::new().drain_timeout(LIMIT / 6);
    let builder = builder.queue(host).queue(other).options(options);
    let io = builder.spawn().expect("a loop");

    let (memory, data) = (path_of(&memory), path_of(&data));
    let task = format!("device {memory} {data} {} {}", file.raw(), pool.raw());
    for _ in 0..3 {
        let before = io.queue_counters(0).expect("a queue").claimed;
        let mut peer = Peer::start("bench::kernel::kills::peer_process", &task);
        assert_eq!(peer.said(), "started");
        wait_until(&io, "at work", |claimed, _| claimed > before + 1000);
        witness.is_served();
        assert!(peer.is_there());
        peer.kill();
        witness.is_served();
        wait_until(&io, "done with it", |_, owed| owed == 0);
    }
    let began = Instant::now();
    io.stop().expect("an orderly stop");
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
}

#[test]
fn a_kernel_ends_when_the_process_of_its_loop_is_killed() {
    let Some(gpu) = gpu("a_kernel_ends_when_the_process_of_its_loop_is_killed") else {
        return;
    };
    let mut peer = Peer::start("bench::kernel::kills::peer_process", "host");
    let words: Vec<_> = peer.said().split(' ').map(str::to_owned).collect();
    let run = start(&gpu, &words, Some(Duration::from_secs(2)));
    thread::sleep(Duration::from_millis(500));
    assert!(
        !run.launch.is_done().expect("no fault"),
        "the host still lives"
    );
    peer.kill();
    let give_up = Instant::now() + LIMIT / 2;
    while !run.launch.is_done().expect("no fault") {
        assert!(Instant::now() < give_up, "the kernel waits on");
        thread::sleep(Duration::from_millis(10));
    }
    let counted = run.wait().expect("no fault");
    assert!(counted.ops > 1000, "it was at work: {}", counted.ops);
    assert_eq!(counted.host_gone, LANES as u32, "by the heartbeat");
    assert_eq!((counted.gave_up, counted.failed), (LANES as u32, 0));
}
