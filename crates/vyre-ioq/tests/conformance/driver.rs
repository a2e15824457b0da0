//! Drivers: programs, or a thread, that run one device end by the protocol of PROTOCOL.md.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use vyre_ioq::QueueLayout;
use vyre_ioq::abi::MAX_SLOTS;

use crate::memory::Shared;
use crate::rust_driver;

/// Longer than any answer takes on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A way to start a driver.
#[derive(Clone)]
pub(crate) enum Kind {
    /// The device end of this crate, on a thread of this process.
    Rust,
    /// A program and its arguments.
    Program(PathBuf, &'static [&'static str]),
}

impl Kind {
    /// Compiles the driver for the C headers: as C with `cc`, or as C++ with `c++`.
    ///
    /// Fails without a compiler: a suite that ran nothing must not pass.
    pub(crate) fn compiled(compiler: &str, dialect: &[&str], name: &str) -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("driver-{name}"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/driver.c");
        let named = format!("-DDRIVER=\"{name}\"");
        let args = [dialect, &["-pthread", &named]].concat();
        compile(compiler, &args, &source, &program);
        Self::Program(program, &[])
    }
}

/// Compiles a C source with the crate's headers, with warnings as errors.
pub(crate) fn compile(compiler: &str, args: &[&str], source: &Path, output: &Path) {
    let compiled = Command::new(compiler)
        .args(args)
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include"))
        .arg(source)
        .arg("-o")
        .arg(output)
        .status();
    match compiled {
        Ok(status) => assert!(status.success(), "{compiler} refused {}", source.display()),
        Err(error) => panic!(
            "cannot start `{compiler}` ({error}): the conformance suite needs a C and a C++ \
             compiler; install gcc and g++ with your distribution"
        ),
    }
}

/// A running driver.
pub(crate) struct Driver {
    pub(crate) name: String,
    extras: Vec<String>,
    input: Option<Box<dyn Write>>,
    answers: mpsc::Receiver<String>,
    child: Option<Child>,
    commands: u32,
    memory: Shared,
}

/// Size of the file that a driver inherits: the largest queue and one page.
const MEMORY: usize = QueueLayout::with_slots(MAX_SLOTS).bytes() + 4096;

impl Driver {
    pub(crate) fn start(kind: &Kind) -> Self {
        // First, since only what is there when a program starts is inherited.
        let memory = Shared::new(MEMORY);
        let (input, output, child): (Box<dyn Write>, Box<dyn Read + Send>, _) = match kind {
            Kind::Rust => {
                let (commands, input) = std::io::pipe().expect("a pipe");
                let (output, mut answers) = std::io::pipe().expect("a pipe");
                thread::spawn(move || rust_driver::serve(BufReader::new(commands), &mut answers));
                (Box::new(input), Box::new(output), None)
            }
            Kind::Program(path, args) => {
                let mut child = Command::new(path)
                    .args(*args)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap_or_else(|error| panic!("cannot start {}: {error}", path.display()));
                let input = child.stdin.take().expect("piped");
                let output = child.stdout.take().expect("piped");
                (Box::new(input), Box::new(output), Some(child))
            }
        };
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut driver = Self {
            name: String::new(),
            extras: Vec::new(),
            input: Some(input),
            answers,
            child,
            commands: 0,
            memory,
        };
        let hello = driver.ask("hello");
        let mut words = hello.split(' ').skip(1).map(str::to_owned);
        driver.name = words.next().expect("a name");
        driver.extras = words.collect();
        driver.commands = 0;
        driver
    }

    /// Returns whether the driver has an extra of the protocol.
    pub(crate) fn has(&self, extra: &str) -> bool {
        self.extras.iter().any(|name| name == extra)
    }

    /// Returns the number of commands since the start.
    pub(crate) fn commands(&self) -> u32 {
        self.commands
    }

    /// Sends a command without waiting for the answer.
    pub(crate) fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("not ended");
        writeln!(input, "{command}").expect("the driver reads");
        input.flush().expect("the driver reads");
        self.commands += 1;
    }

    pub(crate) fn answer(&mut self) -> String {
        let answer = self.answers.recv_timeout(ANSWER_TIMEOUT);
        let answer = answer.unwrap_or_else(|_| panic!("{}: no answer, or it died", self.name));
        assert!(
            !answer.starts_with("err Protocol"),
            "{}: {answer}",
            self.name
        );
        answer
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Sends a command and checks the answer.
    #[track_caller]
    pub(crate) fn expect(&mut self, command: &str, answer: &str) {
        let found = self.ask(command);
        assert_eq!(found, answer, "{}: {command}", self.name);
    }

    /// Zeroes the memory that the driver shares, and returns it. Queues in it are lost.
    pub(crate) fn fresh_memory(&self) -> Shared {
        self.memory.clear();
        self.memory.clone()
    }

    /// Attaches to `len` bytes from `offset` on.
    pub(crate) fn attach(&mut self, offset: usize, len: usize, layout: &str) -> String {
        let number = self.memory.number();
        self.ask(&format!("attach {number} {offset} {len} {layout}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.input = None;
        if let Some(child) = &mut self.child {
            if thread::panicking() {
                let _ = child.kill();
            }
            let _ = child.wait();
        }
    }
}
