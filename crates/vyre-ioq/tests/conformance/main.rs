//! The conformance suite for device ends in any language. The suite is the host, and tells a driver what to
//! do. PROTOCOL.md describes the protocol between them.

#![cfg(all(feature = "std", target_os = "linux", not(miri)))]

mod driver;
mod laps;
mod memory;
mod numbered;
mod rig;
mod rust_driver;
mod slots;
mod threads;
mod waits;
mod words;

use driver::{Driver, Kind};
use std::path::Path;

type Scenario = fn(&mut Driver);

/// The scenarios that a driver must pass. Each starts a new driver.
const SCENARIOS: &[(&str, Scenario)] = &[
    ("words_of_each_operation", words::words_of_each_operation),
    (
        "words_of_each_operation_bare",
        words::words_of_each_operation_bare,
    ),
    (
        "attach_rules_of_the_header",
        words::attach_rules_of_the_header,
    ),
    (
        "attach_rules_of_the_bare_layout",
        words::attach_rules_of_the_bare_layout,
    ),
    (
        "what_attach_takes_from_the_header",
        words::what_attach_takes_from_the_header,
    ),
    ("depth_is_all_slots", slots::depth_is_all_slots),
    (
        "the_lowest_free_slot_first",
        slots::the_lowest_free_slot_first,
    ),
    ("groups_are_marked_first", slots::groups_are_marked_first),
    ("left_over_slots", slots::left_over_slots),
    (
        "an_attach_touches_no_slot",
        slots::an_attach_touches_no_slot,
    ),
    (
        "abandoned_slots_come_back",
        slots::abandoned_slots_come_back,
    ),
    ("outcomes", laps::outcomes),
    (
        "bare_outcomes_are_status_alone",
        laps::bare_outcomes_are_status_alone,
    ),
    (
        "takes_and_reservations_store_nothing",
        laps::takes_and_reservations_store_nothing,
    ),
    (
        "nothing_is_taken_before_its_time",
        laps::nothing_is_taken_before_its_time,
    ),
    ("many_laps_in_one_slot", laps::many_laps_in_one_slot),
    (
        "bare_queues_of_every_size_and_place",
        laps::bare_queues_of_every_size_and_place,
    ),
    (
        "the_doorbell_rings_when_asleep",
        waits::the_doorbell_rings_when_asleep,
    ),
    (
        "a_ring_wakes_a_host_in_another_process",
        waits::a_ring_wakes_a_host_in_another_process,
    ),
    (
        "a_wait_sleeps_until_the_host_wakes_it",
        waits::a_wait_sleeps_until_the_host_wakes_it,
    ),
    (
        "what_the_host_says_of_itself",
        waits::what_the_host_says_of_itself,
    ),
    (
        "a_wait_ends_with_the_outcome",
        waits::a_wait_ends_with_the_outcome,
    ),
    (
        "an_outcome_before_the_end_is_seen",
        waits::an_outcome_before_the_end_is_seen,
    ),
    (
        "a_wait_ends_when_the_host_is_gone",
        waits::a_wait_ends_when_the_host_is_gone,
    ),
    ("a_wait_ends_at_its_limit", waits::a_wait_ends_at_its_limit),
    (
        "a_wait_ends_when_the_heartbeat_stands_still",
        waits::a_wait_ends_when_the_heartbeat_stands_still,
    ),
    ("many_threads", threads::many_threads),
    (
        "many_threads_in_the_bare_layout",
        threads::many_threads_in_the_bare_layout,
    ),
];

/// Scenarios that need an extra, which a driver may lack.
const EXTRAS: &[(&str, &str)] = &[
    ("the_doorbell_rings_when_asleep", "doorbell"),
    ("a_ring_wakes_a_host_in_another_process", "futex"),
    ("a_wait_sleeps_until_the_host_wakes_it", "futex"),
    (
        "a_wait_ends_when_the_heartbeat_stands_still",
        "heartbeat_timeout",
    ),
];

/// Runs every scenario. Fails if the driver did nothing in one. Returns the extras that the driver lacks.
fn conforms(kind: &Kind) -> Vec<&'static str> {
    let (mut passed, mut commands, mut lacking) = (0, 0, Vec::new());
    let mut name = String::new();
    for (scenario, run) in SCENARIOS {
        let mut driver = Driver::start(kind);
        name.clone_from(&driver.name);
        let extra = EXTRAS.iter().find(|(about, _)| about == scenario);
        if let Some((_, extra)) = extra.filter(|(_, extra)| !driver.has(extra)) {
            lacking.push(*extra);
            continue;
        }
        println!("{name}: {scenario}");
        run(&mut driver);
        assert!(driver.commands() > 0, "{name}: {scenario} ran nothing");
        commands += driver.commands();
        passed += 1;
    }
    assert_eq!(passed + lacking.len(), SCENARIOS.len());
    println!("{name}: {passed} scenarios, {commands} commands; without {lacking:?}");
    lacking
}

