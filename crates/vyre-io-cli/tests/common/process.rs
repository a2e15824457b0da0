//! Processes that are stopped, signalled, or denied a system call.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::process::{Pid, Signal};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// System call that the kernel is to refuse, as a file system without the feature does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Denied {
    /// Creation of files without a name.
    NamelessFiles,
    /// Direct I/O.
    Direct,
    /// Creation of links.
    Links,
    /// Setting a length.
    Lengths,
    /// Syncing by a call, as of directories. Data is synced by the ring.
    Syncs,
    /// Making a ring of io_uring: refused with EPERM, as containers do, or with ENOSYS.
    IoUring,
    IoUringUnknown,
    /// Asking the kernel for the auxiliary vector, which Linux before 6.4 does not offer.
    AuxiliaryVector,
}

impl Denied {
    fn rule(self) -> (i64, Vec<SeccompRule>, i32) {
        const TMPFILE: u64 = 0o20_000_000;
        match self {
            Self::NamelessFiles => (libc::SYS_openat, opens_with(TMPFILE), libc::EOPNOTSUPP),
            Self::Direct => {
                let flag = opens_with(libc::O_DIRECT as u64);
                (libc::SYS_openat, flag, libc::EINVAL)
            }
            Self::Links => (libc::SYS_linkat, vec![], libc::EPERM),
            Self::Lengths => (libc::SYS_ftruncate, vec![], libc::EOPNOTSUPP),
            Self::Syncs => (libc::SYS_fsync, vec![], libc::EINVAL),
            Self::IoUring => (libc::SYS_io_uring_setup, vec![], libc::EPERM),
            Self::IoUringUnknown => (libc::SYS_io_uring_setup, vec![], libc::ENOSYS),
            Self::AuxiliaryVector => {
                const PR_GET_AUXV: u64 = 0x4155_5856;
                let which = SeccompCondition::new(
                    0,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::Eq,
                    PR_GET_AUXV,
                );
                let rule = which.and_then(|which| SeccompRule::new(vec![which]));
                (libc::SYS_prctl, vec![rule.expect("a rule")], libc::EINVAL)
            }
        }
    }
}

/// Returns rules that match an `openat` with a flag.
fn opens_with(flag: u64) -> Vec<SeccompRule> {
    let condition = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(flag),
        flag,
    );
    let rule = SeccompRule::new(vec![condition.expect("a condition")]);
    vec![rule.expect("a rule")]
}

/// Starts a command for which the system calls are denied.
pub(crate) fn spawn_denied(command: &mut Command, denied: &[Denied]) -> Child {
    // A filter holds for the thread and what it starts.
    thread::scope(|scope| {
        let child = scope.spawn(|| {
            for denied in denied {
                let (call, rules, errno) = denied.rule();
                let filter = SeccompFilter::new(
                    BTreeMap::from([(call, rules)]),
                    SeccompAction::Allow,
                    SeccompAction::Errno(errno as u32),
                    std::env::consts::ARCH.try_into().expect("a known machine"),
                );
                let program: seccompiler::BpfProgram =
                    filter.and_then(TryInto::try_into).expect("a filter");
                seccompiler::apply_filter(&program).expect("seccomp");
            }
            command.spawn().expect("the binary runs")
        });
        child.join().expect("no panic")
    })
}

pub(crate) fn output_denied(command: &mut Command, denied: &[Denied]) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn_denied(command, denied)
        .wait_with_output()
        .expect("ends")
}

/// Waits for a condition that only a fault keeps from being met.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "no {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(pid, signal).expect("a process");
}

/// Creates a file without holes that takes long to copy and no time to make.
pub(crate) fn long_file(dir: &Path) -> PathBuf {
    let path = dir.join("src");
    let file = fs::File::create(&path).expect("room");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 4 << 30).expect("room");
    path
}

/// Starts a copy, and stops it after it has written a part.
pub(crate) fn stopped(command: &mut Command, dir: &Path, denied: &[Denied]) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn_denied(command, denied);
    let fds = PathBuf::from(format!("/proc/{}/fd", child.id()));
    wait_for("part of a copy", || {
        assert!(child.try_wait().expect("a child").is_none(), "ended early");
        let is_part = |fd: &PathBuf| {
            let name = fs::read_link(fd).unwrap_or_default();
            let text = name.to_string_lossy();
            name.starts_with(dir)
                && (text.contains("/.vyre-io-") || text.ends_with(" (deleted)"))
                && fs::metadata(fd).is_ok_and(|about| about.is_file() && about.blocks() > 0)
        };
        let found = fs::read_dir(&fds).ok()?.flatten().map(|fd| fd.path());
        found.filter(is_part).last()
    });
    send(&child, Signal::STOP);
    wait_for("stop", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).ok()?;
        stat.contains(") T ").then_some(())
    });
    child
}

/// The binary, run by a user without rights in a directory that this user may use. `None` unless
/// the test runs as root.
pub(crate) struct Nobody {
    pub(crate) dir: tempfile::TempDir,
    binary: PathBuf,
}

pub(crate) const NOBODY: u32 = 65_534;

impl Nobody {
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            super::skipped("only root can act as another user");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("own");
        let binary = dir.path().join("vyre-io");
        // By another process: a child that a test beside this one forks would inherit the descriptor
        // that writes it, and what somebody can write to cannot be run.
        let copied = Command::new("cp")
            .args([Path::new(env!("CARGO_BIN_EXE_vyre-io")), &binary])
            .status();
        assert!(copied.expect("cp runs").success());
        Some(Self { dir, binary })
    }

    pub(crate) fn output(&self, args: &[&OsStr]) -> Output {
        Command::new(&self.binary)
            .args(args)
            .stdin(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .expect("the binary runs")
    }

    pub(crate) fn copy(&self, src: &Path, dst: &Path, more: &[&str]) -> Output {
        Command::new(&self.binary)
            .arg("copy")
            .args([src, dst])
            .args(more)
            .stdin(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .expect("the binary runs")
    }
}
