//! The machine and this process: whether io_uring may be used, and how much memory may be pinned.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::{Resource, getegid, getgroups, getrlimit};
use rustix::system::uname;
use rustix::thread::{CapabilitySet, capabilities};
use vyre_io::uring::SetupError;

use super::report::{Finding, Memlock, Seccomp};
use super::units::bytes;

/// The inode of the first user namespace (`PROC_USER_INIT_INO`). The kernel checks capabilities there:
/// those of a container's own namespace permit neither io_uring nor more locked memory.
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

/// The limit below which a pool of typical size does not fit.
const SMALL_MEMLOCK: u64 = 64 << 20;

/// The settings that determine whether io_uring may be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate {
    /// `kernel.io_uring_disabled`.
    pub(super) disabled: Option<u32>,
    /// `kernel.io_uring_group`.
    pub(super) group: Option<i64>,
    pub(super) seccomp: Seccomp,
    in_group: bool,
    admin: bool,
}

/// The setting that forbids a ring, and how to change it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forbidden {
    pub(super) by: String,
    pub(super) advice: String,
}

pub(super) fn kernel() -> String {
    let name = uname();
    [name.sysname(), name.release(), name.machine()]
        .map(|part| part.to_string_lossy())
        .join(" ")
}

impl Gate {
    pub(super) fn read() -> Self {
        let group = sysctl("io_uring_group");
        Self {
            disabled: sysctl("io_uring_disabled"),
            group,
            seccomp: fs::read_to_string("/proc/self/status")
                .map_or(Seccomp::Unknown, |status| parse_seccomp(&status)),
            in_group: group.is_some_and(is_member),
            admin: has_capability(CapabilitySet::SYS_ADMIN),
        }
    }

    /// Returns the setting that caused an error of the set-up; `None` if nothing forbids a ring.
    pub(super) fn forbidden_by(&self, error: SetupError) -> Option<Forbidden> {
        let filter = self.seccomp == Seccomp::Filter;
        let (by, advice) = match error {
            SetupError::Forbidden => match self.disabled {
                Some(2) => (
                    "sysctl kernel.io_uring_disabled=2".to_owned(),
                    "as root: sysctl -w kernel.io_uring_disabled=0".to_owned(),
                ),
                Some(1) if !self.admin && !self.in_group => self.closed_to_us(),
                _ if filter => ("a seccomp filter".to_owned(), seccomp_advice()),
                _ => (
                    "a security module (SELinux or another)".to_owned(),
                    "look for the denial in the audit log and allow io_uring to this program"
                        .to_owned(),
                ),
            },
            // The sysctl is there only if the kernel was built with io_uring.
            SetupError::Unavailable if filter || self.disabled.is_some() => (
                "a seccomp filter or sandbox that hides it".to_owned(),
                seccomp_advice(),
            ),
            SetupError::Unavailable => (
                "the kernel, which has no io_uring (ENOSYS)".to_owned(),
                "use Linux 5.10 or later built with CONFIG_IO_URING, outside sandboxes such as gVisor"
                    .to_owned(),
            ),
            SetupError::Trial(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => (
                "a seccomp filter, on io_uring_enter".to_owned(),
                seccomp_advice(),
            ),
            _ => return None,
        };
        Some(Forbidden { by, advice })
    }

    fn closed_to_us(&self) -> (String, String) {
        match self.group {
            Some(group @ 0..) => (
                format!("sysctl kernel.io_uring_disabled=1, except for group {group}"),
                format!(
                    "run in group {group} (newgrp, or SupplementaryGroups= in systemd), or as \
                     root: sysctl -w kernel.io_uring_disabled=0"
                ),
            ),
            _ => (
                "sysctl kernel.io_uring_disabled=1".to_owned(),
                "as root: sysctl -w kernel.io_uring_disabled=0, or kernel.io_uring_group=GID for \
                 one group"
                    .to_owned(),
            ),
        }
    }

    /// Returns a finding if this process may use io_uring but others may not.
    pub(super) fn finding(&self) -> Option<Finding> {
        (self.disabled == Some(1)).then(|| {
            let (by, advice) = self.closed_to_us();
            Finding::note(
                format!("io_uring is open to this process, but closed to others by {by}"),
                format!("for others: {advice}"),
            )
        })
    }
}

pub(super) fn seccomp_advice() -> String {
    "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile (Docker and \
     Podman: --security-opt seccomp=PROFILE.json)"
        .to_owned()
}

fn sysctl<T: FromStr>(name: &str) -> Option<T> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?;
    parse_sysctl(&text)
}

fn parse_sysctl<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

fn parse_seccomp(status: &str) -> Seccomp {
    let mode = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .map(str::trim);
    match mode {
        Some("0") => Seccomp::Off,
        Some("1") => Seccomp::Strict,
        Some("2") => Seccomp::Filter,
        _ => Seccomp::Unknown,
    }
}

fn is_member(group: i64) -> bool {
    let Ok(group) = u32::try_from(group) else {
        return false;
    };
    getegid().as_raw() == group
        || getgroups().is_ok_and(|groups| groups.iter().any(|other| other.as_raw() == group))
}

