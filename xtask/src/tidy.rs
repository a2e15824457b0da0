//! Rules about the text of the repository, over every file that git knows or would add.

mod rules;

use std::collections::BTreeMap;

use crate::orderings;
use crate::report::Report;
use crate::workspace::{Result, Workspace};

/// Lines of a Rust file: more than the first earns a warning, more than the second fails.
const LINES_WARN: usize = 500;
const LINES_MAX: usize = 600;

/// Calls that files must contain, so that a contributor's run is the hosted run.
const ONE_DOOR: &[(&str, &str)] = &[
    ("README.md", "cargo xtask ci"),
    ("CONTRIBUTING.md", "cargo xtask ci --full"),
    (".ci/run", "cargo xtask ci"),
    (".github/workflows/ci.yml", ".ci/run"),
];

/// Words that begin no summary: it names the thing, or says what the function does.
const NO_SUMMARY: &[&str] = &["What ", "Whatever ", "Whether ", "How ", "Why ", "Which ", "Where ", "As for ", "As [`"];

/// The text files of the repository by path.
type Files = BTreeMap<String, String>;

pub(crate) fn run(ws: &Workspace, report: &mut Report) -> Result<()> {
    let paths = ws.paths()?;
    let read = |path: &String| Some((path.clone(), ws.sh.read_file(path).ok()?));
    let files: Files = paths.iter().filter_map(read).collect();
    let mut errors = [
        files.iter().flat_map(|(path, text)| file(path, text)).collect(),
        crates(&files),
        one_door(&files),
        orderings::check(&files),
    ]
    .concat();
    let rules = rules::check(&files, &mut errors);
    for error in &errors {
        println!("  error: {error}");
    }
    if !errors.is_empty() {
        return Err(format!("{} errors", errors.len()).into());
    }
    let rust = files.keys().filter(|path| path.ends_with(".rs")).count();
    report.note = format!("{rust} Rust files of {} files, {rules}", paths.len());
    if rust == 0 { Err("found no Rust file".into()) } else { Ok(()) }
}

/// Returns the faults of one file.
fn file(path: &str, text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let lines = text.lines().count();
    if path.ends_with(".rs") && lines > LINES_MAX {
        errors.push(format!("{path}: {lines} lines, at most {LINES_MAX} allowed"));
    } else if path.ends_with(".rs") && lines > LINES_WARN {
        println!("  warning: {path}: {lines} lines, better under {LINES_WARN}");
    }
    // The marks are in two pieces: this file has none of them.
    let packed: String = text.split_whitespace().collect();
    if path.ends_with(".rs") && packed.contains(concat!("println!(\"SKIP", "PED:")) {
        errors.push(format!(
            "{path}: the harness hides what the macro prints of a test that passes: write the line \
             `SKIPPED: name_of_the_test: why` to std::io::stderr(), at once, to be counted"
        ));
    }
    if [".rs", ".h", ".cu", ".cuh", ".hpp"].iter().any(|end| path.ends_with(end)) {
        let questions = questions(text).into_iter();
        errors.extend(questions.map(|line| format!("{path}:{line}: a doc comment that begins with a question")));
    }
    for (index, line) in text.lines().enumerate() {
        let mut error = |what: &str| errors.push(format!("{path}:{}: {what}", index + 1));
        if line.contains(concat!("FIX", "ME")) {
            error("unfinished work, marked in a comment");
        }
        if path.ends_with(".rs") && line.trim_start().starts_with(concat!("#[ign", "ore")) {
            error("a test that is ignored; write the line `SKIPPED: …` where it cannot run");
        }
        let workflow = path.starts_with(".github/workflows/");
        if let Some((_, action)) = line.split_once("uses: ").filter(|_| workflow) {
            let pin = action.split_once('@').map_or("", |(_, pin)| pin);
            let pin = pin.split(' ').next().unwrap_or_default();
            if pin.len() != 40 || !pin.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                error("an action that is not pinned to a full commit");
            }
        }
    }
    if path.ends_with(".md") {
        errors.extend(brackets(text).map(|name| format!("{path}: [`{name}`] leads nowhere")));
    }
    // Among the lints is the one that denies unsafe code in files that do not expect it.
    let lints = ["[lints]\nworkspace = true", "[workspace.lints."];
    if path.ends_with("Cargo.toml") && !lints.iter().any(|lints| text.contains(lints)) {
        errors.push(format!("{path}: add `[lints]` with `workspace = true`"));
    }
    errors
}

/// Returns the lines where a doc comment begins with a word of [`NO_SUMMARY`], counted from 1.
fn questions(text: &str) -> Vec<usize> {
    let (mut lines, mut inside) = (Vec::new(), false);
    for (index, line) in text.lines().map(str::trim_start).enumerate() {
        let doc = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map(str::trim_start);
        let asks = doc.is_some_and(|doc| NO_SUMMARY.iter().any(|word| doc.starts_with(word)));
        if asks && !inside {
            lines.push(index + 1);
        }
        inside = doc.is_some();
    }
    lines
}

/// Links of rustdoc that are no links elsewhere: a name in brackets and backticks, without a definition.
fn brackets(text: &str) -> impl Iterator<Item = &str> {
    let open = text.split("[`").skip(1).filter_map(|rest| rest.split_once("`]"));
    open.filter(|(name, after)| !name.contains(['`', '\n']) && !after.starts_with(['(', '[', ':']))
        .map(|(name, _)| name)
        .filter(|name| !text.contains(&format!("\n[`{name}`]: ")))
}

fn crates(files: &Files) -> Vec<String> {
    let dirs: Vec<_> =
        files.keys().filter_map(|path| path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")).collect();
    if dirs.is_empty() {
        return vec!["there is no crate under crates/".to_owned()];
    }
    let documents = ["README.md", "CHANGELOG.md"];
    let needed = dirs.iter().flat_map(|dir| documents.map(|name| format!("crates/{dir}/{name}")));
    let missing = needed.filter(|path| !files.contains_key(path));
    missing.map(|path| format!("{path} is missing")).collect()
}

fn one_door(files: &Files) -> Vec<String> {
    let silent = |(path, call): &&(&str, &str)| files.get(*path).is_none_or(|text| !text.contains(call));
    let silent = ONE_DOOR.iter().filter(silent);
    silent.map(|(path, call)| format!("{path}: does not mention `{call}`")).collect()
}

#[cfg(test)]
mod tests;
