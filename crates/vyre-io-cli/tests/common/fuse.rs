//! FUSE file system with chosen faults, mounted beside an ordinary directory.

use std::fs;
use std::path::{Path, PathBuf};

use vyre_faults::{BackgroundSession, Faults, serve};

/// Mount of the file system. Dropping it unmounts it.
pub(crate) struct Mounted {
    session: Option<BackgroundSession>,
    dir: tempfile::TempDir,
}

impl Mounted {
    /// Mounts the file system with a file `src`. Returns `None` where that is not permitted.
    pub(crate) fn new(faults: Faults, src: &[u8]) -> Option<Self> {
        let dir = super::place();
        let at = dir.path().join("fuse");
        fs::create_dir(&at).expect("room");
        match serve(&at, faults, &[("src", src)]) {
            Ok(session) => Some(Self {
                session: Some(session),
                dir,
            }),
            Err(error) => {
                super::skipped(&format!("FUSE cannot be mounted: {error}"));
                None
            }
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("fuse")
    }

    /// Returns a directory beside the mount.
    pub(crate) fn beside(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let unmounted = unmount(&self.path());
            // Without an unmount, waiting for the end of the session would never end.
            if unmounted {
                let _ = session.join();
            }
        }
    }
}

fn unmount(at: &Path) -> bool {
    std::process::Command::new("umount")
        .arg("-l")
        .arg(at)
        .status()
        .is_ok_and(|status| status.success())
}
