//! Work by volume: property tests, hostile words, the soak of producers, and the fuzz targets.

use crate::report::{Report, counted};
use crate::tools;
use crate::workspace::{Result, Workspace, cmd, stream};

/// Packages with a `tests/props.rs`.
const PROPS: &[&str] = &["vyre-ioq", "vyre-ioloop", "vyre-io-client"];
/// Variable with the number of cases of each property, which proptest itself reads.
const CASES: &str = "PROPTEST_CASES";

/// Variable with the duration of the test of page-cache reads.
const SECONDS: &str = "VYRE_IO_PAGE_CACHE_SECONDS";

/// Variable with the policy of loops in tests, and with the number of wake-ups of the test that loses none.
const POLICY: &str = "VYRE_IO_POLICY";
const ROUNDS: &str = "VYRE_IO_ROUNDS";

/// Each fuzz target with the most bytes that make a difference to it.
const TARGETS: &[(&str, u32)] =
    &[("attach", 8192), ("decode", 64), ("ends", 512), ("handshake", 512), ("hostile", 512), ("page_cache", 512)];

/// Runs the property tests. Without a seed, proptest takes a fresh one in every run.
pub(crate) fn props(ws: &Workspace, report: &mut Report) -> Result<()> {
    let cases = std::env::var(CASES).unwrap_or_else(|_| "4096".to_owned());
    for package in PROPS {
        let props = cmd!(ws, "cargo test --release -p {package} --test props");
        let props = props.env(CASES, &cases).env_remove("PROPTEST_RNG_SEED");
        counted(props, &mut report.tests)?;
    }
    report.note = format!("{} properties, {cases} cases each", report.tests.passed);
    Ok(())
}

/// Reads a file out of the page cache for a minute, while others change it in every way.
pub(crate) fn disturb(ws: &Workspace, report: &mut Report) -> Result<()> {
    let seconds = std::env::var(SECONDS).unwrap_or_else(|_| "60".to_owned());
    let disturb = cmd!(ws, "cargo test --release -p vyre-ioloop --test page_cache");
    counted(disturb.env(SECONDS, &seconds), &mut report.tests)?;
    report.note = format!("{seconds} s");
    Ok(())
}

/// Runs the tests of the loop with each policy other than the default, and many rounds of sleeps and wake-ups.
pub(crate) fn policies(ws: &Workspace, report: &mut Report) -> Result<()> {
    for policy in ["spin", "doorbell"] {
        let tests = cmd!(ws, "cargo test -p vyre-ioloop --tests");
        counted(tests.env(POLICY, policy), &mut report.tests)?;
    }
    let rounds = std::env::var(ROUNDS).unwrap_or_else(|_| "200000".to_owned());
    let many = cmd!(ws, "cargo test --release -p vyre-ioloop --test doorbell no_wake_up_is_lost");
    counted(many.env(ROUNDS, &rounds), &mut report.tests)?;
    report.note = format!("spin, doorbell; {rounds} wake-ups each way");
    Ok(())
}

/// Runs a share of what the harness can run for as long as one likes.
pub(crate) fn hostile(ws: &Workspace, report: &mut Report) -> Result<()> {
    for work in [["words", "2e7"], ["soak", "1e6"], ["handshake", "1e6"]] {
        let mut said = false;
        stream(cmd!(ws, "cargo run --release -p vyre-fuzz-harness -- {work...}"), |line| {
            said |= ["nothing lost", "0 lost", "none failed"].iter().any(|end| line.contains(end));
        })?;
        if !said {
            return Err(format!("{work:?} ended without its figures").into());
        }
    }
    "2e7 hostile words, 1e6 requests of producers, 1e6 hostile conversations".clone_into(&mut report.note);
    Ok(())
}

/// Builds the fuzz targets as a user of the stable toolchain can. The tests of the harness run their
/// seeds.
pub(crate) fn fuzz_build(ws: &Workspace, report: &mut Report) -> Result<()> {
    let at = ["--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target/fuzz"];
    cmd!(ws, "cargo clippy --locked {at...} -- -D warnings").run()?;
    report.note = format!("{} targets", TARGETS.len());
    Ok(())
}

/// Fuzzes one target after the other for a minute, and counts executions.
pub(crate) fn fuzz(ws: &Workspace, report: &mut Report) -> Result<()> {
    tools::nightly(ws, &[])?;
    tools::need(ws, "cargo-fuzz")?;
    let mut all = 0;
    for (target, max_len) in TARGETS {
        // What is found goes to the first directory, which git ignores.
        let [corpus, seeds] = ["corpus", "seeds"].map(|dir| format!("fuzz/{dir}/{target}"));
        ws.sh.create_dir(&corpus)?;
        let limits = [format!("-max_len={max_len}"), "-max_total_time=60".to_owned()];
        let run = cmd!(ws, "cargo-fuzz fuzz run {target} {corpus} {seeds} -- {limits...}");
        let mut executions = 0;
        stream(run.arg("-print_final_stats=1").env("RUSTUP_TOOLCHAIN", "nightly"), |line| {
            executions = executed(line).unwrap_or(executions);
        })?;
        if executions == 0 {
            return Err(format!("{target} was never executed").into());
        }
        all += executions;
    }
    report.note = format!("{all} executions");
    Ok(())
}

/// `stat::number_of_executed_units: 4096` → 4096.
fn executed(line: &str) -> Option<u64> {
    line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read() {
        assert_eq!(executed("stat::number_of_executed_units: 123456"), Some(123_456));
        for other in ["stat::average_exec_per_sec: 100", "stat::number_of_executed_units: x"] {
            assert_eq!(executed(other), None, "{other}");
        }
    }

    #[test]
    fn the_targets_are_those_of_the_manifest() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        for (target, _) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }
}
