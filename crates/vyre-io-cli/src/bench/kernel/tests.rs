//! The kernel on threads, through the CPU's stand-in for a GPU, against a real loop and real files.

use std::fs::{self, File};

use tempfile::TempDir;
use vyre_io::{BufferTable, Errno, FileTable, IoLoop, Rights, shared_queue};
use vyre_ioq_cuda::Ptx;
use xxhash_rust::xxh3::xxh3_64;

use super::counted::middle;
use super::peer::{self, Peer};
use super::*;
use crate::threads::{Program as OnThreads, Threads};

const SECTOR: usize = 512;
/// Not a multiple of the loads that a lane has in flight.
const BLOCK: u32 = 11 * 512;
const BLOCKS: u64 = 16;
const LANES: u32 = 2;

/// Stamps a file as the command line does.
fn stamped() -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..BLOCKS * u64::from(BLOCK) / SECTOR as u64 {
        let mut head = *b"vyrestmp\0\0\0\0\0\0\0\0";
        head[8..].copy_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&head);
        let fill = xxh3_64(&head).to_le_bytes();
        bytes.extend((16..SECTOR).map(|at| fill[at % 8]));
    }
    bytes
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    words.fold(0, |sum, word| {
        sum.wrapping_add(u64::from_le_bytes(word.try_into().expect("eight")))
    })
}

fn work(op: RequestKind) -> Work {
    Work {
        op,
        random: false,
        blocks: BLOCKS,
        stamped: true,
        read_each: 1,
        time: Duration::from_secs(120),
        operations: BLOCKS / u64::from(LANES),
        timeout: Duration::from_secs(60),
        heartbeat_timeout: None,
        words: false,
    }
}

/// Runs the kernel over a file that holds `contents`; what it counted, and what the file holds then.
fn run(work: &Work, contents: &[u8]) -> (Counted, Vec<u8>) {
    let program = OnThreads::compile(SOURCE, NAME).expect("g++");
    run_program(&program, work, contents, Landing::None)
}

/// Memory of a GPU, on threads: all but the queue and the blocks.
struct Stage {
    device: Threads,
    queues: Buffer,
    lanes: Buffer,
    histograms: Buffer,
    landed: Buffer,
    /// The addresses.
    args: Args,
}

impl Stage {
    fn new() -> Self {
        let mut device = Threads::new().expect("a directory");
        let mut memory = |len| device.memory(len).expect("memory");
        let (queues, queues_at) = memory(size_of::<LaneQueue>());
        let (lanes, lanes_at) = memory(LANES as usize * size_of::<Lane>());
        let (histograms, histograms_at) = memory(LANES as usize * BUCKETS * 4);
        let (landed, landed_at) = memory((LANES * BLOCK) as usize);
        let args = Args {
            queues: queues_at,
            lanes: lanes_at,
            histograms: histograms_at,
            stop: memory(STOP_BYTES).1,
            stopped: memory(STOP_BYTES).1,
            landed: landed_at,
            ..Args::zeroed()
        };
        Self {
            device,
            queues,
            lanes,
            histograms,
            landed,
            args,
        }
    }

    /// The kernel's parameter for work on this queue, with the blocks at `data`.
    fn args(&self, work: &Work, queue: LaneQueue, data: u64, block: u32) -> Args {
        let stored = self.queues.write_at(0, bytemuck::bytes_of(&queue));
        stored.expect("as long as that");
        Args {
            queues: self.args.queues,
            data,
            lanes: self.args.lanes,
            histograms: self.args.histograms,
            stop: self.args.stop,
            stopped: self.args.stopped,
            ..Args::of(work, 1, LANES, block)
        }
    }

    fn counted(&self) -> Counted {
        Counted::of(&all_of(&self.lanes), &all_of(&self.histograms))
    }
}

