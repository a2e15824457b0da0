//! The README's first command is a promise to newcomers: run it as written and check the copy.

use std::fs;
use std::path::PathBuf;

use crate::steps::Report;
use crate::workspace::Workspace;
use crate::{Result, sh};

/// How the command must begin.
const COPY: &[&str] = &[
    "cargo",
    "run",
    "--release",
    "--bin",
    "vyre-io",
    "--",
    "copy",
];

/// `copy SRC DST`, as the README says it.
#[derive(Debug, PartialEq, Eq)]
struct Copy {
    words: Vec<String>,
    source: String,
    target: String,
}

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    report.note = run(ws)?;
    Ok(())
}

/// Runs the command and says in a line what it did.
pub(crate) fn run(ws: &Workspace) -> Result<String> {
    let readme = fs::read_to_string(ws.root.join("README.md"))
        .map_err(|error| format!("README.md: {error}"))?;
    let copy = first_command(&readme)?;
    let (source, target) = (ws.root.join(&copy.source), ws.root.join(&copy.target));
    let before = fs::read(&source).map_err(|error| format!("{}: {error}", copy.source))?;
    if before.is_empty() {
        return Err(format!("{} is empty: copying it would prove nothing", copy.source).into());
    }
    if target.is_dir() || is_tracked(ws, &copy.target) {
        return Err(format!(
            "{} is no place for a copy: a directory, or a file of the repository",
            copy.target
        )
        .into());
    }

    let guard = Aside::new(target)?;
    let mut command = sh::cargo(ws, &[]);
    command.args(&copy.words[1..]);
    sh::run(&mut command)?;
    let after = fs::read(&guard.target).map_err(|error| format!("{}: {error}", copy.target))?;
    if after != before {
        let message = format!("{} and {} differ after the copy", copy.source, copy.target);
        return Err(message.into());
    }
    Ok(format!(
        "{} arrived whole, {} bytes",
        copy.source,
        after.len()
    ))
}

fn is_tracked(ws: &Workspace, path: &str) -> bool {
    sh::succeeds(sh::program(ws, "git").args(["ls-files", "--error-unmatch", "--", path]))
}

/// Removes the copy at the end. What someone had at that path before is put aside and returns.
struct Aside {
    target: PathBuf,
    kept: Option<PathBuf>,
}

impl Aside {
    fn new(target: PathBuf) -> Result<Self> {
        let kept = if target.exists() {
            let name = target.file_name().ok_or("the target has no file name")?;
            let kept = target.with_file_name(format!("{}.xtask-kept", name.display()));
            fs::rename(&target, &kept)?;
            Some(kept)
        } else {
            None
        };
        Ok(Self { target, kept })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let restored = match &self.kept {
            Some(kept) => fs::rename(kept, &self.target),
            None if self.target.exists() => fs::remove_file(&self.target),
            None => Ok(()),
        };
        if let Err(error) = restored {
            eprintln!("warning: cannot tidy up {}: {error}", self.target.display());
        }
    }
}

/// The copy command of the first `sh` block.
fn first_command(readme: &str) -> Result<Copy> {
    let block = first_sh_block(readme).ok_or("README.md has no ```sh block")?;
    let found = commands(block)
        .into_iter()
        .find(|words| begins_with(words, COPY));
    let words = found.ok_or_else(|| format!("the first ```sh block lacks `{}`", COPY.join(" ")))?;
    if let Some(word) = words.iter().find(|word| word.contains(is_special)) {
        return Err(format!("keep the README's first command plain: `{word}`").into());
    }
    let files: Vec<_> = words[COPY.len()..]
        .iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let [source, target] = files[..] else {
        return Err("the README's first command must be `copy SRC DST` with --name=value".into());
    };
    if source == target {
        return Err(format!("`{target}` cannot be the target of the copy").into());
    }
    let (source, target) = (source.clone(), target.clone());
    Ok(Copy {
        words,
        source,
        target,
    })
}

fn first_sh_block(markdown: &str) -> Option<&str> {
    let (_, rest) = markdown.split_once("```sh\n")?;
    Some(rest.split_once("```")?.0)
}

/// The commands of a block as words: continued lines joined, comments and prompts removed.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let words = joined.lines().map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("$ ").unwrap_or(line);
        line.split_whitespace()
            .take_while(|word| !word.starts_with('#'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    words.filter(|words| !words.is_empty()).collect()
}

fn begins_with(words: &[String], start: &[&str]) -> bool {
    words.len() >= start.len() && words.iter().zip(start).all(|(word, want)| word == want)
}

/// Characters that only a shell would understand.
fn is_special(c: char) -> bool {
    "$`|;&<>*?'\"\\~(){}".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "cargo run --release --bin vyre-io -- copy";

    fn readme(command: &str) -> String {
        format!("# x\n```rust\nfn f() {{}}\n```\n```sh\n{command}\n```\n```sh\nother\n```\n")
    }

    #[test]
    fn the_command_is_found() {
        let text = readme(&format!(
            "cargo xtask ci\n$ {RUN} \\\n  a.lock --slots=4 b  # note"
        ));
        let copy = first_command(&text).unwrap();
        assert_eq!(
            (copy.source.as_str(), copy.target.as_str()),
            ("a.lock", "b")
        );
        assert_eq!(copy.words.join(" "), format!("{RUN} a.lock --slots=4 b"));
    }

    #[test]
    fn anything_else_is_refused() {
        for args in [
            "a",
            "a b c",
            "a a",
            "a $HOME/b",
            "a b | tee",
            "--slots 4 a b",
        ] {
            assert!(
                first_command(&readme(&format!("{RUN} {args}"))).is_err(),
                "{args}"
            );
        }
        assert!(first_command(&readme("cargo run")).is_err());
        assert!(first_command("# no block\n").is_err());
    }

    #[test]
    fn what_was_there_returns() {
        let dir = std::env::temp_dir().join(format!("vyre-xtask-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let target = dir.join("copy");

        let guard = Aside::new(target.clone()).unwrap();
        fs::write(&target, "made by the command").unwrap();
        drop(guard);
        assert!(!target.exists());

        fs::write(&target, "mine").unwrap();
        let guard = Aside::new(target.clone()).unwrap();
        assert!(!target.exists());
        fs::write(&target, "made by the command").unwrap();
        drop(guard);
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        fs::remove_dir_all(&dir).unwrap();
    }
}
