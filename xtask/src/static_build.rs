//! The command as one static file, which runs on every distribution and in an empty container.

use std::path::{Path, PathBuf};

use crate::refuse;
use crate::report::{Report, counted};
use crate::tools::{self, STATIC_TARGET};
use crate::workspace::{Result, Workspace, cmd};

/// The crates below the loop, where all calls of the C library are.
const TESTED: [&str; 4] = ["-p", "vyre-uring", "-p", "vyre-mapped"];

/// Builds the command, sees that it is static, and runs it. Runs the tests of what differs between C libraries.
pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    let program = build(ws, "dev")?;
    if needs_loader(ws, &program)? {
        return Err(format!("{} is not static", program.display()).into());
    }
    let dir = ws.target.join("static-step");
    ws.sh.remove_path(&dir)?;
    ws.sh.create_dir(&dir)?;
    cmd!(ws, "{program} doctor {dir}").run()?;
    let copy = dir.join("copy");
    for (transport, line) in [("auto", ""), ("threads", "by threads")] {
        let copied = cmd!(ws, "{program} copy {program} {copy} --verify --transport {transport}").read()?;
        println!("{copied}");
        if !copied.contains(line) || ws.sh.read_binary_file(&copy)? != ws.sh.read_binary_file(&program)? {
            return Err(format!("the copy by {transport} is wrong").into());
        }
    }
    for (errno, ..) in refuse::ERRNOS {
        let refused = cmd!(ws, "cargo xtask refuse {errno} {program} copy {program} {copy} --verify").read()?;
        if !refused.contains("by threads") {
            return Err(format!("with {errno}, no threads copied: {refused}").into());
        }
    }
    let stamped = dir.join("stamped");
    for transport in ["auto", "threads"] {
        let what = ["--seconds", "0.5", "--depth", "8", "--baseline", "--transport", transport];
        cmd!(ws, "{program} bench --create 4MiB {stamped} {what...}").run()?;
    }
    ws.sh.remove_path(&dir)?;
    counted(cmd!(ws, "cargo test --target {STATIC_TARGET} {TESTED...}"), &mut report.tests)?;
    STATIC_TARGET.clone_into(&mut report.note);
    Ok(())
}

/// Builds the command for [`STATIC_TARGET`], and returns its path.
pub(crate) fn build(ws: &Workspace, profile: &str) -> Result<PathBuf> {
    tools::need_target(ws, STATIC_TARGET)?;
    cmd!(ws, "cargo build --profile {profile} --target {STATIC_TARGET} -p vyre-io-cli --bin vyre-io").run()?;
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(ws.target.join(STATIC_TARGET).join(folder).join("vyre-io"))
}

/// Returns true if a program asks for a loader, which would load libraries.
fn needs_loader(ws: &Workspace, program: &Path) -> Result<bool> {
    let headers = cmd!(ws, "readelf --program-headers --wide {program}").quiet().read()?;
    if !headers.contains("LOAD") {
        return Err(format!("readelf shows no program headers of {}", program.display()).into());
    }
    Ok(headers.contains("INTERP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_asks_for_a_loader_is_known() {
        let ws = Workspace::load().unwrap();
        // This test is linked with the C library of the machine.
        let this = std::env::current_exe().unwrap();
        assert!(needs_loader(&ws, &this).unwrap());
        assert!(needs_loader(&ws, Path::new("Cargo.toml")).is_err());
    }
}
