//! Device ends in other processes, and what happens to either side when the other is killed. The other
//! process is the C program of the example `sandboxed_reader`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use vyre_io::{
    Buffer, BufferHandle, BufferTable, DeviceQueue, FileHandle, FileTable, IoLoop, Queue,
    QueueLayout, Request, Rights,
};

#[path = "../examples/sandboxed_reader/host.rs"]
mod host;

use host::{Client, RANGE, secret, secret_file};

const LIMIT: Duration = Duration::from_secs(30);

/// Number of kills at random moments.
const KILLS: u32 = 120;

/// Environment variable of the process that is the host and is killed: its directory.
const HOST_IN: &str = "VYRE_IO_TEST_HOST_IN";

/// Compiles the reader once. Without a C compiler the test fails, because nothing would have run.
fn reader() -> &'static Path {
    static READER: OnceLock<PathBuf> = OnceLock::new();
    READER.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The host that is killed compiles a reader as well, under another name.
        let name = if std::env::var_os(HOST_IN).is_some() {
            "reader-of-host"
        } else {
            "reader"
        };
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Another process may run it, or compile it, at the same time.
        let ours = program.with_extension(std::process::id().to_string());
        let compiled = Command::new("cc")
            .args([
                "-std=c11",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-pedantic",
            ])
            .arg("-I")
            .arg(root.join("../vyre-ioq/include"))
            .arg("-I")
            .arg(root.join("../vyre-io-client/include"))
            .arg(root.join("examples/sandboxed_reader/reader.c"))
            .arg("-o")
            .arg(&ours)
            .status();
        match compiled {
            Ok(status) => assert!(status.success(), "cc refused the reader"),
            Err(error) => panic!("cannot start `cc` ({error}): install gcc with your distribution"),
        }
        std::fs::rename(ours, &program).expect("room");
        program
    })
}

/// A loop with the queue of a reader and that of a witness. The witness is a thread, and must be served
/// whatever happens to the reader.
struct Hosted {
    io: IoLoop,
    client: Client,
    path: PathBuf,
    /// Keeps a pipe open whose reads never end.
    endless: std::io::PipeWriter,
    witness: DeviceQueue,
    file: FileHandle,
    pool: BufferHandle,
    memory: Buffer,
    turns: u64,
}

impl Hosted {
    fn new(directory: &Path) -> Self {
        let (path, file) = secret_file(directory).expect("room");
        let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
        let (pipe, endless) = std::io::pipe().expect("a pipe");
        let pipe = files.insert(pipe, Rights::READ).expect("fit");
        let same: File = file.try_clone().expect("a descriptor");
        let (client, queue) =
            Client::new(file, Some(pipe), &mut files, &mut buffers).expect("a queue");
        let (host, witness) = Queue::anonymous(QueueLayout::with_slots(4)).expect("memory");
        let memory = Buffer::anonymous(4096).expect("memory");
        let file = files.insert_range(same, RANGE, Rights::READ).expect("fit");
        let pool = buffers.insert(memory.clone()).expect("fit");
        let builder = IoLoop::builder().files(files).buffers(buffers);
        Self {
            io: builder.queue(queue).queue(host).spawn().expect("io_uring"),
            client,
            path,
            endless,
            witness,
            file,
            pool,
            memory,
            turns: 0,
        }
    }

    fn start(&self, mode: &[&str], output: Stdio) -> Child {
        let started = self.client.start(reader(), mode, &self.path, output);
        started.expect("a process and a socket")
    }

