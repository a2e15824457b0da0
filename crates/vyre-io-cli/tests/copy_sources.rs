//! Tests of sources that change or whose size is wrong, and of the message at the end of a copy.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::process::{Denied, long_file, output_denied, send, stopped};
use common::{contents, copy, file, has_gpu, names, place, places, skipped, stderr, vyre_io};
use rustix::process::Signal;

const SMALL_BLOCKS: [&str; 5] = ["--no-sync", "--lanes", "1", "--block-size", "4k"];

#[test]
fn files_that_state_no_size_are_copied_to_their_end() {
    let dir = place();
    let dst = dir.path().join("dst");
    for src in [
        "/proc/sys/kernel/hostname",
        "/proc/version",
        "/proc/filesystems",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/kernel/uevent_seqnum",
    ] {
        let Ok(expected) = fs::read(src) else {
            skipped(&format!("no {src}"));
            continue;
        };
        for more in [
            &["--verify"][..],
            &["--direct", "--block-size", "4k"],
            &["--block-size", "3"],
        ] {
            let output = copy(Path::new(src), &dst, more);
            assert!(output.status.success(), "{}", stderr(&output));
            assert_eq!(fs::read(&dst).expect("dst"), expected, "{src} {more:?}");
            let says = format!(": {} bytes", expected.len());
            let report = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(report.contains(&says), "{report}");
        }
    }
}

#[test]
fn an_empty_file_is_still_empty_when_copied() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 0), dir.path().join("dst"));
    let output = copy(&src, &dst, &["--verify", "--direct"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::metadata(dst).expect("dst").len(), 0);
}

#[test]
fn holes_are_not_filled() {
    const LEN: u64 = 256 << 20;
    let gpu = has_gpu();
    for dir in places() {
        let (src, dst) = (dir.path().join("src"), dir.path().join("dst"));
        let sparse = File::create(&src).expect("room");
        for at in [0, 100 << 20, (200 << 20) + 12_345] {
            sparse.write_all_at(&contents(200_000), at).expect("room");
        }
        sparse.set_len(LEN).expect("room");
        let room = fs::metadata(&src).expect("src").blocks();
        for (more, denied) in [
            (&["--verify"][..], &[][..]),
            (&["--direct", "--verify"], &[]),
            (&["--verify"], &[Denied::Lengths]),
            (
                &["--direct", "--no-sync"],
                &[Denied::Lengths, Denied::NamelessFiles],
            ),
            (&["--device", "cuda", "--verify"], &[]),
        ] {
            if more.contains(&"cuda") && !gpu {
                continue;
            }
            let output = output_denied(vyre_io().arg("copy").args([&src, &dst]).args(more), denied);
            assert!(
                output.status.success(),
                "{more:?} {denied:?}: {}",
                stderr(&output)
            );
            let about = fs::metadata(&dst).expect("dst");
            assert_eq!(about.len(), LEN);
            assert!(about.blocks() <= room + 64, "{} for {room}", about.blocks());
            let compared = Command::new("cmp").args([&src, &dst]).status();
            assert!(compared.expect("cmp").success(), "{more:?} {denied:?}");
        }
    }
}

#[test]
fn a_file_without_data_is_copied_as_one_hole() {
    const LEN: u64 = 64 << 20;
    for dir in places() {
        let (src, dst) = (dir.path().join("src"), dir.path().join("dst"));
        File::create(&src)
            .expect("room")
            .set_len(LEN)
            .expect("room");
        for more in [&[][..], &["--verify"]] {
            let output = copy(&src, &dst, more);
            assert!(output.status.success(), "{more:?}: {}", stderr(&output));
            let about = fs::metadata(&dst).expect("dst");
            assert_eq!((about.len(), about.blocks()), (LEN, 0), "{more:?}");
        }
    }
}

#[test]
fn a_file_system_that_sets_no_lengths_takes_copies_of_every_length() {
    for dir in places() {
        for len in [0, 1, 4097, 3_000_001] {
            let (src, dst) = (file(dir.path(), "src", len), dir.path().join("dst"));
            for more in [&[][..], &["--direct"]] {
                let mut command = vyre_io();
                command.arg("copy").args([&src, &dst]).args(more);
                let output = output_denied(&mut command, &[Denied::Lengths]);
                assert!(
                    output.status.success(),
                    "{len} {more:?}: {}",
                    stderr(&output)
                );
                assert_eq!(fs::read(&dst).expect("dst"), contents(len));
            }
        }
    }
}

/// Resumes a stopped copy, and waits for its end.
fn go_on(child: std::process::Child) -> Output {
    send(&child, Signal::CONT);
    child.wait_with_output().expect("ends")
}

#[test]
fn a_source_that_is_cut_ends_the_copy() {
    assert_cut_is_noticed(&[]);
}

#[test]
fn a_source_that_is_cut_ends_the_copy_by_a_gpu() {
    if has_gpu() {
        assert_cut_is_noticed(&["--device", "cuda"]);
    }
}

