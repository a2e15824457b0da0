//! A process without any right to a file reads parts of it, and can reach nothing else.
//!
//! This program is the host. It opens a file, removes all permissions from it, and starts a reader:
//! a C program that links nothing of this project, and gives up its privileges before it does
//! anything. The reader gets a queue and a piece of memory, both as sealed memfds, and handles to files, by the handshake
//! over a socket (docs/handshake.md). `vyre-io serve` is a host for any number of such processes.
//!
//! ```sh
//! cc -O2 -I crates/vyre-ioq/include -I crates/vyre-io-client/include \
//!     crates/vyre-io/examples/sandboxed_reader/reader.c -o target/reader
//! cargo run -p vyre-io --example sandboxed_reader -- target/reader
//! ```

mod host;

use std::path::PathBuf;
use std::process::Stdio;

use vyre_io::{BufferTable, FileTable, IoLoop};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: sandboxed_reader READER, the program that reader.c makes";
    let reader = PathBuf::from(std::env::args_os().nth(1).ok_or(usage)?);

    let directory = tempfile::tempdir()?;
    let (path, secret) = host::secret_file(directory.path())?;
    let (mut files, mut buffers) = (FileTable::new(), BufferTable::new());
    let (client, queue) = host::Client::new(secret, None, &mut files, &mut buffers)?;
    let io = IoLoop::builder()
        .files(files)
        .buffers(buffers)
        .queue(queue)
        .spawn()?;

    let mut child = client.start(&reader, &["show"], &path, Stdio::inherit())?;
    let status = child.wait()?;
    io.stop()?;
    if !status.success() {
        return Err(format!("the reader found something else than it should ({status})").into());
    }
    Ok(())
}
