//! Runs a command where io_uring is refused, as containers do by default.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::workspace::Result;

/// `io_uring_setup`, by its number on every architecture with a common table of system calls.
const IO_URING_SETUP: i64 = 425;

/// Errnos with which kernels and sandboxes refuse io_uring.
pub(crate) const ERRNOS: [(&str, u32); 2] = [("EPERM", 1), ("ENOSYS", 38)];

/// Replaces this process by the command. The filter stays in force for it and its children.
pub(crate) fn exec(errno: &str, command: &[String]) -> Result<()> {
    let known = ERRNOS.iter().find(|(name, _)| *name == errno);
    let (_, number) = known.ok_or("give EPERM or ENOSYS")?;
    let (program, arguments) = command.split_first().ok_or("give a command")?;
    let denied = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
    let action = SeccompAction::Errno(*number);
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, action, arch)?;
    let filter: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&filter)?;
    Err(Command::new(program).args(arguments).exec().into())
}
