//! Rules about the text of the repository, over every file that git knows or would add.

mod links;
mod rules;
pub(crate) mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, orderings, sh};

/// Lines of a Rust file: more than the first earns a warning, more than the second fails.
const LINES_WARN: usize = 500;
const LINES_MAX: usize = 600;

/// The two lower layers know nothing of each other, or of anything above them.
const LAYERS: &[(&str, &str)] = &[
    ("crates/vyre-ioq/Cargo.toml", "vyre-ioq"),
    ("crates/vyre-uring/Cargo.toml", "vyre-uring"),
];

/// What must call what, so that a contributor's run is the hosted run.
const ONE_DOOR: &[(&str, &str)] = &[
    ("README.md", "cargo xtask ci"),
    (".ci/run", "cargo xtask ci"),
    (".github/workflows/ci.yml", ".ci/run"),
];

/// The text files of the repository by path.
pub(crate) type Files = BTreeMap<String, String>;

/// Everything found, errors first by kind of rule.
#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }
}

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    let paths = paths(ws)?;
    let files: Files = paths
        .iter()
        .filter_map(|path| Some((path.clone(), fs::read_to_string(ws.root.join(path)).ok()?)))
        .collect();

    let mut found = Findings::default();
    rust_files(&files, &mut found);
    crates(&files, &mut found);
    one_door(&files, &mut found);
    links::check(&files, &paths, &mut found);
    let rules = rules::check(&files, &mut found);
    found.errors.extend(orderings::check(&files));

    for warning in &found.warnings {
        println!("  warning: {warning}");
    }
    for error in &found.errors {
        println!("  error: {error}");
    }
    if !found.errors.is_empty() {
        return Err(format!("{} errors", found.errors.len()).into());
    }
    let rust = files.keys().filter(|path| path.ends_with(".rs")).count();
    if rust == 0 {
        return Err("found no Rust file to look at".into());
    }
    report.note = format!("{rust} Rust files of {} files, {rules}", paths.len());
    Ok(())
}

/// The files that are there and that git tracks or would add; without git, all but build output.
pub(crate) fn paths(ws: &Workspace) -> Result<Vec<String>> {
    let mut git = sh::program(ws, "git");
    git.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let mut paths = Vec::new();
    match git.output() {
        Ok(out) if out.status.success() => {
            let text = String::from_utf8(out.stdout)?;
            let there = |path: &&str| !path.is_empty() && ws.root.join(path).is_file();
            paths.extend(text.split('\0').filter(there).map(str::to_owned));
        }
        _ => {
            println!("  no git repository: looking at all files");
            walk(&ws.root, "", &mut paths)?;
        }
    }
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

fn walk(root: &Path, below: &str, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() {
            name.clone()
        } else {
            format!("{below}/{name}")
        };
        if entry.file_type()?.is_file() {
            paths.push(path);
        } else if entry.file_type()?.is_dir() && name != "target" && name != ".git" {
            walk(root, &path, paths)?;
        }
    }
    Ok(())
}

fn rust_files(files: &Files, found: &mut Findings) {
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.error(format!(
                "{path}: {lines} lines, at most {LINES_MAX} allowed"
            ));
        } else if lines > LINES_WARN {
            found
                .warnings
                .push(format!("{path}: {lines} lines, better under {LINES_WARN}"));
        }

        let code = source::code_only(text);
        for mark in ["todo!", "unimplemented!", "#[ignore"] {
            for line in source::lines_with(&code, mark) {
                found.error(format!("{path}:{line}: {mark}"));
            }
        }
        for line in source::lines_with(text, concat!("FIX", "ME")) {
            found.error(format!(
                "{path}:{line}: unfinished work, marked in a comment"
            ));
        }
    }
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let packed: String = text.split_whitespace().collect();
        if packed.contains(concat!("println!(\"SKIP", "PED:")) {
            found.error(format!(
                "{path}: the harness hides what the macro prints of a test that passes: write the \
                 line `SKIPPED: name_of_the_test: why` to std::io::stderr(), at once, to be counted"
            ));
        }
    }
}

fn crates(files: &Files, found: &mut Findings) {
    // Among the lints is the one that denies unsafe code in files that do not expect it.
    for (path, text) in files
        .iter()
        .filter(|(path, _)| path.ends_with("Cargo.toml"))
    {
        if !text.contains("[workspace.lints.") && !text.contains("[lints]\nworkspace = true") {
            found.error(format!("{path}: add `[lints]` with `workspace = true`"));
        }
    }
    let mut count = 0;
    for manifest in files.keys() {
        let Some(dir) = manifest.strip_suffix("/Cargo.toml") else {
            continue;
        };
        if dir
            .strip_prefix("crates/")
            .is_none_or(|name| name.contains('/'))
        {
            continue;
        }
        count += 1;
        for name in ["README.md", "CHANGELOG.md"] {
            if !files.contains_key(&format!("{dir}/{name}")) {
                found.error(format!("{dir}: has no {name}"));
            }
        }
    }
    if count == 0 {
        found.error("there is no crate under crates/");
    }
    for (manifest, own) in LAYERS {
        match files.get(*manifest) {
            Some(text) => {
                for name in siblings(text).filter(|name| name != own) {
                    found.error(format!("{manifest}: {own} must not depend on {name}"));
                }
            }
            None => found.error(format!("{manifest} is missing")),
        }
    }
}

/// The crates of this project that a manifest depends on, in any section.
fn siblings(manifest: &str) -> impl Iterator<Item = &str> {
    manifest.lines().filter_map(|line| {
        let line = line.trim_start();
        let name = match line.strip_prefix('[') {
            Some(section) => section.split_once("dependencies.")?.1,
            None => line,
        };
        let name = name.trim_start_matches('"');
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        let name = &name[..end.unwrap_or(name.len())];
        name.starts_with("vyre-").then_some(name)
    })
}

fn one_door(files: &Files, found: &mut Findings) {
    for (path, call) in ONE_DOOR {
        match files.get(*path) {
            Some(text) if text.contains(call) => {}
            Some(_) => found.error(format!("{path}: does not mention `{call}`")),
            None => found.error(format!("{path} is missing")),
        }
    }
}

#[cfg(test)]
mod tests;
