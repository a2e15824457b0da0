//! Tests of copies that are ended early: DST is absent, old or complete, and nothing is left except
//! files that the next copy removes.
//!
//! `VYRE_IO_KILLS=200` ends that many copies with each signal, in each of the situations. The
//! default is a few.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::process::{Denied, NOBODY, long_file, send, spawn_denied, stopped, wait_for};
use common::{contents, copy, file, names, place, places, stderr, vyre_io};
use rustix::fs::FlockOperation;
use rustix::process::Signal;

const SIGNALS: [Signal; 4] = [Signal::KILL, Signal::INT, Signal::TERM, Signal::HUP];

/// Returns whether a copy may leave a file of that name.
fn is_hidden(name: &str) -> bool {
    name.strip_prefix(".vyre-io-")
        .is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn end(child: Child, signal: Signal) -> Output {
    send(&child, signal);
    // A stopped process sees other signals when it goes on.
    send(&child, Signal::CONT);
    child.wait_with_output().expect("ends")
}

/// Copies until nothing is left of the copies that were killed. The kernel holds the files of a
/// killed process, and their locks, until it has ended its requests.
fn copy_until_clean(src: &Path, dst: &Path) {
    wait_for("directory without leftovers", || {
        let output = copy(src, dst, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        (names(dst.parent().expect("a directory")) == ["dst", "small", "src"]).then_some(())
    });
}

#[test]
fn signals_remove_the_hidden_file_and_end_the_process() {
    for dir in places() {
        let (src, dst) = (long_file(dir.path()), dir.path().join("dst"));
        for signal in SIGNALS {
            let mut command = vyre_io();
            command.arg("copy").args([&src, &dst]);
            let child = stopped(&mut command, dir.path(), &[Denied::NamelessFiles]);
            assert!(names(dir.path()).iter().any(|name| is_hidden(name)));
            let output = end(child, signal);
            assert_eq!(output.status.signal(), Some(signal.as_raw()), "{output:?}");
            let mut left = names(dir.path());
            if signal == Signal::KILL {
                left.retain(|name| !is_hidden(name));
            }
            assert_eq!(left, ["src"], "{signal:?}");
            if signal == Signal::KILL {
                // The next copy removes what was left.
                let small = file(dir.path(), "small", 1);
                copy_until_clean(&small, &dst);
                fs::remove_file(&dst).expect("dst");
                fs::remove_file(&small).expect("small");
            }
        }
    }
}

/// Ignores the signal as `nohup` does.
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let dir = place();
    let (src, dst) = (long_file(dir.path()), dir.path().join("dst"));
    File::options()
        .write(true)
        .open(&src)
        .and_then(|file| file.set_len(16 << 20))
        .expect("src");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" copy \"$@\" --block-size 4k"]);
    command
        .arg(env!("CARGO_BIN_EXE_vyre-io"))
        .args([&src, &dst]);
    let child = stopped(&mut command, dir.path(), &[]);
    let output = end(child, Signal::HUP);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn only_abandoned_files_of_the_same_user_are_removed() {
    let dir = place();
    let hidden = |digit: &str| format!(".vyre-io-{}", digit.repeat(16));
    let src = file(dir.path(), "src", 10);
    let left = file(dir.path(), &hidden("a"), 5);
    fs::set_permissions(&left, fs::Permissions::from_mode(0o600)).expect("own");
    let locked = File::open(file(dir.path(), &hidden("b"), 5)).expect("locked");
    rustix::fs::flock(&locked, FlockOperation::NonBlockingLockExclusive).expect("a lock");
    let mut expected = vec![hidden("b"), ".vyre-io-00".into(), hidden("A")];
    file(dir.path(), ".vyre-io-00", 5);
    file(dir.path(), &hidden("A"), 5);
    fs::create_dir(dir.path().join(hidden("c"))).expect("room");
    std::os::unix::fs::symlink("src", dir.path().join(hidden("d"))).expect("a link");
    expected.extend([hidden("c"), hidden("d"), "dst".into(), "src".into()]);
    let other = file(dir.path(), &hidden("e"), 5);
    if chown(&other, Some(NOBODY), None).is_ok() {
        expected.push(hidden("e"));
    }
    let output = copy(&src, &dir.path().join("dst"), &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    expected.sort();
    assert_eq!(names(dir.path()), expected);
}

/// State of the directory when a copy is ended.
#[derive(Clone, Copy, Debug)]
struct Situation {
    nameless: bool,
    replaces: bool,
}

const LEN: usize = 6 << 20;
const OLD: usize = 1000;

struct Ended<'a> {
    dir: &'a Path,
    src: PathBuf,
    dst: PathBuf,
    situation: Situation,
}

impl Ended<'_> {
    fn start(&self) -> Child {
        if self.situation.replaces {
            file(self.dir, "dst", OLD);
        } else {
            let _ = fs::remove_file(&self.dst);
        }
        let mut command = vyre_io();
        command
            .arg("copy")
            .args([&self.src, &self.dst])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let denied: &[_] = match self.situation.nameless {
            true => &[],
            false => &[Denied::NamelessFiles],
        };
        spawn_denied(&mut command, denied)
    }

    /// Returns the time that an undisturbed copy takes.
    fn measure(&self) -> Duration {
        let begun = Instant::now();
        let status = self.start().wait().expect("ends");
        assert!(status.success(), "{:?}", self.situation);
        begun.elapsed()
    }

    /// Ends a copy after some time. Returns whether DST is complete.
    fn run(&self, signal: Signal, after: Duration, expected: &[u8]) -> bool {
        // Of copies that were killed; this one may remove them.
        let before = names(self.dir);
        let mut child = self.start();
        thread::sleep(after);
        send(&child, signal);
        let status = child.wait().expect("ends");
        let (situation, dst) = (self.situation, fs::read(&self.dst).ok());
        let complete = dst.as_deref() == Some(expected);
        let old = situation.replaces.then(|| contents(OLD));
        assert!(complete || dst == old, "{situation:?} {signal:?} {after:?}");
        if status.success() {
            assert!(complete, "{situation:?} {signal:?} {after:?}");
        }
        let mut left = names(self.dir);
        left.retain(|name| name != "dst" && !before.contains(name));
        if signal == Signal::KILL {
            left.retain(|name| !is_hidden(name));
        }
        assert_eq!(left, [""; 0], "{situation:?} {signal:?} {after:?}");
        complete
    }
}

#[test]
fn ended_at_any_time_dst_is_absent_old_or_complete() {
    let times = std::env::var("VYRE_IO_KILLS")
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(4_u32);
    for dir in places() {
        let expected = contents(LEN);
        for (nameless, replaces) in [(true, false), (true, true), (false, false), (false, true)] {
            let ended = Ended {
                dir: dir.path(),
                src: file(dir.path(), "src", LEN),
                dst: dir.path().join("dst"),
                situation: Situation { nameless, replaces },
            };
            let whole = ended.measure() * 6 / 5;
            for signal in SIGNALS {
                let complete = (0..times)
                    .filter(|time| ended.run(signal, whole * *time / times, &expected))
                    .count();
                println!(
                    "{:?} {signal:?}: {complete} of {times} copies were complete",
                    ended.situation
                );
            }
            // The next copy, of whatever, removes what SIGKILL left.
            let small = file(dir.path(), "small", 1);
            copy_until_clean(&small, &ended.dst);
        }
    }
}
