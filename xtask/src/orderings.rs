//! The table of `crates/vyre-ioq/ORDERINGS.md`, checked: it lists the orderings of the sources, all of
//! them and no other, and each is caught by what it says.

pub(crate) mod mutate;

use std::collections::BTreeMap;
use std::fmt;

use proc_macro2::{TokenStream, TokenTree};

const SOURCES: &str = "crates/vyre-ioq/src/";
/// Below them: the hostile device, to which nobody owes an order.
const HOSTILE: &str = "test_utils/";
const TABLE: &str = "crates/vyre-ioq/ORDERINGS.md";
/// Orderings that order something.
const ORDERS: &[&str] = &["Acquire", "Release", "AcqRel", "SeqCst"];
/// Columns of the table, in order.
const COLUMNS: usize = 6;

/// Tool that runs the test that catches a missing ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Tool {
    /// A model, under loom
    Loom,
    /// A test, under Miri with Stacked Borrows
    Miri,
    /// A test, under ThreadSanitizer
    Tsan,
}

/// One ordering of the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    /// Below the crate's `src`.
    file: String,
    function: String,
    order: String,
}

/// A test that fails where an ordering is missing: `loom slots::two_lanes`, say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Catcher {
    tool: Tool,
    test: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, function, order } = self;
        write!(f, "{order} in `{function}` of {file}")
    }
}

impl fmt::Display for Catcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.tool, self.test)
    }
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    site: Site,
    catchers: Vec<Catcher>,
}

/// Returns the faults of the table: an ordering without a row, a row without an ordering, no catcher.
pub(crate) fn check(files: &BTreeMap<String, String>) -> Vec<String> {
    let rows = match rows(files.get(TABLE).map_or("", String::as_str)) {
        Ok(rows) => rows,
        Err(error) => return vec![error],
    };
    let mut balance = BTreeMap::<Site, i32>::new();
    for (path, text) in files {
        let Some(file) = path.strip_prefix(SOURCES).filter(|file| !file.starts_with(HOSTILE)) else {
            continue;
        };
        for (site, _) in sites(file, text) {
            *balance.entry(site).or_default() += 1;
        }
    }
    for row in &rows {
        *balance.entry(row.site.clone()).or_default() -= 1;
    }
    let uneven = balance.iter().filter(|(_, count)| **count != 0);
    let wrong = uneven.map(|(site, count)| match count {
        1.. => format!("{TABLE}: no row for {site}"),
        _ => format!("{TABLE}: a row for {site}, which is not there"),
    });
    wrong.collect()
}

/// The rows of the table that has a column `caught by`.
fn rows(text: &str) -> Result<Vec<Row>, String> {
    let table = text
        .lines()
        .skip_while(|line| !(line.starts_with('|') && line.contains("| caught by |")))
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    let rows: Vec<Row> = table.map(row).collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Err(format!("{TABLE}: no rows"));
    }
    Ok(rows)
}

fn row(line: &str) -> Result<Row, String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let (Some(&[file, function, order]), COLUMNS) = (cells.first_chunk(), cells.len()) else {
        return Err(format!("{TABLE}: not {COLUMNS} columns: {line}"));
    };
    let site = Site { file: file.to_owned(), function: function.trim_matches('`').to_owned(), order: order.to_owned() };
    let catchers: Option<Vec<_>> = cells[COLUMNS - 1].split(',').map(catcher).collect();
    match catchers {
        Some(catchers) => Ok(Row { site, catchers }),
        None => Err(format!("{TABLE}: names no test that catches it: {line}")),
    }
}

fn catcher(text: &str) -> Option<Catcher> {
    let (tool, test) = text.trim().split_once(' ')?;
    let tool = match tool {
        "loom" => Tool::Loom,
        "Miri" => Tool::Miri,
        "TSan" => Tool::Tsan,
        _ => return None,
    };
    let test = test.strip_prefix('`')?.strip_suffix('`')?;
    test.contains("::").then(|| Catcher { tool, test: test.to_owned() })
}

/// The orderings of a file in the order of its lines, and the number of the line, from 0.
fn sites(file: &str, text: &str) -> Vec<(Site, usize)> {
    let mut found = Vec::new();
    // The compiler says what is wrong with a file that has no tokens.
    let tokens: TokenStream = text.parse().unwrap_or_default();
    walk(file, tokens, &mut String::new(), &mut found);
    found
}

/// Looks for `fn name` and `Ordering::Acquire`.
fn walk(file: &str, tokens: TokenStream, function: &mut String, found: &mut Vec<(Site, usize)>) {
    let mut before = [const { String::new() }; 3];
    for token in tokens {
        let text = match &token {
            TokenTree::Group(group) => {
                walk(file, group.stream(), function, found);
                String::new()
            }
            other => other.to_string(),
        };
        if before[2] == "fn" {
            text.clone_into(function);
        }
        if before == ["Ordering", ":", ":"] && ORDERS.contains(&&*text) {
            let site = Site { file: file.to_owned(), function: function.clone(), order: text.clone() };
            found.push((site, token.span().start().line - 1));
        }
        before.rotate_left(1);
        before[2] = text;
    }
}

#[cfg(test)]
mod tests;
