//! `vyre-io doctor` as its users run it.

mod common;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_vyre-io");

/// Directory of the build: on an ordinary file system.
const TARGET: &str = env!("CARGO_TARGET_TMPDIR");

fn doctor<A: AsRef<OsStr>>(args: &[A]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("doctor").args(args).output().unwrap()
}

/// Runs [`doctor`] under limits that the shell sets first.
fn doctor_under(limits: &str, args: &[&str]) -> Output {
    let script = format!("{limits} && exec \"$0\" doctor \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(PROGRAM).args(args);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The findings whose text contains `part`.
fn findings<'a>(report: &'a Value, part: &str) -> Vec<&'a Value> {
    let all = report["findings"].as_array().unwrap();
    all.iter()
        .filter(|finding| finding["what"].as_str().unwrap().contains(part))
        .collect()
}

fn temporary_file(directory: impl AsRef<Path>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in(directory).unwrap();
    std::fs::write(file.path(), vec![7; 10_000]).unwrap();
    file
}

#[test]
fn json_is_one_object_with_all_that_is_promised() {
    let file = temporary_file(TARGET);
    let output = doctor(&[
        file.path().as_os_str(),
        "--format".as_ref(),
        "json".as_ref(),
    ]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);

    assert!(report["kernel"].as_str().unwrap().starts_with("Linux "));
    assert_eq!(report["io_uring"]["allowed"], true);
    for field in ["by", "error"] {
        assert_eq!(report["io_uring"].get(field), Some(&Value::Null), "{field}");
    }
    // By the best means that this kernel has, which are never none.
    let wakes_by = report["wakes_by"].as_str().unwrap();
    assert!(wakes_by.starts_with("futex ("), "{wakes_by}");
    for field in ["flags", "refused", "missing_operations"] {
        assert!(report["ring"][field].is_array(), "{field}");
    }
    for field in [
        "registered_ring_fd",
        "registered_files",
        "registered_buffers",
    ] {
        let step = &report["ring"][field];
        let in_use = step["in_use"].as_bool().unwrap();
        assert_eq!(in_use, step["why"].is_null(), "{field}: {step}");
    }
    for field in ["soft", "hard"] {
        let limit = report["memlock"].get(field).unwrap();
        assert!(limit.is_null() || limit.is_u64(), "{field}");
    }
    assert!(report["memlock"]["exempt"].is_boolean());
    let gpu = &report["gpu"];
    assert_eq!(gpu["usable"] == true, gpu["why"].is_null(), "{gpu}");
    assert_eq!(gpu["usable"] == true, gpu["name"].is_string(), "{gpu}");
    // On a machine that has none, nothing is said of it.
    let said = findings(&report, "GPU can be the device").len();
    assert!(said == 1 || said == 0 && gpu["usable"] == false, "{report}");

    let path = &report["paths"][0];
    assert_eq!(path["path"].as_str(), file.path().to_str());
    assert_eq!(path["kind"], "regular file");
    assert_eq!(path["size"], 10_000);
    assert!(path["file_system"].is_string() && path["reason"].is_string());
    assert!(path["direct_opens"].is_boolean());
    assert!(path["data_path"].is_string(), "{path}");
}

#[test]
fn what_costs_or_breaks_comes_with_advice_and_the_worst_first() {
    let report = json(&doctor(&["/does/not/exist", TARGET, "--format=json"]));
    let rank = |finding: &Value| match finding["level"].as_str().unwrap() {
        "broken" => 3,
        "cost" => 2,
        "note" => 1,
        "ok" => 0,
        other => panic!("{other}"),
    };
    let all = report["findings"].as_array().unwrap();
    assert!(all.is_sorted_by_key(|finding| std::cmp::Reverse(rank(finding))));
    for finding in all {
        assert!(
            rank(finding) < 2 || finding["advice"].is_string(),
            "{finding}"
        );
    }
}