fn assert_cut_is_noticed(more: &[&str]) {
    let dir = place();
    let (src, dst) = (long_file(dir.path()), dir.path().join("dst"));
    let mut command = vyre_io();
    command.arg("copy").args([&src, &dst]).args(SMALL_BLOCKS);
    let child = stopped(command.args(more), dir.path(), &[]);
    let source = File::options().write(true).open(&src).expect("src");
    source.set_len(1).expect("cut");
    let output = go_on(child);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("changed while it was copied"),
        "{}",
        stderr(&output)
    );
    assert_eq!(names(dir.path()), ["src"]);
}

#[test]
fn a_source_that_grows_or_is_written_to_is_said_to() {
    const LEN: u64 = 16 << 20;
    let dir = place();
    let (src, dst) = (long_file(dir.path()), dir.path().join("dst"));
    let source = File::options().write(true).open(&src).expect("src");
    source.set_len(LEN).expect("shorter");
    for (at, says) in [(LEN + 1, "grew from 16777216 to"), (5, "was written to")] {
        let mut command = vyre_io();
        command.arg("copy").args([&src, &dst]).args(SMALL_BLOCKS);
        let child = stopped(&mut command, dir.path(), &[]);
        source.write_all_at(b"more", at).expect("room");
        let output = go_on(child);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
        assert_eq!(fs::metadata(&dst).expect("dst").len(), LEN);
        fs::remove_file(&dst).expect("dst");
        source.set_len(LEN).expect("as before");
    }
}

#[test]
fn a_file_that_another_process_made_meanwhile_is_not_replaced() {
    let dir = place();
    let (src, dst) = (long_file(dir.path()), dir.path().join("dst"));
    let source = File::options().write(true).open(&src).expect("src");
    source.set_len(16 << 20).expect("shorter");
    for denied in [&[][..], &[Denied::NamelessFiles]] {
        let mut command = vyre_io();
        command.arg("copy").args([&src, &dst]).args(SMALL_BLOCKS);
        let child = stopped(&mut command, dir.path(), denied);
        fs::write(&dst, "another's").expect("room");
        let output = go_on(child);
        let says = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{says}");
        assert!(
            says.contains("another process made a file of that name"),
            "{says}"
        );
        assert_eq!(fs::read(&dst).expect("dst"), b"another's");
        assert_eq!(names(dir.path()), ["dst", "src"]);
        fs::remove_file(&dst).expect("dst");
    }
}

/// Reads may fail with EAGAIN for good on some kernels if the flag is set.
#[test]
fn the_source_is_not_read_in_nonblocking_mode() {
    const NONBLOCK: u32 = 0o4000;
    let dir = place();
    let (src, dst) = (long_file(dir.path()), dir.path().join("dst"));
    let mut command = vyre_io();
    command.arg("copy").args([&src, &dst]).args(SMALL_BLOCKS);
    let mut child = stopped(&mut command, dir.path(), &[]);
    let root = format!("/proc/{}", child.id());
    let mut seen = 0;
    for fd in fs::read_dir(format!("{root}/fd")).expect("fds").flatten() {
        if fs::read_link(fd.path()).is_ok_and(|name| name == src) {
            let info = Path::new(&root).join("fdinfo").join(fd.file_name());
            let info = fs::read_to_string(info).expect("fdinfo");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.expect("flags").trim(), 8).expect("octal");
            assert_eq!(flags & NONBLOCK, 0, "{info}");
            seen += 1;
        }
    }
    child.kill().expect("a child");
    child.wait().expect("a child");
    assert!(seen > 0, "the source is open");
}

#[test]
fn a_sector_that_cannot_be_read_is_an_input_error() {
    let dir = place();
    let backing = file(dir.path(), "backing", 4 << 20);
    let losetup = Command::new("losetup")
        .args(["-f", "--show"])
        .arg(&backing)
        .output();
    let Some(device) = losetup.ok().filter(|output| output.status.success()) else {
        skipped("only root can make a loop device");
        return;
    };
    let device = String::from_utf8_lossy(&device.stdout).trim().to_owned();
    // Sectors past the end of the backing file cannot be read.
    let cut = File::options().write(true).open(&backing).expect("backing");
    cut.set_len((1 << 20) + 300_032).expect("cut");
    let dst = dir.path().join("dst");
    let outputs = [&[][..], &["--direct"]].map(|more| copy(Path::new(&device), &dst, more));
    let detached = Command::new("losetup").args(["-d", &device]).status();
    assert!(detached.is_ok_and(|status| status.success()));
    for output in outputs {
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let says = format!("cannot read {device}: Input/output error");
        assert!(stderr(&output).contains(&says), "{}", stderr(&output));
    }
    assert_eq!(names(dir.path()), ["backing"]);
}

