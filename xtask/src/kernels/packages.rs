//! The packages of each guest: a kernel, and the programs of its own distribution.

use std::path::{Path, PathBuf};

use crate::workspace::{Result, Workspace, cmd};

pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// Suites of Debian. The kernel comes from the last, and what that lacks from the first.
    suites: &'static [&'static str],
}

pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel { name: "5.10", suites: &["bullseye"] },
    Kernel { name: "6.1", suites: &["bookworm"] },
    Kernel { name: "6.12", suites: &["trixie"] },
    Kernel { name: "newest", suites: &["trixie", "trixie-backports"] },
];

/// Packages that a guest needs besides our own programs.
const PACKAGES: &[&str] = &[
    "linux-image-amd64",
    "busybox-static",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "f2fs-tools",
    "dmsetup",
    "bindfs",
    "nfs-kernel-server",
];

/// Returns the packages of a guest, with all that they depend on.
pub(crate) fn get(ws: &Workspace, kernel: &Kernel, given: Option<&Path>) -> Result<Vec<PathBuf>> {
    let dir = match given {
        Some(given) => given.join(kernel.name),
        None => fetch(ws, kernel)?,
    };
    let mut debs = ws.sh.read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    debs.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    if debs.is_empty() {
        return Err(format!("no package in {}", dir.display()).into());
    }
    Ok(debs)
}

/// Has apt fetch the packages, in a state of its own, from the mirror that this machine uses. It checks their
/// signatures by the keys of this machine.
fn fetch(ws: &Workspace, kernel: &Kernel) -> Result<PathBuf> {
    let format = "$(ORIGIN)|$(LABEL)|$(SITE)";
    let targets = cmd!(ws, "apt-get indextargets --format {format}").quiet().read()?;
    let mirror = mirror(&targets).ok_or("apt has no mirror of Debian; give --packages DIR")?;
    let dir = ws.target.join("kernels/apt").join(kernel.name);
    for part in ["state/lists/partial", "cache/archives/partial", "parts"] {
        ws.sh.create_dir(dir.join(part))?;
    }
    let config = dir.join("apt.conf");
    ws.sh.write_file(&config, configuration(&dir))?;
    ws.sh.write_file(dir.join("state/status"), "")?;
    ws.sh.write_file(dir.join("sources.list"), sources(kernel, mirror))?;
    cmd!(ws, "apt-get --quiet update").env("APT_CONFIG", &config).run()?;
    // Those of an earlier run that the mirror has replaced since.
    cmd!(ws, "apt-get --quiet autoclean").env("APT_CONFIG", &config).ignore_stdout().run()?;
    let archives = dir.join("cache/archives");
    let suite = kernel.suites.last().ok_or("a kernel without a suite")?;
    let what = ["--no-install-recommends", "--download-only", "--yes", "-t", suite];
    let get = cmd!(ws, "apt-get --quiet install {what...} {PACKAGES...}");
    get.env("APT_CONFIG", &config).ignore_stdout().run()?;
    Ok(archives)
}

/// Returns the first mirror of Debian itself among lines `origin|label|site`.
fn mirror(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|"))
}

fn sources(kernel: &Kernel, mirror: &str) -> String {
    kernel.suites.iter().map(|suite| format!("deb [arch=amd64] {mirror} {suite} main\n")).collect()
}

/// Returns a configuration in which nothing of this machine is installed, and nothing of it changes.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Dir::State \"{dir}/state\";\nDir::State::status \"{dir}/state/status\";\nDir::Cache \"{dir}/cache\";\n\
         Dir::Etc::SourceList \"{dir}/sources.list\";\nDir::Etc::SourceParts \"{dir}/parts\";\nDir::Etc::PreferencesParts \"{dir}/parts\";\n\
         Acquire::Languages \"none\";\nAPT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\n\
         APT::Sandbox::User \"\";\n#clear APT::Update::Post-Invoke;\n#clear Acquire::IndexTargets::deb::DEP-11;\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_debian_itself() {
        let targets = "Other|Debian|a:/x\nDebian|Debian-Security|b:/y\nDebian|Debian|c:/z\nDebian|Debian|d:/z\n";
        assert_eq!(mirror(targets), Some("c:/z"));
        assert_eq!(mirror("Other|Other|a:/x\n"), None);
        let newest = KERNELS.last().unwrap();
        let sources = sources(newest, "c:/z");
        assert!(
            sources.contains("c:/z trixie main\n") && sources.ends_with("c:/z trixie-backports main\n"),
            "{sources}"
        );
    }
}
