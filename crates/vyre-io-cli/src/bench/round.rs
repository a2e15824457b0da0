//! Results of one round of vyre-io.

use std::time::Duration;

use super::loops::Transport;
use super::plan::Plan;
use super::tally::Tally;

/// Results of one round of vyre-io.
pub(super) struct Round {
    pub(super) tally: Tally,
    /// Fraction of a core that a loop's thread used, the mean over the loops.
    pub(super) cpu: f64,
    /// Share of a lane's time that passed in requests. `None` for lanes that are threads.
    pub(super) gpu_wait: Option<f64>,
    pub(super) transport: Transport,
}

impl Round {
    /// `used` is the processor time of all loops together during `wall`.
    pub(super) fn new(
        tally: Tally,
        used: Duration,
        wall: Duration,
        plan: &Plan,
        transport: Transport,
    ) -> Self {
        let wall = wall.as_secs_f64().max(1e-9);
        Self {
            tally,
            cpu: used.as_secs_f64() / wall / f64::from(plan.loops()),
            gpu_wait: None,
            transport,
        }
    }
}
