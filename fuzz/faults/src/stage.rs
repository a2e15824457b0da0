//! Set-up of a test by the parent, and its removal.

use std::ffi::{CString, OsString};
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountFlags, mount};

use crate::fuse::{Faults, serve};
use crate::needs::{Ext4, Mapper, Need};
use crate::undo::Undo;

type Result<T> = std::result::Result<T, String>;

/// Directory in which everything that a test needs is mounted.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    undo: Vec<Undo>,
    fuse: Vec<fuser::BackgroundSession>,
}

impl Stage {
    /// Sets up the needs in a new directory below `scratch`.
    pub(crate) fn set(scratch: &Path, needs: &[Need]) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("faults-")
            .tempdir_in(scratch)
            .map_err(|error| format!("no directory below {}: {error}", scratch.display()))?;
        let mut stage = Self {
            dir,
            undo: Vec::new(),
            fuse: Vec::new(),
        };
        // First, so that it is the last to be undone.
        stage.later(Undo::Delete(stage.dir().to_owned()));
        for need in needs {
            match *need {
                Need::Fuse => stage.mount_fuse("fuse", true)?,
                Need::SyncFuse => stage.mount_fuse("sync-fuse", false)?,
                Need::Ext4(ext4) => stage.mount_ext4(&ext4)?,
                Need::Mapper(mapper) => stage.map(mapper)?,
                Need::Tmpfs { at, mib } => drop(stage.mount_tmpfs(at, mib)?),
            }
        }
        Ok(stage)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends every hang that the stage can cause.
    pub(crate) fn release(&mut self) {
        let (ends, rest) = std::mem::take(&mut self.undo)
            .into_iter()
            .partition(|undo| matches!(undo, Undo::AbortFuse { .. } | Undo::Thaw(_)));
        self.undo = rest;
        let ends: Vec<Undo> = ends;
        ends.into_iter().rev().for_each(Undo::now);
    }

    fn mount_fuse(&mut self, at: &str, asynchronous: bool) -> Result<()> {
        let at = self.mount_point(at)?;
        let faults = Faults {
            asynchronous,
            ..Faults::default()
        };
        let session = serve(&at, faults, &[]).map_err(|error| format!("FUSE: {error}"))?;
        self.fuse.push(session);
        let connection = fs::metadata(&at).map_err(|error| format!("FUSE: {error}"))?;
        // A FUSE connection has the number of its device, whose major number is 0.
        let connection = rustix::fs::minor(connection.st_dev());
        self.later(Undo::AbortFuse { at, connection });
        Ok(())
    }

    fn mount_tmpfs(&mut self, at: &str, mib: u32) -> Result<PathBuf> {
        let at = self.mount_point(at)?;
        self.mount("tmpfs", &at, "tmpfs", &format!("size={mib}m"))?;
        Ok(at)
    }

    fn mount_ext4(&mut self, ext4: &Ext4) -> Result<()> {
        let store = self.mount_tmpfs(&format!("{}.store", ext4.at), ext4.store_mib)?;
        let device = attach(&store.join("image"), ext4.mib, ext4.sector)?;
        let detach = Undo::Detach(device.clone()).remember();
        // Without a journal: nothing that a store lacks room for is written at an odd time.
        let options = [
            "-q",
            "-b",
            "4096",
            "-O",
            "^has_journal",
            "-E",
            "lazy_itable_init=0",
        ];
        let made = output(
            "mkfs.ext4",
            options
                .map(OsString::from)
                .into_iter()
                .chain([device.clone().into()]),
        );
        let mounted = made.and_then(|_| {
            let at = self.mount_point(ext4.at)?;
            self.mount(&device, &at, "ext4", "")?;
            Ok(at)
        });
        // The kernel gives a mounted device back when it is unmounted.
        detach.now();
        let at = mounted?;
        self.later(Undo::Thaw(at));
        Ok(())
    }

    fn map(&mut self, mapper: Mapper) -> Result<()> {
        const MIB: u32 = 16;
        let drive = attach(&self.dir().join("mapper.image"), MIB, 512)?;
        self.later(Undo::Detach(drive.clone()));
        // Tests run at the same time, some with the same target.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let (process, target) = (std::process::id(), mapper.target());
        let name = format!("vyre-faults-{process}-{number}-{target}");
        let table = mapper.table(u64::from(MIB) << 11, &drive.to_string_lossy());
        let args = ["create", "--noudevsync", &name, "--table", &table].map(OsString::from);
        output("dmsetup", args)?;
        self.later(Undo::Remove(name.clone()));
        // Where no udev makes the node.
        output("dmsetup", ["mknodes", &name].map(OsString::from))?;
        std::os::unix::fs::symlink(
            Path::new("/dev/mapper").join(name),
            self.dir().join("mapper"),
        )
        .map_err(|error| format!("a link: {error}"))
    }

    fn mount_point(&self, name: &str) -> Result<PathBuf> {
        let at = self.dir().join(name);
        fs::create_dir(&at).map_err(|error| format!("{}: {error}", at.display()))?;
        Ok(at)
    }

    fn mount(
        &mut self,
        what: impl AsRef<Path>,
        at: &Path,
        kind: &str,
        options: &str,
    ) -> Result<()> {
        let options = CString::new(options).map_err(|error| error.to_string())?;
        mount(
            what.as_ref(),
            at,
            kind,
            MountFlags::empty(),
            options.as_c_str(),
        )
        .map_err(|error| format!("mounting {kind} at {}: {error}", at.display()))?;
        self.later(Undo::Unmount(at.to_owned()));
        Ok(())
    }

    fn later(&mut self, undo: Undo) {
        self.undo.push(undo.remember());
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.release();
        std::mem::take(&mut self.undo)
            .into_iter()
            .rev()
            .for_each(Undo::now);
        for session in self.fuse.drain(..) {
            // Unmounted above: the server sees the end of its connection.
            let _ = session.join();
        }
    }
}

/// Attaches a loop device to a new, sparse image.
fn attach(image: &Path, mib: u32, sector: u32) -> Result<PathBuf> {
    let file = fs::File::create(image).map_err(|error| format!("an image: {error}"))?;
    file.set_len(u64::from(mib) << 20)
        .map_err(|error| format!("an image: {error}"))?;
    let sector = sector.to_string();
    let args = ["--find", "--show", "--sector-size", &sector].map(OsString::from);
    output("losetup", args.into_iter().chain([image.into()])).map(PathBuf::from)
}

/// Returns the output of a program, or an error unless it succeeds.
fn output(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        return Err(format!("{program} failed: {}", why.trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
