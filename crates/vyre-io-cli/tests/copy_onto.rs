//! Tests of `vyre-io copy` onto an existing file, and of what it refuses early.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::process::{Denied, NOBODY, Nobody, output_denied};
use common::{contents, copy, file, names, place, places, skipped, stderr, vyre_io};
use rustix::fs::{IFlags, XattrFlags};

const ACL: &str = "system.posix_acl_access";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own file");
}

fn assert_refused(output: &Output, says: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert!(stderr(output).contains(says), "{}", stderr(output));
    assert_eq!(stderr(output).lines().count(), 1, "{}", stderr(output));
}

/// Returns a source that cannot be read. A copy that fails with another message was refused before
/// the first read.
fn unreadable() -> PathBuf {
    PathBuf::from("/proc/self/mem")
}

#[test]
fn the_mode_of_a_replaced_file_is_kept() {
    for dir in places() {
        for denied in [&[][..], &[Denied::NamelessFiles]] {
            let (src, dst) = (file(dir.path(), "src", 10), file(dir.path(), "dst", 20));
            set_mode(&src, 0o644);
            for mode in [0o600, 0o666, 0o200, 0o1777] {
                set_mode(&dst, mode);
                let output = output_denied(vyre_io().arg("copy").args([&src, &dst]), denied);
                assert!(output.status.success(), "{}", stderr(&output));
                let about = fs::metadata(&dst).expect("dst");
                assert_eq!((about.mode() & 0o7777, about.len()), (mode, 10));
            }
            // What a program may do does not pass to other bytes.
            set_mode(&dst, 0o4755);
            assert!(copy(&src, &dst, &[]).status.success());
            assert_eq!(fs::metadata(&dst).expect("dst").mode() & 0o7777, 0o755);
            assert_eq!(names(dir.path()), ["dst", "src"]);
        }
    }
}

#[test]
fn the_owner_and_the_attributes_of_a_replaced_file_are_kept() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can give files away");
        return;
    }
    for denied in [&[][..], &[Denied::NamelessFiles]] {
        let dir = place();
        let (src, dst) = (file(dir.path(), "src", 10), file(dir.path(), "dst", 20));
        chown(&dst, Some(NOBODY), Some(NOBODY - 1)).expect("root");
        set_mode(&dst, 0o640);
        // Version 2; the owner rw, user 1 r, the group nothing, the mask r, others nothing.
        let mut acl = vec![2, 0, 0, 0];
        for (tag, rights, id) in [
            (1_u16, 6_u16, u32::MAX),
            (2, 4, 1),
            (4, 0, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ] {
            acl.extend(tag.to_le_bytes());
            acl.extend(rights.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        for (name, value) in [(ACL, &acl[..]), ("user.colour", b"red")] {
            if let Err(errno) = rustix::fs::setxattr(&dst, name, value, XattrFlags::empty()) {
                skipped(&format!("the file system has no {name}: {errno}"));
                return;
            }
        }
        let output = output_denied(vyre_io().arg("copy").args([&src, &dst]), denied);
        assert!(output.status.success(), "{}", stderr(&output));
        let about = fs::metadata(&dst).expect("dst");
        assert_eq!((about.uid(), about.gid()), (NOBODY, NOBODY - 1));
        assert_eq!((about.mode() & 0o7777, about.len()), (0o640, 10));
        for (name, value) in [(ACL, &acl[..]), ("user.colour", b"red")] {
            let mut found = [0; 100];
            let len = rustix::fs::getxattr(&dst, name, &mut found[..]).expect(name);
            assert_eq!(&found[..len], value, "{name}");
        }
    }
}

#[test]
fn another_name_of_a_replaced_file_is_not_left_behind_unasked() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 10), file(dir.path(), "dst", 20));
    let other = dir.path().join("other");
    fs::hard_link(&dst, &other).expect("a link");
    assert_refused(&copy(&unreadable(), &dst, &[]), "hard links");
    assert_refused(&copy(&src, &dst, &[]), "--replace");
    assert_eq!(fs::read(&dst).expect("dst"), contents(20));
    assert!(copy(&src, &dst, &["--replace"]).status.success());
    assert_eq!(fs::read(&dst).expect("dst"), contents(10));
    assert_eq!(fs::read(&other).expect("other"), contents(20));
}

