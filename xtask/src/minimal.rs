//! The oldest versions that the manifests allow: a lower bound that is too low is a promise broken.

use std::fs;

use crate::workspace::Workspace;
use crate::{Result, sh, tidy};

/// A copy of the repository, whose lock file may change, and what is built from it.
const COPY: &str = "target/minimal-versions/copy";
const TARGET: &str = "target/minimal-versions/target";

/// Builds every library with the oldest versions of what it names itself. Finding them takes a
/// nightly cargo; the build is done by the usual one.
pub(crate) fn run(ws: &Workspace) -> Result<()> {
    let copy = ws.root.join(COPY);
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    for path in tidy::paths(ws)? {
        let to = copy.join(&path);
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::copy(ws.root.join(&path), to)?;
    }
    let manifest = format!("{COPY}/Cargo.toml");
    let update = ["+nightly", "update", "-Zdirect-minimal-versions"];
    sh::run(sh::cargo(ws, &update).args(["--manifest-path", &manifest]))?;

    let mut check = sh::cargo(ws, &["check", "--manifest-path", &manifest, "--locked"]);
    check.args(["--all-features", "--target-dir", TARGET]);
    let mut count = 0;
    for member in ws.members.iter().filter(|member| member.published) {
        check.args(["-p", &member.name]);
        count += 1;
    }
    if count == 0 {
        return Err("found no crate to build".into());
    }
    sh::run(&mut check)?;
    println!("{count} crates build with the oldest versions that they allow");
    Ok(())
}
