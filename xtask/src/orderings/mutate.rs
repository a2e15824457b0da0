//! Weakens one ordering after another in a copy of the workspace, and runs what should notice.

use std::collections::{BTreeMap, BTreeSet};

use super::{Catcher, SOURCES, Site, TABLE, Tool};
use crate::report::Report;
use crate::workspace::{Result, Workspace};
use crate::{proofs, tools};

/// Below the workspace; its own target directories stay for the next time.
const COPY: &str = "target/orderings";

/// The orderings to weaken.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// With these catchers alone (may be given more than once)
    #[arg(long = "tool")]
    tools: Vec<Tool>,
    /// In these functions alone
    functions: Vec<String>,
}

pub(crate) fn step(ws: &Workspace, _: &mut Report) -> Result<()> {
    run(ws, &Options::default())
}

/// Runs the catchers of those tools, or of all: each must pass as things are, and fail once the
/// ordering is gone.
pub(crate) fn run(ws: &Workspace, options: &Options) -> Result<()> {
    let Options { tools, functions } = options;
    let wanted = |tool: Tool| tools.is_empty() || tools.contains(&tool);
    if wanted(Tool::Miri) || wanted(Tool::Tsan) {
        tools::nightly(ws, &["miri", "rust-src"])?;
    }
    let copy = ws.copy(COPY)?;
    let mut rows = super::rows(&ws.sh.read_file(TABLE)?)?;
    rows.retain(|row| functions.is_empty() || functions.contains(&row.site.function));

    let catchers: BTreeSet<&Catcher> = rows.iter().flat_map(|row| &row.catchers).collect();
    for catcher in catchers.into_iter().filter(|c| wanted(c.tool)) {
        if runs(&copy, catcher)? != Verdict::Passed {
            return Err(format!("{catcher} does not pass as things are").into());
        }
        println!("  passes as things are: {catcher}");
    }
    let (mut caught, mut missed) = (0, Vec::new());
    let mut earlier = BTreeMap::<&Site, usize>::new();
    for row in &rows {
        let nth = earlier.entry(&row.site).or_default();
        let path = copy.root.join(SOURCES).join(&row.site.file);
        let whole = copy.sh.read_file(&path)?;
        copy.sh.write_file(&path, weakened(&row.site, &whole, *nth)?)?;
        *nth += 1;
        for catcher in row.catchers.iter().filter(|c| wanted(c.tool)) {
            let verdict = runs(&copy, catcher)?;
            println!("  without {}: {verdict:?} by {catcher}", row.site);
            match verdict {
                Verdict::Caught => caught += 1,
                _ => missed.push(format!("{}, by {catcher}", row.site)),
            }
        }
        copy.sh.write_file(&path, whole)?;
    }
    println!("\n{caught} caught, {} not", missed.len());
    match (missed.as_slice(), caught) {
        ([], 0) => Err("nothing was weakened".into()),
        ([], _) => Ok(()),
        (missed, _) => Err(format!("not caught: {}", missed.join("; ")).into()),
    }
}

/// The text of a file with the `nth` such ordering relaxed, or its fence gone.
pub(super) fn weakened(site: &Site, text: &str, nth: usize) -> Result<String> {
    let sites = super::sites(&site.file, text);
    let mut lines = sites.iter().filter(|(found, _)| found == site);
    let &(_, number) =
        lines.nth(nth).ok_or_else(|| format!("{site}: not in the sources; run `cargo xtask ci --step tidy`"))?;
    let change = |(at, line): (usize, &str)| {
        let line = if at != number {
            line.to_owned()
        } else if line.trim_start().starts_with("fence(") {
            // Never executed, but the import is still used: warnings are errors.
            format!("if false {{ {} }}", line.trim())
        } else {
            line.replace(&format!("Ordering::{}", site.order), "Ordering::Relaxed")
        };
        line + "\n"
    };
    Ok(text.lines().enumerate().map(change).collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Caught,
    /// It did not build, or the test does not exist.
    Broken,
}

fn runs(copy: &Workspace, catcher: &Catcher) -> Result<Verdict> {
    let parts = catcher.test.split_once("::");
    let (file, test) = parts.ok_or_else(|| format!("{catcher}: not file::test"))?;
    let (command, test) = match catcher.tool {
        Tool::Loom => (proofs::loom_tests(copy), catcher.test.as_str()),
        Tool::Miri => (proofs::miri_tests(copy, proofs::Model::Stacked).args(["--test", file]), test),
        Tool::Tsan => (proofs::tsan_tests(copy).args(["--test", file]), test),
    };
    let command = command.args(["--", "--exact", test]).quiet().ignore_status();
    let shown = command.to_string();
    let out = command.output()?;
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    let verdict = verdict(out.status.success(), &text);
    if verdict == Verdict::Broken {
        println!("  $ {shown}\n{text}");
    }
    Ok(verdict)
}

/// A test that ran and passed, or that failed for a reason of its own: what it asserts, or what the
/// tool found.
fn verdict(success: bool, text: &str) -> Verdict {
    let found = [
        "test result: FAILED. 0 passed; 1 failed",
        "Undefined Behavior: Data race",
        "WARNING: ThreadSanitizer: data race",
    ];
    if success && text.contains("test result: ok. 1 passed") {
        Verdict::Passed
    } else if !success && found.iter().any(|mark| text.contains(mark)) {
        Verdict::Caught
    } else {
        Verdict::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_to_build_is_no_catch() {
        let ok = "test result: ok. 1 passed; 0 failed";
        let failed = "test result: FAILED. 0 passed; 1 failed";
        assert_eq!(verdict(true, ok), Verdict::Passed);
        assert_eq!(verdict(false, failed), Verdict::Caught);
        assert_eq!(verdict(false, "error: Undefined Behavior: Data race detected"), Verdict::Caught);
        assert_eq!(verdict(false, "error[E0425]: cannot find"), Verdict::Broken);
        assert_eq!(verdict(true, "test result: ok. 0 passed; 0 failed"), Verdict::Broken);
    }
}
