//! A hostile device on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::{Adversary, Attack};

/// Steps between two looks at whether to end. Then the core is given up: where there are few, the
/// host has to run for there to be anything to disturb.
const BURST: u32 = 256;

/// An [`Adversary`] that steps until it is stopped, as fast as it can.
#[derive(Debug)]
#[must_use = "dropping it stops the adversary"]
pub struct HostileThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Adversary>>,
}

impl HostileThread {
    pub(super) fn new(mut adversary: Adversary) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let name = thread::Builder::new().name("adversary".into());
        let thread = name.spawn(move || {
            // Relaxed, here and in `end`: joining orders all else.
            while !seen.load(Ordering::Relaxed) {
                for _ in 0..BURST {
                    if adversary.step() == Attack::Silence {
                        break;
                    }
                }
                thread::yield_now();
            }
            adversary
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the thread and gives the adversary back, with its counts.
    ///
    /// # Panics
    /// If the thread panicked: a bug in this crate.
    pub fn stop(mut self) -> Adversary {
        self.end()
            .expect("ended once")
            .expect("an adversary does not panic")
    }

    fn end(&mut self) -> Option<thread::Result<Adversary>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join)
    }
}

impl Drop for HostileThread {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
