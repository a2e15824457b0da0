//! Hidden name of a copy, and its removal when a signal ends the process.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::AtFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Name beside DST that exists until the copy is complete.
pub(super) struct HiddenName {
    pub(super) directory: OwnedFd,
    pub(super) name: OsString,
}

impl HiddenName {
    fn remove(&self) {
        // Nobody is left to tell; a later run tries again.
        let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

/// Hidden name, while there is one. Whoever creates, renames or removes it holds the lock, so that
/// the thread that handles signals finds either the name or none.
#[derive(Clone, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<HiddenName>>>);

impl Leftover {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<HiddenName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remove(&self) {
        if let Some(hidden) = self.lock().take() {
            hidden.remove();
        }
    }

    /// Makes SIGINT, SIGTERM and SIGHUP remove the hidden name before they end the process. A
    /// signal that was ignored when the process started, as by `nohup`, stays ignored.
    pub(super) fn remove_on_signals(&self) -> io::Result<()> {
        let ignored = ignored_signals();
        let kept = [SIGINT, SIGTERM, SIGHUP]
            .into_iter()
            .filter(|signal| ignored & (1 << (signal - 1)) == 0);
        let mut signals = Signals::new(kept)?;
        let leftover = self.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    // Held until the process ends: no name is created or given any more.
                    let mut name = leftover.lock();
                    if let Some(hidden) = name.take() {
                        hidden.remove();
                    }
                    let _ = emulate_default_handler(signal);
                }
            })?;
        Ok(())
    }
}

/// Returns the signals that the process ignores, as a mask. Returns 0 if /proc is missing.
fn ignored_signals() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        })
        .unwrap_or(0)
}
