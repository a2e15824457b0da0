//! Packages what would be published and builds each package alone, as its users will.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, sh, tidy};

/// Each content of the crates gets its own directory in here.
const TARGET_DIRS: &str = "target/xtask-package";

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    let target = fresh_target(ws)?;
    let mut command = sh::cargo(ws, &["package", "--workspace", "--locked", "--target-dir"]);
    command.arg(&target);
    let mut published = Vec::new();
    for member in &ws.members {
        if member.published {
            published.push(member.name.as_str());
        } else {
            command.args(["--exclude", &member.name]);
        }
    }
    let dirty = is_dirty(ws);
    if dirty {
        println!("  the working tree has uncommitted changes: packaging them as they are");
        command.arg("--allow-dirty");
    }

    let mut verified = Vec::new();
    let status = sh::stream(&mut command, |line| verified.extend(verifying(line)))?;
    sh::check(&command, status)?;

    verified.sort_unstable();
    published.sort_unstable();
    println!(
        "  packaged and verified {}: {}",
        verified.len(),
        verified.join(" ")
    );
    if verified != published || published.is_empty() {
        return Err(format!("expected packages of {}", published.join(" ")).into());
    }
    let note = if dirty {
        ", with uncommitted changes"
    } else {
        ""
    };
    report.note = format!("{} crates{note}", verified.len());
    Ok(())
}

/// A target directory that no other content of the crates has used.
///
/// Cargo verifies packages against a temporary registry inside the target directory, and takes
/// what is in a registry to be immutable: it would neither unpack nor compile a crate again
/// whose version stayed the same. The name of the directory is part of the registry's identity.
fn fresh_target(ws: &Workspace) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    for path in tidy::paths(ws)? {
        if path.starts_with("crates/") || path == "Cargo.toml" || path == "Cargo.lock" {
            hasher.write(path.as_bytes());
            let bytes = fs::read(ws.root.join(path))?;
            hasher.write_usize(bytes.len());
            hasher.write(&bytes);
        }
    }
    let all = ws.root.join(TARGET_DIRS);
    let name = format!("{:016x}", hasher.finish());
    if !all.join(&name).exists() && all.exists() {
        fs::remove_dir_all(&all)?;
    }
    Ok(all.join(name))
}

/// `   Verifying vyre-ioq v0.1.0 (/w/crates/vyre-ioq)` → `vyre-ioq`.
fn verifying(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("Verifying ")?;
    rest.split(' ').next().map(str::to_owned)
}

/// Cargo refuses to package uncommitted files unless told. Outside a repository it never asks.
fn is_dirty(ws: &Workspace) -> bool {
    let mut status = sh::program(ws, "git");
    status.args(["status", "--porcelain"]);
    status
        .output()
        .is_ok_and(|out| out.status.success() && !out.stdout.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_packages_are_read() {
        let line = "   Verifying vyre-ioq v0.1.0 (/w/crates/vyre-ioq)";
        assert_eq!(verifying(line).as_deref(), Some("vyre-ioq"));
        assert_eq!(verifying("   Packaging vyre-ioq v0.1.0"), None);
    }
}
