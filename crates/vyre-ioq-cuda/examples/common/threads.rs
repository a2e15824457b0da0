//! Threads in place of a GPU: g++ compiles the kernel, and the program runs it on 32 threads for
//! each warp. This is slow, and serves to try a kernel and to test it on machines without a GPU.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use tempfile::TempDir;
use vyre_ioloop::{SharedQueueError, shared_queue};
use vyre_ioq::{HostQueue, QueueLayout, headers};
use vyre_ioq_cuda::QueueView;
use vyre_uring::{Buffer, BufferError};

const PROGRAM: &str = include_str!("threads.cpp");
/// Address at which the program maps memory: Linux places nothing there by itself.
const FIRST_ADDRESS: u64 = 0x10_0000_0000;
const ADDRESS_STEP: u64 = 0x4_0000_0000;

/// Reason why a kernel did not run on threads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ThreadsError {
    /// The program's files could not be written.
    #[error("cannot write {path}: {reason}; is there room, and is TMPDIR yours?")]
    Write { path: PathBuf, reason: io::Error },
    /// There is no compiler.
    #[error("cannot run g++ ({0}): install it with your distribution")]
    NoCompiler(io::Error),
    /// The compiler refused the kernel.
    #[error("g++ does not compile the kernel; mend it by what it said:\n{0}")]
    Refused(String),
    /// The compiled program does not start.
    #[error("cannot start the kernel's program ({0}): is TMPDIR mounted noexec?")]
    NoStart(io::Error),
    /// The program ended early and has printed the reason on standard error.
    #[error("the threads ended with {0}; what they wrote above says why")]
    Ended(ExitStatus),
    /// The memory could not be allocated.
    #[error(transparent)]
    Memory(#[from] BufferError),
    /// The queue could not be created.
    #[error(transparent)]
    Queue(#[from] SharedQueueError),
}

/// A kernel, compiled for threads.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    _dir: TempDir,
}

impl Program {
    /// Compiles the kernel `name` of `text`.
    pub(crate) fn compile(text: &str, name: &str) -> Result<Self, ThreadsError> {
        let dir = directory()?;
        for (file, text) in headers::CUDA_FILES {
            write(&dir, file, text.as_bytes())?;
        }
        write(&dir, "kernel.cuh", text.as_bytes())?;
        let source = write(&dir, "kernel.cpp", PROGRAM.as_bytes())?;
        let path = dir.path().join("kernel");
        let compiled = Command::new("g++")
            .args(["-std=c++17", "-O1", "-Wall", "-Wextra"])
            // A later compiler may warn of more, which is no reason to fail a user.
            .args(cfg!(test).then_some("-Werror"))
            .args(["-pthread", &format!("-DVYRE_KERNEL={name}"), "-o"])
            .args([path.as_path(), &source])
            .output()
            .map_err(ThreadsError::NoCompiler)?;
        if !compiled.status.success() {
            let said = String::from_utf8_lossy(&compiled.stderr);
            return Err(ThreadsError::Refused(said.into_owned()));
        }
        Ok(Self { path, _dir: dir })
    }
}

/// Memory that the threads share, and the queues in it.
#[derive(Debug)]
pub(crate) struct Threads {
    dir: TempDir,
    memories: Vec<(u64, OwnedFd)>,
    /// The addresses of memory that is only read.
    read_only: Vec<u64>,
    views: Vec<QueueView>,
}

impl Threads {
    pub(crate) fn new() -> Result<Self, ThreadsError> {
        Ok(Self {
            dir: directory()?,
            memories: Vec::new(),
            read_only: Vec::new(),
            views: Vec::new(),
        })
    }

    /// Allocates zeroed memory. Returns it with its address for kernels.
    pub(crate) fn memory(&mut self, len: usize) -> Result<(Buffer, u64), ThreadsError> {
        let (buffer, memfd) = Buffer::memfd(len)?;
        Ok((buffer, self.place(memfd)))
    }

    /// Creates a queue. Returns the host's end and the kernels' view.
    pub(crate) fn queue(
        &mut self,
        layout: QueueLayout,
    ) -> Result<(HostQueue, QueueView), ThreadsError> {
        let (host, memfd) = shared_queue(layout)?;
        let base = self.place(memfd);
        let (_, local) = self.memory(QueueView::DEVICE_STATE_BYTES)?;
        let view = QueueView::at(base, local, &host);
        self.views.push(view);
        Ok((host, view))
    }

    /// Adds memory that other processes share. Returns its address for kernels.
    pub(crate) fn place(&mut self, memfd: OwnedFd) -> u64 {
        let address = FIRST_ADDRESS + self.memories.len() as u64 * ADDRESS_STEP;
        self.memories.push((address, memfd));
        address
    }

    /// Adds a file that kernels only read. Returns its address for kernels.
    #[allow(
        dead_code,
        reason = "not every program with this file reads files in a view"
    )]
    pub(crate) fn place_file(&mut self, file: &File) -> io::Result<u64> {
        let address = self.place(file.try_clone()?.into());
        self.read_only.push(address);
        Ok(address)
    }

    /// Runs the kernel on a grid, to its end. `argument` is its parameter.
    pub(crate) fn run(
        &self,
        program: &Program,
        grid: (u32, u32),
        argument: &[u8],
    ) -> Result<(), ThreadsError> {
        let ended = self.start(program, grid, argument)?.wait();
        match ended.map_err(ThreadsError::NoStart)? {
            status if status.success() => Ok(()),
            status => Err(ThreadsError::Ended(status)),
        }
    }

    /// Starts the kernel on a grid, in a process of its own.
    pub(crate) fn start(
        &self,
        program: &Program,
        (blocks, threads): (u32, u32),
        argument: &[u8],
    ) -> Result<Child, ThreadsError> {
        let views = bytemuck::cast_slice(&self.views);
        let mut command = Command::new(&program.path);
        command
            .arg(write(&self.dir, "args", argument)?)
            .arg(write(&self.dir, "views", views)?)
            .args([blocks.to_string(), threads.to_string()]);
        for (address, memfd) in &self.memories {
            let path = format!("/proc/{}/fd/{}", std::process::id(), memfd.as_raw_fd());
            let mark = if self.read_only.contains(address) {
                "r"
            } else {
                ""
            };
            command.args([format!("{address}{mark}"), path]);
        }
        command.spawn().map_err(ThreadsError::NoStart)
    }
}

fn directory() -> Result<TempDir, ThreadsError> {
    TempDir::new().map_err(|reason| ThreadsError::Write {
        path: std::env::temp_dir(),
        reason,
    })
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> Result<PathBuf, ThreadsError> {
    let path = dir.path().join(name);
    match fs::write(&path, bytes) {
        Ok(()) => Ok(path),
        Err(reason) => Err(ThreadsError::Write { path, reason }),
    }
}
