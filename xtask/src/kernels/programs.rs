//! Our own programs for the guests: static ones, built once for all kernels.

use std::path::PathBuf;

use cargo_metadata::{Artifact, Message};

use crate::tools::{self, STATIC_TARGET};
use crate::workspace::{Result, Workspace, cmd};

/// The packages whose tests the guests run: those that the kernel makes a difference to.
const TESTED: &[&str] = &["vyre-uring", "vyre-mapped", "vyre-ioloop", "vyre-io", "vyre-io-cli", "vyre-faults"];

pub(crate) struct Programs {
    /// The command `vyre-io`.
    pub(crate) command: PathBuf,
    /// The program that checks file systems.
    pub(crate) check: PathBuf,
    pub(crate) tests: Vec<TestProgram>,
}

/// An executable file with tests.
pub(crate) struct TestProgram {
    /// `package::target`.
    pub(crate) name: String,
    /// The folder in which it expects to be started.
    pub(crate) dir: PathBuf,
    pub(crate) file: PathBuf,
}

/// Builds all of them, and if there are to be `any` tests, the test programs whose names contain one of
/// `parts`, or all.
pub(crate) fn build(ws: &Workspace, any: bool, parts: &[String]) -> Result<Programs> {
    tools::need_target(ws, STATIC_TARGET)?;
    let how = ["--profile", "guest", "--target", STATIC_TARGET];
    cmd!(ws, "cargo build {how...} -p vyre-io-cli -p vyre-faults --bins").run()?;
    let folder = ws.target.join(STATIC_TARGET).join("guest");
    let mut tests = Vec::new();
    if any {
        let wanted = |is: &dyn Fn(&str) -> bool| parts.is_empty() || parts.iter().any(|part| is(part));
        let packages = TESTED.iter().filter(|package| wanted(&|part| may_have(package, part)));
        let packages = packages.flat_map(|package| ["-p", package]);
        let what = ["--no-run", "--lib", "--bins", "--tests", "--message-format", "json-render-diagnostics"];
        let said = cmd!(ws, "cargo test {how...} {packages...} {what...}").read()?;
        tests = programs(&said)?;
        tests.retain(|test| wanted(&|part| test.name.contains(part)));
    }
    Ok(Programs { command: folder.join("vyre-io"), check: folder.join("check"), tests })
}

/// Returns true if the name of a program of this package can contain `part`.
fn may_have(package: &str, part: &str) -> bool {
    part.split_once("::").is_none_or(|(end, _)| package.ends_with(end))
}

/// Returns the test programs that cargo speaks of.
fn programs(said: &str) -> Result<Vec<TestProgram>> {
    let mut tests = Vec::new();
    for message in Message::parse_stream(said.as_bytes()) {
        if let Message::CompilerArtifact(Artifact { package_id, target, executable: Some(file), profile, .. }) =
            message?
            && profile.test
        {
            let package = package_id.repr.rsplit(['/', '#']).find(|part| part.starts_with("vyre-"));
            let package = package.ok_or_else(|| format!("{package_id} is none of ours"))?;
            let package = package.split('@').next().unwrap_or(package);
            let mut dir = target.src_path.clone();
            while dir.pop() && !dir.join("Cargo.toml").exists() {}
            let name = format!("{package}::{}", target.name);
            tests.push(TestProgram { name, dir: dir.into(), file: file.into() });
        }
    }
    tests.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::may_have;

    #[test]
    fn the_package_of_a_program_is_built_for_it() {
        let built = |part: &str| ["vyre-io", "vyre-ioloop"].map(|package| may_have(package, part));
        assert_eq!(built(""), [true; 2]);
        assert_eq!(built("sleep"), [true; 2]);
        assert_eq!(built("vyre-io::"), [true, false]);
        assert_eq!(built("ioloop::sleep"), [false, true]);
        assert_eq!(built("::sleep"), [true; 2]);
    }
}
