//! Runs a command where io_uring is refused, as containers do by default.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::workspace::Result;

/// Ways to refuse io_uring: the errno, its number, and the system calls that fail with it.
///
/// A container's filter forbids io_uring. A sandbox that brings its own kernel, or an emulator, also lacks newer calls, of
/// which vyre-io uses these.
pub(crate) const ERRNOS: [(&str, u32, &[i64]); 2] = [
    ("EPERM", 1, &[libc::SYS_io_uring_setup]),
    ("ENOSYS", 38, &[libc::SYS_io_uring_setup, libc::SYS_preadv2, libc::SYS_pwritev2, libc::SYS_futex_waitv]),
];

/// Replaces this process by the command. The filter stays in force for it and its children.
pub(crate) fn exec(errno: &str, command: &[String]) -> Result<()> {
    let known = ERRNOS.iter().find(|(name, ..)| *name == errno);
    let (_, number, calls) = known.ok_or("give EPERM or ENOSYS")?;
    let (program, arguments) = command.split_first().ok_or("give a command")?;
    let denied: BTreeMap<_, _> = calls.iter().map(|&call| (call, Vec::new())).collect();
    let action = SeccompAction::Errno(*number);
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, action, arch)?;
    let filter: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&filter)?;
    Err(Command::new(program).args(arguments).exec().into())
}
