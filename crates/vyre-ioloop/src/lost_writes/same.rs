//! Comparison of descriptors: whether two name one open file description.
#![expect(
    unsafe_code,
    reason = "no safe crate has kcmp(2), which compares two descriptors"
)]

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// `F_DUPFD_QUERY`, from Linux 6.10 on.
const DUPFD_QUERY: libc::c_int = 1027;

/// `KCMP_FILE`, of `kcmp(2)`.
const KCMP_FILE: libc::c_int = 0;

/// Returns whether two descriptors are duplicates, so that the kernel reports errors to both as one.
/// `None` if the kernel does not say.
pub(super) fn is_same_description(one: &OwnedFd, other: &OwnedFd) -> Option<bool> {
    let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
    by_query(one, other).or_else(|| by_comparison(one, other))
}

fn by_query(one: RawFd, other: RawFd) -> Option<bool> {
    // SAFETY: this command takes a descriptor and reads no memory. Whatever the numbers name, it
    // changes nothing.
    match unsafe { libc::fcntl(one, DUPFD_QUERY, other) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Compares by kcmp(2), which needs CONFIG_KCMP and may be forbidden in a sandbox.
fn by_comparison(one: RawFd, other: RawFd) -> Option<bool> {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: this type of comparison takes two descriptors and reads no memory of the process.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, process, process, KCMP_FILE, one, other) };
    match order {
        0 => Some(true),
        1..=3 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn duplicates_are_told_from_what_was_opened_again() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let again = OwnedFd::from(File::open(file.path()).expect("it opens"));
        let file = OwnedFd::from(file.into_file());
        let duplicate = file.try_clone().expect("a descriptor");
        assert_ne!(is_same_description(&file, &again), Some(true));
        assert_ne!(is_same_description(&file, &duplicate), Some(false));
        let (one, other) = (file.as_raw_fd(), again.as_raw_fd());
        // Neither may say what the other denies, where there are both.
        for how in [by_query, by_comparison] {
            assert!(how(one, other).is_none_or(|same| !same));
            assert!(how(one, duplicate.as_raw_fd()).is_none_or(|same| same));
        }
    }
}
