//! What cargo knows of this workspace.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::features::Features;
use crate::{Result, sh};

pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) members: Vec<Member>,
    /// The oldest Rust that every member must build with.
    pub(crate) msrv: String,
}

pub(crate) struct Member {
    pub(crate) name: String,
    /// Whether it goes to a package registry: `publish = false` says no.
    pub(crate) published: bool,
    /// Whether others may depend on it: it is published and has a library.
    pub(crate) library: bool,
    pub(crate) features: Features,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let root = root()?;
        // Not yet known, and not needed to ask.
        let mut ws = Self {
            root,
            members: Vec::new(),
            msrv: String::new(),
        };
        let args = ["metadata", "--no-deps", "--format-version", "1"];
        let text = sh::read(&mut sh::cargo(&ws, &args))?;
        (ws.members, ws.msrv) = parse(&text)?;
        Ok(ws)
    }
}

/// The parent of xtask's own directory: cargo says where that is, now or when it was built.
fn root() -> Result<PathBuf> {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = xtask.parent().map(Path::to_path_buf);
    root.ok_or_else(|| "xtask has no parent directory".into())
}

fn parse(metadata: &str) -> Result<(Vec<Member>, String)> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;
    let mut members = Vec::new();
    let mut msrv: Option<&str> = None;
    for package in packages {
        let name = package["name"].as_str().ok_or("a package without a name")?;
        let rust = package["rust_version"]
            .as_str()
            .ok_or_else(|| format!("{name} sets no rust-version"))?;
        if *msrv.get_or_insert(rust) != rust {
            return Err(format!("{name} sets rust-version {rust}, others another").into());
        }
        let published = package["publish"]
            .as_array()
            .is_none_or(|to| !to.is_empty());
        let has_library = package["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|target| {
                target["kind"]
                    .as_array()
                    .is_some_and(|kind| kind.contains(&"lib".into()))
            });
        members.push(Member {
            name: name.to_owned(),
            published,
            library: published && has_library,
            features: serde_json::from_value(package["features"].clone())?,
        });
    }
    let msrv = msrv.ok_or("the workspace has no members")?.to_owned();
    Ok((members, msrv))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_understood() {
        let (members, msrv) = parse(
            r#"{"packages": [
                {"name": "a", "rust_version": "1.88", "publish": null, "features": {"f": ["g"]},
                    "targets": [{"kind": ["bin"]}, {"kind": ["lib"]}]},
                {"name": "b", "rust_version": "1.88", "publish": [], "features": {},
                    "targets": [{"kind": ["lib"]}]},
                {"name": "c", "rust_version": "1.88", "publish": null, "features": {},
                    "targets": [{"kind": ["bin"]}]}
            ]}"#,
        )
        .unwrap();
        assert_eq!(msrv, "1.88");
        let published: Vec<_> = members
            .iter()
            .map(|m| (m.name.as_str(), m.published, m.library))
            .collect();
        assert_eq!(
            published,
            [("a", true, true), ("b", false, false), ("c", true, false)]
        );
        assert_eq!(members[0].features["f"], ["g"]);
    }

    #[test]
    fn one_msrv_for_all() {
        let two = r#"{"packages": [
            {"name": "a", "rust_version": "1.88", "features": {}},
            {"name": "b", "rust_version": "1.90", "features": {}}]}"#;
        assert!(parse(two).is_err());
        assert!(parse(r#"{"packages": [{"name": "a", "rust_version": null}]}"#).is_err());
        assert!(parse(r#"{"packages": []}"#).is_err());
    }
}
