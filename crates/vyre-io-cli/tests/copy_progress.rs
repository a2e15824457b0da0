//! Tests of the bar that `vyre-io copy` draws on a terminal.

mod common;

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread;

use anstream::adapter::strip_str;
use common::{file, place, vyre_io};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Runs a copy on a terminal of that many columns. Returns the lines that it drew, without cursor
/// movements.
fn drawn(columns: u16, more: &[&str]) -> Vec<String> {
    let dir = place();
    let src = file(dir.path(), "src", 1 << 20);
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::openpt(flags).expect("a terminal");
    rustix::pty::grantpt(&terminal).expect("a terminal");
    rustix::pty::unlockpt(&terminal).expect("a terminal");
    let size = Winsize {
        ws_row: 15,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&terminal, size).expect("a terminal");
    let end: OwnedFd = rustix::pty::ioctl_tiocgptpeer(&terminal, flags).expect("a terminal");
    let mut command = vyre_io();
    command.arg("copy").args([&src, &dir.path().join("dst")]);
    command
        .args(["--lanes", "1", "--block-size", "4k", "--verify"])
        .args(more);
    let mut child = command
        .env("TERM", "xterm")
        .stderr(end)
        .stdout(Stdio::null())
        .spawn()
        .expect("runs");
    drop(command);
    let reader = thread::spawn(move || {
        let (mut all, mut terminal) = (Vec::new(), File::from(terminal));
        // The end of the last process that has it open is an error.
        let mut part = [0; 4096];
        while let Ok(len @ 1..) = terminal.read(&mut part) {
            all.extend(&part[..len]);
        }
        all
    });
    assert!(child.wait().expect("ends").success());
    let all = reader.join().expect("no panic");
    let text = String::from_utf8(all).expect("UTF-8");
    text.split(['\r', '\n'])
        .map(|line| strip_str(line).to_string())
        .filter(|line| !line.trim().is_empty())
        .collect()
}

#[test]
fn the_bar_fits_and_names_its_phase() {
    for columns in [80, 40] {
        let lines = drawn(columns, &[]);
        for line in &lines {
            assert!(
                line.chars().count() <= columns.into(),
                "{columns}: {line:?}"
            );
        }
        let of_phase = |phase| lines.iter().find(|line| line.starts_with(phase));
        for (phase, from) in [("copy ", "  0%"), ("sync ", ""), ("verify ", "  0%")] {
            let first = of_phase(phase).unwrap_or_else(|| panic!("{phase}: {lines:#?}"));
            assert!(first.contains(from), "{first:?}");
        }
        assert_eq!(
            of_phase("copy ").map(|line| line.chars().count()),
            Some(columns.into())
        );
    }
}