fn run_program(
    program: &OnThreads,
    work: &Work,
    contents: &[u8],
    landing: Landing,
) -> (Counted, Vec<u8>) {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("file");
    fs::write(&file, contents).expect("room");
    let opened = File::options().read(true).write(true).open(&file);
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let rights = Rights::READ | Rights::WRITE;
    let file_handle = files.insert(opened.expect("there"), rights).expect("room");
    let mut stage = Stage::new();
    let (buffer, data) = stage
        .device
        .memory((LANES * BLOCK) as usize)
        .expect("memory");
    let pool = buffers.insert(buffer.clone()).expect("room");
    let layout = QueueLayout::with_slots(64).with_id(7);
    let (host, view) = stage.device.queue(layout).expect("memory");
    let queue = LaneQueue::of(work, view, (file_handle, pool));
    assert_eq!(queue.queue.uses_units(), !work.words);
    let builder = IoLoop::builder().files(files).buffers(buffers).queue(host);
    let io = builder.spawn().expect("a loop");

    let args = Args {
        landed: if landing == Landing::None {
            0
        } else {
            stage.args.landed
        },
        lands: (landing == Landing::Kernel).into(),
        ..stage.args(work, queue, data, BLOCK)
    };
    let ran = stage
        .device
        .run(program, (LANES, WARP), bytemuck::bytes_of(&args));
    ran.expect("an orderly end");
    io.stop().expect("an orderly stop");
    if landing == Landing::Kernel {
        assert!(
            all_of(&stage.landed) == all_of(&buffer),
            "the last blocks did not land"
        );
    }
    (stage.counted(), fs::read(&file).expect("the file"))
}

fn all_of(buffer: &Buffer) -> Vec<u8> {
    let mut bytes = vec![0; buffer.len()];
    buffer.read_at(0, &mut bytes).expect("all of it");
    bytes
}

fn assert_complete(counted: &Counted) {
    assert_eq!(counted.ops, BLOCKS);
    assert_eq!((counted.failed, counted.gave_up), (0, 0));
    assert_eq!(counted.latencies.values().sum::<u64>(), BLOCKS, "each once");
    assert!(counted.elapsed > Duration::ZERO);
    let waited = counted.wait_fraction;
    assert!(waited > 0.0 && waited < 1.0, "{waited} of the time");
}

#[test]
fn lanes_read_every_block_and_verify_it() {
    let contents = stamped();
    let (counted, _) = run(&work(RequestKind::Read), &contents);
    assert_complete(&counted);
    assert_eq!(counted.bytes, contents.len() as u64);
    assert_eq!((counted.verified, counted.bad), (BLOCKS, 0));
    assert_eq!(counted.sum, sum(&contents), "every word was read, once");
}

#[test]
fn lanes_that_access_slots_in_words_are_served_as_well() {
    let contents = stamped();
    let in_words = |op| Work {
        words: true,
        ..work(op)
    };
    let (counted, _) = run(&in_words(RequestKind::Read), &contents);
    assert_complete(&counted);
    assert_eq!((counted.verified, counted.bad), (BLOCKS, 0));
    let (counted, found) = run(&in_words(RequestKind::Write), &vec![0; contents.len()]);
    assert_complete(&counted);
    assert!(found == contents, "a stamp differs");
}

#[test]
fn lanes_find_a_changed_byte() {
    let mut contents = stamped();
    contents[5 * BLOCK as usize + 5 * 1024 + 33] ^= 1;
    let (counted, _) = run(&work(RequestKind::Read), &contents);
    assert_eq!((counted.verified, counted.bad), (BLOCKS - 1, 1));
    assert_eq!(counted.bad_offset, 5 * u64::from(BLOCK));
}

#[test]
fn lanes_look_at_blocks_where_they_have_landed() {
    let contents = stamped();
    let program = OnThreads::compile(SOURCE, NAME).expect("g++");
    let run = |landing| run_program(&program, &work(RequestKind::Read), &contents, landing).0;
    let counted = run(Landing::Kernel);
    assert_complete(&counted);
    assert_eq!((counted.verified, counted.bad), (BLOCKS, 0));
    assert_eq!(counted.sum, sum(&contents));
    // There is no loop here that moves blocks, and so nothing has landed.
    let counted = run(Landing::Loop);
    assert_complete(&counted);
    assert_eq!((counted.verified, counted.bad), (0, BLOCKS));
}

#[test]
fn lanes_write_the_stamps_of_the_command_line() {
    let expected = stamped();
    let (counted, found) = run(&work(RequestKind::Write), &vec![0; expected.len()]);
    assert_complete(&counted);
    assert!(found == expected, "a stamp differs");
}

#[test]
fn fences_move_nothing_and_errors_are_counted() {
    let (counted, _) = run(&work(RequestKind::Fence), &[]);
    assert_complete(&counted);
    assert_eq!((counted.bytes, counted.verified), (0, 0));

    // Blocks past the end of the file: EXACT makes that an error.
    let (counted, _) = run(&work(RequestKind::Read), &stamped()[..15 * BLOCK as usize]);
    assert_eq!((counted.ops, counted.failed), (BLOCKS, 1));
    assert_eq!(counted.first_error, Some(Errno::ENODATA));
    assert_eq!(counted.verified, BLOCKS - 1);
}