fn has_capability(capability: CapabilitySet) -> bool {
    let first = fs::read_link("/proc/self/ns/user")
        .is_ok_and(|namespace| namespace.as_os_str() == FIRST_USER_NAMESPACE);
    first && capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

pub(super) fn memlock() -> Memlock {
    let limit = getrlimit(Resource::Memlock);
    Memlock {
        soft: limit.current,
        hard: limit.maximum,
        exempt: has_capability(CapabilitySet::IPC_LOCK),
    }
}

impl Memlock {
    /// Returns the limit in words, such as "soft 8 MiB, hard unlimited".
    pub(super) fn describe(&self) -> String {
        let word = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), bytes);
        let exempt = if self.exempt {
            "; CAP_IPC_LOCK exempts this process"
        } else {
            ""
        };
        format!("soft {}, hard {}{exempt}", word(self.soft), word(self.hard))
    }

    /// Returns how to raise the limit.
    pub(super) fn advice(&self) -> String {
        let more = match self.hard {
            _ if self.soft == self.hard => None,
            None => Some("ulimit -l unlimited".to_owned()),
            Some(hard) => Some(format!("ulimit -l {} in this shell", hard / 1024)),
        };
        let lasting = "raise RLIMIT_MEMLOCK: LimitMEMLOCK=infinity (systemd), --ulimit \
                       memlock=-1 (Docker), or /etc/security/limits.conf";
        more.map_or_else(
            || lasting.to_owned(),
            |more| format!("{more}, or {lasting}"),
        )
    }

    /// Returns a finding about the limit, if it applies.
    pub(super) fn finding(&self) -> Option<Finding> {
        let soft = self.soft.filter(|_| !self.exempt)?;
        let what = format!(
            "RLIMIT_MEMLOCK lets the user's processes pin {} in all; buffers past that take plain \
             transfers",
            bytes(soft)
        );
        Some(if soft < SMALL_MEMLOCK {
            Finding::cost(what, self.advice())
        } else {
            Finding::note(what, self.advice())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Level;

    const OPEN: Gate = Gate {
        disabled: Some(0),
        group: Some(-1),
        seccomp: Seccomp::Off,
        in_group: false,
        admin: false,
    };

    fn by(gate: Gate, error: SetupError) -> String {
        gate.forbidden_by(error).unwrap().by
    }

    #[test]
    fn sysctls_are_numbers_with_a_line_end() {
        assert_eq!(parse_sysctl("2\n"), Some(2_u32));
        assert_eq!(parse_sysctl("-1\n"), Some(-1_i64));
        assert_eq!(parse_sysctl::<u32>("-1\n"), None);
        assert_eq!(parse_sysctl::<u32>(""), None);
    }

    #[test]
    fn the_seccomp_mode_is_found_among_the_others() {
        let status = "Name:\tx\nNoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(parse_seccomp(status), Seccomp::Filter);
        assert_eq!(parse_seccomp("Seccomp:\t0\n"), Seccomp::Off);
        assert_eq!(parse_seccomp("Seccomp_filters:\t1\n"), Seccomp::Unknown);
    }

    #[test]
    fn the_sysctl_is_blamed_before_a_filter() {
        let gate = Gate {
            disabled: Some(2),
            seccomp: Seccomp::Filter,
            ..OPEN
        };
        assert!(by(gate, SetupError::Forbidden).contains("io_uring_disabled=2"));
    }

    #[test]
    fn half_closed_is_blamed_only_on_those_outside() {
        let gate = Gate {
            disabled: Some(1),
            group: Some(77),
            ..OPEN
        };
        let forbidden = gate.forbidden_by(SetupError::Forbidden).unwrap();
        assert!(forbidden.by.contains("group 77"), "{forbidden:?}");
        assert!(forbidden.advice.contains("newgrp"), "{forbidden:?}");
        for inside in [
            Gate {
                in_group: true,
                ..gate
            },
            Gate {
                admin: true,
                ..gate
            },
        ] {
            assert!(by(inside, SetupError::Forbidden).contains("security module"));
            assert_eq!(inside.finding().unwrap().level, Level::Note);
        }
    }

    #[test]
    fn a_filter_is_blamed_where_the_kernel_could() {
        let filtered = Gate {
            seccomp: Seccomp::Filter,
            ..OPEN
        };
        assert_eq!(by(filtered, SetupError::Forbidden), "a seccomp filter");
        assert!(by(OPEN, SetupError::Unavailable).contains("hides it"));
        let old = Gate {
            disabled: None,
            ..OPEN
        };
        assert!(by(old, SetupError::Unavailable).contains("no io_uring"));
        assert!(by(OPEN, SetupError::Trial(Errno::PERM)).contains("io_uring_enter"));
    }

    #[test]
    fn want_of_resources_is_nobodys_order() {
        for error in [
            SetupError::NoMemory,
            SetupError::NoDescriptors,
            SetupError::Trial(Errno::IO),
        ] {
            assert_eq!(OPEN.forbidden_by(error), None);
        }
    }

    #[test]
    fn a_limit_is_put_into_words_and_weighed() {
        let small = Memlock {
            soft: Some(8 << 20),
            hard: None,
            exempt: false,
        };
        assert_eq!(small.describe(), "soft 8 MiB, hard unlimited");
        assert_eq!(small.finding().unwrap().level, Level::Cost);
        assert!(small.advice().starts_with("ulimit -l unlimited"));
        let exempt = Memlock {
            exempt: true,
            ..small
        };
        assert!(exempt.describe().ends_with("exempts this process"));
        assert_eq!(exempt.finding(), None);
        let large = Memlock {
            soft: Some(1 << 40),
            hard: Some(1 << 40),
            exempt: false,
        };
        assert_eq!(large.finding().unwrap().level, Level::Note);
        assert!(large.advice().starts_with("raise RLIMIT_MEMLOCK"));
        let unlimited = Memlock {
            soft: None,
            hard: None,
            exempt: false,
        };
        assert_eq!(unlimited.finding(), None);
    }
}