#[test]
fn a_file_that_is_write_protected_or_another_user_s_is_not_replaced_unasked() {
    let Some(nobody) = Nobody::new() else { return };
    let dir = nobody.dir.path();
    let (src, dst) = (file(dir, "src", 10), file(dir, "dst", 20));
    set_mode(&dst, 0o444);
    assert_refused(&nobody.copy(&unreadable(), &dst, &[]), "write-protected");
    set_mode(&dst, 0o666);
    assert_refused(
        &nobody.copy(&unreadable(), &dst, &[]),
        "its owner 0:0 cannot be kept",
    );
    assert_eq!(fs::read(&dst).expect("dst"), contents(20));
    // Replaced all the same, it gives nobody more rights than it did.
    set_mode(&dst, 0o664);
    let output = nobody.copy(&src, &dst, &["--replace"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let about = fs::metadata(&dst).expect("dst");
    assert_eq!((about.uid(), about.mode() & 0o777), (NOBODY, 0o644));
    assert_eq!(fs::read(&dst).expect("dst"), contents(10));
}

#[test]
fn a_sticky_directory_is_respected_before_bytes_are_moved() {
    let Some(nobody) = Nobody::new() else { return };
    let dst = file(nobody.dir.path(), "dst", 20);
    set_mode(&dst, 0o666);
    set_mode(nobody.dir.path(), 0o1777);
    for more in [&[][..], &["--replace"]] {
        assert_refused(&nobody.copy(&unreadable(), &dst, more), "sticky");
    }
    assert_eq!(names(nobody.dir.path()), ["dst", "vyre-io"]);
}

#[test]
fn a_directory_that_may_not_be_read_takes_a_copy() {
    let Some(nobody) = Nobody::new() else { return };
    let src = file(nobody.dir.path(), "src", 10);
    let dir = nobody.dir.path().join("in");
    fs::create_dir(&dir).expect("room");
    set_mode(&dir, 0o333);
    let output = nobody.copy(&src, &dir.join("dst"), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let output = nobody.copy(&src, &dir.join("dst"), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(names(&dir), ["dst"]);
}

#[test]
fn a_directory_that_may_not_be_written_to_is_named() {
    let Some(nobody) = Nobody::new() else { return };
    let dir = nobody.dir.path().join("in");
    fs::create_dir(&dir).expect("room");
    let dst = file(&dir, "dst", 20);
    set_mode(&dst, 0o666);
    for dst in [&dst, &dir.join("new")] {
        let output = nobody.copy(&unreadable(), dst, &["--replace"]);
        assert_refused(
            &output,
            &format!("the directory {} is not writable", dir.display()),
        );
    }
}

/// Refuses direct writes as a file system without direct I/O does, with and without nameless files.
#[test]
fn a_refused_direct_write_is_a_buffered_one() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 5000), dir.path().join("dst"));
    for denied in [
        &[Denied::Direct][..],
        &[Denied::Direct, Denied::NamelessFiles],
    ] {
        let mut command = vyre_io();
        command.args(["copy", "--direct"]).args([&src, &dst]);
        let output = output_denied(&mut command, denied);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("using buffered I/O"),
            "{}",
            stderr(&output)
        );
        assert_eq!(fs::read(&dst).expect("dst"), contents(5000));
        assert_eq!(names(dir.path()), ["dst", "src"]);
    }
}