#[test]
fn random_blocks_are_blocks_of_the_file() {
    let work = Work {
        random: true,
        ..work(RequestKind::Read)
    };
    let (counted, _) = run(&work, &stamped());
    assert_complete(&counted);
    assert_eq!((counted.verified, counted.bad), (BLOCKS, 0));
}

#[test]
fn buckets_follow_one_another() {
    let middles: Vec<f64> = (0..BUCKETS as u64).map(middle).collect();
    assert!(middles.is_sorted_by(|a, b| a < b), "each is longer");
    assert_eq!(middle(31), 31.0);
    assert_eq!(middle(32), 32.0);
    // Two to the power of 11 is the first of the buckets that hold 64 values each.
    assert_eq!(middle((11 - 4) * 32), 2048.0 + 31.5);
    assert!(middles[BUCKETS - 1] > 2f64.powi(36), "a minute and more");
}

#[test]
fn blocks_that_the_kernel_cannot_work_with_are_refused() {
    let work = |op, stamped, read_each| Work {
        stamped,
        read_each,
        ..work(op)
    };
    let (read, write) = (RequestKind::Read, RequestKind::Write);
    for size in [511, 520, 528, 4097] {
        for (landing, work) in [
            (Landing::Kernel, work(read, false, 0)),
            (Landing::None, work(read, false, 1)),
            (Landing::Loop, work(read, true, 1)),
            (Landing::None, work(write, true, 0)),
        ] {
            assert!(!suits(size, landing, &work), "{size} {landing} {work:?}");
            assert!(suits(1024, landing, &work), "{landing} {work:?}");
        }
        // Blocks that are not verified may have any size.
        for (landing, work) in [
            (Landing::None, work(read, true, 0)),
            (Landing::None, work(write, false, 1)),
            (Landing::Kernel, work(RequestKind::Fence, false, 0)),
        ] {
            assert!(suits(size, landing, &work), "{size} {landing} {work:?}");
        }
    }
}

#[test]
fn a_file_that_is_no_kernel_is_refused_with_its_name() {
    let error = Ptx::from_file(Path::new("no/such.ptx")).expect_err("not there");
    assert!(error.to_string().contains("no/such.ptx"), "{error}");
}

/// Runs the task of the other process. In an ordinary test run, it does nothing.
#[test]
fn peer_process() {
    if peer::task().is_some() {
        peer::host(LANES as usize);
    }
}

#[test]
fn lanes_end_when_the_process_of_their_host_is_killed() {
    let program = OnThreads::compile(SOURCE, NAME).expect("g++");
    let mut stage = Stage::new();
    let mut peer = Peer::start("bench::kernel::tests::peer_process", "host");
    let said = peer.said();
    let words: Vec<_> = said.split(' ').collect();
    let raw = |word: &str| word.parse().expect("a handle");
    let mut place = |path: &str| stage.device.place(peer::open(path).into());
    let (memory, data) = (place(words[0]), place(words[1]));
    let local = stage
        .device
        .memory(QueueView::DEVICE_STATE_BYTES)
        .expect("memory")
        .1;
    // As the other process makes it.
    let (like, _) = shared_queue(QueueLayout::with_slots(64)).expect("memory");
    let queue = LaneQueue {
        queue: QueueView::at(memory, local, &like),
        file: raw(words[2]),
        pool: raw(words[3]),
    };
    let work = Work {
        blocks: peer::BLOCKS,
        stamped: false,
        operations: 0,
        heartbeat_timeout: Some(Duration::from_secs(1)),
        ..work(RequestKind::Read)
    };
    let args = stage.args(&work, queue, data, peer::BLOCK as u32);
    let started = stage
        .device
        .start(&program, (LANES, WARP), bytemuck::bytes_of(&args));
    let mut lanes = started.expect("a program that was just compiled");
    std::thread::sleep(Duration::from_millis(500));
    peer.kill();
    assert!(lanes.wait().expect("own child").success());
    let counted = stage.counted();
    assert!(counted.ops > 0, "they were at work");
    assert_eq!((counted.host_gone, counted.gave_up), (LANES, LANES));
}
