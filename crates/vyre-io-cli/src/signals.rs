//! Signal dispositions of the process, and output that survives a closed standard error.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGXFSZ;

/// Prints to standard error. Unlike `eprintln`, it does not panic if standard error is full or
/// closed.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($text)*);
    }};
}
pub(crate) use say;

/// Makes a write past the limit on file sizes (`ulimit -f`) fail with EFBIG. By default, the kernel
/// ends the process without a message.
pub(crate) fn survive_file_size_limit() {
    // A handler of any kind is enough. If none can be installed, the default stays.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}