    /// Starts the reader, waits until it prints something, and kills it some time later.
    fn kill_after(&self, mode: &[&str], said: &str, after: Duration) {
        let mut child = self.start(mode, Stdio::piped());
        let mut line = String::new();
        let output = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line);
        output.expect("a pipe");
        assert_eq!(line.trim_end(), said);
        let until = Instant::now() + after;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().expect("own child");
        let status = child.wait().expect("own child");
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended by itself before: {status}"
        );
    }

    /// Checks that the witness gets its bytes.
    fn serves_others(&mut self) {
        self.turns += 1;
        let at = self.turns * 31 % 4000;
        self.memory.write_at(0, &[0xee; 96]).expect("inside");
        let request = Request::read(self.file, at, 96)
            .into_buffer(self.pool, 0)
            .exact();
        let ticket = self.witness.submit(request).expect("a free slot");
        let outcome = self.witness.wait_for(ticket, LIMIT).expect("an outcome");
        assert_eq!(outcome.bytes(), Ok(96));
        let mut bytes = [0; 96];
        self.memory.read_at(0, &mut bytes).expect("inside");
        let from = (RANGE.start + at) as usize;
        assert_eq!(bytes, secret()[from..from + 96]);
    }

    /// Waits until that many requests of the readers are claimed and have no outcome: their reads of
    /// the pipe.
    fn comes_to_owe(&self, open: u64) {
        let give_up = Instant::now() + LIMIT;
        loop {
            let counters = self.io.queue_counters(0).expect("a queue");
            if counters.claimed - counters.succeeded - counters.failed == open {
                return;
            }
            assert!(Instant::now() < give_up, "not {open}: {counters:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Checks that the next reader on the same queue can do all that it may, and nothing else.
    fn serves_the_next(&self) {
        let child = self.start(&["show"], Stdio::piped());
        let output = child.wait_with_output().expect("own child");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {said}", output.status);
        let right = said.lines().filter(|line| line.starts_with("ok "));
        assert_eq!(right.count(), 16, "{said}");
    }
}

/// Rules: SEC-2, SEC-15.
#[test]
fn a_sandboxed_reader_reads_its_ranges_and_nothing_else() {
    let directory = tempfile::tempdir().expect("room");
    let mut hosted = Hosted::new(directory.path());
    for _ in 0..2 {
        hosted.serves_the_next();
        hosted.serves_others();
    }
    hosted.io.stop().expect("an orderly end");
}

/// Rules: ABI-7.14, ABI-7.16.
#[test]
fn a_reader_that_is_killed_in_any_state_harms_nobody() {
    let directory = tempfile::tempdir().expect("room");
    let mut hosted = Hosted::new(directory.path());
    let states = [
        "reserved",
        "half-written",
        "published",
        "claimed",
        "answered",
    ];
    for lap in 0..3 {
        for state in states {
            hosted.kill_after(&["stop-at", state], state, Duration::ZERO);
            hosted.serves_others();
            hosted.serves_the_next();
        }
        hosted.comes_to_owe(lap + 1);
    }
    // The requests of the dead readers get outcomes, and the next reader discards them.
    hosted.endless.write_all(&[7; 3 * 64]).expect("a reader");
    hosted.comes_to_owe(0);
    hosted.serves_the_next();
    println!("killed in {} states, 3 times each", states.len());
    hosted.io.stop().expect("an orderly end");
}

/// Rule: ABI-7.14.
#[test]
fn a_reader_that_is_killed_at_any_moment_harms_nobody() {
    let directory = tempfile::tempdir().expect("room");
    let mut hosted = Hosted::new(directory.path());
    let mut random = 0x9e37_79b9_u32;
    for _ in 0..KILLS {
        random = random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        let after = Duration::from_micros(u64::from(random >> 8) % 3000);
        hosted.kill_after(&["churn"], "churning", after);
        hosted.serves_others();
    }
    hosted.serves_the_next();
    let counters = hosted.io.queue_counters(0).expect("a queue");
    println!("{KILLS} killed readers; {counters:?}");
    assert!(counters.claimed > u64::from(KILLS), "they were at work");
    hosted.io.stop().expect("an orderly end");
}

/// Starts a reader whose request stays open, and runs until it is killed.
fn be_the_host(directory: &str) {
    let hosted = Hosted::new(Path::new(directory));
    let mut reader = hosted.start(&["await", "1000"], Stdio::inherit());
    let _ = reader.wait();
}

/// Rule: ABI-7.11.
#[test]
fn a_host_that_is_killed_ends_the_waits_of_its_device() {
    if let Ok(directory) = std::env::var(HOST_IN) {
        return be_the_host(&directory);
    }
    let directory = tempfile::tempdir().expect("room");
    let this = std::env::current_exe().expect("this program");
    let name = "a_host_that_is_killed_ends_the_waits_of_its_device";
    let mut host = Command::new(this)
        .args(["--exact", name, "--nocapture"])
        .env(HOST_IN, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program");
    // The test harness of the host prints a few lines before its reader does.
    let mut said = BufReader::new(host.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.trim_end().ends_with("waiting") {
        line.clear();
        let more = said.read_line(&mut line).expect("a pipe");
        assert_ne!(more, 0, "the host ended before its reader waited");
    }
    // Longer than the heartbeat timeout that ends a wait of the reader: a host that lives ends no wait.
    thread::sleep(Duration::from_millis(1500));
    host.kill().expect("own child");
    let status = host.wait().expect("own child");
    assert_eq!(status.signal(), Some(9), "{status}");
    // The time limit of the reader is a minute, so what ends its wait is the heartbeat. The pipe ends
    // with it.
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("a pipe");
    assert_eq!(rest, "host gone\n");
}
