//! Generates the ABI's numbers for C, CUDA and the tables of `ABI.md` from `vyre_ioq::abi`, and those of the handshake.

mod handshake;
mod languages;

use std::fs;

use vyre_ioq::abi::{self, Row, Table};

use crate::report::Report;
use crate::workspace::{Result, Workspace};

const ABI_MD: &str = "ABI.md";

/// A generated file.
struct Output {
    path: &'static str,
    text: String,
}

fn outputs(ws: &Workspace) -> Result<[Output; 5]> {
    let read = |path: &str| fs::read_to_string(ws.root.join(path)).map_err(|error| format!("{path}: {error}"));
    let (abi_md, handshake_md) = (read(ABI_MD)?, read(handshake::DOCUMENT)?);
    Ok([
        Output { path: "crates/vyre-ioq/include/vyre_ioq_abi.h", text: languages::c()? },
        Output { path: "crates/vyre-ioq/include/vyre_ioq_abi.cuh", text: languages::cuda()? },
        Output { path: ABI_MD, text: with_tables(&abi_md)? },
        Output { path: handshake::HEADER, text: handshake::c()? },
        Output { path: handshake::DOCUMENT, text: handshake::document(&handshake_md)? },
    ])
}

/// Writes the files anew. Says which of them have changed.
pub(crate) fn write(ws: &Workspace) -> Result<String> {
    let mut said = Vec::new();
    for Output { path, text } in outputs(ws)? {
        let at = ws.root.join(path);
        let same = fs::read_to_string(&at).is_ok_and(|found| found == text);
        if !same {
            fs::write(&at, text)?;
        }
        let what = if same { "is unchanged" } else { "has changed" };
        said.push(format!("{path} {what}"));
    }
    Ok(said.join("\n"))
}

pub(crate) fn step(ws: &Workspace, report: &mut Report) -> Result<()> {
    let outputs = outputs(ws)?;
    for Output { path, text } in &outputs {
        let found = fs::read_to_string(ws.root.join(path)).unwrap_or_default();
        if let Some(line) = first_difference(&found, text) {
            return Err(format!("{path}:{line} is not what `cargo xtask header` writes").into());
        }
    }
    let tables = abi::TABLES.iter().chain(vyre_io_client::protocol::spec::TABLES);
    let constants: usize = tables.map(|table| table.rows.len()).sum();
    let files = outputs.len();
    report.note = format!("{constants} constants in {files} files");
    Ok(())
}

pub(crate) fn first_difference(found: &str, expected: &str) -> Option<usize> {
    if found == expected {
        return None;
    }
    let same = found.lines().zip(expected.lines());
    Some(same.take_while(|(found, expected)| found == expected).count() + 1)
}

// ---- The tables of ABI.md ----

/// Returns the document with its tables generated. A table stands under a heading of its own.
fn with_tables(document: &str) -> Result<String> {
    let mut text = document.to_owned();
    for table in abi::TABLES {
        let rows: Vec<String> = table.rows.iter().map(|row| markdown(table, row)).collect();
        text = with_table(ABI_MD, &text, table.heading, table.columns, &rows)?;
    }
    let rules = abi::ATTACH_RULES.iter().map(|rule| rule.join(" | "));
    let rules: Vec<String> = rules.collect();
    with_table(ABI_MD, &text, "Attach rules", "name | layout | rule", &rules)
}

fn markdown(table: &Table, row: &Row) -> String {
    let number = match row.last {
        None => row.literal.to_owned(),
        Some(last) if last == row.value + 1 => format!("{} and {last}", row.literal),
        Some(last) => format!("{} to {last}", row.literal),
    };
    let mut cells = vec![number.as_str(), row.name];
    if table.columns.matches('|').count() > 2 {
        cells.push(row.cells);
    }
    cells.push(row.meaning.trim());
    cells.join(" | ")
}

/// Replaces the table under a heading.
fn with_table(document: &str, text: &str, heading: &str, head: &str, rows: &[String]) -> Result<String> {
    let missing = || format!("{document} has no table under a heading `### {heading}`");
    let mark = format!("\n### {heading}\n");
    let section = text.find(&mark).ok_or_else(missing)? + mark.len();
    let start = section + text[section..].find("\n|").ok_or_else(missing)? + 1;
    let end = text[start..].find("\n\n").map_or(text.len(), |at| start + at);
    if text[section..start].contains("\n#") {
        return Err(missing().into());
    }
    let rule = vec!["---"; head.split('|').count()].join(" | ");
    let lines = [head, &rule].into_iter().chain(rows.iter().map(String::as_str));
    // An empty cell is one space.
    let row = |cells| format!("| {cells} |").split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = lines.map(row).collect();
    Ok([&text[..start], &lines.join("\n"), &text[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "x\n### Flags\n\ntext\n\n| value | old |\n| --- | --- |\n| 7 | a |\n\nafter\n";

    #[test]
    fn a_table_is_replaced_and_nothing_else() {
        let rows = ["1 | DURABLE | ".to_owned(), "2 | EXACT | x".to_owned()];
        let text = with_table("a", DOCUMENT, "Flags", "value | name | n", &rows).unwrap();
        assert_eq!(
            text,
            "x\n### Flags\n\ntext\n\n| value | name | n |\n| --- | --- | --- |\n\
             | 1 | DURABLE | |\n| 2 | EXACT | x |\n\nafter\n"
        );
        assert!(with_table("a", DOCUMENT, "Flag", "a", &[]).is_err());
        let later = DOCUMENT.replace("text", "#### Other");
        assert!(with_table("a", &later, "Flags", "a", &[]).is_err(), "not its own");
    }

    #[test]
    fn the_document_is_as_generated_and_a_number_that_differs_is_found() {
        let abi = include_str!("../../ABI.md");
        assert_eq!(with_tables(abi).unwrap(), abi, "run `cargo xtask header`");
        let wrong = [
            abi.replace("| 0x10 | OK |", "| 0x12 | OK |"),
            abi.replace("| 34 | ERANGE |", "| 34 | EDOM |"),
            abi.replace("| 2 | EXACT |", "| 2 | EXACT | x | y |\n| 4 | MORE |"),
        ];
        for text in wrong {
            assert_ne!(text, abi);
            let generated = with_tables(&text).unwrap();
            assert_eq!(generated, abi);
            assert!(first_difference(&text, &generated).is_some());
        }
        let renamed = abi.replace("### Loop states", "### States of the loop");
        assert!(with_tables(&renamed).is_err());
    }

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("", "a\n"), Some(1));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
    }
}
