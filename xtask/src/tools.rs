//! Programs that the steps need. Each is looked for in its exact version and installed where it is
//! missing: cargo's tools below `target/tools`, parts of the toolchain through rustup.

use std::path::Path;

use crate::report::{Report, Skip};
use crate::workspace::{Result, TOOLS, Workspace, cmd, succeeds};

/// A target without an operating system and without 64-bit atomics.
pub(crate) const BARE_TARGET: &str = "thumbv7m-none-eabi";
/// The target of static programs for this machine.
pub(crate) const STATIC_TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-musl" } else { "x86_64-unknown-linux-musl" };
/// A program that cargo installs.
struct Tool {
    /// Its crate and version. The program has the name of the crate, without `-cli`.
    spec: &'static str,
    /// Arguments of `cargo install`: leave out what takes long to build and is not needed.
    args: &'static [&'static str],
    /// True if only steps of `--full` need it.
    full: bool,
}

const SMALL: &[&str] = &["--no-default-features"];
const NO_UPDATE: &[&str] = &["--no-default-features", "--features=default-no-update"];

const CARGO_TOOLS: &[Tool] = &[
    Tool { spec: "cargo-deny@0.20.2", args: &[], full: false },
    Tool { spec: "cargo-hack@0.6.46", args: &[], full: false },
    Tool { spec: "cbindgen@0.29.4", args: &[], full: false },
    Tool { spec: "cargo-nextest@0.9.151", args: NO_UPDATE, full: false },
    Tool { spec: "lychee@0.24.2", args: SMALL, full: false },
    Tool { spec: "taplo-cli@0.10.0", args: SMALL, full: false },
    Tool { spec: "typos-cli@1.52.0", args: &[], full: false },
    Tool { spec: "cargo-fuzz@0.13.2", args: &[], full: true },
    Tool { spec: "cargo-llvm-cov@0.9.1", args: &[], full: true },
    Tool { spec: "cargo-semver-checks@0.44.0", args: &[], full: true },
];

impl Tool {
    fn name(&self) -> &'static str {
        self.spec.split('@').next().unwrap_or_default().trim_end_matches("-cli")
    }
}

/// Installs what the steps of `cargo xtask ci` need. What is missing afterwards is said here, and the
/// steps that need it fail or are skipped.
pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    for (program, why) in [("cc", "links"), ("g++", "compiles the tests of the CUDA header")] {
        if !succeeds(cmd!(ws, "{program} --version")) {
            return Err(format!("no {program}, which {why}: install gcc and g++").into());
        }
    }
    let msrv = ws.msrv.as_str();
    let mut missing = Vec::new();
    for target in [BARE_TARGET, STATIC_TARGET] {
        if !has_target(ws, target) && cmd!(ws, "rustup target add {target}").run().is_err() {
            missing.push(target);
        }
    }
    let minimal = ["--profile", "minimal", "--no-self-update"];
    if !has_toolchain(ws, msrv) && cmd!(ws, "rustup toolchain install {msrv} {minimal...}").run().is_err() {
        missing.push(msrv);
    }
    for tool in CARGO_TOOLS.iter().filter(|tool| !tool.full) {
        if let Err(error) = install(ws, tool) {
            println!("  warning: {error}");
            missing.push(tool.name());
        }
    }
    ws.sh.remove_path(format!("{TOOLS}/build"))?;
    if missing.is_empty() {
        report.note = cmd!(ws, "cargo --version").read()?;
    } else {
        return Err(Skip(format!("cannot install {}", missing.join(", "))).into());
    }
    Ok(())
}

/// Sees to it that a tool of the table is there.
pub(crate) fn need(ws: &Workspace, name: &str) -> Result<()> {
    let tool = CARGO_TOOLS.iter().find(|tool| tool.name() == name);
    install(ws, tool.ok_or_else(|| format!("xtask installs no {name}"))?)
}

fn install(ws: &Workspace, tool: &Tool) -> Result<()> {
    let Tool { spec, args, .. } = *tool;
    let name = tool.name();
    let version = spec.split('@').next_back();
    // Subcommands of cargo want to be called as cargo calls them.
    let subcommand = name.strip_prefix("cargo-");
    let found = cmd!(ws, "{name} {subcommand...} --version").quiet().ignore_stderr().read();
    if found.is_ok_and(|found| found.split_whitespace().any(|word| Some(word) == version)) {
        return Ok(());
    }
    let to = ["--root", TOOLS, "--target-dir", "target/tools/build"];
    // Optimising and describing them would take longer than they run.
    cmd!(ws, "cargo install --locked --debug {to...} {spec} {args...}")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .run()
        .map_err(|error| Skip(format!("{spec} is missing and cannot be installed: {error}")))?;
    Ok(())
}

/// Installs Debian packages whose programs are missing, where that is possible. Each has the name of its program.
/// Returns those that are missing then.
pub(crate) fn debian(ws: &Workspace, packages: &[&'static str]) -> Result<Vec<&'static str>> {
    let missing = || packages.iter().copied().filter(|name| !succeeds(cmd!(ws, "{name} --version")));
    let wanted: Vec<_> = missing().collect();
    if !wanted.is_empty() {
        // Clang recommends its sanitizers.
        install_by_apt(ws, &[], &wanted);
    }
    Ok(missing().collect())
}

/// Installs Debian packages, with these options of apt-get, if root runs this and there is apt. The caller looks for what they should have brought.
pub(crate) fn install_by_apt(ws: &Workspace, options: &[&str], packages: &[&str]) {
    if !is_root() || !succeeds(cmd!(ws, "apt-get --version")) {
        return;
    }
    let quietly = ["--yes", "--quiet"];
    let updated = cmd!(ws, "apt-get update --quiet").run();
    let install =
        cmd!(ws, "apt-get install {quietly...} {options...} {packages...}").env("DEBIAN_FRONTEND", "noninteractive");
    if let Err(error) = updated.and_then(|()| install.run()) {
        println!("  warning: {error}");
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// Sees to it that there is a nightly toolchain with these components.
pub(crate) fn nightly(ws: &Workspace, components: &[&str]) -> Result<()> {
    let list = cmd!(ws, "rustup component list --toolchain nightly --installed");
    let installed = list.quiet().ignore_stderr().read().unwrap_or_default();
    let has = |component: &&str| installed.lines().any(|line| line.starts_with(component));
    if !installed.is_empty() && components.iter().all(has) {
        return Ok(());
    }
    let with = components.iter().flat_map(|component| ["--component", component]);
    let minimal = ["--profile", "minimal", "--no-self-update"];
    Ok(cmd!(ws, "rustup toolchain install nightly {minimal...} {with...}").run()?)
}

pub(crate) fn has_toolchain(ws: &Workspace, version: &str) -> bool {
    // The question alone must not install anything.
    succeeds(cmd!(ws, "cargo +{version} --version").env("RUSTUP_AUTO_INSTALL", "0"))
}

/// Sees to it that the target is there.
pub(crate) fn need_target(ws: &Workspace, target: &str) -> Result<()> {
    let missing = || Skip(format!("no {target}: run `rustup target add {target}`"));
    Ok(has_target(ws, target).then_some(()).ok_or_else(missing)?)
}

/// Returns true if the active toolchain has the target's `core`.
fn has_target(ws: &Workspace, target: &str) -> bool {
    let libraries = cmd!(ws, "rustc --print target-libdir --target {target}");
    libraries.quiet().read().is_ok_and(|dir| Path::new(&dir).is_dir())
}
