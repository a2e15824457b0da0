//! Tests of the promises of `vyre-io copy`.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::{contents, copy, file, has_gpu, names, place, places, run, skipped, stderr};

/// Lengths around every boundary there is: nothing, a byte, a page, and an odd number of blocks.
const LENGTHS: [usize; 8] = [0, 1, 511, 4095, 4096, 4097, 1 << 20, 67_108_881];

fn assert_copied(src: &Path, dst: &Path, more: &[&str]) {
    let output = copy(src, dst, more);
    assert!(output.status.success(), "{more:?}: {}", stderr(&output));
    let (from, to) = (fs::read(src).expect("src"), fs::read(dst).expect("dst"));
    assert_eq!(from.len(), to.len(), "{more:?}");
    assert!(from == to, "{} bytes differ with {more:?}", from.len());
}

#[test]
fn every_length_is_copied_exactly_buffered_and_direct_by_one_lane_and_by_many() {
    for dir in places() {
        for len in LENGTHS {
            let src = file(dir.path(), "src", len);
            for direct in [&[][..], &["--direct"]] {
                for lanes in ["1", "16"] {
                    let more = [&["--lanes", lanes, "--no-sync"], direct].concat();
                    assert_copied(&src, &dir.path().join("dst"), &more);
                }
            }
        }
    }
}

#[test]
fn a_synced_and_verified_copy_leaves_only_itself() {
    for dir in places() {
        let src = file(dir.path(), "src", 3_000_001);
        for direct in [&[][..], &["--direct"]] {
            let more = [&["--verify", "--block-size", "64k"], direct].concat();
            assert_copied(&src, &dir.path().join("dst"), &more);
            assert_eq!(names(dir.path()), ["dst", "src"]);
        }
    }
}

#[test]
fn small_blocks_and_few_slots_do() {
    let dir = place();
    let src = file(dir.path(), "src", 100_003);
    for slots in ["1", "3", "64"] {
        let more = ["--lanes", "8", "--slots", slots, "--block-size", "1000"];
        assert_copied(&src, &dir.path().join("dst"), &more);
    }
}

#[test]
fn a_directory_as_destination_takes_the_name_of_the_source() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let into = dir.path().join("into");
    fs::create_dir(&into).expect("room");
    assert!(copy(&src, &into, &[]).status.success());
    assert_eq!(fs::read(into.join("src")).expect("copied"), contents(10));
}

#[test]
fn an_old_destination_is_replaced_whole_also_behind_a_link() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let old = file(dir.path(), "old", 5_000);
    let link = dir.path().join("link");
    symlink("old", &link).expect("a link");
    assert_copied(&src, &link, &[]);
    assert!(link.is_symlink(), "the link stays");
    assert_eq!(fs::read(old).expect("replaced"), contents(10));
    assert_eq!(names(dir.path()), ["link", "old", "src"]);
}

#[test]
fn permissions_are_the_source_s() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    fs::set_permissions(&src, fs::Permissions::from_mode(0o500)).expect("own file");
    let dst = dir.path().join("dst");
    assert_copied(&src, &dst, &[]);
    assert_eq!(fs::metadata(dst).expect("dst").mode() & 0o777, 0o500);
}

/// Runs a copy that must fail with status 1, a message that holds `says`, and no new file.
fn assert_refused(src: &Path, dst: &Path, says: &str) {
    let dir = dst.parent().expect("a directory");
    let before = dir.is_dir().then(|| names(dir));
    let output = copy(src, dst, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(says), "{}", stderr(&output));
    assert!(stderr(&output).lines().count() <= 2, "{}", stderr(&output));
    assert_eq!(dir.is_dir().then(|| names(dir)), before);
}

#[test]
fn a_file_is_not_copied_onto_itself() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let link = dir.path().join("link");
    symlink("src", &link).expect("a link");
    let hard = dir.path().join("hard");
    fs::hard_link(&src, &hard).expect("a link");
    for dst in [&src, &link, &hard] {
        assert_refused(&src, dst, "the same file");
        assert_eq!(fs::read(&src).expect("src"), contents(10));
    }
}

#[test]
fn missing_and_unfit_files_are_named() {
    let dir = place();
    let (src, dst) = (file(dir.path(), "src", 10), dir.path().join("dst"));
    assert_refused(&dir.path().join("none"), &dst, "none: No such file");
    assert_refused(&src, &dir.path().join("no/dst"), "No such file");
    assert_refused(dir.path(), &dst, "is a directory; name a file");
    assert_refused(&src, Path::new("/dev/null"), "not a regular file");
    assert!(!dst.exists());
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = place();
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a pipe");
    assert_refused(&pipe, &dir.path().join("dst"), "neither a regular file");
}

