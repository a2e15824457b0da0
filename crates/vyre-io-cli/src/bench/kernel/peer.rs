//! The other process: this test program, started again so that it can be killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use vyre_io::{Buffer, BufferTable, FileTable, IoLoop, QueueLayout, Rights, shared_queue};

/// Environment variable that holds the task of the other process.
const TASK: &str = "VYRE_IO_TEST_TASK";
/// Prefix of the lines that the other process prints for this one: the test harness prints other
/// lines.
const MARK: &str = "peer: ";

/// Bytes of a block, and blocks of the file.
pub(super) const BLOCK: usize = 4096;
pub(super) const BLOCKS: u64 = 1024;

/// Returns the task of this process, or `None` if it is not the other process.
pub(super) fn task() -> Option<Vec<String>> {
    let task = std::env::var(TASK).ok()?;
    Some(task.split(' ').map(str::to_owned).collect())
}

/// Says something to the process that started this one.
pub(super) fn say(words: &str) {
    println!("{MARK}{words}");
}

/// Waits until the parent process has no more use for this one, or has ended.
pub(super) fn wait_for_the_end() {
    let _ = std::io::stdin().read(&mut [0]);
}

/// Returns the path by which another process opens this one's memory.
pub(super) fn path_of(memfd: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), memfd.as_raw_fd())
}

pub(super) fn open(path: &str) -> File {
    let opened = File::options().read(true).write(true).open(path);
    opened.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A process that is killed when it is dropped.
pub(super) struct Peer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts this program again to run the test `test` alone, which must call [`task`].
    pub(super) fn start(test: &str, task: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a program"))
            .args(["--exact", test, "--nocapture"])
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program, once more");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, output }
    }

    /// Returns the next line that it prints for this process.
    pub(super) fn said(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("a pipe");
            assert!(read > 0, "the other process ended: {:?}", self.child.wait());
            // The harness begins a line with the name of the test, and does not end it.
            if let Some((_, words)) = line.trim_end().split_once(MARK) {
                return words.to_owned();
            }
        }
    }

    pub(super) fn is_there(&mut self) -> bool {
        self.child.try_wait().expect("own child").is_none()
    }

    pub(super) fn kill(mut self) {
        self.child.kill().expect("own child");
        let status = self.child.wait().expect("own child");
        assert_eq!(status.signal(), Some(9), "it had ended by itself: {status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The task of a host: serves a queue and a buffer that another process maps, until it is killed.
/// Prints where they are, and the handles of the file and the buffer.
pub(super) fn host(lanes: usize) {
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let file = tempfile::tempfile().expect("a file");
    file.set_len(BLOCKS * BLOCK as u64).expect("room");
    let file = files.insert(file, Rights::READ).expect("room");
    let (buffer, data) = Buffer::memfd(lanes * BLOCK).expect("memory");
    let pool = buffers.insert(buffer).expect("room");
    let (queue, memory) = shared_queue(QueueLayout::with_slots(64)).expect("memory");
    let builder = IoLoop::builder().files(files).buffers(buffers);
    let _io = builder.queue(queue).spawn().expect("a loop");
    let (memory, data) = (path_of(&memory), path_of(&data));
    say(&format!("{memory} {data} {} {}", file.raw(), pool.raw()));
    wait_for_the_end();
}
