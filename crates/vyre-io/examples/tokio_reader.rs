//! A tokio program that reads a file through a queue: many blocks at once, and then one after another beside a thread that
//! spins for each outcome.
//!
//! ```sh
//! cargo run --release -p vyre-io --example tokio_reader
//! ```

use std::io::Write;
use std::time::{Duration, Instant};

use vyre_io::{
    AsyncQueue, Buffer, BufferTable, DeviceQueue, Features, FileTable, IoLoop, LoopOptions, Queue,
    QueueLayout, Request, Rights, WaitPolicy,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BLOCK: u32 = 4096;
const BLOCKS: u32 = 1024;
/// Reads of a comparison, and the pause before each.
const READS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let mut file = tempfile::tempfile()?;
    for block in 0..BLOCKS {
        file.write_all(&[block as u8; BLOCK as usize])?;
    }
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = files.insert(file, Rights::READ)?;
    let memory = Buffer::anonymous((BLOCKS * BLOCK) as usize)?;
    let pool = buffers.insert(memory.clone())?;
    let read = |block: u32| {
        let place = u64::from(block * BLOCK);
        Request::read(file, place, BLOCK).into_buffer(pool, place)
    };

    // Both ends sleep: the loop until the task rings, and the task until the loop wakes it.
    let layout = QueueLayout::with_slots(64).with_features(Features::DOORBELL | Features::WAKE);
    let (mut host, device) = Queue::anonymous(layout)?;
    let (other_host, spinning) = Queue::anonymous(layout)?;
    let queue = AsyncQueue::new(&mut host, device)?;
    let io = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        .queue(host)
        .queue(other_host)
        .options(LoopOptions::new().wait_policy(WaitPolicy::DOORBELL))
        .spawn()?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(async {
        let mut batch = queue.submit_all((0..BLOCKS).map(read));
        while let Some((number, outcome)) = batch.next_outcome().await {
            assert_eq!(outcome?.bytes()?, BLOCK, "block {number}");
        }
        Result::Ok(())
    })?;
    let mut byte = [0];
    for block in 0..BLOCKS {
        memory.read_at((block * BLOCK) as usize, &mut byte)?;
        assert_eq!(byte[0], block as u8);
    }
    println!("{BLOCKS} blocks read, 64 at a time");

    runtime.block_on(async {
        let (began, used) = (Instant::now(), processor_time());
        let mut latencies = Vec::new();
        for block in 0..READS {
            tokio::time::sleep(PAUSE).await;
            let asked = Instant::now();
            let _ = queue.perform(read(block)).await?.bytes()?;
            latencies.push(asked.elapsed());
        }
        report("a task that awaits", latencies, began, used);
        Result::Ok(())
    })?;
    // Nobody rings for a pause, so the loop sleeps here, too.
    let (began, used) = (Instant::now(), processor_time());
    let mut latencies = Vec::new();
    for block in 0..READS {
        let until = Instant::now() + PAUSE;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        latencies.push(spin(&spinning, read(block))?);
    }
    report("a thread that spins", latencies, began, used);
    io.stop()?;
    Ok(())
}

/// Submits a request and spins until there is an outcome. Returns the time that took.
fn spin(device: &DeviceQueue, request: Request) -> Result<Duration> {
    let asked = Instant::now();
    let mut ticket = device.submit(request)?;
    device.ring_and_wake();
    loop {
        match device.take(ticket) {
            Ok(outcome) => {
                let _ = outcome.bytes()?;
                return Ok(asked.elapsed());
            }
            Err(again) => ticket = again,
        }
        std::hint::spin_loop();
    }
}

/// Prints the median latency, and the share of a core that all threads of this process took since `began`.
fn report(name: &str, mut latencies: Vec<Duration>, began: Instant, used: Duration) {
    latencies.sort_unstable();
    let median = latencies[latencies.len() / 2];
    let share = (processor_time() - used).as_secs_f64() / began.elapsed().as_secs_f64();
    println!(
        "{name}: median {median:.1?} for a read, {:.1} % of a core",
        share * 100.0
    );
}

/// Returns the processor time of all threads of this process.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}
