//! What the other steps need: looked for by use, installed through rustup where it is missing.

use std::path::Path;

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Error, Result, sh};

/// The first cargo that packages crates of one workspace which depend on each other.
const OLDEST_CARGO: (u32, u32) = (1, 90);

/// A target without an operating system. It differs from the host in its word size too, and has no
/// 64-bit atomics.
pub(crate) const BARE_TARGET: &str = "thumbv7m-none-eabi";

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    if !["cc", "gcc", "clang"]
        .iter()
        .any(|cc| sh::succeeds(sh::program(ws, cc).arg("--version")))
    {
        return Err("no C compiler to link with: install gcc with your distribution".into());
    }
    // The tests of the CUDA header compile it, with ThreadSanitizer too.
    if !sh::succeeds(sh::program(ws, "g++").arg("--version")) {
        return Err(
            "no g++ for the tests of the CUDA header: install it with your distribution".into(),
        );
    }
    let version = sh::read(&mut sh::cargo(ws, &["--version"]))?;
    match minor_version(&version) {
        Some(found) if found >= OLDEST_CARGO => {}
        _ => {
            let (major, minor) = OLDEST_CARGO;
            let found = version.trim();
            let message = format!(
                "needs cargo {major}.{minor} or later, found {found}: run `rustup update stable`"
            );
            return Err(message.into());
        }
    }

    for (tool, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let there = || sh::succeeds(&mut sh::cargo(ws, &[tool, "--version"]));
        ensure(ws, component, &["component", "add", component], there)?;
    }
    report.note = version.trim().to_owned();
    optional(ws);
    Ok(())
}

/// Where these cannot be had, say without a network, the steps that need them are skipped, and
/// say so; `cargo xtask ci --no-skip` then fails.
fn optional(ws: &Workspace) {
    let add = ["target", "add", BARE_TARGET];
    if let Err(error) = ensure(ws, BARE_TARGET, &add, || has_target(ws, BARE_TARGET)) {
        warn(&error);
        println!("  warning: without {BARE_TARGET}, the no_std step will be skipped");
    }
    let install = [
        "toolchain",
        "install",
        &ws.msrv,
        "--profile",
        "minimal",
        "--no-self-update",
    ];
    let there = || has_toolchain(ws, &ws.msrv);
    if ensure(ws, &format!("Rust {}", ws.msrv), &install, there)
        .map_err(|error| warn(&error))
        .is_err()
    {
        println!(
            "  warning: without Rust {}, the msrv step will be skipped",
            ws.msrv
        );
    }
}

fn warn(error: &Error) {
    println!("  warning: {error}");
}

/// Sees to it that there is a nightly toolchain with these components.
pub(crate) fn nightly(ws: &Workspace, components: &[&str]) -> Result<()> {
    let list = components.join(",");
    let args = ["toolchain", "install", "nightly", "--profile", "minimal"];
    let with = ["--component", &list, "--no-self-update"];
    let there = || {
        let mut ask = sh::program(ws, "rustup");
        ask.args(["component", "list", "--toolchain", "nightly", "--installed"]);
        ask.stderr(std::process::Stdio::null());
        let installed = sh::read(&mut ask).unwrap_or_default();
        let has = |component: &str| installed.lines().any(|line| line.starts_with(component));
        components.iter().all(|component| has(component))
    };
    let what = format!("nightly Rust with {list}");
    ensure(ws, &what, &[&args[..], &with[..]].concat(), there)
}

pub(crate) fn has_toolchain(ws: &Workspace, version: &str) -> bool {
    let mut ask = sh::cargo(ws, &[&format!("+{version}"), "--version"]);
    // The question alone must not install anything.
    sh::succeeds(ask.env("RUSTUP_AUTO_INSTALL", "0"))
}

/// Asks, installs where the answer is no, and asks again.
fn ensure(ws: &Workspace, what: &str, rustup: &[&str], there: impl Fn() -> bool) -> Result<()> {
    if there() {
        println!("  {what}: there");
        return Ok(());
    }
    let advice = format!("rustup {}", rustup.join(" "));
    if !sh::succeeds(sh::program(ws, "rustup").arg("--version")) {
        return Err(format!("{what} is missing, and so is rustup, which would install it").into());
    }
    println!("  {what}: installing");
    sh::run(sh::program(ws, "rustup").args(rustup))
        .map_err(|error| format!("{what} is missing; with a network, run `{advice}` ({error})"))?;
    if there() {
        return Ok(());
    }
    Err(format!("{what} is still missing after `{advice}`").into())
}

/// Whether the active toolchain has the target's `core`.
pub(crate) fn has_target(ws: &Workspace, target: &str) -> bool {
    let mut ask = sh::program(ws, "rustc");
    ask.args(["--print", "target-libdir", "--target", target]);
    sh::read(&mut ask).is_ok_and(|dir| Path::new(dir.trim()).is_dir())
}

/// `cargo 1.95.0 (f2d3ce0bd 2026-03-21)` → `(1, 95)`.
fn minor_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            minor_version("cargo 1.95.0 (f2d3ce0bd 2026-03-21)\n"),
            Some((1, 95))
        );
        assert_eq!(minor_version("cargo 1.97.0-nightly (abc)"), Some((1, 97)));
        assert_eq!(minor_version("cargo"), None);
        assert!(minor_version("cargo 1.89.0") < Some(OLDEST_CARGO));
    }
}