#[test]
fn immutable_files_and_mount_points_are_refused_before_bytes_are_moved() {
    let dir = place();
    let dst = file(dir.path(), "dst", 20);
    let open = fs::File::open(&dst).expect("dst");
    for (flag, says) in [
        (IFlags::IMMUTABLE, "immutable"),
        (IFlags::APPEND, "append-only"),
    ] {
        if let Err(errno) = rustix::fs::ioctl_setflags(&open, flag) {
            skipped(&format!("no file can be made immutable here: {errno}"));
            return;
        }
        let output = copy(&unreadable(), &dst, &["--replace"]);
        rustix::fs::ioctl_setflags(&open, IFlags::empty()).expect("as before");
        assert_refused(&output, says);
    }
    let in_it = fs::File::open(dir.path()).expect("a directory");
    rustix::fs::ioctl_setflags(&in_it, IFlags::IMMUTABLE).expect("as before");
    let output = copy(&unreadable(), &dir.path().join("new"), &[]);
    rustix::fs::ioctl_setflags(&in_it, IFlags::empty()).expect("as before");
    assert_refused(&output, "its directory is immutable");

    let mount = |args: &[&Path]| Command::new("mount").arg("--bind").args(args).status();
    let over = file(dir.path(), "over", 5);
    assert!(mount(&[&over, &dst]).is_ok_and(|status| status.success()));
    let output = copy(&unreadable(), &dst, &["--replace"]);
    let unmounted = Command::new("umount").arg(&dst).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_refused(&output, "mount point");
}

#[test]
fn names_that_cannot_be_given_are_refused_before_bytes_are_moved() {
    let dir = place();
    let dst = file(dir.path(), "dst", 20);
    let refused = |dst: &Path, says: &str| assert_refused(&copy(&unreadable(), dst, &[]), says);
    let slashed = |name: &str| PathBuf::from(format!("{}/{name}", dir.path().display()));
    refused(&slashed("new/"), "no such directory");
    refused(&slashed("new/."), "no such directory");
    refused(&slashed("dst/"), "a file, not a directory");
    refused(&slashed("new/.."), "names no file");
    refused(&slashed("dst/in"), "Not a directory");
    refused(&dir.path().join("n".repeat(256)), "File name too long");
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).expect("a link");
    refused(
        &dangling,
        "a symbolic link to nowhere, which does not exist",
    );
    refused(Path::new("/dev/null"), "not a regular file");
    assert_eq!(fs::read(&dst).expect("dst"), contents(20));
    assert_eq!(names(dir.path()), ["dangling", "dst"]);
}

#[test]
fn a_long_name_is_given_and_given_again() {
    for dir in places() {
        let src = file(dir.path(), "src", 10);
        for denied in [&[][..], &[Denied::NamelessFiles]] {
            let dst = dir.path().join("n".repeat(255));
            for _ in 0..2 {
                let output = output_denied(vyre_io().arg("copy").args([&src, &dst]), denied);
                assert!(output.status.success(), "{}", stderr(&output));
            }
            fs::remove_file(&dst).expect("dst");
            assert_eq!(names(dir.path()), ["src"]);
        }
    }
}

#[test]
fn a_file_is_named_without_links_and_without_proc() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 10), dir.path().join("dst"));
    for _ in 0..2 {
        let output = output_denied(vyre_io().arg("copy").args([&src, &dst]), &[Denied::Links]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(names(dir.path()), ["dst", "src"]);
    }
    fs::remove_file(&dst).expect("dst");
    let script = "umount -l /proc && exec \"$0\" copy \"$@\"";
    for denied in [&[][..], &[], &[Denied::AuxiliaryVector]] {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_vyre-io")])
            .args([&src, &dst]);
        let output = output_denied(&mut command, denied);
        if stderr(&output).contains("unshare") {
            skipped(&format!("there is no name space without /proc: {output:?}"));
            return;
        }
        assert!(output.status.success(), "{denied:?}: {}", stderr(&output));
        assert_eq!(names(dir.path()), ["dst", "src"]);
    }
}
