//! A loop, its device, and what the kernel counts of a thread.

use std::fs::read_to_string;
use std::sync::OnceLock;
use std::time::Duration;

use vyre_io::{
    BufferTable, DeviceQueue, Features, FileTable, IoLoop, LoopOptions, Queue, QueueLayout,
    RingMeans, WaitPolicy,
};
use vyre_io_cli::measure::cores::{allowed, pin};

use crate::Result;

/// The cores of the sleeper and of the one who wakes it: the last two of the process.
#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pub(crate) sleeper: Option<usize>,
    pub(crate) waker: Option<usize>,
}

impl Cores {
    /// Chooses them once, since a pinned thread is allowed on one core only.
    pub(crate) fn choose() -> Self {
        static CHOSEN: OnceLock<Cores> = OnceLock::new();
        *CHOSEN.get_or_init(|| match allowed()[..] {
            [.., waker, sleeper] => Self {
                sleeper: Some(sleeper),
                waker: Some(waker),
            },
            _ => Self {
                sleeper: None,
                waker: None,
            },
        })
    }

    pub(crate) fn pin_waker(self) {
        pin(self.waker);
    }
}

/// Spawns a loop with one queue of 64 slots, which offers a doorbell.
pub(crate) fn spawn(
    policy: WaitPolicy,
    means: RingMeans,
    cores: Cores,
    tables: Option<(FileTable, BufferTable)>,
) -> Result<(IoLoop, DeviceQueue)> {
    let options = LoopOptions::new().wait_policy(policy).rung_by(means);
    spawn_with(options, cores, tables)
}

pub(crate) fn spawn_with(
    options: LoopOptions,
    cores: Cores,
    tables: Option<(FileTable, BufferTable)>,
) -> Result<(IoLoop, DeviceQueue)> {
    let layout = QueueLayout::with_slots(64).with_features(Features::DOORBELL);
    let (host, device) = Queue::anonymous(layout)?;
    let mut builder = IoLoop::builder().queue(host).options(options);
    if let Some((files, buffers)) = tables {
        builder = builder.files(files).buffers(buffers);
    }
    if let Some(core) = cores.sleeper {
        builder = builder.pin_to(core);
    }
    Ok((builder.spawn()?, device))
}

/// Returns how often a thread of this process has gone to sleep.
pub(crate) fn switches(thread: u32) -> u64 {
    status(
        &format!("/proc/self/task/{thread}/status"),
        "voluntary_ctxt_switches:",
    )
}

/// Returns the first number after a name in a file of /proc.
pub(crate) fn status(path: &str, name: &str) -> u64 {
    let text = read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Returns the value below which a share of the sorted values lies.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
