//! `vyre-io serve` and its peers.

mod common;

use common::serve::{Server, handle};
use common::{contents, file, place};
use vyre_io::{Errno, Request};
use vyre_io_client::protocol::{Goodbye, rights};

const LEN: usize = 64 << 10;

#[test]
fn a_peer_reads_what_the_server_gives_it() {
    let dir = place();
    let path = file(dir.path(), "weights", LEN);
    let spec = format!("weights={}:r:4k-8k", path.display());
    let server = Server::start(dir.path(), &["--file", &spec]);
    let mut peer = server.peer();
    assert_eq!(peer.welcome.files, 1);
    let queue = peer.queue(16);
    let buffer = peer.buffer(&queue, 8192);
    let weights = peer.open(&queue, "weights", 0);
    assert_eq!(
        (weights.start, weights.end, weights.length),
        (4096, 8192, 4096)
    );
    assert_eq!(weights.rights, rights::READ);
    let read = Request::read(handle(&weights), 100, 200).into_buffer(buffer.handle, 64);
    assert_eq!(queue.perform(read).bytes(), Ok(200));
    let mut bytes = [0; 200];
    buffer.memory.read_at(64, &mut bytes).expect("inside");
    assert_eq!(bytes, contents(LEN)[4196..4396]);
    // Neither past the range nor without the right.
    let past = Request::read(handle(&weights), 4090, 10).into_buffer(buffer.handle, 0);
    assert_eq!(queue.perform(past).bytes(), Err(Errno::ERANGE));
    let write = Request::write(handle(&weights), 0, 1).from_buffer(buffer.handle, 0);
    assert_eq!(queue.perform(write).bytes(), Err(Errno::EACCES));
    peer.ask(Goodbye {}).expect("done");
    let (status, log) = server.end();
    assert!(status.success(), "{status}: {log}");
    for part in ["joined", "said goodbye", "bytes_read=200", "SIGTERM"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!dir.path().join("socket").exists(), "the socket stays");
}
