//! The report on the set-up of a transport, as C has it.

use vyre_io::SetupReport;
use vyre_io::uring::{RingReport, SetupStep, ThreadPoolReport};

use crate::loop_options::Transport;

/// Result of the set-up of a loop's transport. Later versions add fields at the end. vyre_io_loop_report_text has all
/// of it, with reasons.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Report {
    /// VYRE_IO_TRANSPORT_RING or VYRE_IO_TRANSPORT_THREADS.
    pub transport: u32,
    /// Operations that can be in flight at once.
    pub entries: u32,
    /// 1 if files are registered with the ring, else 0.
    pub registered_files: u32,
    /// 1 if buffers can be registered with the ring, else 0.
    pub registered_buffers: u32,
    /// Buffers that the kernel refused to register. They are served by plain reads and writes.
    pub plain_buffers: u32,
    /// The largest number of worker threads for files with offsets, or 0 if the kernel did not say.
    pub workers: u32,
}

impl Report {
    pub(crate) fn of(report: &SetupReport) -> Self {
        let in_use = |step: SetupStep| u32::from(step.in_use());
        let ring = report.ring();
        let pool = report.thread_pool();
        let bounds = ring.and_then(RingReport::worker_bounds);
        let workers = pool.map(ThreadPoolReport::workers);
        Self {
            transport: match ring {
                Some(_) => Transport::Ring as u32,
                None => Transport::Threads as u32,
            },
            entries: report.entries(),
            registered_files: ring.map_or(0, |ring| in_use(ring.files())),
            registered_buffers: ring.map_or(0, |ring| in_use(ring.buffers())),
            plain_buffers: ring.map_or(0, |ring| ring.plain_buffers().0),
            workers: workers.or(bounds.map(|[files, _]| files)).unwrap_or(0),
        }
    }
}
