//! What has to be put back, whatever happens: after a test, a panic, or a signal that ends the run.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::mount::{UnmountFlags, unmount};

/// Something to put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Ends a FUSE connection: whoever waits for it gets an error.
    AbortFuse {
        /// The mount point.
        at: PathBuf,
        /// The connection's number.
        connection: u32,
    },
    /// Lets a file system go on, frozen or not.
    Thaw(PathBuf),
    /// Unmounts.
    Unmount(PathBuf),
    /// Gives a loop device back.
    Detach(PathBuf),
    /// Removes a drive of the device mapper.
    Remove(String),
    /// Deletes the directory of a stage.
    Delete(PathBuf),
}

static OPEN: Mutex<Vec<Undo>> = Mutex::new(Vec::new());

impl Undo {
    /// Has it put back at the end of the run, should nobody do so before.
    pub(crate) fn remember(self) -> Self {
        lock().push(self.clone());
        self
    }

    /// Puts it back now.
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

/// Puts everything back, the last first: for a run that a signal ends.
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
