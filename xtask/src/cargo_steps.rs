//! The steps that are one cargo command, or a few.

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, sh, tools};

pub(crate) fn fmt(ws: &Workspace, _: &mut Report) -> Result<()> {
    sh::run(&mut sh::cargo(ws, &["fmt", "--all", "--check"]))
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

/// Builds for a target that has no `std` at all, then checks each set of features here: on a
/// machine that has `std`, a crate that uses it by mistake still compiles.
pub(crate) fn no_std(ws: &Workspace, report: &mut Report) -> Result<()> {
    let bare = ["-p", "vyre-ioq", "--no-default-features"];
    let features = ["", "alloc", "std"];
    for feature in features {
        sh::run(
            sh::cargo(ws, &["check"])
                .args(bare)
                .args(["--features", feature]),
        )?;
    }
    let Some(target) = tools::bare_target(ws) else {
        report.skip("host features only: no target without std is installed");
        return Ok(());
    };
    sh::run(
        sh::cargo(ws, &["build"])
            .args(bare)
            .args(["--target", target]),
    )?;
    report.note = format!("{target}, and {} feature sets", features.len());
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
