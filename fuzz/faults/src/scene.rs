//! Stage as a test sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Limit of waits: longer than anything takes on a busy machine, and shorter than the time limit of
/// a test.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Surroundings of a test.
#[derive(Debug)]
pub struct Scene {
    dir: PathBuf,
}

impl Scene {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns a path in the test's own directory, on a file system without faults.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Returns the FUSE file system that misbehaves by file name.
    pub fn fuse(&self) -> Fuse {
        Fuse {
            root: self.path("fuse"),
        }
    }

    /// Returns the FUSE file system without asynchronous direct I/O.
    pub fn sync_fuse(&self) -> Fuse {
        Fuse {
            root: self.path("sync-fuse"),
        }
    }

    /// Creates a file of [`pattern`] on a file system without faults, open for reading and writing.
    pub fn healthy(&self, len: usize) -> File {
        let mut file = tempfile::tempfile_in(&self.dir).expect("a file");
        file.write_all(&pattern(0, len)).expect("room on the disk");
        file
    }

    /// Creates an empty file below `at`, open for reading and writing.
    pub fn create(&self, at: &str, name: &str) -> File {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        options.open(self.path(at).join(name)).expect("a file")
    }

    /// Freezes the file system at a path until the guard is dropped. Writes and SYNCs there wait.
    pub fn freeze(&self, at: &str) -> Frozen {
        let at = self.path(at);
        freezer("--freeze", &at);
        Frozen { at }
    }

    /// Fills the file system at a path up to its last byte.
    pub fn fill(&self, at: &str) {
        let mut file = File::create(self.path(at).join("filler")).expect("a file");
        let block = vec![0x55; 1 << 20];
        let mut len = block.len();
        while len > 0 {
            match file.write(&block[..len]) {
                Ok(moved) if moved > 0 => {}
                _ => len /= 2,
            }
        }
    }

    /// Frees the space that [`fill`](Self::fill) took.
    pub fn drain(&self, at: &str) {
        std::fs::remove_file(self.path(at).join("filler")).expect("filled before");
    }
}

/// Frozen file system.
#[derive(Debug)]
#[must_use = "dropping it thaws the file system"]
pub struct Frozen {
    at: PathBuf,
}

impl Frozen {
    /// Waits until that many writes of this process's rings wait for the thaw. A write that no
    /// kernel worker has begun could still be cancelled.
    pub fn wait_for_writes(&self, count: usize) {
        eventually("the frozen writes", || stuck_workers() >= count);
    }
}

/// Returns the number of workers of this process's rings that are in an uninterruptible sleep.
fn stuck_workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
    let stats = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat"));
        stat.ok()
    });
    // Such as `123 (iou-wrk-120) D 1 …`.
    stats
        .filter(|stat| stat.contains("(iou-wrk-") && stat.contains(") D "))
        .count()
}

impl Drop for Frozen {
    fn drop(&mut self) {
        freezer("--unfreeze", &self.at);
    }
}

fn freezer(what: &str, at: &Path) {
    // It may be thawed already, by a stage that is cleared.
    let status = Command::new("fsfreeze")
        .arg(what)
        .arg(at)
        .stderr(Stdio::null())
        .status();
    let done = status.is_ok_and(|status| status.success());
    assert!(
        done || std::thread::panicking(),
        "fsfreeze {what} {}",
        at.display()
    );
}

/// FUSE file system. It never has files without names. The name with which a file is created consists
/// of words with dots between them, which select its faults; other words tell files apart.
///
/// | word | what |
/// | --- | --- |
/// | `hang-read`, `hang-write`, `hang-fsync`, `hang-statfs` | no answer until [`release`](Fuse::release) |
/// | `dio` | past the page cache: `FOPEN_DIRECT_IO` |
/// | `short-read`, `short-write` | at most 1000 bytes at a time |
/// | `half-read`, `half-write` | half of what was asked for, in sectors |
/// | `eio-read`, `eio-write`, `full` | EIO or ENOSPC from byte 524,288 on |
/// | `fail-fsync`, `fail-flush` | EIO |
/// | `full-flush` | ENOSPC for a close |
/// | `fail-fsync-once` | EIO for the first |
/// | `no-truncate`, `no-chmod` | ENOSYS |
/// | `no-opendir` | EACCES, for the directory of a mount with [`Faults::words`](crate::Faults::words) |
/// | `no-fsyncdir` | EINVAL, for the directory of a mount with [`Faults::words`](crate::Faults::words) |
/// | `empty` | is created empty; others hold [`Fuse::LEN`] bytes of `pattern(0, …)` |
#[derive(Debug)]
pub struct Fuse {
    root: PathBuf,
}

impl Fuse {
    /// Length in bytes of a file that is not empty. It is not a whole number of blocks.
    pub const LEN: usize = (1 << 20) + 777;

    /// Returns the path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Opens a file for reading and writing, and creates it if need be.
    pub fn open(&self, name: &str) -> File {
        self.open_with(name, 0)
    }

    /// Opens a file with further flags, such as `O_DIRECT`.
    pub fn open_with(&self, name: &str, flags: i32) -> File {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags)
            .open(self.path(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Answers the requests that hang, and lets none hang from now on.
    pub fn release(&self) {
        self.control("release");
    }

    /// Lets requests hang again.
    pub fn hold(&self) {
        self.control("hold");
    }

    fn control(&self, what: &str) {
        let control = File::options().write(true).open(self.path(".control"));
        let written = control.and_then(|mut file| file.write_all(what.as_bytes()));
        written.expect("the FUSE server");
    }

    /// Returns the number of requests that hang.
    pub fn hanging(&self) -> usize {
        let mut text = String::new();
        let control = File::open(self.path(".control"));
        control
            .and_then(|mut file| file.read_to_string(&mut text))
            .expect("the FUSE server");
        text.trim().parse().expect("a number")
    }

    /// Waits until this many requests hang.
    pub fn wait_for_hanging(&self, count: usize) {
        eventually("the hang", || self.hanging() >= count);
    }
}

/// Waits for a condition that another thread brings about.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{what} did not happen in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns `len` bytes that differ from place to place, as a file has them at `offset`.
pub fn pattern(offset: usize, len: usize) -> Vec<u8> {
    (offset as u64..(offset + len) as u64)
        .map(|at| {
            let mixed = (at / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            (mixed ^ mixed >> 32)
                .wrapping_mul(0xff51_afd7_ed55_8ccd)
                .to_le_bytes()[at as usize % 8]
        })
        .collect()
}
