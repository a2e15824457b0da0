//! The C client: under every standard that it supports, with the golden bytes, and against a server.

#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../golden/mod.rs"]
mod golden;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use vyre_io_client::protocol::{Limits, QueueIs, Reply, Request, Session};

/// C11 to C23 and C++14 to C++23, by the names that compilers of 2022 know too.
const C: &[&str] = &["c11", "c17", "c2x", "gnu11", "gnu2x"];
const CPP: &[&str] = &["c++14", "c++17", "c++20", "c++2b", "gnu++17"];

const WARNINGS: &[&str] = &[
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wcast-align",
    "-Wundef",
    "-Werror",
];

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Returns the folder of vyre_ioq.h, which a packaged crate does not have beside it.
fn queue_headers(test: &str) -> Option<PathBuf> {
    let folder = Path::new(HERE).join("../vyre-ioq/include");
    let found = folder.join("vyre_ioq.h").exists();
    if !found {
        skip(test, "no vyre_ioq.h: not a checkout of the repository");
    }
    found.then_some(folder)
}

fn run(compiler: &str, args: &[&str], headers: &Path) -> Option<Output> {
    let here = Path::new(HERE);
    let ran = Command::new(compiler)
        .args(args)
        .arg("-I")
        .arg(here.join("include"))
        .arg("-I")
        .arg(headers)
        .current_dir(here.join("tests/c_client"))
        .output();
    match ran {
        Ok(output) => Some(output),
        Err(error) if compiler.starts_with('g') => {
            panic!("cannot start {compiler} ({error}): install gcc and g++")
        }
        Err(_) => None,
    }
}

/// Compiles the program; nothing if there is no compiler or no header of the queue.
fn program(test: &str, compiler: &str, args: &[&str]) -> Option<PathBuf> {
    let headers = queue_headers(test)?;
    let name = format!("{test}-{compiler}");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let output = program.to_str().expect("UTF-8");
    let args = [args, WARNINGS, &["client.c", "-O1", "-o", output]].concat();
    let Some(compiled) = run(compiler, &args, &headers) else {
        skip(test, &format!("{compiler} is not installed"));
        return None;
    };
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{compiler}: {said}");
    Some(program)
}

/// The program as C and as C++.
fn programs(test: &str) -> Vec<PathBuf> {
    let c = program(test, "gcc", &["-std=c11", "-xc"]);
    let cpp = program(test, "g++", &["-std=c++14", "-xc++"]);
    c.into_iter().chain(cpp).collect()
}

#[test]
fn the_headers_are_clean_under_every_standard() {
    let test = "the_headers_are_clean_under_every_standard";
    let Some(headers) = queue_headers(test) else {
        return;
    };
    for (compiler, standards, language) in [
        ("gcc", C, "-xc"),
        ("clang", C, "-xc"),
        ("g++", CPP, "-xc++"),
        ("clang++", CPP, "-xc++"),
    ] {
        if run(compiler, &["--version"], &headers).is_none() {
            skip(test, &format!("{compiler} is not installed"));
            continue;
        }
        let mut compiled = 0;
        for standard in standards {
            let standard = format!("-std={standard}");
            let known = [&standard, "-fsyntax-only", language, "/dev/null"];
            if !run(compiler, &known, &headers).is_some_and(|output| output.status.success()) {
                skip(test, &format!("{compiler} has no {standard}"));
                continue;
            }
            let args = [&[standard.as_str(), "-fsyntax-only", language], WARNINGS].concat();
            for source in [
                &["client.c"][..],
                &["-include", "vyre_io_client.h", "/dev/null"],
            ] {
                let output = run(compiler, &[&args, source].concat(), &headers).expect("found");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success(),
                    "{compiler} {standard} {source:?}: {said}"
                );
                compiled += 1;
            }
        }
        println!("{test}: {compiler}: {compiled} compilations");
        assert!(compiled >= 6, "{compiler}");
    }
}

