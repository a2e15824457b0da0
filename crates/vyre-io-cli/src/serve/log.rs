//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use super::args::LogLevel;

/// Lines that may wait for a slow reader of standard error. Further ones are lost.
const LINES: usize = 4096;

/// Starts the log. Dropping the guard writes what is left. A full pipe never holds the server up.
pub(super) fn start(level: LogLevel) -> WorkerGuard {
    let stderr = std::io::stderr();
    let is_terminal = stderr.is_terminal();
    let builder = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES);
    let (writer, guard) = builder.thread_name("vyre-io-log").finish(stderr);
    let lines = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(is_terminal)
        .with_target(false)
        .with_max_level(tracing::level_filters::LevelFilter::from(level));
    // The journal has the time of each line already.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().init();
    } else {
        lines.init();
    }
    guard
}
