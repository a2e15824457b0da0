//! What signals do to the process.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;

/// Prints to standard error. Unlike with `eprintln`, a standard error that is full or closed is no
/// panic.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($text)*);
    }};
}
pub(crate) use say;

/// Lets a write past the limit on file sizes (`ulimit -f`) fail with EFBIG. By default, the kernel
/// ends the process without a word.
pub(crate) fn survive_file_size_limit() {
    // A handler of any kind is enough. If none can be installed, the default stays.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}