#[test]
fn the_rust_device_end_conforms() {
    assert!(conforms(&Kind::Rust).is_empty(), "every extra is there");
}

#[test]
fn the_c_headers_conform_in_c() {
    let driver = Kind::compiled("cc", &["-std=c11"], "c");
    assert!(conforms(&driver).is_empty(), "every extra is there");
}

#[test]
fn the_c_headers_conform_in_cpp() {
    let driver = Kind::compiled("c++", &["-xc++", "-std=c++17"], "c++");
    assert!(conforms(&driver).is_empty(), "every extra is there");
}

/// The CUDA header with threads as lanes: its functions for threads, and those for warps.
#[test]
#[cfg_attr(miri, ignore = "runs a program")]
fn the_cuda_header_conforms_on_threads() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("driver-shim");
    let source = here.join("tests/shim/driver.cpp");
    driver::compile("c++", &["-std=c++17", "-pthread"], &source, &program);
    for level in [&["threads"], &["warps"]] {
        let driver = Kind::Program(program.clone(), level);
        assert_eq!(conforms(&driver), ["futex"; 2], "a GPU wakes nobody");
    }
}

/// On some kernels, ThreadSanitizer needs address randomisation to be off.
///
/// Rules: ABI-4.2, ABI-4.10.
#[test]
fn the_orderings_of_the_c_headers_hold_under_thread_sanitizer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = source.join("tests/conformance/orderings.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("orderings");
    let args = ["-std=c11", "-g", "-pthread", "-fsanitize=thread"];
    driver::compile("cc", &args, &source, &program);
    let ran = std::process::Command::new("setarch")
        .arg("--addr-no-randomize")
        .arg(program)
        .status()
        .expect("setarch, of util-linux");
    assert!(ran.success(), "{ran}: a data race is reported above");
}

#[test]
fn what_the_c_headers_do_with_misuse() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/misuse.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("misuse-c");
    driver::compile("cc", &["-std=c11", "-Wshadow"], &source, &program);
    let ran = std::process::Command::new(program)
        .output()
        .expect("starts");
    assert!(ran.status.success(), "{ran:?}");
}

/// Undefined macros compare equal: without the check, the header would assume a byte order.
#[test]
fn an_unknown_byte_order_is_refused() {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    for macros in ["__BYTE_ORDER__", "__ORDER_BIG_ENDIAN__"] {
        let compiled = std::process::Command::new("cc")
            .args(["-fsyntax-only", "-std=c11", "-U", macros])
            .arg(include.join("vyre_ioq.h"))
            .output()
            .expect("a C compiler");
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(said.contains("vyre_ioq.h needs a compiler"), "{said}");
    }
}

/// Firmware has the headers of the compiler, and no C library.
#[test]
fn the_c_header_needs_no_c_library() {
    let said = |arguments: &[&str]| {
        let output = std::process::Command::new("cc").args(arguments).output();
        let output = output.expect("a C compiler");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a path")
    };
    let own = said(&["-print-file-name=include"]);
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/vyre_ioq.h");
    let header = header.to_str().expect("UTF-8");
    said(&[
        "-fsyntax-only",
        "-std=c11",
        "-ffreestanding",
        "-nostdinc",
        "-isystem",
        own.trim(),
        header,
    ]);
}

#[test]
fn the_example_of_the_c_readme_compiles() {
    let text = include_str!("../../include/README.md");
    let (_, example) = text.split_once("```c\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = directory.join("readme.c");
    std::fs::write(&source, example).expect("room");
    for (compiler, dialect) in [
        ("cc", ["-c", "-std=c11", "-xc"]),
        ("c++", ["-c", "-std=c++17", "-xc++"]),
    ] {
        driver::compile(compiler, &dialect, &source, &directory.join("readme.o"));
    }
}

/// A driver that answers without doing anything must not pass.
#[test]
fn a_driver_that_does_nothing_fails() {
    const IDLE: &str = "while read -r line; do echo ok idle heartbeat_timeout doorbell; done";
    let idle = Kind::Program("sh".into(), &["-c", IDLE]);
    for (scenario, run) in SCENARIOS {
        let mut driver = Driver::start(&idle);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut driver)));
        assert!(ran.is_err(), "{scenario} passed an idle driver");
    }
}
