//! Peers of `vyre-io serve` in other languages than Rust. `crates/vyre-io-python/tests` has those in Python.

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use common::serve::Server;
use common::{contents, file, place, skipped};

const LEN: usize = 64 << 10;
const SKIPPED: usize = 96;
const BYTES: usize = 4000;

/// The client that is a header alone, as C and as C++.
#[test]
fn the_c_client_reads_and_writes() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let headers = ["vyre-io-client/include", "vyre-ioq/include"].map(|path| crates.join(path));
    if !headers.iter().all(|path| path.exists()) {
        return skipped("no headers: not a checkout of the repository");
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve_clients/peer.c");
    for (compiler, language) in [("gcc", "c"), ("g++", "c++")] {
        let dir = place();
        let program = dir.path().join("peer");
        let mut compile = Command::new(compiler);
        compile.args(["-x", language, "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
        compile.arg(&program).arg(&source);
        for path in &headers {
            compile.arg("-I").arg(path);
        }
        let compiled = compile.status().expect("gcc and g++: install them");
        assert!(compiled.success(), "{compiler}");
        let weights = file(dir.path(), "weights", LEN);
        let scratch = file(dir.path(), "scratch", LEN);
        let specs = [
            format!("weights={}", weights.display()),
            format!("scratch={}:rws:4k+4k", scratch.display()),
        ];
        let args = ["--file", &specs[0], "--file", &specs[1]];
        let server = Server::start(dir.path(), &args);
        let output = Command::new(&program)
            .arg(&server.socket)
            .output()
            .expect("just compiled");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{compiler}: {said}");
        let expected = &contents(LEN)[SKIPPED..][..BYTES];
        assert!(output.stdout == expected, "{compiler}: other bytes");
        let written = std::fs::read(&scratch).expect("a file");
        assert!(written[4096..][..BYTES] == *expected, "{compiler}: written");
        assert!(written[..4096] == contents(LEN)[..4096], "{compiler}");
        let (status, log) = server.end();
        assert!(status.success(), "{status}: {log}");
        for part in ["said goodbye", "refusals=2"] {
            assert!(log.contains(part), "{part}: {log}");
        }
    }
}
