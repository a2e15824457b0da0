//! The steps that are one cargo command, or a few.

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, consumers, fuzz, sh, tools};

use tools::BARE_TARGET;

/// What `vyre-ioq` can have where there is no `std`.
const BARE_FEATURES: &[&str] = &["", "alloc"];

/// Checks all workspaces, since a stale lock file fails their own steps late.
pub(crate) fn fmt(ws: &Workspace, _: &mut Report) -> Result<()> {
    sh::run(&mut sh::cargo(ws, &["fmt", "--all", "--check"]))?;
    consumers::fmt(ws)?;
    fuzz::fmt(ws)?;
    for manifest in ["Cargo.toml", consumers::MANIFEST, fuzz::MANIFEST] {
        let update = ["update", "--workspace", "--locked", "--quiet"];
        let mut command = sh::cargo(ws, &update);
        sh::run(command.args(["--manifest-path", manifest])).map_err(|error| {
            format!("{error}; `cargo update --workspace --manifest-path {manifest}` mends a stale lock file")
        })?;
    }
    Ok(())
}

pub(crate) fn clippy(ws: &Workspace, _: &mut Report) -> Result<()> {
    let args = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
    ];
    sh::run(sh::cargo(ws, &args).args(["-D", "warnings"]))
}

pub(crate) fn docs(ws: &Workspace, _: &mut Report) -> Result<()> {
    let args = ["doc", "--workspace", "--no-deps", "--all-features"];
    sh::run(sh::cargo(ws, &args).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Builds for a target that has no `std` at all: on a machine that has one, a crate that uses it by
/// mistake still compiles.
pub(crate) fn no_std(ws: &Workspace, report: &mut Report) -> Result<()> {
    if !tools::has_target(ws, BARE_TARGET) {
        report.skip(format!("{BARE_TARGET} is not installed"));
        return Ok(());
    }
    for features in BARE_FEATURES {
        let args = ["build", "-p", "vyre-ioq", "--no-default-features"];
        let mut command = sh::cargo(ws, &args);
        sh::run(command.args(["--features", features, "--target", BARE_TARGET]))?;
    }
    report.note = format!("{BARE_TARGET}, {} sets of features", BARE_FEATURES.len());
    Ok(())
}

pub(crate) fn msrv(ws: &Workspace, report: &mut Report) -> Result<()> {
    if !tools::has_toolchain(ws, &ws.msrv) {
        report.skip(format!("Rust {} is not installed", ws.msrv));
        return Ok(());
    }
    let toolchain = format!("+{}", ws.msrv);
    let args = [
        &toolchain,
        "check",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
    ];
    sh::run(sh::cargo(ws, &args).args(["--target-dir", "target/msrv"]))?;
    report.note = format!("Rust {}", ws.msrv);
    Ok(())
}
