//! Actions that undo a set-up: after a test, a panic, or a signal that ends the run.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::mount::{UnmountFlags, unmount};

/// Action that undoes a part of the set-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Aborts a FUSE connection: whoever waits for it gets an error.
    AbortFuse {
        /// Mount point.
        at: PathBuf,
        /// Number of the connection.
        connection: u32,
    },
    /// Thaws a file system, frozen or not.
    Thaw(PathBuf),
    /// Unmounts a file system.
    Unmount(PathBuf),
    /// Detaches a loop device.
    Detach(PathBuf),
    /// Removes a device-mapper drive.
    Remove(String),
    /// Deletes the directory of a stage.
    Delete(PathBuf),
}

static OPEN: Mutex<Vec<Undo>> = Mutex::new(Vec::new());

impl Undo {
    /// Registers the action for the end of the run, in case nobody carries it out before.
    pub(crate) fn remember(self) -> Self {
        lock().push(self.clone());
        self
    }

    /// Carries out the action now.
    pub(crate) fn now(self) {
        lock().retain(|open| *open != self);
        self.carry_out();
    }

    fn carry_out(&self) {
        match self {
            Self::AbortFuse { at, connection } => {
                let abort = format!("/sys/fs/fuse/connections/{connection}/abort");
                let _ = std::fs::write(abort, "1");
                // Aborts, too, where the file above is not there.
                let _ = unmount(at, UnmountFlags::FORCE | UnmountFlags::DETACH);
            }
            Self::Thaw(at) => quietly("fsfreeze", &["--unfreeze".into(), at.into()]),
            Self::Unmount(at) => {
                let _ = unmount(at, UnmountFlags::DETACH);
            }
            Self::Remove(name) => {
                quietly("dmsetup", &["remove".into(), "--retry".into(), name.into()]);
            }
            Self::Delete(dir) => {
                let _ = std::fs::remove_dir_all(dir);
            }
            Self::Detach(device) => quietly("losetup", &["--detach".into(), device.into()]),
        }
    }
}

/// Carries out all actions, the last first, for a run that a signal ends.
pub(crate) fn all() {
    let open = std::mem::take(&mut *lock());
    open.iter().rev().for_each(Undo::carry_out);
}

fn lock() -> std::sync::MutexGuard<'static, Vec<Undo>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn quietly(program: &str, args: &[std::ffi::OsString]) {
    let _ = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
