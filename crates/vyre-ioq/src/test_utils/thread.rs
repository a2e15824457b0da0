//! A hostile device that runs on its own thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::adversary::Adversary;
use super::attack::Attack;

/// Steps between two checks of whether to stop. After each burst the thread yields, so that the host can run on
/// a machine with few cores.
const BURST: u32 = 256;

/// [`Adversary`] that steps as fast as it can until it is stopped.
#[derive(Debug)]
#[must_use = "dropping it stops the adversary"]
pub struct HostileThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Adversary>>,
}

impl Adversary {
    /// Starts a thread that steps until it is [stopped](HostileThread::stop).
    ///
    /// # Errors
    /// The error of the operating system if it cannot start a thread.
    pub fn spawn(self) -> std::io::Result<HostileThread> {
        HostileThread::new(self)
    }
}

impl HostileThread {
    fn new(mut adversary: Adversary) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let name = thread::Builder::new().name("adversary".into());
        let thread = name.spawn(move || {
            // Relaxed, here and in `end`: the join orders everything else.
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

    /// Stops the thread and returns the adversary with its counts.
    ///
    /// # Panics
    /// If the thread has panicked, which would be a bug in this crate.
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