#[test]
fn a_complete_copy_is_a_success_even_if_nobody_hears_of_it() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 10), dir.path().join("dst"));
    let full = || {
        File::options()
            .write(true)
            .open("/dev/full")
            .expect("/dev/full")
    };
    let (read, closed) = std::io::pipe().expect("a pipe");
    drop(read);
    for (stdout, errors, warns) in [
        (Stdio::from(full()), Stdio::piped(), true),
        (Stdio::from(full()), Stdio::from(full()), false),
        (Stdio::from(closed), Stdio::piped(), false),
    ] {
        let mut child = vyre_io();
        child
            .arg("copy")
            .args([&src, &dst])
            .stdout(stdout)
            .stderr(errors);
        let output = child
            .spawn()
            .expect("runs")
            .wait_with_output()
            .expect("ends");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(
            stderr(&output).contains("is complete"),
            warns,
            "{}",
            stderr(&output)
        );
        assert_eq!(fs::read(&dst).expect("dst"), contents(10));
        fs::remove_file(&dst).expect("dst");
    }
    let mut command = vyre_io();
    let output = command
        .arg("copy")
        .args([&src, &dst])
        .arg("--lanes")
        .arg("0");
    let status = output.stderr(full()).status().expect("runs");
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_directory_that_cannot_be_synced_is_a_warning() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 10), dir.path().join("dst"));
    let output = output_denied(vyre_io().arg("copy").args([&src, &dst]), &[Denied::Syncs]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("cannot sync directories"),
        "{}",
        stderr(&output)
    );
    assert_eq!(fs::read(&dst).expect("dst"), contents(10));
}

#[test]
fn a_limit_on_file_sizes_is_a_message_and_not_the_end() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 1 << 20), dir.path().join("dst"));
    for denied in [&[][..], &[Denied::Lengths]] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f 8; exec \"$0\" copy \"$@\""]);
        command
            .arg(env!("CARGO_BIN_EXE_vyre-io"))
            .args([&src, &dst]);
        let output = output_denied(&mut command, denied);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{:?} {}",
            output.status,
            stderr(&output)
        );
        assert!(
            stderr(&output).contains("File too large"),
            "{}",
            stderr(&output)
        );
        assert!(stderr(&output).contains("ulimit -f"), "{}", stderr(&output));
        assert_eq!(names(dir.path()), ["src"]);
    }
}

#[test]
fn standard_input_and_output_are_refused_in_words() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    for (src, dst) in [
        (&src, Path::new("-")),
        (&"-".into(), &dir.path().join("dst")),
    ] {
        let output = copy(src, dst, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("use `cat`"), "{}", stderr(&output));
    }
    let mut child = vyre_io()
        .arg("copy")
        .args([&src, Path::new("/dev/stdout")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    let mut out = String::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut out)
        .expect("text");
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
    assert!(
        stderr(&output).contains("not a regular file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_descriptor_s_link_is_not_replaced() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let out = dir.path().join("out");
    fs::write(&out, "old").expect("room");
    for dst in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let opened = File::options().append(true).open(&out).expect("there");
        let output = vyre_io()
            .arg("copy")
            .args([&src, Path::new(dst)])
            .stdout(opened)
            .stderr(Stdio::piped())
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(1), "{dst}: {}", stderr(&output));
        let says = "leads to an open descriptor";
        assert!(stderr(&output).contains(says), "{dst}: {}", stderr(&output));
        assert_eq!(fs::read(&out).expect("there"), b"old", "{dst}");
    }
    assert_eq!(names(dir.path()), ["out", "src"]);
}

#[test]
fn help_fits_the_terminal() {
    for command in ["copy", "bench", "doctor"] {
        let output = vyre_io()
            .args([command, "--help"])
            .env("COLUMNS", "60")
            .output()
            .expect("runs");
        let help = String::from_utf8(output.stdout).expect("text");
        assert!(help.lines().count() > 10, "{help}");
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(60), "{longest:?}: {help}");
    }
}

#[test]
fn names_are_shown_so_that_a_terminal_does_not_act_on_them() {
    let dir = place();
    let name = std::ffi::OsStr::from_bytes(b"a\x1b[31m\n\xff");
    let src = dir.path().join(name);
    File::create(&src)
        .and_then(|mut file| file.write_all(b"x"))
        .expect("room");
    for (dst, status) in [(dir.path().join("dst"), 0), (dir.path().join("no/dst"), 1)] {
        let output = copy(&src, &dst, &[]);
        assert_eq!(output.status.code(), Some(status));
        for shown in [&output.stdout, &output.stderr] {
            assert!(!shown.contains(&0x1b), "{output:?}");
            assert!(
                shown.iter().filter(|byte| **byte == b'\n').count() <= 1,
                "{output:?}"
            );
        }
        if status == 0 {
            let report = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(report.contains("a\\x1b[31m\\n\\xff'"), "{report}");
        }
    }
    let output = copy(&src.join("in"), &dir.path().join("dst"), &[]);
    assert!(
        stderr(&output).contains("a\\x1b[31m\\n\\xff/in'"),
        "{}",
        stderr(&output)
    );
}
