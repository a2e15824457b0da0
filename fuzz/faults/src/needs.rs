//! Needs of tests, and checks of whether the machine meets them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::geteuid;

/// Facility that the stage provides, or that a test needs from the machine.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// FUSE file system that misbehaves by file name, at [`Scene::fuse`](crate::Scene::fuse).
    Fuse,
    /// The same without asynchronous direct I/O, at [`Scene::sync_fuse`](crate::Scene::sync_fuse).
    /// With asynchronous direct I/O, the kernel turns a short direct write into an error.
    SyncFuse,
    /// Ext4 file system on a loop device whose image is on a tmpfs.
    Ext4(Ext4),
    /// Tmpfs at `Scene::path(at)`.
    Tmpfs {
        /// Name of the mount point.
        at: &'static str,
        /// Size in MiB.
        mib: u32,
    },
    /// Device-mapper drive, at `Scene::path("mapper")`.
    Mapper(Mapper),
}

/// Fault of a drive of 16 MiB.
#[derive(Clone, Copy, Debug)]
pub enum Mapper {
    /// Every byte from [`BAD_FROM`](Self::BAD_FROM) on is bad: dm-error.
    Error,
    /// Writes fail: dm-flakey.
    Flakey,
    /// Each operation takes two seconds: dm-delay.
    Delay,
}

impl Mapper {
    /// Offset at which the bad half of a drive begins.
    pub const BAD_FROM: u64 = 8 << 20;

    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Flakey => "flakey",
            Self::Delay => "delay",
        }
    }

    /// Returns the device mapper's table over a drive of that many sectors.
    pub(crate) fn table(self, sectors: u64, drive: &str) -> String {
        let half = Self::BAD_FROM / 512;
        match self {
            Self::Error => {
                let bad = sectors - half;
                format!("0 {half} linear {drive} 0\n{half} {bad} error\n")
            }
            Self::Flakey => format!("0 {sectors} flakey {drive} 0 0 3600 1 error_writes\n"),
            Self::Delay => format!("0 {sectors} delay {drive} 0 2000\n"),
        }
    }
}

/// Ext4 file system, mounted at `Scene::path(at)`. Its image is at `Scene::path("AT.store")`.
#[derive(Clone, Copy, Debug)]
pub struct Ext4 {
    /// Name of the mount point.
    pub at: &'static str,
    /// Size of the file system in MiB.
    pub mib: u32,
    /// Size of the tmpfs that holds its sparse image, in MiB. A smaller tmpfs fills up.
    pub store_mib: u32,
    /// Sector size of the drive, in bytes.
    pub sector: u32,
}

impl Ext4 {
    /// Returns a file system of 64 MiB on a drive of that size, with sectors of 512 bytes.
    pub const fn at(at: &'static str) -> Self {
        Self {
            at,
            mib: 64,
            store_mib: 96,
            sector: 512,
        }
    }
}

impl Need {
    /// Returns the reason why this machine does not provide it, or `None` if it does.
    pub(crate) fn lacking(self) -> Option<&'static str> {
        static MOUNTS: OnceLock<Option<&'static str>> = OnceLock::new();
        static FUSE: OnceLock<Option<&'static str>> = OnceLock::new();
        static LOOPS: OnceLock<Option<&'static str>> = OnceLock::new();
        let mounts = *MOUNTS.get_or_init(mounts);
        let all = match self {
            Self::Tmpfs { .. } => None,
            Self::Fuse | Self::SyncFuse => *FUSE.get_or_init(fuse),
            Self::Ext4(_) => *LOOPS.get_or_init(loops),
            Self::Mapper(mapper) => LOOPS
                .get_or_init(loops)
                .or_else(|| lacks_target(mapper.target())),
        };
        mounts.or(all)
    }
}

fn mounts() -> Option<&'static str> {
    (!geteuid().is_root()).then_some("no right to mount")
}

fn fuse() -> Option<&'static str> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    device.is_err().then_some("no /dev/fuse")
}

fn loops() -> Option<&'static str> {
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control");
    if control.is_err() {
        return Some("no loop devices");
    }
    let missing = |program: &str| !starts(program, &["--version"]) && !starts(program, &["-V"]);
    ["losetup", "fsfreeze", "mkfs.ext4"]
        .into_iter()
        .zip(["no losetup", "no fsfreeze", "no mkfs.ext4"])
        .find_map(|(program, why)| missing(program).then_some(why))
}

fn lacks_target(target: &str) -> Option<&'static str> {
    if !Path::new("/dev/mapper/control").exists() || !starts("dmsetup", &["version"]) {
        return Some("no device mapper");
    }
    // It may be built in, and a machine may lack modprobe.
    let _ = starts("modprobe", &[&format!("dm-{target}")]);
    let targets = Command::new("dmsetup").arg("targets").output();
    let known = targets.is_ok_and(|out| {
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .any(|line| line.split_whitespace().next() == Some(target))
    });
    (!known).then_some("the device mapper lacks a target")
}

/// Returns whether a program exists and succeeds with these arguments.
fn starts(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