#[test]
fn a_missing_path_is_an_error_and_the_others_are_still_reported() {
    let file = temporary_file(TARGET);
    let missing = Path::new(TARGET).join("no-such-file");
    let output = doctor(&[missing.as_path(), file.path()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = text(&output);
    let line = format!(
        "{}: cannot be opened: No such file or directory",
        missing.display()
    );
    assert!(text.contains(&line), "{text}");
    assert!(text.contains("-> check the path"), "{text}");
    assert!(
        text.contains(&format!("\n{}\n", file.path().display())),
        "{text}"
    );
    assert!(text.contains("regular file, 9.8 KiB"), "{text}");
}

#[test]
fn memory_is_told_from_a_drive() {
    let shm = temporary_file("/dev/shm");
    let shm = shm.path().to_str().unwrap();
    let output = doctor(&[shm, TARGET, "--format=json"]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    let [memory, target] = [0, 1].map(|index| &report["paths"][index]);
    assert_eq!(memory["file_system"], "tmpfs");
    assert_eq!(memory["alignment"], Value::Null);
    assert!(
        memory["data_path"]
            .as_str()
            .unwrap()
            .starts_with("buffered")
    );
    assert_eq!(findings(&report, "direct I/O means nothing").len(), 1);

    assert_eq!(target["kind"], "directory");
    let system = target["file_system"].as_str().unwrap();
    assert!(!system.is_empty());
    // What is true of a directory is true of a file in it.
    let file = temporary_file(TARGET);
    let inside = json(&doctor(&[file.path().to_str().unwrap(), "--format=json"]));
    assert_eq!(inside["paths"][0]["file_system"], system);
    if target["data_path"].is_string() {
        assert_eq!(inside["paths"][0]["data_path"], target["data_path"]);
    }
}

#[test]
fn a_directory_is_tried_without_leaving_anything_in_it() {
    let directory = tempfile::tempdir_in(TARGET).unwrap();
    assert!(doctor(&[directory.path()]).status.success());
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[test]
fn what_may_block_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        (socket.as_path(), "socket"),
        (Path::new("/dev/tty"), "character device"),
    ] {
        let output = doctor(&[path]);
        // Nothing is known to be wrong with it.
        assert!(output.status.success(), "{output:?}");
        let text = text(&output);
        assert!(
            text.contains(&format!("a {kind} was left unopened")),
            "{text}"
        );
    }
}

#[test]
fn what_the_kernel_makes_up_is_not_sent_to_another_file_system() {
    let output = doctor(&["/proc/version", "--format=json"]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!(
        report["paths"][0]["data_path"]
            .as_str()
            .unwrap()
            .split(' ')
            .next(),
        Some("buffered")
    );
    assert_eq!(findings(&report, "makes up what its files hold").len(), 1);
    assert!(findings(&report, "O_DIRECT").is_empty(), "{report}");
}

/// Returns the report's text on page-cache reads of a path.
fn page_cache(path: impl AsRef<Path>) -> Value {
    let output = doctor(&[path.as_ref().as_os_str(), "--format=json".as_ref()]);
    // A refusal is information: it changes neither the status nor the findings.
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    let found = findings(&report, "page-cache reads");
    assert!(found.is_empty(), "{report}");
    report["paths"][0].get("page_cache").unwrap().clone()
}

#[test]
fn page_cache_reads_are_possible_or_refused_with_the_reason() {
    let file = temporary_file("/dev/shm");
    assert_eq!(page_cache(file.path()), "possible");
    let said = text(&doctor(&[file.path()]));
    let line = "  page cache      page-cache reads are possible\n";
    assert!(said.contains(line), "{said}");
    // As it is for an empty file, and for a file in the directory.
    file.as_file().set_len(0).unwrap();
    assert_eq!(page_cache(file.path()), "possible");
    assert_eq!(page_cache("/dev/shm"), "possible");

    let refused = page_cache("/proc/version");
    let why = "file system 0x9fa0 is not one of ext4 and tmpfs";
    assert!(refused.as_str().unwrap().starts_with(why), "{refused}");
    let said = text(&doctor(&["/proc/version"]));
    let line = format!("  page cache      no page-cache reads: {why}");
    assert!(said.contains(&line), "{said}");

    assert_eq!(page_cache("/dev/tty"), Value::Null, "left unopened");
}

/// Returns the report's text on views of a path.
fn view(path: impl AsRef<Path>) -> Value {
    let output = doctor(&[path.as_ref().as_os_str(), "--format=json".as_ref()]);
    assert!(output.status.success(), "{output:?}");
    json(&output)["paths"][0].get("view").unwrap().clone()
}

/// On a machine without a GPU the reason is that; a file that no GPU could view has a reason of its own.
#[test]
fn views_are_possible_or_refused_with_the_reason() {
    let file = temporary_file("/dev/shm");
    let report = json(&doctor(&["--format=json"]));
    let found = view(file.path());
    match report["gpu"]["usable"].as_bool() {
        Some(true) => assert_eq!(found, "possible"),
        _ => assert!(
            found.as_str().is_some_and(|why| why.contains("CUDA")),
            "{found}"
        ),
    }
    let said = text(&doctor(&[file.path()]));
    assert!(said.contains("\n  view            "), "{said}");
    let refused = view("/proc/version");
    let why = "file system 0x9fa0 is not one of ext4 and tmpfs";
    assert!(refused.as_str().unwrap().starts_with(why), "{refused}");
    assert_eq!(view("/dev/tty"), Value::Null, "left unopened");
}

/// mincore(2) tells the truth to the owner alone.
#[test]
fn of_another_users_file_only_mapped_pages_are_known() {
    let file = temporary_file("/dev/shm");
    if std::os::unix::fs::fchown(file.as_file(), Some(12_345), None).is_err() {
        let why = "only root can give a file to another user";
        let line = format!("SKIPPED: of_another_users_file_only_mapped_pages_are_known: {why}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let output = doctor(&[file.path().as_os_str(), "--format=json".as_ref()]);
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!(report["paths"][0]["page_cache"], "possible");
    let found = findings(&report, "only pages that the process has mapped");
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!(found[0]["level"], "note");
}

#[test]
fn want_of_descriptors_names_its_remedy() {
    // One is left, which the loader needs first, and the ring takes for good.
    let output = doctor_under("ulimit -n 4 && exec 3>&-", &[TARGET]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = text(&output);
    assert!(
        text.contains("files         no (Too many open files)"),
        "{text}"
    );
    let line = format!("{TARGET}: cannot be opened: Too many open files");
    assert!(text.contains(&line), "{text}");
    assert!(
        text.contains("-> raise RLIMIT_NOFILE (ulimit -n)"),
        "{text}"
    );
}

#[test]
fn want_of_lockable_memory_is_seen_and_costs() {
    // Capabilities are a thread's: the child inherits this one's, without the exemption.
    let output = std::thread::spawn(|| {
        // Without privileges there is no exemption to give up.
        let _ = remove_capability_from_bounding_set(CapabilitySet::IPC_LOCK);
        doctor_under("ulimit -l 64", &[TARGET, "--format=json"])
    });
    let output = output.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    assert_eq!(report["memlock"]["soft"], 65_536);
    assert_eq!(report["memlock"]["exempt"], false);
    assert_eq!(report["ring"]["registered_buffers"]["in_use"], false);
    assert_eq!(report["ring"]["data_path"], "plain");
    let path = report["paths"][0]["data_path"].as_str().unwrap();
    assert!(path.ends_with(" plain"), "{path}");
    for finding in [
        findings(&report, "buffers cannot be registered"),
        findings(&report, "RLIMIT_MEMLOCK"),
    ] {
        let advice = finding[0]["advice"].as_str().unwrap();
        assert!(advice.contains("RLIMIT_MEMLOCK"), "{advice}");
    }
}

/// The warning does not depend on the file: the server decides, not O_DIRECT.
#[test]
fn wrong_bytes_from_fuse_are_warned_of() {
    let Some(mounted) = common::fuse::Mounted::new(vyre_faults::Faults::default(), &[7; 10_000])
    else {
        return;
    };
    for path in [mounted.path(), mounted.path().join("src")] {
        let path = path.to_str().unwrap();
        let report = json(&doctor(&[path, "--format=json"]));
        let found = findings(&report, "FOPEN_DIRECT_IO");
        assert_eq!(found.len(), 1, "{report}");
        let refused = report["paths"][0]["page_cache"].as_str().unwrap();
        assert!(refused.contains("depends on another process"), "{report}");
        assert!(
            found[0]["advice"]
                .as_str()
                .unwrap()
                .contains("FUSE_ASYNC_DIO")
        );
    }
    let elsewhere = json(&doctor(&[TARGET, "--format=json"]));
    assert!(
        findings(&elsewhere, "FOPEN_DIRECT_IO").is_empty(),
        "{elsewhere}"
    );
}