/// Root reads everything, so the kernel is asked for a file that even root cannot read.
#[test]
fn an_unreadable_file_ends_with_a_message_and_no_destination() {
    let dir = place();
    let src = Path::new("/proc/self/mem");
    let output = copy(src, &dir.path().join("dst"), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_full_disk_ends_with_a_message_and_no_destination() {
    assert_full_disk_is_named(&[]);
}

fn assert_full_disk_is_named(more: &[&str]) {
    let dir = place();
    let small = dir.path().join("small");
    fs::create_dir(&small).expect("room");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(&small)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return skipped("only root can mount the small file system that it fills");
    }
    let src = file(dir.path(), "src", 4 << 20);
    let output = copy(
        &src,
        &small.join("dst"),
        &[&["--lanes", "16"], more].concat(),
    );
    let left = names(&small);
    let unmounted = std::process::Command::new("umount").arg(&small).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("No space left"),
        "{}",
        stderr(&output)
    );
    assert_eq!(left, [""; 0]);
}

/// Also on a machine that has GPUs: none has so many.
#[test]
fn a_gpu_that_is_not_there_is_an_error_and_no_destination() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let device = format!("cuda:{}", u32::MAX);
    let output = copy(&src, &dir.path().join("dst"), &["--device", &device]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = stderr(&output);
    assert!(
        words.contains("CUDA driver") || words.contains("no GPU"),
        "{words}"
    );
    assert_eq!(names(dir.path()), ["src"]);
}

#[test]
fn a_gpu_copies_every_length_exactly() {
    if !has_gpu() {
        return;
    }
    for dir in places() {
        for len in LENGTHS {
            let src = file(dir.path(), "src", len);
            for more in [
                &["--lanes", "1", "--no-sync"][..],
                &["--lanes", "64", "--block-size", "64k", "--verify"],
                &["--lanes", "16", "--direct", "--verify"],
            ] {
                let more = [&["--device", "cuda"], more].concat();
                assert_copied(&src, &dir.path().join("dst"), &more);
                assert_eq!(names(dir.path()), ["dst", "src"]);
            }
        }
    }
}

#[test]
fn a_gpu_reports_what_went_wrong() {
    if has_gpu() {
        assert_full_disk_is_named(&["--device", "cuda"]);
    }
}

#[test]
fn usage_errors_have_status_2() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let (src, dst) = (src.to_str().expect("UTF-8"), "/nowhere");
    for args in [
        &["copy"][..],
        &["copy", src],
        &["copy", src, dst, "--lanes", "0"],
        &["copy", src, dst, "--block-size", "many"],
        &["frobnicate"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
    let to = dir.path().join("dst");
    let to = to.to_str().expect("UTF-8");
    for args in [
        &["copy", src, to, "--block-size", "0"][..],
        &["copy", src, to, "--slots", "4097"],
        &["copy", src, to, "--direct", "--block-size", "1000"],
    ] {
        let output = run(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
    }
    assert_eq!(names(dir.path()), ["src"]);
}

#[test]
fn more_lanes_than_a_queue_has_slots_are_no_error() {
    let dir = place();
    let src = file(dir.path(), "src", 10_000);
    let dst = dir.path().join("dst");
    let output = copy(&src, &dst, &["--lanes", "5000", "--block-size", "1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read(&dst).expect("dst"), contents(10_000));
}

#[test]
fn messages_of_copy_say_what_to_do() {
    let dir = place();
    let src = file(dir.path(), "src", 10);
    let dst = dir.path().join("dst");
    for (src, dst, more, says) in [
        (dir.path(), &*dst, &[][..], "is a directory; name a file"),
        (
            Path::new("/"),
            dir.path(),
            &[],
            "is a directory; name a file",
        ),
        (
            &*src,
            Path::new("/proc/vyre-io"),
            &[],
            "choose another directory",
        ),
        (
            &*src,
            &*dst,
            &["--lanes", "0"],
            "a whole number of at least 1",
        ),
        (&*src, &*dst, &["--slots", "0"], "from 1 to 4096"),
    ] {
        let output = copy(src, dst, more);
        assert!(!output.status.success(), "{dst:?}");
        let message = stderr(&output);
        assert!(message.contains(says), "{message}");
        assert!(!message.contains("check the path"), "{message}");
    }
    assert_eq!(names(dir.path()), ["src"]);
}
