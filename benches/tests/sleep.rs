//! Tests that `sleep` measures what it says. The figures of this run mean nothing.

use std::process::Command;

#[test]
fn a_short_run_measures_everything_but_long_quiet_times() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sleep"));
    let args = [
        "memory",
        "idle",
        "wake",
        "cpu",
        "--seconds",
        "0.1",
        "--dir",
        dir,
    ];
    let output = command.args(args).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    for part in [
        "memory: a loop with one queue of 64 slots adds ",
        "| DOORBELL | ",
        "| ADAPTIVE | ",
        "| bare futex | ",
        "| bare eventfd | ",
        "| DOORBELL, eventfd | ",
        "| raw ring, sleeps | ",
    ] {
        assert!(stdout.contains(part), "{part} is not in\n{stdout}");
    }
}
