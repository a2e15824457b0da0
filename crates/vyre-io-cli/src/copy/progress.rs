//! Progress bar of a copy.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Template for a known length. It fits 40 columns: the bar takes the columns that the rest leaves.
const KNOWN: &str = "{prefix:6} {wide_bar} {percent:>3}% {binary_bytes_per_sec:>13} {eta:>4}";
const UNKNOWN: &str = "{prefix:6} {spinner} {binary_bytes:>11} {binary_bytes_per_sec:>13}";
/// Template for a phase without a length.
const WAITING: &str = "{prefix:6} {spinner} {elapsed:>4}";
const TICK: Duration = Duration::from_millis(200);

/// Phase of a copy. It is shown on standard error, if that is a terminal, until this is dropped.
pub(super) struct Phase(ProgressBar);

impl Phase {
    /// Starts a phase that processes `bytes`, or an unknown number of them.
    pub(super) fn new(name: &'static str, bytes: Option<u64>) -> Self {
        match bytes {
            Some(bytes) => Self::shown(ProgressBar::new(bytes), name, KNOWN),
            None => Self::shown(ProgressBar::no_length(), name, UNKNOWN),
        }
    }

    /// Starts a phase without a length. It shows the time that has passed.
    pub(super) fn waiting(name: &'static str) -> Self {
        let phase = Self::shown(ProgressBar::no_length(), name, WAITING);
        phase.0.enable_steady_tick(TICK);
        phase
    }

    /// Returns a phase that is not shown.
    pub(super) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    fn shown(bar: ProgressBar, name: &'static str, template: &str) -> Self {
        let style = ProgressStyle::with_template(template);
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let bar = bar.with_prefix(name);
        bar.tick();
        Self(bar)
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    pub(super) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
