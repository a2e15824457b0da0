//! The bar that shows how far a copy is.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Fits 40 columns: the bar takes what the others leave.
const KNOWN: &str = "{prefix:6} {wide_bar} {percent:>3}% {binary_bytes_per_sec:>13} {eta:>4}";
const UNKNOWN: &str = "{prefix:6} {spinner} {binary_bytes:>11} {binary_bytes_per_sec:>13}";
/// For what only takes time.
const WAITING: &str = "{prefix:6} {spinner} {elapsed:>4}";
const TICK: Duration = Duration::from_millis(200);

/// A bar on standard error, if that is a terminal, with a phase at a time.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::no_length();
        // Nothing is drawn before the first phase.
        bar.disable_steady_tick();
        Self(bar)
    }

    /// Begins a phase that goes through `bytes`, or through an unknown number.
    pub(super) fn phase(&self, name: &'static str, bytes: Option<u64>) {
        self.begin(name, if bytes.is_some() { KNOWN } else { UNKNOWN });
        match bytes {
            Some(bytes) => self.0.set_length(bytes),
            None => self.0.unset_length(),
        }
    }

    /// Begins a phase that takes time, and shows that it goes on.
    pub(super) fn wait(&self, name: &'static str) {
        self.begin(name, WAITING);
        self.0.enable_steady_tick(TICK);
    }

    fn begin(&self, name: &'static str, template: &str) {
        self.0.disable_steady_tick();
        self.0.reset();
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.set_prefix(name);
        self.0.tick();
    }

    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    pub(super) fn set(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}
