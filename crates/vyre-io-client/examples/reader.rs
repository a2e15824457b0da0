//! Reads a file of a server and writes its bytes to the standard output, or lists the files.
//!
//! ```sh
//! cargo run -p vyre-io-client --example reader -- /run/vyre-io.sock          # which files there are
//! cargo run -p vyre-io-client --example reader -- /run/vyre-io.sock weights  # the bytes of one
//! ```

use std::collections::VecDeque;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use vyre_io_client::{Client, Features, Request};

/// Requests in flight, and bytes of each.
const DEPTH: u32 = 8;
const BLOCK: u32 = 256 << 10;
/// Time after which a server that lives but does not answer is given up.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reader: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let path = words.next().ok_or("usage: reader SOCKET [FILE]")?;
    let mut client = Client::connect(path)?;
    match words.next() {
        Some(name) => read(&mut client, &name)?,
        None => {
            for file in client.files()? {
                println!("{}\t{}..{}", file.name, file.start, file.end);
            }
        }
    }
    client.goodbye()?;
    Ok(())
}

fn read(client: &mut Client, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let queue = client.queue(DEPTH, Features::WAKE)?;
    queue.device().expect_wakeups();
    let buffer = client.buffer(&queue, u64::from(DEPTH * BLOCK))?;
    let file = client.open(&queue, name, 0)?;
    let end = file.answer().length;

    let mut out = std::io::stdout().lock();
    let mut bytes = vec![0; BLOCK as usize];
    let mut flying = VecDeque::new();
    let (mut asked, mut part) = (0, 0);
    loop {
        while asked < end && flying.len() < DEPTH as usize {
            let place = u64::from(part % DEPTH * BLOCK);
            let count = (end - asked).min(BLOCK.into()) as u32;
            let request = Request::read(file.handle(), asked, count);
            let request = request.into_buffer(buffer.handle(), place).exact();
            flying.push_back((queue.device().submit(request)?, place as usize));
            (asked, part) = (asked + u64::from(count), part + 1);
        }
        let Some((ticket, place)) = flying.pop_front() else {
            break;
        };
        let count = queue.wait(ticket, LIMIT)?.bytes()? as usize;
        buffer.memory().read_at(place, &mut bytes[..count])?;
        out.write_all(&bytes[..count])?;
    }
    out.flush()?;
    Ok(())
}