/// A program may host queues by `vyre_io.h`, and be a client of another server.
#[test]
fn the_headers_of_a_host_and_of_a_client_work_in_one_program() {
    let test = "the_headers_of_a_host_and_of_a_client_work_in_one_program";
    let host = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../vyre-io-capi/include/vyre_io.h"
    );
    let (Some(headers), true) = (queue_headers(test), std::path::Path::new(host).is_file()) else {
        return skip(test, "the package is not in its repository");
    };
    for (compiler, language) in [
        ("gcc", ["-std=c11", "-xc"]),
        ("g++", ["-std=c++14", "-xc++"]),
    ] {
        let args = [&language[..], WARNINGS, &["-fsyntax-only"]].concat();
        for includes in [[host, "vyre_io_client.h"], ["vyre_io_client.h", host]] {
            let [first, second] = includes;
            let both = [
                "-D_GNU_SOURCE",
                "-include",
                first,
                "-include",
                second,
                "/dev/null",
            ];
            match run(compiler, &[&args, &both[..]].concat(), &headers) {
                Some(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(output.status.success(), "{compiler} {includes:?}: {said}");
                }
                None => skip(test, &format!("{compiler} is not installed")),
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!(" {byte:02x}")).collect()
}

/// Rules: HS-2.1, HS-2.2.
#[test]
fn the_c_client_writes_the_golden_bytes() {
    for program in programs("the_c_client_writes_the_golden_bytes") {
        let ran = Command::new(&program)
            .arg("golden")
            .output()
            .expect("just compiled");
        let printed = String::from_utf8(ran.stdout).expect("UTF-8");
        let golden = golden::bytes();
        let expected = golden
            .iter()
            .map(|(name, bytes)| format!("{name}{}\n", hex(bytes)));
        assert_eq!(printed, expected.collect::<String>());
    }
}

/// Rules: HS-2.3, HS-2.4, HS-2.5, HS-2.6.
#[test]
fn the_c_client_takes_and_refuses_what_the_rust_client_does() {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for (_, bytes) in golden::bytes() {
        for at in 0..bytes.len().min(200) {
            for value in [1, 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] ^= value;
                packets.push(wrong);
            }
        }
        for len in (0..bytes.len()).step_by(3) {
            let mut short = bytes[..len].to_vec();
            if len >= 12 {
                short[8..12].copy_from_slice(&(len as u32).to_le_bytes());
            }
            packets.push(short);
        }
        packets.push(bytes);
    }
    let expected = |packet: &[u8]| match (Request::decode(packet), Reply::decode(packet)) {
        (Ok((id, request)), _) => Some(request.encode(id).bytes().to_vec()),
        (_, Ok((id, reply))) => Some(reply.encode(id).bytes().to_vec()),
        _ => None,
    };
    for program in programs("the_c_client_takes_and_refuses_what_the_rust_client_does") {
        let mut child = Command::new(&program)
            .arg("echo")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("just compiled");
        let mut stdin = child.stdin.take().expect("piped");
        let lines: String = packets.iter().map(|packet| hex(packet) + "\n").collect();
        let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("the writer").expect("all of it");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let mut malformed = 0;
        let mut count = 0;
        for (packet, line) in packets.iter().zip(printed.lines()) {
            count += 1;
            malformed += u32::from(line == "malformed");
            match expected(packet) {
                None => assert_eq!(line, "malformed", "{}", hex(packet)),
                Some(again) if packet[5] == 0x80 && matches!(packet[4], 2 | 9) => {
                    // The C program leaves the entries where they are.
                    let same = line == format!("again{}", hex(packet));
                    assert!(same || again != *packet, "{line}");
                    assert_ne!(line, "malformed", "{}", hex(packet));
                }
                Some(again) => assert_eq!(line, format!("again{}", hex(&again))),
            }
        }
        assert_eq!(count, packets.len());
        assert!(malformed > 1000, "{malformed}");
    }
}

#[test]
fn the_c_client_reads_a_file_through_its_queue() {
    for program in programs("the_c_client_reads_a_file_through_its_queue") {
        let (server, socket) = common::serve(Limits::default());
        let status = Command::new(&program).arg("read").stdin(socket).status();
        assert!(
            status.expect("just compiled").success(),
            "{}",
            program.display()
        );
        assert_eq!(server.join().refusals(), 1);
    }
}

/// Serves HELLO and QUEUE, and no request of the queue.
fn serve_nothing(socket: OwnedFd) -> (OwnedFd, Box<dyn std::any::Any>) {
    let mut session = Session::new(Limits::default());
    let _call = session.receive(&common::receive(&socket).expect("HELLO"), false);
    common::send(&socket, session.welcome(1, 0, 0).bytes(), &[]);
    let packet = common::receive(&socket).expect("QUEUE");
    let (id, _) = Request::decode(&packet).expect("QUEUE");
    let layout = vyre_io_client::ioq::QueueLayout::with_slots(4);
    let (host, memfd) = vyre_ioloop::shared_queue(layout).expect("memory");
    let answer = QueueIs {
        queue: 1,
        slots: 4,
        bytes: layout.bytes() as u64,
        features: 0,
        abi_major: 1,
        abi_minor: 0,
    };
    common::send(
        &socket,
        Reply::from(answer).encode(id).bytes(),
        &[memfd.as_fd()],
    );
    (socket, Box::new(host))
}

/// Rule: HS-7.1.
#[test]
fn a_wait_of_the_c_client_ends_with_the_server_or_with_its_limit() {
    for program in programs("a_wait_of_the_c_client_ends_with_the_server_or_with_its_limit") {
        for (limit, killed, expected) in [("100", false, "TIMED_OUT"), ("60000", true, "HOST_GONE")]
        {
            let (ours, theirs) = common::pair();
            let mut child = Command::new(&program)
                .args(["wait", limit])
                .stdin(theirs)
                .stdout(Stdio::piped())
                .spawn()
                .expect("just compiled");
            let (socket, _host) = serve_nothing(ours);
            let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
            assert_eq!(lines.next().expect("a line").expect("UTF-8"), "waiting");
            if killed {
                drop(socket);
                assert_eq!(lines.next().expect("a line").expect("UTF-8"), expected);
            } else {
                assert_eq!(lines.next().expect("a line").expect("UTF-8"), expected);
                drop(socket);
            }
            assert!(child.wait().expect("it ends").success());
        }
    }
}

#[test]
fn the_c_client_says_that_nobody_listens() {
    for program in programs("the_c_client_says_that_nobody_listens") {
        for (path, expected) in [
            ("/nonexistent/socket", "SYSTEM\n"),
            (&"x".repeat(200), "TOO_LONG\n"),
        ] {
            let ran = Command::new(&program).args(["connect", path]).output();
            assert_eq!(
                String::from_utf8_lossy(&ran.expect("just compiled").stdout),
                expected
            );
        }
    }
}
