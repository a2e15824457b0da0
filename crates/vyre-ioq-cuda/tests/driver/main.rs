//! The crate against a driver and a compiler that are not there: two small libraries in C stand in for
//! them (`cuda.c`, `nvrtc.c`). Each test is a process of its own, in which they are found first, and for
//! which environment variables choose the GPU, the versions and what goes wrong.

mod borrowed;
mod bounces;
mod code;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "nothing here needs a GPU")]
mod common;
mod contexts;
mod ends;
mod loads;
mod queues;
mod views;
mod windows;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Environment variable of the other process: name of the part that it runs.
const PART: &str = "VYRE_IOQ_CUDA_TEST_PART";
/// Environment variable of the other process: file to which each call of the driver appends a line.
const LOG: &str = "FAKE_CUDA_LOG";
/// Environment variable of the other process: file whose existence keeps streams from progress.
const STUCK: &str = "FAKE_CUDA_STUCK";
/// Environment variable of the other process: file whose existence keeps a kernel running.
const RUNNING: &str = "FAKE_CUDA_RUNNING";
/// Environment variable of the other process: file that it creates when it has done its part.
const DONE: &str = "VYRE_IOQ_CUDA_TEST_DONE";

/// Parts that another process can run, by name.
const PARTS: &[(&str, fn())] = &[
    ("contexts", contexts::part),
    ("threads", contexts::part_of_threads),
    ("prebuilt_kernels", code::prebuilt_kernels),
    ("compiled_kernels", code::compiled_kernels),
    ("refused_code", code::refused_code),
    ("shapes", code::shapes),
    ("refused_layouts", queues::refused_layouts),
    ("copies_that_do_not_end", ends::copies_that_do_not_end),
    ("copies_without_an_event", ends::copies_without_an_event),
    ("reads_in_a_view", ends::reads_in_a_view),
    ("views", views::views),
    ("refused_views", views::refused_views),
    ("views_of_an_old_gpu", views::views_of_an_old_gpu),
    ("views_that_stay", views::views_that_stay),
    ("prepared_views", views::prepared_views),
    ("stale_views", views::stale_views),
    ("copied_views", views::copied_views),
    ("unmarked_copies", views::unmarked_copies),
    ("long_views", views::long_views),
    ("views_of_changing_files", ends::views_of_changing_files),
    ("gathered_rows", views::gathered_rows),
    ("loads", loads::loads),
    ("refused_loads", loads::refused_loads),
    ("loads_with_little_room", loads::loads_with_little_room),
    ("loads_of_changing_files", loads::loads_of_changing_files),
    ("bounces", bounces::bounces),
    ("windows", windows::windows),
    ("refused_windows", windows::refused_windows),
    ("windows_of_an_old_gpu", windows::windows_of_an_old_gpu),
    (
        "windows_with_other_addresses",
        windows::windows_with_other_addresses,
    ),
    (
        "windows_of_a_running_kernel",
        windows::windows_of_a_running_kernel,
    ),
    ("stale_windows", windows::stale_windows),
    ("lent_context", borrowed::lent_context),
    ("other_context", borrowed::other_context),
    ("lent_memory", borrowed::lent_memory),
    ("memory_not_pinned", borrowed::memory_not_pinned),
    ("lent_stream", borrowed::lent_stream),
];

/// Entry of the other process. As one of the tests, it does nothing.
#[test]
fn other_process() {
    let Ok(name) = std::env::var(PART) else {
        return;
    };
    let part = PARTS.iter().find(|(part, _)| *part == name);
    part.expect("a part").1();
    fs::write(std::env::var(DONE).expect("a path"), "").expect("room");
}

/// Process in which the stand-ins are the driver and the compiler.
struct Other {
    command: Command,
    dir: TempDir,
}

impl Other {
    /// Prepares a process that runs `part` for `test`; reports a skip and returns none if there is no C
    /// compiler.
    fn new(test: &str, part: &str) -> Option<Self> {
        let libraries = match libraries() {
            Ok(libraries) => libraries,
            Err(why) => {
                common::skip(test, why);
                return None;
            }
        };
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(std::env::current_exe().expect("a program"));
        command
            .args(["--exact", "other_process", "--nocapture"])
            .env(PART, part)
            .env(DONE, dir.path().join("done"))
            .env(LOG, dir.path().join("log"))
            .env(STUCK, dir.path().join("stuck"))
            .env(RUNNING, dir.path().join("running"))
            .env("LD_LIBRARY_PATH", libraries);
        Some(Self { command, dir })
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the process to its end and returns its output.
    fn run(mut self) -> String {
        let output = self.command.output().expect("this program, once more");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{}: {said}", output.status);
        assert!(
            self.dir.path().join("done").exists(),
            "it did nothing: {said}"
        );
        said
    }
}

/// Returns the directory of the two libraries, which are built once; the missing tool, if they cannot be.
fn libraries() -> Result<&'static Path, String> {
    static MADE: OnceLock<Result<(), String>> = OnceLock::new();
    let directory = Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/driver"));
    let made = MADE.get_or_init(|| {
        fs::create_dir_all(directory).map_err(|error| error.to_string())?;
        compile(include_str!("cuda.c"), directory, "libcuda.so")?;
        compile(include_str!("nvrtc.c"), directory, "libnvrtc.so")
    });
    made.clone().map(|()| directory)
}

fn compile(source: &str, directory: &Path, name: &str) -> Result<(), String> {
    // Other runs of these tests may be using the one that is there.
    let library = directory.join(format!("{name}.{}", std::process::id()));
    let mut cc = Command::new("cc")
        .args([
            "-std=c11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-D_GNU_SOURCE",
            "-shared",
            "-fPIC",
        ])
        .args(["-x", "c", "-", "-o"])
        .arg(&library)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| format!("no C compiler, cc: {error}"))?;
    let mut input = cc.stdin.take().expect("piped");
    input.write_all(source.as_bytes()).expect("a pipe");
    drop(input);
    let status = cc.wait().expect("own child");
    assert!(status.success(), "{name} does not compile");
    fs::rename(library, directory.join(name)).map_err(|error| error.to_string())
}

// ---- In the other process ----

/// Returns the calls of the driver since the last call of this function.
fn calls() -> Vec<String> {
    let path = std::env::var(LOG).expect("a path");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines().map(str::to_owned).collect()
}

/// Keeps streams from progress from now on.
fn get_stuck() {
    fs::write(std::env::var(STUCK).expect("a path"), "").expect("room");
}

/// Lets streams progress again.
fn get_on() {
    fs::remove_file(std::env::var(STUCK).expect("a path")).expect("it is there");
}
